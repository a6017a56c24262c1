"""What people made the pipeline do beyond the nightly sync: who, what, why and when, appended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from ledger_pipeline.store.database import Connection


def note(
    connection: Connection,
    action: str,
    *,
    by: str,
    run_id: str,
    details: Mapping[str, Any],
    at: datetime,
    reason: str = "",
) -> None:
    """Keep an act in ops.action; `details` are JSON values without personal data."""
    connection.execute(
        "INSERT INTO ops.action (action, by_whom, reason, run_id, details, acted_at) VALUES (%s, %s, %s, %s, %s, %s)",
        (action, by.strip(), reason.strip(), run_id, Jsonb(dict(details)), at),
    )
