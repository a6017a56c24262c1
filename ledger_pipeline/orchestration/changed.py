"""What a run that webhooks asked for does otherwise than a night's: it pulls from a time on, and marks the events when it has posted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store import webhooks

WARM = "ledger/warm"
"""Tag of a run that the launcher starts in a warm process."""
WEBHOOK = "ledger/webhook"
"""Tag of a run that webhooks asked for: the connection."""
THROUGH = "ledger/webhook_through"
"""Tag: the last event that the run looks after."""
SINCE = "ledger/webhook_since"
"""Tag: when the earliest change was made, less the lookback."""


def since(tags: Mapping[str, str]) -> datetime | None:
    """From when a run pulls; None for a night's run, which pulls the whole day."""
    return datetime.fromisoformat(tags[SINCE]) if SINCE in tags else None


def looked_after(runtime: Runtime, name: str, run: Any) -> None:
    """Mark the events that a run (`dagster.DagsterRun`) was asked for, once it has posted."""
    if run.tags.get(WEBHOOK) == name and THROUGH in run.tags:
        with runtime.database.connect() as connection:
            webhooks.mark(connection, name, int(run.tags[THROUGH]), "pulled", run.run_id, runtime.clock())
