"""The four steps of a connection's day: pull, stage, check, post. Plain functions over a Runtime; assets call them, so do tests."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.checks import suites
from ledger_pipeline.checks.suites import Outcome
from ledger_pipeline.connect.errors import AuthError
from ledger_pipeline.connect.mapping import Mapped
from ledger_pipeline.connect.source import Request, Stream
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.model.rules import RULES
from ledger_pipeline.orchestration import booking, paths, unchanged
from ledger_pipeline.orchestration.booking import Wanted
from ledger_pipeline.orchestration.recording import failed_pull, recorded
from ledger_pipeline.orchestration.runtime import Link, Runtime
from ledger_pipeline.reconcile import flags, placing
from ledger_pipeline.reconcile.calendar import Calendar
from ledger_pipeline.store import events, gate, posting, raw, staging
from ledger_pipeline.store.behind import Behind, ahead, short_turns
from ledger_pipeline.store.database import Connection, lock
from ledger_pipeline.store.gate import Gate, GateClosed
from ledger_pipeline.store.staging import Refusal

log = logging.getLogger(__name__)

LANDING_CHUNK = 5_000
STAGING_CHUNK = 5_000
CHECK_GROUP = 30_000
"""Payloads that are checked at once: each group costs Great Expectations a fixed time, however many rows it has; more take more memory."""


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: it would walk each of a chunk's many objects, none of which is in a cycle, again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# pull ------------------------------------------------------------------------------------------------------------------


def pull(
    runtime: Runtime,
    link: Link,
    stream: Stream,
    sync_date: date,
    run_id: str,
    given: tuple[tuple[str, bytes], ...] | None = None,
    since: datetime | None = None,
) -> raw.Pull:
    """Land what a stream offers for a sync date. What was landed before a failure stays; the pull counts only when it ended.

    `given` are files (name, content) that are read instead of those in the connection's folder. `since`: only what changed from then on
    is asked for, a part of the day; the night pulls the whole of it. A refused key is read anew, since it may have been rotated, and the
    pull begins again with it.
    """
    try:
        return _pulled(runtime, link, stream, sync_date, run_id, given, since)
    except AuthError as error:
        refused = error
    for other in runtime.other_secrets(link):
        log.warning("%s/%s: the key was refused; pulling again with another version of it", link.name, stream.name)
        try:
            return _pulled(runtime, other, stream, sync_date, run_id, given, since)
        except AuthError as error:
            refused = error
    raise refused


def _pulled(
    runtime: Runtime,
    link: Link,
    stream: Stream,
    sync_date: date,
    run_id: str,
    given: tuple[tuple[str, bytes], ...] | None,
    since: datetime | None,
) -> raw.Pull:
    start, end = link.window(sync_date)
    if since is not None:
        start = min(max(start, since), end)
    pulled = raw.Pull(link.name, stream.name, sync_date, run_id, runtime.clock(), window_start=start, window_end=end)
    raw.begin(runtime.database, pulled)
    if stream.has_cursor:
        pulled.cursor_before = raw.last_cursor(runtime.database, link.name, stream.name)
    client = link.source.connect(link.name, link.options) if link.source.connect else None
    request = Request(
        link.name, stream.name, sync_date, start, end, link.options, client, pulled.cursor_before, pulled.started_at,
        keep_file=lambda name, content: raw.keep_file(runtime.database, link.name, name, content, run_id, pulled.started_at),
        given=given,
    )  # fmt: skip
    try:
        _land(runtime, stream, request, pulled)
    except BaseException as error:
        _count(pulled, request)
        failed_pull(runtime, pulled, error)
        raise
    finally:
        if client is not None:
            client.close()
    _count(pulled, request)
    if since is not None:
        pulled.notes = {**pulled.notes, raw.PART_OF_DAY: since.isoformat()}
    raw.finish(runtime.database, pulled, runtime.clock())
    return pulled


def _land(runtime: Runtime, stream: Stream, request: Request, pulled: raw.Pull) -> None:
    """Read the stream and commit what comes, chunk by chunk; a large one in two sessions at once, each for one half of its records."""
    halves = [replace(pulled, records=0, landed=0) for _ in range(raw.HALVES)]
    waiting: list[raw.Item] = []
    try:
        with short_turns(), Behind() as first, Behind() as second:
            for page in stream.read(request):
                waiting += [_item(stream, payload) for payload in page]
                if len(waiting) >= LANDING_CHUNK:
                    for number, behind in enumerate((first, second)):
                        own = [item for item in waiting if raw.half_of(item.source_id) == number]
                        behind.do(_commit, runtime, halves[number], own)
                    waiting = []
        _commit(runtime, pulled, waiting)
    finally:
        pulled.records += sum(half.records for half in halves)
        pulled.landed += sum(half.landed for half in halves)


def _commit(runtime: Runtime, pulled: raw.Pull, items: list[raw.Item]) -> None:
    with uncollected():
        raw.land(runtime.database, pulled, items)


def _count(pulled: raw.Pull, request: Request) -> None:
    """What the reader and the client have to say about the pull."""
    pulled.cursor_after, pulled.expected = request.next_cursor, request.expected
    pulled.pages, pulled.repeated, pulled.notes = request.pages, request.repeated, request.notes
    if request.client is not None:
        pulled.calls, pulled.retries = request.client.stats.calls, request.client.stats.retries


def _item(stream: Stream, payload: bytes) -> raw.Item:
    source_id, version_at, units = stream.identify(payload)
    return raw.Item(source_id, payload, version_at, units)


# stage -----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Staged:
    """Rows by record, and what could not be staged."""

    rows: dict[str, int] = field(default_factory=dict)
    documents: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    mapping_version: str = ""

    def count(self, chunk: list[raw.Document], mapped: MappedChunk) -> None:
        """Add what a chunk came to."""
        self.documents += len(chunk)
        self.refusals += mapped.refusals
        for record, table in mapped.tables.items():
            self.rows[record] += table.num_rows


def _told_of_stage(staged: Staged) -> dict[str, object]:
    return {
        "records": staged.documents,
        "rows": staged.rows,
        "refused": len(staged.refusals),
        "mapping": staged.mapping_version,
    }


@recorded("stage", _told_of_stage)
def stage(runtime: Runtime, link: Link, sync_date: date, run_id: str) -> Staged:
    """Replace a sync date's canonical rows by what its pulls saw, in one transaction; unfitting payloads are quarantined by path."""
    result = Staged(dict.fromkeys(link.source.records, 0), mapping_version=link.source.mapping_version)
    at = runtime.clock()
    with runtime.database.connect() as connection:
        lock(connection, "day", link.name, str(sync_date))
        inputs = unchanged.staged_from(connection, link, sync_date)
        rows = unchanged.staged_before(connection, link, sync_date, inputs)
        if rows is not None:
            return _staged_again(connection, link, sync_date, rows)
        staging.clear(connection, link.name, sync_date)
        streams = raw.seen_streams(connection, link.name, sync_date, sync_date)
        sharing = staging.Sharing()
        chunk_no = 0
        with runtime.database.connect("reader") as reading, uncollected(), short_turns(), Behind() as behind:
            for name in streams:
                documents = raw.documents(reading, link.name, name, sync_date, sync_date, STAGING_CHUNK)
                with ahead(documents) as chunks:
                    for chunk in chunks:
                        mapped = map_chunk(link, link.source.stream(name), chunk)
                        chunk_no += 1
                        into = (connection, link.name, sync_date, chunk_no)
                        behind.do(staging.write_chunk, *into, mapped.documents, mapped.tables)
                        sharing.add(mapped.tables)
                        result.count(chunk, mapped)
        staging.refuse(connection, link.name, sync_date, "staging", result.refusals, run_id=run_id, at=at)
        staging.finish(
            connection,
            link.name,
            sync_date,
            at=at,
            run_id=run_id,
            mapping_version=link.source.mapping_version,
            rows=result.rows,
            inputs=inputs,
            shared=sharing.raw_ids(),
        )
    return result


