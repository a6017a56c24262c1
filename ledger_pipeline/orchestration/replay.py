"""Preview and replay: what today's mappings and rules make of landed payloads, held against the books, by the same write path as a night's.

Nothing is pulled and nothing staged. A preview posts as a night would and is rolled back. A replay also corrects what an older mapping, rule or
chart posted from the same payload; it is rolled back, too, unless it is applied.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa

from ledger_pipeline.checks import suites
from ledger_pipeline.model.records import RECORDS, parts_of
from ledger_pipeline.orchestration import booking, paths, steps
from ledger_pipeline.orchestration.runtime import Link, Runtime
from ledger_pipeline.reconcile import placing
from ledger_pipeline.store import actions, posting, raw, staging
from ledger_pipeline.store.database import Connection, lock
from ledger_pipeline.store.posting import Posted
from ledger_pipeline.store.staging import Refusal


class BooksChanged(Exception):
    """The difference is no longer the one that was looked at."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a change; minor units, debit positive."""

    account: str
    role: str
    currency: str
    amount_minor: int
    base_minor: int


@dataclass(frozen=True, slots=True)
class Change:
    """An entry that is, or would be, appended; `corrects_entry_id` is the entry that it reverses or replaces."""

    entity: str
    connection: str
    record: str
    source_id: str
    kind: str
    occurred_on: date
    posted_on: date
    corrects_entry_id: int | None
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """What an account of a month gains or loses by the changes; minor units."""

    entity: str
    month: date
    account: str
    name: str
    currency: str
    amount_minor: int
    base_minor: int


@dataclass(slots=True)
class Difference:
    """A connection's landed payloads of some sync dates against the books. `digest` identifies the changes."""

    connection: str
    first: date
    last: date
    payloads: int = 0
    unchanged: int = 0
    fates: dict[str, int] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    digest: str = ""


def preview(runtime: Runtime, name: str, first: date, last: date) -> Difference:
    """What posting the landed payloads of these sync dates would append now; nothing is kept."""
    return _run(runtime, name, first, last, "preview", is_replay=False)


def replay(runtime: Runtime, name: str, first: date, last: date) -> Difference:
    """What would have to be corrected for the books to say what today's mappings and rules say; nothing is kept."""
    return _run(runtime, name, first, last, "replay", is_replay=True)


def apply(
    runtime: Runtime, name: str, first: date, last: date, *, digest: str, by: str, reason: str, run_id: str
) -> Difference:
    """Post a replay's corrections. Raises BooksChanged when they differ from those that were looked at (`digest`).

    Days with a quarantine are staged and checked anew first, so that staging, too, says what today's mapping says.
    """
    link = runtime.link(name)
    for day in _days_with_quarantine(runtime, name, first, last):
        steps.stage(runtime, link, day, run_id)
        steps.check(runtime, link, day, run_id)
    return _run(runtime, name, first, last, run_id, is_replay=True, word=(digest, by, reason))


def _run(
    runtime: Runtime,
    name: str,
    first: date,
    last: date,
    run_id: str,
    *,
    is_replay: bool,
    word: tuple[str, str, str] | None = None,
) -> Difference:
    link = runtime.link(name)
    mapped = _map(runtime, link, first, last)
    found = Difference(name, first, last, mapped.documents.num_rows)
    runtime.refresh_rates_for(last)
    with (
        runtime.database.connect() as connection,
        connection.transaction(force_rollback=word is None),
        steps.uncollected(),
    ):
        lock(connection, "post", name)
        target = steps.target_of(runtime, link, link.entity, last, run_id, is_adjusting=is_replay, is_replay=is_replay)
        refused = _refused(mapped)
        stale = posting.superseded_of(connection, target, mapped.documents)
        tables = {n: steps.without(t, set(refused) | stale) for n, t in mapped.tables.items()}
        tables = placing.placed(connection, link.entity, link.name, tables)
        made = booking.wanted(runtime.config, link, tables, runtime.rates(connection))
        known = steps.without(mapped.documents, set(refused) | stale)
        target = paths.once(runtime.config, connection, target, made, tables, known)
        rejected = {raw_id for raw_id, _, _ in made.rejected}
        decided = steps.without(mapped.documents, set(refused) | stale | rejected)
        done = steps.append(runtime, connection, link, target, made, decided)
        found.unchanged = done.unchanged
        found.refused = [r for r in mapped.refusals if r.raw_id not in stale] + _rejections(mapped, made)
        ignored = staging.ignored_by_people(connection, [*refused, *rejected])
        fates = booking.fates(mapped.documents, made, refused, stale, ignored)
        found.fates = dict(Counter(fates["fate"].to_pylist()))
        _describe(connection, found, done)
        if word is not None:
            _keep(connection, runtime, found, target, fates, word)
    return found


