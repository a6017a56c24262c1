"""Several machines on one: processes with a copy of the code and a working folder each, that share a PostgreSQL by TCP and a broker and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ledger_pipeline_tests.pipeline.processes import Process

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DAGSTER_YAML = """\
storage:
  custom:
    module: ledger_pipeline.orchestration.storage
    class: LedgerStorage
    config: {}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {max_concurrent_runs: 2, dequeue_interval_seconds: 1, max_user_code_failure_retries: 240, user_code_failure_retry_delay: 3}
run_monitoring: {enabled: true, poll_interval_seconds: 5, start_timeout_seconds: 90}
run_retries: {enabled: true, max_retries: 2, retry_on_asset_or_op_failure: false}
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
telemetry: {enabled: false}
"""
"""As deploy/dagster.yaml with shorter intervals."""
DAEMON_LINE = ("dagster-daemon", "run", "-w", "workspace.yaml")


def code_line(port: int, module: str) -> tuple[str, ...]:
    """The command of a code server."""
    return ("dagster", "code-server", "start", "-h", "127.0.0.1", "-p", str(port), "-m", module)


class Machine:
    """A folder with its own copy of the package, its own ledger.yaml and its own DAGSTER_HOME; processes see no other copy.

    Its workspace is the code server on `code_port`; `more_dagster_yaml` is written below DAGSTER_YAML.
    """

    def __init__(
        self, folder: Path, ledger_yaml: str, environment: dict[str, str], code_port: int, more_dagster_yaml: str = ""
    ) -> None:
        self.folder, self.work = folder, folder / "work"
        shutil.copytree(
            ROOT / "ledger_pipeline", folder / "code" / "ledger_pipeline", ignore=shutil.ignore_patterns("__pycache__")
        )
        for part in ("work", "home"):
            (folder / part).mkdir()
        (self.work / "ledger.yaml").write_text(ledger_yaml)
        (self.work / "workspace.yaml").write_text(
            f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {code_port}, location_name: books}}\n"
        )
        (folder / "home" / "dagster.yaml").write_text(DAGSTER_YAML + more_dagster_yaml)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER", "LEDGER"))},
            "PYTHONPATH": f"{folder / 'code'}{os.pathsep}{ROOT / 'deploy' / 'celery'}",
            "DAGSTER_HOME": str(folder / "home"),
            **environment,
        }

    def start(self, name: str, *line: str) -> Process:
        """A process of this machine, in a group of its own."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [str(BIN / line[0]), *line[1:]], cwd=self.work, env=self.environment, stdout=out, stderr=out, start_new_session=True
            )  # fmt: skip
        return Process(name, popen, log)

    def run(self, *line: str, seconds: int = 120) -> str:
        """A command that ends well; its output."""
        done = self.ended(*line, seconds=seconds)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ended(self, *line: str, seconds: int) -> subprocess.CompletedProcess[str]:
        """A command that has ended, however."""
        return subprocess.run(
            [str(BIN / line[0]), *line[1:]], cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False
        )  # fmt: skip