def _staged_again(connection: Connection, link: Link, sync_date: date, rows: dict[str, int]) -> Staged:
    """A day that is staged already, from the same: only its verdict is forgotten, as always when a day is staged."""
    staging.forget_verdict(connection, link.name, sync_date)
    day = staging.open_day(connection, link.name, sync_date, link.source.records)
    return Staged(rows, day.documents, mapping_version=link.source.mapping_version)


@dataclass(frozen=True, slots=True)
class MappedChunk:
    """Payloads as canonical rows by record, as documents (`staging.DOCUMENT`), and those that don't fit."""

    documents: pa.Table
    tables: dict[str, pa.Table]
    refusals: list[Refusal]


def map_chunk(link: Link, stream: Stream, chunk: list[raw.Document]) -> MappedChunk:
    """Map landed payloads of a stream with the connection's present mapping."""
    payloads = [document.payload for document in chunk]
    plan = link.plans.get(stream.name)
    told = stream.told_of(payloads, None) if plan is None or stream.gone_without else None
    live = chunk
    if told is not None and told[2].true_count:
        live = [document for document, gone in zip(chunk, told[2].to_pylist(), strict=True) if not gone]
        payloads = [document.payload for document in live]
    mapped = plan.run(payloads, [d.raw_id for d in live], link.settings) if plan else Mapped({}, ())
    amounts, codes, is_gone = told or stream.told_of(payloads, mapped.beside)
    documents = pa.table(
        [
            [d.raw_id for d in chunk], pa.repeat(stream.name, len(chunk)), [d.source_id for d in chunk],
            pa.array([d.version_at for d in chunk], pa.timestamp("us", "UTC")), [d.units for d in chunk],
            amounts, codes, is_gone,
        ],
        schema=staging.DOCUMENT,
    )  # fmt: skip
    refusals = [
        Refusal(d.raw_id, stream.name, d.source_id, fault.record, fault.path, fault.message)
        for fault in mapped.faults
        for d in (live[fault.position],)
    ]
    return MappedChunk(documents, mapped.tables, refusals)