# payloads to records ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Mapped:
    documents: pa.Table
    tables: dict[str, pa.Table]
    refusals: list[Refusal]


def _map(runtime: Runtime, link: Link, first: date, last: date) -> _Mapped:
    """Map and check the newest content of each record that the sync dates saw."""
    documents: list[pa.Table] = [staging.DOCUMENT.empty_table()]
    refusals: list[Refusal] = []
    pieces: dict[str, list[pa.Table]] = {}
    with runtime.database.connect("reader") as connection, steps.uncollected():
        for name in raw.seen_streams(connection, link.name, first, last):
            for chunk in raw.documents(connection, link.name, name, first, last, steps.STAGING_CHUNK):
                mapped = steps.map_chunk(link, link.source.stream(name), chunk)
                documents.append(mapped.documents)
                refusals += mapped.refusals
                for record, table in mapped.tables.items():
                    pieces.setdefault(record, []).append(table)
    tables = {record: _joined(record, pieces.get(record, [])) for record in link.source.records}
    for part in (p for record in link.source.records for p in parts_of(record)):
        tables.setdefault(part.name, part.schema().empty_table())
    found = _Mapped(pa.concat_tables(documents), tables, refusals)
    found.refusals += _checked(runtime, link, last, found)
    return found


def _joined(record: str, pieces: list[pa.Table]) -> pa.Table:
    """In the order in which a staged day is read."""
    order = [("raw_id", "ascending"), ("source_id", "ascending")]
    order += [("line_no", "ascending")] if RECORDS[record].parent else []
    schema = RECORDS[record].schema()
    return pa.concat_tables([schema.empty_table(), *(p.select(schema.names).cast(schema) for p in pieces)]).sort_by(
        order
    )


def _checked(runtime: Runtime, link: Link, last: date, mapped: _Mapped) -> list[Refusal]:
    _, end = link.window(last)
    latest = max(end, runtime.clock())
    at = dict(zip(mapped.documents["raw_id"].to_pylist(), range(mapped.documents.num_rows), strict=True))
    streams, origins = mapped.documents["stream"], mapped.documents["origin_id"]
    return [
        Refusal(
            raw_id,
            streams[at[raw_id]].as_py(),
            origins[at[raw_id]].as_py(),
            outcome.record,
            outcome.name,
            f"{outcome.name}: failed ({outcome.doc})",
        )
        for record in link.source.records
        for outcome in suites.check(RECORDS[record], mapped.tables, window_end=latest)
        for raw_id in outcome.failing
    ]


def _refused(mapped: _Mapped) -> dict[int, str]:
    return {r.raw_id: f"{r.path}: {r.reason}" for r in reversed(mapped.refusals)}


def _rejections(mapped: _Mapped, made: booking.Wanted) -> list[Refusal]:
    at = dict(zip(mapped.documents["raw_id"].to_pylist(), range(mapped.documents.num_rows), strict=True))
    streams, origins = mapped.documents["stream"], mapped.documents["origin_id"]
    return [
        Refusal(r, streams[at[r]].as_py(), origins[at[r]].as_py(), record, "posting", reason)
        for r, record, reason in made.rejected
    ]


# the difference --------------------------------------------------------------------------------------------------------


