"""Which executor runs the steps is a choice of ledger.yaml; a wrong choice is named when the file is loaded, not when the night starts."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ledger_pipeline.config import ConfigError, ExecutionConfig
from ledger_pipeline.orchestration import engines
from ledger_pipeline.orchestration.build import build_defs

LEDGER = """\
execution: {{ engine: {engine}, options: {options} }}
entities:
  a: {{ name: A, base_currency: USD, time_zone: UTC }}
connections:
  s: {{ entity: a, source: stripe, api_key: "${{NOT_SET}}" }}
"""


def executors(tmp_path: Path, engine: str, options: str = "{}") -> set[str]:
    """Names of the executors of all jobs, the one that the UI and backfills use included."""
    path = tmp_path / "ledger.yaml"
    path.write_text(LEDGER.format(engine=engine, options=options))
    return {job.executor_def.name for job in build_defs(path).get_repository_def().get_all_jobs()}


@pytest.mark.parametrize("engine", ["in_process", "multiprocess"])
def test_every_job_runs_on_the_chosen_engine(tmp_path: Path, engine: str) -> None:
    assert executors(tmp_path, engine) == {engine}


def test_without_a_choice_a_run_is_one_process() -> None:
    assert engines.executor(ExecutionConfig()) is dg.in_process_executor


def test_variables_of_an_engine_are_left_to_the_process_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    pytest.importorskip("dagster_celery")
    monkeypatch.delenv("LEDGER_BROKER_URL", raising=False)
    assert executors(tmp_path, "celery", '{ broker: "${LEDGER_BROKER_URL}" }') == {"celery"}
    assert engines.deferred({"broker": "${A}", "include": ["x", "${B}"]}) == {"broker": {"env": "A"}, "include": ["x", {"env": "B"}]}  # fmt: skip


def test_an_unknown_option_is_named_when_the_file_is_loaded() -> None:
    with pytest.raises(ConfigError, match=r"execution\.options: .*max_conc"):
        engines.executor(ExecutionConfig(engine="multiprocess", options={"max_conc": 2}))


def test_half_a_variable_is_refused() -> None:
    with pytest.raises(ConfigError, match="write the whole value as one variable"):
        engines.deferred({"broker": "redis://${HOST}/0"})


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "dagster_k8s":
            raise ModuleNotFoundError(name="dagster_k8s")
        return imported(name, *arguments, **more)

    monkeypatch.delitem(sys.modules, "dagster_k8s", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"needs dagster_k8s; pip install 'ledger_pipeline\[k8s\]'"):
        engines.executor(ExecutionConfig(engine="k8s"))