# check -----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Checked:
    """The outcomes of all expectations, and the verdict."""

    outcomes: list[Outcome]
    is_open: bool
    closed_by: list[str]
    quarantined: int
    documents: int
    likely_duplicates: list[flags.Flag] = field(default_factory=list)
    """Flags of the day that wait for a person."""


def _told_of_check(checked: Checked) -> dict[str, object]:
    return {"records": checked.documents, "quarantined": checked.quarantined, "closed_by": checked.closed_by}


@recorded("check", _told_of_check)
def check(runtime: Runtime, link: Link, sync_date: date, run_id: str) -> Checked:
    """Run the suites over what is staged, quarantine the payloads of failing rows, and set the gate over exactly these bytes."""
    at = runtime.clock()
    _, end = link.window(sync_date)
    latest = max(end, at)  # a late pull of a list of changes brings what happened since
    with runtime.database.connect() as connection:
        lock(connection, "day", link.name, str(sync_date))
        day = staging.open_day(connection, link.name, sync_date, link.source.records)
        known = unchanged.checked_before(connection, link, day)
        outcomes, refusals = _expectations(connection, link, day, latest) if known is None else (known, [])
        if known is None:
            unchanged.remember_check(connection, day, outcomes)
        outcomes += _volume(connection, link, sync_date, day.documents)
        staging.refuse(connection, link.name, sync_date, "check", refusals, run_id=run_id, at=at)
        bad = staging.refused_ids(connection, link.name, sync_date, ("staging", "check"))
        for raw_id in staging.ignored_by_people(connection, bad):
            del bad[raw_id]
        closed_by = _closed_by(outcomes, len(bad), day.documents, link.quarantine_limit)
        verdict = {"closed_by": closed_by, "quarantined": len(bad), "documents": day.documents}
        if closed_by:
            _tell_closed(runtime, connection, link, sync_date, verdict, day.fingerprint, at)
        gate.write(
            connection,
            link.name,
            sync_date,
            Gate(not closed_by, day.fingerprint, verdict),
            suite=link.source.mapping_version,
            run_id=run_id,
            at=at,
        )
        waiting = _likely_duplicates(runtime, connection, link, sync_date, bad, run_id, at)
    return Checked(outcomes, not closed_by, closed_by, len(bad), day.documents, waiting)


def _expectations(
    connection: Connection, link: Link, day: staging.Day, latest: datetime
) -> tuple[list[Outcome], list[Refusal]]:
    """The suites over a day, group by group, and the payloads that fail."""
    parts: list[list[Outcome]] = []
    refusals: list[Refusal] = []
    for group in day.groups(connection, staging.clashing(connection, day) if day.is_large else (), size=CHECK_GROUP):
        found = [
            o for name in link.source.records for o in suites.check(RECORDS[name], group.tables, window_end=latest)
        ]
        refusals += _failing(found, group.documents)
        parts.append(found)
    return suites.merged(parts), refusals


