"""A failed run reaches a person: in the log, and at a webhook URL where one is configured."""

import logging
from urllib.parse import urlsplit

import dagster as dg
import requests

from ledger_pipeline import config as configuration
from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.connect.redact import process_wide, remember

log = logging.getLogger(__name__)
TIMEOUT_SECONDS = 10


class AlertFailed(Exception):
    """The webhook didn't take an alert. Its address is a key in many chats, so that no message has it."""


def failure_sensor(config: LedgerConfig) -> dg.SensorDefinition:
    """Reports every failed run with its connection, partition and error in a sentence."""

    @dg.run_failure_sensor(
        name="failed_runs",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=15,
        description="Writes an alert for every failed run, and posts it to alerts.webhook_url.",
    )
    def failed_runs(context: dg.RunFailureSensorContext) -> None:
        send(config, alert_of(context))

    return failed_runs


def alert_of(context: dg.RunFailureSensorContext) -> dict[str, str]:
    """What a person needs to know, and where to look."""
    run = context.dagster_run
    errors = [e.step_failure_data.error_display_string for e in context.get_step_failure_events()]
    first = (errors or [context.failure_event.message or "no message"])[0]
    return {
        "job": run.job_name,
        "connection": run.tags.get("ledger/connection") or connections_of(run),
        "partition": run.tags.get("dagster/partition") or range_of(run),
        "run_id": run.run_id,
        "error": sentence(first),
    }


def connections_of(run: dg.DagsterRun) -> str:
    """The connections whose assets a run was asked for: a run from the UI or of a backfill carries no tag of ours."""
    names = {key.path[1] for key in run.asset_selection or () if len(key.path) == 3}
    return ", ".join(sorted(names)) or "–"


def range_of(run: dg.DagsterRun) -> str:
    """The sync dates of a backfill's run."""
    first, last = (run.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    return f"{first} to {last}" if first and last else "–"


def sentence(error: str) -> str:
    """The first line of a chain of errors that says something, without its traceback; what follows a colon belongs to it."""
    lines = [line.strip() for line in error.splitlines() if line.strip() and not line.startswith((" ", "\t"))]
    told = [
        line
        for line in lines
        if not line.startswith(("Stack Trace", "The above exception", "dagster._core.errors.DagsterExecution"))
    ]
    first = (told or ["unknown error"])[0]
    if first.endswith(":"):
        every = [line.strip() for line in error.splitlines() if line.strip()]
        first = " ".join(every[every.index(first) :][:3])
    return first[:500]


def send(config: LedgerConfig, alert: dict[str, str]) -> None:
    """To the log always; to the webhook as {"text": …} (Slack's form) together with the fields."""
    text = f"{alert['job']} failed for {alert['connection']}, {alert['partition']}: {alert['error']} (run {alert['run_id']})"
    log.error(text)
    url = str(configuration.resolve(config.alerts.webhook_url))
    if not url:
        return
    remember([urlsplit(url).path, urlsplit(url).query])  # urllib3 logs them at DEBUG
    logging.getLogger("urllib3.connectionpool").addFilter(process_wide)
    try:
        answer = requests.post(url, json={"text": text, **alert}, timeout=TIMEOUT_SECONDS)
    except requests.RequestException as error:
        raise AlertFailed(f"the alert's webhook was not reached ({type(error).__name__})") from None
    if not answer.ok:
        raise AlertFailed(f"the alert's webhook answered {answer.status_code}")
