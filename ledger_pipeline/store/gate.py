"""The gate: the durable verdict that a connection's staged day may be posted, bound to exactly what was checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from ledger_pipeline.store.database import Connection


@dataclass(frozen=True, slots=True)
class Gate:
    """`fingerprint` is the SHA-256 of the staged bytes that the checks read; `verdict` is their results in short."""

    is_open: bool
    fingerprint: bytes
    verdict: dict[str, Any]


class GateClosed(Exception):
    """A staged day must not be posted."""


def write(
    connection: Connection, name: str, sync_date: date, gate: Gate, *, suite: str, run_id: str, at: datetime
) -> None:
    """Set the verdict of a day."""
    connection.execute(
        "INSERT INTO ops.gate (connection, sync_date, is_open, fingerprint, suite, verdict, run_id, checked_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (connection, sync_date) DO UPDATE SET is_open = excluded.is_open, "
        "fingerprint = excluded.fingerprint, suite = excluded.suite, verdict = excluded.verdict, run_id = excluded.run_id, "
        "checked_at = excluded.checked_at",
        (name, sync_date, gate.is_open, gate.fingerprint, suite, json.dumps(gate.verdict), run_id, at),
    )


def read(connection: Connection, name: str, sync_date: date) -> Gate | None:
    """The day's verdict, None when it was never checked."""
    row = connection.execute(
        "SELECT is_open, fingerprint, verdict FROM ops.gate WHERE connection = %s AND sync_date = %s", (name, sync_date)
    ).fetchone()
    return Gate(row[0], bytes(row[1]), row[2]) if row else None


def require(connection: Connection, name: str, sync_date: date, fingerprint: bytes) -> Gate:
    """The open gate over exactly these staged bytes; raises GateClosed with the reason otherwise."""
    gate = read(connection, name, sync_date)
    if gate is None:
        raise GateClosed(f"{name} {sync_date}: its staged data were never checked")
    if not gate.is_open:
        failed = "; ".join(gate.verdict.get("closed_by", [])) or "a check failed"
        raise GateClosed(f"{name} {sync_date}: the gate is closed: {failed}")
    if gate.fingerprint != fingerprint:
        raise GateClosed(f"{name} {sync_date}: the staged data differ from what was checked; check them again")
    return gate
