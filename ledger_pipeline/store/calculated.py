"""Entries that the books compute from themselves: the computation lands as a raw payload, so that these figures, too, lead to their source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from ledger_pipeline.model.journal import fingerprints
from ledger_pipeline.store import posting
from ledger_pipeline.store.database import Connection, lock
from ledger_pipeline.store.posting import Posted, Target

PREFIX = "books:"
"""Begins the connection names of computed records: `books:hp_uk`. No configured connection has such a name."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a computation: its record, its day, and its lines as (role, currency, amount, base), sorted."""

    record: str
    occurred_on: date
    lines: tuple[tuple[str, str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Computation:
    """What was computed (`payload`: JSON values, money as integers) and the entries that it makes; none where nothing is left to book."""

    source_id: str
    payload: dict[str, Any]
    entries: tuple[Entry, ...]


def post(
    connection: Connection, target: Target, stream: str, rule: tuple[str, int], computations: Sequence[Computation]
) -> Posted:
    """Land, post and decide computations in the open transaction; what is booked already stays, what differs is corrected.

    `rule` is (name, version). The target's connection is `books:<entity>`.
    """
    lock(connection, "post", target.connection)
    raw_ids = [_land(connection, target, stream, one) for one in computations]
    documents = pa.table(
        {
            "raw_id": pa.array(raw_ids, pa.int64()),
            "stream": pa.array([stream] * len(raw_ids), pa.string()),
            "origin_id": pa.array([one.source_id for one in computations], pa.string()),
            "version_at": pa.array([target.at] * len(raw_ids), pa.timestamp("us", "UTC")),
        }
    )
    entries, lines = _tables(rule, list(zip(raw_ids, computations, strict=True)))
    done = posting.post(connection, target, entries, lines, documents)
    fate = ["posted" if one.entries else "ignored" for one in computations]
    posting.decide(
        connection,
        target,
        pa.table(
            {
                "raw_id": documents["raw_id"],
                "stream": documents["stream"],
                "source_id": documents["origin_id"],
                "fate": pa.array(fate, pa.string()),
                "reason": pa.array(["" if f == "posted" else "nothing to book" for f in fate], pa.string()),
                "units": pa.array([1] * len(fate), pa.int64()),
                "control_amount": pa.array([None] * len(fate), pa.string()),
                "control_currency": pa.array([None] * len(fate), pa.string()),
                "version_at": documents["version_at"],
            }
        ),
    )
    return done


def _land(connection: Connection, target: Target, stream: str, one: Computation) -> int:
    """The raw_id of the computation's payload; the same content lands once."""
    payload = json.dumps(one.payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(payload.encode()).digest()
    key = (target.connection, stream, one.source_id, digest)
    connection.execute(
        "INSERT INTO raw.record (connection, stream, source_id, content_hash, sync_date, fetched_at, run_id, payload) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (connection, stream, source_id, content_hash) DO NOTHING",
        (*key, target.sync_date, target.at, target.run_id, payload),
    )
    (raw_id,) = connection.execute(
        "SELECT raw_id FROM raw.record WHERE (connection, stream, source_id, content_hash) = (%s, %s, %s, %s)", key
    ).fetchall()[0]
    return int(raw_id)


def _tables(rule: tuple[str, int], landed: Sequence[tuple[int, Computation]]) -> tuple[pa.Table, pa.Table]:
    """Entries and lines as `posting.post` takes them."""
    flat = [(raw_id, one.source_id, entry) for raw_id, one in landed for entry in one.entries]
    counts = np.array([len(entry.lines) for _, _, entry in flat], np.int64)
    rows = [
        {"entry": number, "line_no": n + 1, "role": role, "currency": currency, "amount_minor": amount, "base_minor": base}
        for number, (_, _, entry) in enumerate(flat)
        for n, (role, currency, amount, base) in enumerate(entry.lines)
    ]  # fmt: skip
    lines = pa.Table.from_pylist(
        rows,
        pa.schema(
            [("entry", pa.int64()), ("line_no", pa.int64()), ("role", pa.string()), ("currency", pa.string()),
             ("amount_minor", pa.int64()), ("base_minor", pa.int64())]
        ),
    )  # fmt: skip
    days = pa.array([entry.occurred_on for _, _, entry in flat], pa.date32())
    entries = pa.table(
        {
            "raw_id": pa.array([raw_id for raw_id, _, _ in flat], pa.int64()),
            "record": pa.array([entry.record for _, _, entry in flat], pa.string()),
            "source_id": pa.array([source_id for _, source_id, _ in flat], pa.string()),
            "rule": pa.array([rule[0]] * len(flat), pa.string()),
            "rule_version": pa.array([rule[1]] * len(flat), pa.int64()),
            "occurred_on": days,
            "currency": pa.array([entry.lines[0][1] for _, _, entry in flat], pa.string()),
            "line_count": pa.array(counts, pa.int64()),
            "fingerprint": fingerprints(days, lines, counts),
        }
    )
    return entries, lines
