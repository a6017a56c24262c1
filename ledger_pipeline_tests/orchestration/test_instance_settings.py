"""Dagster's settings are one truth: the project's, the one that `init` writes, the one of a server, and the Helm values say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from dagster._core.instance.config import dagster_instance_config
from ruamel.yaml import YAML

from ledger_pipeline.orchestration.nights import PACKAGED

ROOT = Path(__file__).resolve().parents[2]
ON_A_SERVER = {"compute_logs"}
"""What deploy/dagster.yaml has besides: what steps print goes to the service's journal, not to a folder."""
IN_PODS: dict[str, str] = {
    "storage": "the chart makes it of its own `postgresql`",
    "run_launcher": "a pod per run: K8sRunLauncher, which has no warm process",
    "run_coordinator.module": "the chart's `type`",
    "run_coordinator.class": "the chart's `type`",
    "run_coordinator.config.max_user_code_failure_retries": "the chart has no key for it",
    "run_coordinator.config.user_code_failure_retry_delay": "the chart has no key for it",
    "run_monitoring.start_timeout_seconds": "a pod waits for a node, too: 300 s",
    "nux": "the chart has no key for it; nobody signs up behind the proxy",
    "freshness": "the chart has no key for it; Dagster's own default is on",
}
"""What the Helm values don't say, or say otherwise, and why."""


def read(path: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(path.read_text()))


def flat(settings: Any, under: str = "") -> dict[str, Any]:
    """`a.b: 1` of nested settings."""
    if not isinstance(settings, dict):
        return {under: settings}
    return {key: value for name, inner in settings.items() for key, value in flat(inner, f"{under}.{name}".lstrip(".")).items()}  # fmt: skip


@pytest.fixture(scope="module")
def packaged() -> dict[str, Any]:
    return read(PACKAGED / "dagster.yaml")


def test_the_projects_file_is_the_one_that_init_writes() -> None:
    assert (ROOT / "dagster.yaml").read_bytes() == (PACKAGED / "dagster.yaml").read_bytes()


def test_a_server_has_the_same_settings_but_for_what_is_listed(packaged: dict[str, Any]) -> None:
    deployed = read(ROOT / "deploy" / "dagster.yaml")
    assert set(deployed) - set(packaged) == ON_A_SERVER
    assert {name: value for name, value in deployed.items() if name not in ON_A_SERVER} == packaged


def test_pods_have_the_same_settings_but_for_what_is_listed(packaged: dict[str, Any]) -> None:
    values = read(ROOT / "deploy" / "helm" / "values.yaml")
    daemon = values["dagsterDaemon"]
    chart = flat(
        {
            "run_coordinator": {"config": daemon["runCoordinator"]["config"]["queuedRunCoordinator"]},
            "run_monitoring": daemon["runMonitoring"],
            "run_retries": daemon["runRetries"],
            "sensors": daemon["sensors"],
            "retention": values["retention"],
            "telemetry": values["telemetry"],
        }
    )
    said = {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in chart.items()}
    wanted = {
        name: value for name, value in flat(packaged).items() if name not in IN_PODS and name.split(".")[0] not in IN_PODS
    }  # fmt: skip
    assert {name: said.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("path", [ROOT / "dagster.yaml", ROOT / "deploy" / "dagster.yaml"], ids=str)
def test_dagster_knows_every_setting(path: Path) -> None:
    found, _ = dagster_instance_config(str(path.parent))
    assert found["run_retries"]["max_retries"] == 3