def _failing(outcomes: Iterable[Outcome], documents: pa.Table) -> list[Refusal]:
    failing = pa.array(sorted({raw_id for outcome in outcomes for raw_id in outcome.failing}), pa.int64())
    rows = documents.filter(pc.is_in(documents["raw_id"], value_set=failing)).select(["raw_id", "stream", "origin_id"])
    origins = {raw_id: (stream, origin) for raw_id, stream, origin in zip(*rows.to_pydict().values(), strict=True)}
    return [
        Refusal(
            raw_id,
            *origins[raw_id],
            outcome.record,
            outcome.name,
            f"{outcome.name}: failed ({outcome.doc})",
        )
        for outcome in outcomes
        for raw_id in outcome.failing
    ]


def _likely_duplicates(
    runtime: Runtime,
    connection: Connection,
    link: Link,
    sync_date: date,
    refused: Iterable[int],
    run_id: str,
    at: datetime,
) -> list[flags.Flag]:
    """Flag payments of the day that may be made or told twice. They are posted all the same: only a person knows."""
    records = [record for record in flags.FLAGGED if record in link.source.records]
    if not records:
        return []
    calendar = Calendar(runtime.config.entities[link.entity].country)
    others = paths.group(runtime.config, link.name)
    found = flags.look(connection, link.name, sync_date, records, calendar, others, set(refused))
    flags.keep(connection, link.entity, sync_date, found, run_id, at)
    return flags.flags(connection, link.name, sync_date)


def _tell_closed(
    runtime: Runtime,
    connection: Connection,
    link: Link,
    sync_date: date,
    verdict: dict[str, Any],
    fingerprint: bytes,
    at: datetime,
) -> None:
    data = {
        "entity": link.entity,
        "connection": link.name,
        "sync_date": sync_date,
        **verdict,
        "fingerprint": fingerprint.hex(),
    }
    endpoints, subject = runtime.config.told_of("gate.closed"), f"{link.name}/{sync_date}"
    if events.last_closed(connection, subject) == (data["fingerprint"], verdict["closed_by"]):
        return  # told already: the day was only checked again
    events.tell(connection, endpoints, "gate.closed", link.entity, subject, data, at)


MINIMUM_FOR_SHARE = 20
"""Below this many records a share says nothing: one bad record of three doesn't close a gate."""


def _closed_by(outcomes: Iterable[Outcome], bad: int, documents: int, limit: float) -> list[str]:
    found = [f"{o.record}: {o.name}" for o in outcomes if o.is_batch_level and not o.is_met]
    if documents >= MINIMUM_FOR_SHARE and bad > limit * documents:
        found.append(f"{bad} of {documents} records are quarantined, more than the limit of {limit:.0%}")
    return found


_HISTORY = 14


