"""Several machines on one: processes with a copy of the code and a working folder each, that share a PostgreSQL by TCP and a broker and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from ledger_pipeline_tests.pipeline.processes import Process

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DAEMON_LINE = ("dagster-daemon", "run", "-w", "workspace.yaml")


def code_line(port: int, module: str) -> tuple[str, ...]:
    """The command of a code server."""
    return ("dagster", "code-server", "start", "-h", "127.0.0.1", "-p", str(port), "-m", module)


def quick_instance(*from_the_folders: str) -> str:
    """deploy/dagster.yaml with shorter intervals, and with these sections of the project's dagster.yaml, which the former hasn't."""
    read = YAML(typ="safe").load
    document = read(ROOT / "deploy" / "dagster.yaml")
    document["run_coordinator"]["config"] |= {
        "max_concurrent_runs": 2,
        "dequeue_interval_seconds": 1,
        "user_code_failure_retry_delay": 3,
    }
    document["run_monitoring"] |= {"poll_interval_seconds": 5, "start_timeout_seconds": 90}
    other = read(ROOT / "dagster.yaml")
    return json.dumps(document | {section: other[section] for section in from_the_folders})


class Machine:
    """A folder with its own copy of the package, its own ledger.yaml and its own DAGSTER_HOME; processes see no other copy.

    Its workspace is the code server on `code_port`.
    """

    def __init__(
        self, folder: Path, ledger_yaml: str, environment: dict[str, str], code_port: int, dagster_yaml: str
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
        (folder / "home" / "dagster.yaml").write_text(dagster_yaml)
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