def _describe(connection: Connection, found: Difference, done: Posted) -> None:
    """Read back what was appended in this transaction."""
    lines: dict[int, list[Line]] = {}
    for entry_id, *line in connection.execute(
        "SELECT l.entry_id, l.account, l.role, l.currency, l.amount_minor, l.base_minor "
        "FROM ledger.line l JOIN ledger.entry e USING (entry_id) WHERE e.batch_id = ANY(%s) ORDER BY l.entry_id, l.line_no",
        (done.batch_ids,),
    ):
        lines.setdefault(entry_id, []).append(Line(*line))
    found.changes = [
        Change(*(*row[1:], tuple(lines[row[0]])))
        for row in connection.execute(
            "SELECT entry_id, entity, connection, record, source_id, kind, occurred_on, posted_on, corrects_entry_id "
            "FROM ledger.entry WHERE batch_id = ANY(%s) ORDER BY entity, posted_on, record, source_id, kind DESC, entry_id",
            (done.batch_ids,),
        )
    ]
    found.moved = [
        Moved(*row)
        for row in connection.execute(
            """
            SELECT l.entity, date_trunc('month', l.posted_on)::date, l.account, a.name, l.currency,
                   sum(l.amount_minor)::bigint, sum(l.base_minor)::bigint
              FROM ledger.line l JOIN ledger.entry e USING (entry_id)
              JOIN ledger.account a ON a.entity = l.entity AND a.code = l.account
             WHERE e.batch_id = ANY(%s)
             GROUP BY 1, 2, 3, 4, 5 HAVING sum(l.amount_minor) <> 0 OR sum(l.base_minor) <> 0 ORDER BY 1, 2, 3, 5
            """,
            (done.batch_ids,),
        )
    ]
    text = "\n".join(sorted(repr(change) for change in found.changes))
    found.digest = hashlib.sha256(text.encode()).hexdigest()


def _keep(
    connection: Connection,
    runtime: Runtime,
    found: Difference,
    target: posting.Target,
    fates: pa.Table,
    word: tuple[str, str, str],
) -> None:
    """Decide the fates (what today's mapping refuses keeps the fate that it has) and note who asked for it."""
    digest, by, reason = word
    if found.digest != digest:
        raise BooksChanged(
            f"{found.connection}: the books or the rules have changed since the difference was shown; look again"
        )
    is_decided = pa.array([fate != "quarantined" for fate in fates["fate"].to_pylist()], pa.bool_())
    decided = fates.filter(is_decided)
    raw_ids = decided["raw_id"].to_pylist()
    days = _days_of(connection, raw_ids)
    posting.decide(
        connection,
        target,
        decided.append_column("sync_date", pa.array([days[r] for r in raw_ids], pa.date32())),
    )
    posting.supersede_seen(connection, target, found.first)
    details: dict[str, Any] = {
        "connection": found.connection,
        "from": str(found.first),
        "to": str(found.last),
        "entries": len(found.changes),
        "digest": digest,
    }
    actions.note(connection, "replay", by=by, reason=reason, run_id=target.run_id, details=details, at=runtime.clock())


def _days_with_quarantine(runtime: Runtime, name: str, first: date, last: date) -> list[date]:
    with runtime.database.connect("reader") as connection:
        rows = connection.execute(
            "SELECT DISTINCT sync_date FROM ops.quarantine WHERE connection = %s AND sync_date BETWEEN %s AND %s ORDER BY 1",
            (name, first, last),
        ).fetchall()
    return [row[0] for row in rows]


def _days_of(connection: Connection, raw_ids: list[int]) -> dict[int, date]:
    """The sync date under which a payload was decided, else the one under which it landed."""
    rows = connection.execute(
        "SELECT r.raw_id, coalesce(f.sync_date, r.sync_date) FROM raw.record r LEFT JOIN ops.fate f USING (raw_id) WHERE r.raw_id = ANY(%s)",
        (raw_ids,),
    )
    return dict(rows.fetchall())