def _volume(connection: Connection, link: Link, sync_date: date, documents: int) -> list[Outcome]:
    """A day with far more records than the days before is suspicious: a filter that the source ignores looks healthy."""
    rows = connection.execute(
        "SELECT sum(value::bigint) FROM ops.staged, jsonb_each_text(rows_by_record) WHERE connection = %s AND sync_date < %s "
        "GROUP BY sync_date ORDER BY sync_date DESC LIMIT %s",
        (link.name, sync_date, _HISTORY),
    ).fetchall()
    history = sorted(int(row[0]) for row in rows)
    doc = f"Not more than 20 times the median of the last {_HISTORY} staged days."
    if len(history) < 3 or history[len(history) // 2] < 50:
        return [
            Outcome(
                "document",
                "volume is like its history",
                f"{doc} Too little history yet.",
                True,
                documents,
                is_batch_level=True,
            )
        ]
    median = history[len(history) // 2]
    return [
        Outcome("document", "volume is like its history", doc, documents <= 20 * median, documents, is_batch_level=True)
    ]


# post ------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class PostedDay:
    """What posting a day did."""

    posted: posting.Posted
    fates: Counter[str]
    units: Counter[str]


def _told_of_post(day: PostedDay) -> dict[str, object]:
    counts = {name: getattr(day.posted, name) for name in ("originals", "corrected", "reversed", "unchanged", "lines")}
    return {"records": sum(day.fates.values()), "fates": dict(day.fates), **counts}


@recorded("post", _told_of_post)
def post(runtime: Runtime, link: Link, sync_date: date, run_id: str, *, is_adjusting: bool = False) -> PostedDay:
    """Post a checked day: one transaction, sealed, idempotent. Raises GateClosed when the day isn't what was checked."""
    runtime.refresh_rates_for(sync_date)
    with runtime.database.connect() as connection, uncollected(), short_turns():
        lock(connection, "day", link.name, str(sync_date))
        lock(connection, "post", link.name)
        day = staging.open_day(connection, link.name, sync_date, link.source.records)
        gate.require(connection, link.name, sync_date, day.fingerprint)
        target = target_of(runtime, link, link.entity, sync_date, run_id, is_adjusting=is_adjusting)
        refused = staging.refused_ids(connection, link.name, sync_date, ("staging", "check"))
        inputs = unchanged.posted_from(connection, runtime, link, target, day.fingerprint, refused)
        known = unchanged.posted_before(connection, link, sync_date, inputs)
        if known is not None:
            posting.decide(
                connection, target, NO_FATES.empty_table()
            )  # what a pull that broke off or an older version left undecided
            return _remembered(connection, runtime, link, target, day, refused, known)
        stale = posting.superseded(connection, target)
        staging.refuse(connection, link.name, sync_date, "posting", (), run_id=run_id, at=target.at)
        apart = staging.entangled(connection, day, RULES.keys() & set(link.source.records)) if day.is_large else ()
        is_whole = bool(paths.group(runtime.config, link.name))  # equal events are counted over the whole day
        result = PostedDay(posting.Posted(), Counter(), Counter())
        rates = runtime.rates(connection)
        with _reader(runtime, connection, day) as reading, Behind() as behind:
            for group in day.groups(reading, apart, is_whole=is_whole):  # one is booked while another is written
                tables = placing.placed(reading, link.entity, link.name, _without(group.tables, {*refused, *stale}))
                made = _Made(group.documents, tables, booking.wanted(runtime.config, link, tables, rates))
                behind.do(_post_group, runtime, connection, link, target, made, refused, stale, result)
        posting.decide(connection, target, NO_FATES.empty_table())
        done = result.posted
        entries = done.originals + done.corrected + done.unchanged
        return _remembered(
            connection, runtime, link, target, day, refused, (entries, result.fates, result.units), result
        )


def _reader(runtime: Runtime, connection: Connection, day: staging.Day) -> AbstractContextManager[Connection]:
    """What a staged day is read from: a session of its own where another group is being written meanwhile."""
    return runtime.database.connect("reader") if day.is_large else nullcontext(connection)


def _remembered(
    connection: Connection,
    runtime: Runtime,
    link: Link,
    target: posting.Target,
    day: staging.Day,
    refused: dict[int, str],
    known: tuple[int, Mapping[str, int], Mapping[str, int]],
    result: PostedDay | None = None,
) -> PostedDay:
    """Keep what the posting came to, from the books as they are now; without a `result` it is one that had nothing to do."""
    entries, fates, units = known
    inputs = unchanged.posted_from(connection, runtime, link, target, day.fingerprint, refused)
    unchanged.remember_posting(connection, link, target, inputs, entries, fates, units)
    return result or PostedDay(posting.Posted(unchanged=entries), Counter(fates), Counter(units))


NO_FATES = pa.schema([("raw_id", pa.int64())])


@dataclass(frozen=True, slots=True)
class _Made:
    """Some of a day's payloads, their records, and what these should stand as in the books."""

    documents: pa.Table
    tables: Mapping[str, pa.Table]
    wanted: Wanted


def _post_group(
    runtime: Runtime,
    connection: Connection,
    link: Link,
    target: posting.Target,
    made: _Made,
    refused: dict[int, str],
    stale: set[int],
    result: PostedDay,
) -> None:
    """Post some of a day's payloads, decide their fates and count them in."""
    documents, wanted = made.documents, made.wanted
    known = without(documents, set(refused) | stale)
    target = paths.once(runtime.config, connection, target, wanted, made.tables, known)
    _refuse(connection, link, target.sync_date, wanted, documents, target.run_id, target.at)
    rejected = {raw_id for raw_id, _, _ in wanted.rejected}
    decided = without(documents, set(refused) | stale | rejected)
    result.posted.add(append(runtime, connection, link, target, wanted, decided))
    why = staging.refused_ids(connection, link.name, target.sync_date, ("posting",)) | refused
    fates = booking.fates(documents, wanted, why, stale, staging.ignored_by_people(connection, why))
    posting.write_fates(connection, target, fates)
    result.fates.update(fates["fate"].to_pylist())
    result.units.update(booking.sum_units(fates))


def target_of(
    runtime: Runtime,
    link: Link,
    entity: str,
    sync_date: date,
    run_id: str,
    *,
    is_adjusting: bool = False,
    is_replay: bool = False,
) -> posting.Target:
    """The books of an entity, as this connection posts into them."""
    chart = runtime.config.entities[entity].chart
    return posting.Target(
        *(link.name, entity, chart.account_of, link.source.mapping_version, run_id, sync_date, runtime.clock()),
        is_adjusting=is_adjusting,
        is_replay=is_replay,
    )


def append(
    runtime: Runtime, connection: Connection, link: Link, target: posting.Target, made: Wanted, decided: pa.Table
) -> posting.Posted:
    """Post what is wanted in the books of every entity that the connection feeds, each in its own batch."""
    done = posting.Posted()
    nothing = booking.nothing()
    before = [e for e in posting.entities_of(connection, link.name) if e in runtime.config.entities]
    entities = sorted({*made.by_entity, *before})  # also those that a route of old led to
    for entity in entities:
        chart = runtime.config.entities[entity].chart
        posting.ensure_accounts(connection, entity, chart.accounts.values())
        siblings = tuple(other for other in entities if other != entity)
        books = replace(target, entity=entity, account_of=chart.account_of, siblings=siblings)
        done.add(posting.post(connection, books, *made.by_entity.get(entity, nothing), decided))
    events.entries_posted(connection, runtime.config.told_of("entry.posted"), done.batch_ids, target.at)
    return done


def _without(tables: Mapping[str, pa.Table], raw_ids: set[int]) -> dict[str, pa.Table]:
    return {name: without(table, raw_ids) for name, table in tables.items()}


def without(table: pa.Table, raw_ids: set[int]) -> pa.Table:
    """The rows of other payloads."""
    if not raw_ids or not table.num_rows:
        return table
    return table.filter(pc.invert(pc.is_in(table["raw_id"], value_set=pa.array(sorted(raw_ids), pa.int64()))))


def _refuse(
    connection: Connection,
    link: Link,
    sync_date: date,
    made: Wanted,
    documents: pa.Table,
    run_id: str,
    at: datetime,
) -> None:
    """Quarantine what the rules refuse."""
    row = {r: n for n, r in enumerate(documents["raw_id"].to_pylist())} if made.rejected else {}
    streams, origins = documents["stream"], documents["origin_id"]
    refusals = [
        Refusal(r, streams[row[r]].as_py(), origins[row[r]].as_py(), record, "posting", reason)
        for r, record, reason in made.rejected
    ]
    staging.refuse(connection, link.name, sync_date, "posting", refusals, run_id=run_id, at=at, is_more=True)


# the whole day ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Day:
    """A connection's day from pull to posting; `error` says why it stopped."""

    connection: str
    sync_date: date
    pulls: list[raw.Pull] = field(default_factory=list)
    staged: Staged | None = None
    checked: Checked | None = None
    posted: PostedDay | None = None
    error: str | None = None


def run_day(runtime: Runtime, name: str, sync_date: date, run_id: str) -> Day:
    """All four steps without Dagster, for tests and tools; a closed gate ends in `error`, other faults are raised."""
    link = runtime.link(name)
    day = Day(name, sync_date)
    day.pulls = [pull(runtime, link, stream, sync_date, run_id) for stream in link.source.streams]
    day.staged = stage(runtime, link, sync_date, run_id)
    day.checked = check(runtime, link, sync_date, run_id)
    try:
        day.posted = post(runtime, link, sync_date, run_id)
    except GateClosed as error:
        day.error = str(error)
    return day
