"""The one write path to the ledger: what a staged day should post is held against what is posted, and the difference is appended.

New records become originals, changed ones a reversal and a replacement, vanished ones a reversal; what is there already stays. One transaction;
the database seals it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from ledger_pipeline.model.accounts import Account
from ledger_pipeline.model.journal import fingerprints
from ledger_pipeline.model.months import following_month
from ledger_pipeline.store import frames, periods
from ledger_pipeline.store.database import Connection, lock, next_values

Ints = npt.NDArray[np.int64]

ENTRY_TEXT = (
    *("entry_id", "entity", "connection", "stream", "origin_id", "record", "source_id", "rule", "version", "kind"),
    *("occurred_on", "posted_on", "is_prior_period", "raw_id", "content_hash", "mapping_version", "rule_version"),
    *("corrects_entry_id", "line_count", "fingerprint", "version_at"),
)
LINE_TEXT = ("entry_id", "line_no", "entity", "posted_on", "account", "role", "currency", "amount_minor", "base_minor")


@dataclass(frozen=True, slots=True)
class Target:
    """Who posts: the connection, the entity, its accounts by role, and the run that is behind it.

    `is_adjusting`: a person's act or a month-end run, which also posts into a period that is closing. `is_replay`: what was posted from the
    same payload by an older mapping, rule, chart or route is corrected, too. `siblings`: the other entities that the connection feeds.
    `withdrawn`: (record, source id) of what a person called a duplicate; its entry is reversed, also where its payload was posted before.
    """

    connection: str
    entity: str
    account_of: Callable[[str], str]
    mapping_version: str
    run_id: str
    sync_date: date
    at: datetime
    is_adjusting: bool = False
    is_replay: bool = False
    siblings: tuple[str, ...] = ()
    withdrawn: frozenset[tuple[str, str]] = frozenset()


@dataclass(slots=True)
class Posted:
    """What a posting did, in numbers; `batch_ids` has one batch per entity, and is empty when there was nothing to append."""

    batch_ids: list[int] = field(default_factory=list)
    originals: int = 0
    corrected: int = 0
    reversed: int = 0
    unchanged: int = 0
    lines: int = 0

    def add(self, other: Posted) -> None:
        """Count another entity's posting in."""
        self.batch_ids += other.batch_ids
        for name in ("originals", "corrected", "reversed", "unchanged", "lines"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def ensure_accounts(connection: Connection, entity: str, accounts: Iterable[Account]) -> None:
    """The ledger knows the accounts of a chart; a changed name is taken over, a code's type never changes."""
    known = set(connection.execute("SELECT code, name FROM ledger.account WHERE entity = %s", (entity,)).fetchall())
    for account in accounts:
        if (account.code, account.name) not in known:
            connection.execute(
                "INSERT INTO ledger.account (entity, code, name, type) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (entity, code) DO UPDATE SET name = excluded.name",
                (entity, account.code, account.name, account.type),
            )


def entities_of(connection: Connection, name: str) -> list[str]:
    """Entities into whose books the connection has posted."""
    rows = connection.execute("SELECT DISTINCT entity FROM ledger.batch WHERE connection = %s ORDER BY 1", (name,))
    return [row[0] for row in rows]


def superseded(connection: Connection, target: Target) -> set[int]:
    """raw_ids of the staged day for which a newer version of the same record has already been decided (and not quarantined)."""
    rows = connection.execute(
        f"SELECT d.raw_id FROM staging.document d {_NEWER} WHERE d.connection = %(c)s AND d.sync_date = %(d)s",
        {"c": target.connection, "d": target.sync_date},
    )
    return {row[0] for row in rows}


_NEWER = """
    LEFT JOIN ops.fate own ON own.raw_id = d.raw_id
    CROSS JOIN LATERAL (SELECT 1 FROM ops.fate f
                         WHERE f.connection = %(c)s AND f.stream = d.stream AND f.source_id = d.origin_id
                           AND f.raw_id <> d.raw_id AND f.fate <> 'quarantined'
                           AND (f.version_at, f.raw_id) > (greatest(d.version_at, own.version_at), d.raw_id) LIMIT 1) newer
"""
"""A version that a later night saw again is as new as that night, whichever of its days is run again."""


def superseded_of(connection: Connection, target: Target, documents: pa.Table) -> set[int]:
    """As `superseded`, for payloads that aren't staged: raw_id, stream, origin_id, version_at."""
    connection.execute(
        "CREATE TEMP TABLE given (raw_id bigint, stream text, origin_id text, version_at timestamptz) ON COMMIT DROP"
    )
    frames.write(connection, "pg_temp", "given", documents.select(["raw_id", "stream", "origin_id", "version_at"]))
    connection.execute("ANALYZE given")
    rows = connection.execute(f"SELECT d.raw_id FROM given d {_NEWER}", {"c": target.connection}).fetchall()
    connection.execute("DROP TABLE given")
    return {row[0] for row in rows}


def post(connection: Connection, target: Target, entries: pa.Table, lines: pa.Table, documents: pa.Table) -> Posted:
    """Append what differs from the books.

    `entries` as in `model.journal.Journal.entries`, `lines` likewise (`entry` is the row in `entries`); `documents` are the payloads
    that are decided now (raw_id, stream, origin_id, version_at): live entries of theirs that are no longer wanted are reversed.
    """
    result = Posted()
    wanted = _with_documents(entries, documents)
    live = _live(connection, target, wanted, documents)
    plan = _plan(connection, target, wanted, live, documents)
    result.unchanged = plan.unchanged
    new_entries, new_lines = _build(connection, target, wanted, lines, plan)
    if not new_entries.num_rows:
        return result
    result.originals = int(np.count_nonzero(plan.version[plan.new] == 1))
    result.corrected = len(plan.new) - result.originals
    result.reversed = len(plan.reverse)
    result.lines = new_lines.num_rows
    result.batch_ids = [_append(connection, target, new_entries, new_lines)]
    return result


def _with_documents(entries: pa.Table, documents: pa.Table) -> pa.Table:
    at = pc.index_in(entries["raw_id"], value_set=documents["raw_id"].combine_chunks())
    for name in ("stream", "origin_id", "version_at"):
        entries = entries.append_column(name, documents[name].combine_chunks().take(at.combine_chunks()))
    return entries


_LIVE = pa.schema(
    [
        ("entry_id", pa.int64()), ("record", pa.string()), ("source_id", pa.string()), ("rule", pa.string()),
        ("version", pa.int64()), ("fingerprint", pa.string()), ("raw_id", pa.int64()), ("stream", pa.string()),
        ("origin_id", pa.string()), ("is_live", pa.bool_()),
    ]
)  # fmt: skip


def _live(connection: Connection, target: Target, wanted: pa.Table, documents: pa.Table) -> pa.Table:
    """The last entry of every identity that this posting touches: by the record itself, and by the payloads' origins.

    LATERAL with OFFSET 0 looks each up by index; a plain join reads the whole ledger as soon as a day is a few per cent of it.
    """
    connection.execute("CREATE TEMP TABLE wanted (record text, source_id text) ON COMMIT DROP")
    connection.execute("CREATE TEMP TABLE origins (stream text, origin_id text) ON COMMIT DROP")
    frames.write(connection, "pg_temp", "wanted", wanted.select(["record", "source_id"]))
    frames.write(connection, "pg_temp", "origins", documents.select(["stream", "origin_id"]))
    connection.execute("ANALYZE wanted, origins")
    query = sql.SQL(
        """
        SELECT DISTINCT ON (e.record, e.source_id, e.rule) e.entry_id, e.record, e.source_id, e.rule, e.version,
               encode(e.fingerprint, 'hex'), e.raw_id, e.stream, e.origin_id,
               NOT EXISTS (SELECT 1 FROM ledger.entry r WHERE r.corrects_entry_id = e.entry_id AND r.kind = 'reversal')
          FROM (SELECT e.* FROM wanted w CROSS JOIN LATERAL
                       (SELECT * FROM ledger.entry
                         WHERE connection = {0} AND record = w.record AND source_id = w.source_id OFFSET 0) e
                UNION
                SELECT e.* FROM origins o CROSS JOIN LATERAL
                       (SELECT * FROM ledger.entry
                         WHERE connection = {0} AND stream = o.stream AND origin_id = o.origin_id OFFSET 0) e) e
         WHERE e.kind <> 'reversal' AND e.entity = {1}
         ORDER BY e.record, e.source_id, e.rule, e.version DESC
        """
    ).format(sql.Literal(target.connection), sql.Literal(target.entity))
    live = frames.read(connection, query, _LIVE)
    connection.execute("DROP TABLE wanted, origins")
    return live


@dataclass(slots=True)
class _Plan:
    new: Ints  # rows of wanted
    version: Ints  # per row of wanted
    corrects: Ints  # per row of wanted: the entry that it replaces, 0 for an original
    reverse: list[int]  # entry ids
    unchanged: int


def _identity_rows(live: pa.Table) -> dict[str, int]:
    return {key: row for row, key in enumerate(_identity(live).to_pylist())}


def _kept(connection: Connection, target: Target, wanted: pa.Table, live: pa.Table) -> set[tuple[int, int]]:
    """(row of wanted, row of live) where what stands is what is wanted, or is left as it is.

    A payload that was posted before is left alone whatever today's mapping makes of it, also where what it said stood already by an equal
    version. A replay leaves alone only equal lines on the accounts of today's chart.
    """
    if not live.num_rows:
        return set()
    known = _identity_rows(live)
    at = [known.get(key) for key in _identity(wanted).to_pylist()]
    pairs = [(row, there) for row, there in enumerate(at) if there is not None]
    live_prints, live_raw = live["fingerprint"].to_pylist(), live["raw_id"].to_pylist()
    prints, raw_ids = wanted["fingerprint"].to_pylist(), wanted["raw_id"].to_pylist()
    equal = {(row, there) for row, there in pairs if prints[row].hex() == live_prints[there]}
    if target.is_replay:
        entry_ids = live["entry_id"].to_pylist()
        moved = _moved(connection, target, entry_ids)
        return {(row, there) for row, there in equal if entry_ids[there] not in moved}
    differing = [pair for pair in pairs if pair not in equal]
    settled = _posted_before(connection, {raw_ids[row] for row, _ in differing})
    return equal | {(r, t) for r, t in differing if raw_ids[r] == live_raw[t] or raw_ids[r] in settled}


def _posted_before(connection: Connection, raw_ids: set[int]) -> set[int]:
    """Payloads whose fate is already that they were posted."""
    if not raw_ids:
        return set()
    rows = connection.execute(
        "SELECT raw_id FROM ops.fate WHERE raw_id = ANY(%s) AND fate = 'posted'", (sorted(raw_ids),)
    )
    return {row[0] for row in rows}


def _moved(connection: Connection, target: Target, entry_ids: list[int]) -> set[int]:
    """Entries with a line on another account than its role's present one."""
    rows = connection.execute("SELECT entry_id, role, account FROM ledger.line WHERE entry_id = ANY(%s)", (entry_ids,))
    return {entry_id for entry_id, role, account in rows if target.account_of(role) != account}


def _plan(connection: Connection, target: Target, wanted: pa.Table, live: pa.Table, documents: pa.Table) -> _Plan:
    size = wanted.num_rows
    version, corrects = np.ones(size, np.int64), np.zeros(size, np.int64)
    elsewhere = _elsewhere(connection, target, wanted)
    if not live.num_rows:
        new_rows = np.array([row for row in range(size) if row not in elsewhere], np.int64)
        return _Plan(new_rows, version, corrects, [], len(elsewhere))
    kept = _kept(connection, target, wanted, live)
    known = _identity_rows(live)
    last = live.to_pydict()
    new: list[int] = []
    reverse: list[int] = []
    touched: set[int] = set()
    for row, key in enumerate(_identity(wanted).to_pylist()):
        if row in elsewhere:
            continue
        at = known.get(key)
        if at is None:
            new.append(row)
            continue
        touched.add(at)
        if last["is_live"][at] and (row, at) in kept:
            continue
        new.append(row)
        version[row], corrects[row] = last["version"][at] + 1, last["entry_id"][at]
        if last["is_live"][at]:
            reverse.append(last["entry_id"][at])
    reverse += _vanished(connection, target, live, documents, touched)
    return _Plan(np.asarray(new, np.int64), version, corrects, sorted(reverse), size - len(new))


def _vanished(
    connection: Connection, target: Target, live: pa.Table, documents: pa.Table, touched: set[int]
) -> list[int]:
    """Standing entries of the decided payloads' records that are no longer wanted; not those of a payload that was posted before."""
    origins = zip(documents["stream"].to_pylist(), documents["origin_id"].to_pylist(), strict=True)
    decided = dict(zip(origins, documents["raw_id"].to_pylist(), strict=True))
    names = ("entry_id", "stream", "origin_id", "is_live", "record", "source_id")
    gone = [
        (entry_id, decided[stream, origin], identity in target.withdrawn)
        for at, (entry_id, stream, origin, is_live, *identity_) in enumerate(
            zip(*(live[n].to_pylist() for n in names), strict=True)
        )
        for identity in (tuple(identity_),)
        if is_live and at not in touched and (stream, origin) in decided
    ]
    settled = set() if target.is_replay else _posted_before(connection, {raw_id for _, raw_id, _ in gone})
    return [entry_id for entry_id, raw_id, is_withdrawn in gone if is_withdrawn or raw_id not in settled]


def _elsewhere(connection: Connection, target: Target, wanted: pa.Table) -> set[int]:
    """Rows of payloads that were posted before and stand in a sibling's books: a changed route moves them in a replay only."""
    if not target.siblings or target.is_replay:
        return set()
    raw_ids = wanted["raw_id"].to_pylist()
    rows = connection.execute(
        "SELECT f.raw_id FROM ops.fate f WHERE f.raw_id = ANY(%(raw)s) AND f.fate = 'posted' "
        "AND EXISTS (SELECT 1 FROM ledger.live_entry e WHERE (e.connection, e.stream, e.origin_id) = (f.connection, f.stream, f.source_id) "
        "AND e.entity = ANY(%(siblings)s)) "
        "AND NOT EXISTS (SELECT 1 FROM ledger.live_entry e WHERE (e.connection, e.stream, e.origin_id) = (f.connection, f.stream, f.source_id) "
        "AND e.entity = %(own)s)",
        {"raw": raw_ids, "siblings": list(target.siblings), "own": target.entity},
    )
    settled = {row[0] for row in rows}
    return {row for row, raw_id in enumerate(raw_ids) if raw_id in settled}


def _identity(table: pa.Table) -> pa.Array:
    return pc.binary_join_element_wise(table["record"], table["source_id"], table["rule"], "\x1f")


def _build(
    connection: Connection, target: Target, wanted: pa.Table, lines: pa.Table, plan: _Plan
) -> tuple[pa.Table, pa.Table]:
    """Reversals first, then the new entries; their lines in the same order."""
    closed = closed_months(connection, target)
    old_entries, old_lines = _reversals(connection, target, plan.reverse, closed)
    ids = np.asarray(next_values(connection, "ledger.entry_id_seq", len(plan.reverse) + len(plan.new)), np.int64)
    old_ids, new_ids = ids[: len(plan.reverse)], ids[len(plan.reverse) :]
    old_entries = old_entries.set_column(0, "entry_id", pa.array(old_ids))
    old_lines = old_lines.set_column(0, "entry_id", pa.array(np.repeat(old_ids, old_entries["line_count"].to_numpy())))
    picked = wanted.take(pa.array(plan.new))
    occurred_on = picked["occurred_on"].combine_chunks()
    posted_on, is_prior = _posting_dates(occurred_on, closed)
    size = len(plan.new)
    corrects = plan.corrects[plan.new]
    content = _content_hashes(connection, np.asarray(picked["raw_id"].to_numpy(), np.int64))
    new_entries = pa.table(
        {
            "entry_id": pa.array(new_ids),
            "entity": _same(target.entity, size),
            "connection": _same(target.connection, size),
            "stream": picked["stream"],
            "origin_id": picked["origin_id"],
            "record": picked["record"],
            "source_id": picked["source_id"],
            "rule": picked["rule"],
            "version": pa.array(plan.version[plan.new]),
            "kind": pa.array(np.where(corrects > 0, "replacement", "original").tolist(), pa.string()),
            "occurred_on": occurred_on,
            "posted_on": posted_on,
            "is_prior_period": is_prior,
            "raw_id": picked["raw_id"],
            "content_hash": content,
            "mapping_version": _same(target.mapping_version, size),
            "rule_version": picked["rule_version"],
            "corrects_entry_id": pa.array(corrects, pa.int64(), mask=corrects == 0),
            "line_count": picked["line_count"],
            "fingerprint": picked["fingerprint"],
            "version_at": picked["version_at"],
        }
    )
    new_lines = _new_lines(target, lines, plan, new_entries)
    entries = pa.concat_tables([old_entries.cast(new_entries.schema), new_entries])
    return entries, pa.concat_tables([old_lines.cast(new_lines.schema), new_lines])


def _same(value: str, size: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), size)


def _content_hashes(connection: Connection, raw_ids: Ints) -> pa.Array:
    """Of each payload the hash under which it landed. They come as one run of bytes: rows take three times as long to read."""
    known, at = np.unique(raw_ids, return_inverse=True)
    row = connection.execute(
        "SELECT string_agg(content_hash, '' ORDER BY raw_id) FROM raw.record WHERE raw_id = ANY(%s::bigint[])",
        ("{" + ",".join(map(str, known.tolist())) + "}",),
        binary=True,
    ).fetchone()
    found = bytes(row[0] or b"") if row else b""
    if len(found) != 32 * len(known):
        raise LookupError(f"{len(known)} payloads are to be posted, of which {len(found) // 32} have landed")
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(known), [None, pa.py_buffer(found)]).take(
        pa.array(at)
    )


def closed_months(connection: Connection, target: Target) -> set[date]:
    """Months that take no entry of this target; they stay so, and no other closes, until the transaction ends."""
    periods.lock_shared(connection, target.entity)
    shut = ["closed"] if target.is_adjusting else ["closed", "closing"]
    rows = connection.execute(
        "SELECT month FROM ledger.period WHERE entity = %s AND state = ANY(%s)", (target.entity, shut)
    )
    return {row[0] for row in rows}


def _posting_dates(occurred_on: pa.Array, closed: set[date]) -> tuple[pa.Array, pa.Array]:
    """Day of posting: when it occurred, or the first day of the earliest open month after a closed one."""
    if not closed:
        return occurred_on, pa.array(np.zeros(len(occurred_on), np.bool_))
    posted = [first_open_day(day, closed) for day in occurred_on.to_pylist()]
    is_prior = [p != o for p, o in zip(posted, occurred_on.to_pylist(), strict=True)]
    return pa.array(posted, pa.date32()), pa.array(is_prior, pa.bool_())


def first_open_day(day: date, closed: set[date]) -> date:
    """`day` itself when its month is open, else the first day of the next month that is."""
    month = day.replace(day=1)
    if month not in closed:
        return day
    while month in closed:
        month = following_month(month)
    return month


def _new_lines(target: Target, lines: pa.Table, plan: _Plan, entries: pa.Table) -> pa.Table:
    position = np.full(int(lines["entry"].to_numpy().max(initial=-1)) + 1, -1, np.int64)
    position[plan.new[plan.new < len(position)]] = np.flatnonzero(plan.new < len(position))
    entry = np.asarray(lines["entry"].to_numpy(), np.int64)
    picked = np.flatnonzero(position[entry] >= 0) if len(entry) else entry
    at = position[entry[picked]] if len(entry) else entry
    kept = lines.take(pa.array(picked))
    order = np.argsort(at, kind="stable")
    kept, at = kept.take(pa.array(order)), at[order]
    roles = kept["role"].combine_chunks().dictionary_encode()
    accounts = pa.DictionaryArray.from_arrays(
        roles.indices, pa.array([target.account_of(role) for role in roles.dictionary.to_pylist()], pa.string())
    )
    return pa.table(
        {
            "entry_id": pa.array(np.asarray(entries["entry_id"].to_numpy(), np.int64)[at], pa.int64()),
            "line_no": kept["line_no"],
            "entity": _same(target.entity, kept.num_rows),
            "posted_on": entries["posted_on"].combine_chunks().take(pa.array(at)),
            "account": accounts.cast(pa.string()),
            "role": kept["role"],
            "currency": kept["currency"],
            "amount_minor": kept["amount_minor"],
            "base_minor": kept["base_minor"],
        }
    )


_LINES = pa.schema(
    [
        ("entry_id", pa.int64()), ("line_no", pa.int64()), ("entity", pa.string()), ("posted_on", pa.date32()), ("account", pa.string()),
        ("role", pa.string()), ("currency", pa.string()), ("amount_minor", pa.int64()), ("base_minor", pa.int64()),
    ]
)  # fmt: skip


def _reversals(
    connection: Connection, target: Target, entry_ids: list[int], closed: set[date]
) -> tuple[pa.Table, pa.Table]:
    """Reversing entries of the given ones: the same lines with the other sign, dated as the original where its period is open."""
    columns = [c for c in ENTRY_TEXT if c not in ("entry_id", "kind", "corrects_entry_id")]
    rows = connection.execute(
        f"SELECT entry_id, {', '.join(columns)} FROM ledger.entry WHERE entry_id = ANY(%s) ORDER BY entry_id",
        (entry_ids,),
    ).fetchall()
    originals = [dict(zip(("entry_id", *columns), row, strict=True)) for row in rows]
    dates = {row["entry_id"]: first_open_day(row["posted_on"], closed) for row in originals}
    entries = pa.Table.from_pylist(
        [
            row | {
                "kind": "reversal",
                "corrects_entry_id": row["entry_id"],
                "posted_on": dates[row["entry_id"]],
                "is_prior_period": dates[row["entry_id"]] != row["occurred_on"],
                "content_hash": bytes(row["content_hash"]),
                "fingerprint": bytes(row["fingerprint"]),
            }
            for row in originals
        ],
        _entry_schema(),
    )  # fmt: skip
    old = connection.execute(
        "SELECT entry_id, line_no, entity, posted_on, account, role, currency, -amount_minor, -base_minor FROM ledger.line "
        "WHERE entry_id = ANY(%s) ORDER BY entry_id, line_no",
        (entry_ids,),
    ).fetchall()
    lines = pa.Table.from_pylist(
        [dict(zip(_LINES.names, row, strict=True)) | {"posted_on": dates[row[0]]} for row in old], _LINES
    )
    return entries, lines


def _entry_schema() -> pa.Schema:
    kinds: Mapping[str, pa.DataType] = {
        **dict.fromkeys(
            ("entry_id", "version", "raw_id", "rule_version", "corrects_entry_id", "line_count"), pa.int64()
        ),
        **dict.fromkeys(("occurred_on", "posted_on"), pa.date32()),
        **dict.fromkeys(("content_hash", "fingerprint"), pa.binary(32)),
        "is_prior_period": pa.bool_(),
        "version_at": pa.timestamp("us", "UTC"),
    }
    return pa.schema([(name, kinds.get(name, pa.string())) for name in ENTRY_TEXT])


def _append(connection: Connection, target: Target, entries: pa.Table, lines: pa.Table) -> int:
    batch_id = next_values(connection, "ledger.batch_id_seq", 1)[0]
    of_batch = entries.add_column(1, "batch_id", pa.repeat(pa.scalar(batch_id, pa.int64()), entries.num_rows))
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as aside:
        hashing = aside.submit(_content_of, entries, lines)
        frames.write(connection, "ledger", "entry", of_batch)
        frames.write(connection, "ledger", "line", lines)
        content = hashing.result()
    lock(connection, "chain", target.entity)
    row = connection.execute(
        "SELECT chain_no, hash FROM ledger.batch WHERE entity = %s ORDER BY chain_no DESC LIMIT 1", (target.entity,)
    ).fetchone()
    chain_no, previous = (row[0] + 1, bytes(row[1])) if row else (1, bytes(32))
    header = (batch_id, target.entity, chain_no, target.connection, target.sync_date, target.run_id, target.at)
    connection.execute(
        "INSERT INTO ledger.batch (batch_id, entity, chain_no, connection, sync_date, run_id, posted_at, entry_count, line_count, "
        "content_hash, previous_hash, hash) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (*header, entries.num_rows, lines.num_rows, content, previous, chain_hash(previous, content, header)),
    )
    return batch_id


def _content_of(entries: pa.Table, lines: pa.Table) -> bytes:
    """SHA-256 over `text_of(entries)`, a record separator, `text_of(lines)`; the texts are never there as a whole."""
    digest = hashlib.sha256()
    for table, separator in ((entries, b"\x1e"), (lines, b"")):
        for start in range(0, table.num_rows, frames.PIECE):
            digest.update((b"\n" if start else b"") + text_of(table.slice(start, frames.PIECE)))
        digest.update(separator)
    return digest.digest()


def chain_hash(previous: bytes, content: bytes, header: Sequence[Any]) -> bytes:
    """SHA-256 over the previous batch's hash, this batch's content and its header (ids, entity, connection, day, run, time)."""
    return hashlib.sha256(previous + content + "\x1f".join(map(str, header)).encode()).digest()


def text_of(table: pa.Table) -> bytes:
    """A table's rows as the bytes that the chain covers: columns by unit separators, rows by newlines, bytes as hex, nothing for null."""
    columns = []
    for column in table.columns:
        if pa.types.is_fixed_size_binary(column.type):
            texts = frames.hex_of(column)
        elif pa.types.is_timestamp(column.type):
            texts = pc.cast(pc.cast(column, pa.int64()), pa.string())
        else:
            texts = pc.cast(column, pa.string())
        columns.append(pc.fill_null(texts, ""))
    rows = pc.binary_join_element_wise(pc.binary_join_element_wise(*columns, "\x1f"), "", "\n")
    return b"".join(map(_characters, rows.chunks))[:-1]


def _characters(texts: pa.StringArray) -> bytes:
    """All texts of an array, one behind the other."""
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return b""
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return bytes(memoryview(data)[ends[0] : ends[-1]])


def decide(connection: Connection, target: Target, fates: pa.Table) -> None:
    """Write the fates of the decided payloads, and supersede older versions, also quarantined ones, of those that are not quarantined.

    `fates`: raw_id, stream, source_id, fate, reason, units, control_amount, control_currency, version_at, and sync_date where it isn't the
    target's.
    """
    write_fates(connection, target, fates)
    _decide_the_rest(connection, target)
    connection.execute(
        "INSERT INTO ops.decided (connection, number) VALUES (%s, 1) ON CONFLICT (connection) DO UPDATE SET number = decided.number + 1",
        (target.connection,),
    )


def write_fates(connection: Connection, target: Target, fates: pa.Table) -> None:
    """As `decide`, for some of a day's payloads, when others follow."""
    if not fates.num_rows:
        return
    connection.execute("CREATE TEMP TABLE decided (LIKE ops.fate) ON COMMIT DROP")
    size = fates.num_rows
    full = fates
    for name, value in (
        ("connection", _same(target.connection, size)),
        ("sync_date", pa.array([target.sync_date] * size, pa.date32())),
        ("run_id", _same(target.run_id, size)),
        ("decided_at", pa.array([target.at] * size, pa.timestamp("us", "UTC"))),
    ):
        if name not in full.column_names:
            full = full.append_column(name, value)
    frames.write(connection, "pg_temp", "decided", full)
    names = "raw_id, connection, stream, source_id, sync_date, fate, reason, units, control_amount, control_currency, version_at, run_id, decided_at"
    connection.execute(
        f"INSERT INTO ops.fate ({names}) SELECT {names} FROM decided ON CONFLICT (raw_id) DO UPDATE SET fate = excluded.fate, "
        "reason = excluded.reason, sync_date = excluded.sync_date, version_at = greatest(ops.fate.version_at, excluded.version_at), "
        "control_amount = excluded.control_amount, control_currency = excluded.control_currency, run_id = excluded.run_id, "
        "decided_at = excluded.decided_at WHERE (ops.fate.fate, ops.fate.reason, ops.fate.version_at) IS DISTINCT FROM "
        "(excluded.fate, excluded.reason, excluded.version_at)"
    )
    older = connection.execute(
        """
        SELECT DISTINCT f.raw_id FROM decided d
         CROSS JOIN LATERAL (SELECT raw_id FROM ops.fate
                              WHERE connection = d.connection AND stream = d.stream AND source_id = d.source_id AND raw_id <> d.raw_id
                                AND fate <> 'superseded' AND (version_at, raw_id) < (d.version_at, d.raw_id)
                             OFFSET 0) f
         WHERE d.fate NOT IN ('quarantined', 'superseded')
        """
    ).fetchall()
    if older:
        connection.execute(
            "UPDATE ops.fate SET fate = 'superseded', reason = 'a newer version of this record', decided_at = %s, run_id = %s "
            "WHERE raw_id = ANY(%s)",
            (target.at, target.run_id, [row[0] for row in older]),
        )
    connection.execute("DROP TABLE decided")


def reword(connection: Connection, target: Target, rewordings: Sequence[tuple[int, str, str]]) -> None:
    """Say anew why payloads are ignored, also another connection's: (raw_id, what the reason begins with, what it then begins with).

    Nothing but the reason, the run and the time changes: the fate, its day, units and control amount stay, and so do all totals. What is no
    longer ignored, or is for another reason, is left alone.
    """
    if not rewordings:
        return
    raw_ids, before, after = (list(column) for column in zip(*rewordings, strict=True))
    connection.execute(
        "UPDATE ops.fate f SET reason = d.after || substr(f.reason, length(d.before) + 1), run_id = %s, decided_at = %s "
        "FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS d (raw_id, before, after) "
        "WHERE f.raw_id = d.raw_id AND f.fate = 'ignored' AND (f.reason = d.before OR starts_with(f.reason, d.before || '; and '))",
        (target.run_id, target.at, raw_ids, before, after),
    )


def _decide_the_rest(connection: Connection, target: Target) -> None:
    """Landed versions of the sync date that were never staged: the day's own pulls replaced them, or the pull that saw them did not end."""
    arguments = {
        "connection": target.connection,
        "day": target.sync_date,
        "run": target.run_id,
        "at": target.at,
    }
    connection.execute(
        """
        INSERT INTO ops.fate (raw_id, connection, stream, source_id, sync_date, fate, reason, units, version_at, run_id, decided_at)
        SELECT r.raw_id, r.connection, r.stream, r.source_id, p.sync_date, 'superseded',
               'a newer version of this record', r.units, coalesce(r.version_at, p.started_at), %(run)s, %(at)s
          FROM (SELECT DISTINCT ON (s.raw_id) s.raw_id, p.sync_date, p.started_at
                  FROM raw.pull p JOIN raw.seen s USING (pull_id)
                 WHERE p.connection = %(connection)s AND p.sync_date = %(day)s
                 ORDER BY s.raw_id, p.pull_id DESC OFFSET 0) p
          JOIN raw.record r USING (raw_id)
         WHERE NOT EXISTS (SELECT 1 FROM ops.fate f WHERE f.raw_id = p.raw_id)
        """,
        arguments,
    )
    connection.execute(
        """
        INSERT INTO ops.fate (raw_id, connection, stream, source_id, sync_date, fate, reason, units, version_at, run_id, decided_at)
        SELECT DISTINCT ON (r.raw_id) r.raw_id, r.connection, r.stream, r.source_id, a.sync_date,
               CASE WHEN EXISTS (SELECT 1 FROM ops.fate f WHERE (f.connection, f.stream, f.source_id) = (r.connection, r.stream, r.source_id))
                    THEN 'superseded' ELSE 'ignored' END,
               'seen only by a pull that did not end; a later one saw something else', r.units, coalesce(r.version_at, a.started_at),
               %(run)s, %(at)s
          FROM (SELECT a.pull_id, a.sync_date, a.started_at FROM raw.attempt a
                 WHERE a.connection = %(connection)s AND a.sync_date = %(day)s
                   AND NOT EXISTS (SELECT 1 FROM raw.pull p WHERE p.pull_id = a.pull_id)
                   AND EXISTS (SELECT 1 FROM raw.pull p WHERE (p.connection, p.sync_date, p.stream) = (a.connection, a.sync_date, a.stream)
                                                          AND p.pull_id > a.pull_id) OFFSET 0) a
          JOIN raw.seen s USING (pull_id) JOIN raw.record r USING (raw_id)
         WHERE NOT EXISTS (SELECT 1 FROM ops.fate f WHERE f.raw_id = r.raw_id)
           AND NOT EXISTS (SELECT 1 FROM raw.seen other JOIN raw.pull p USING (pull_id) WHERE other.raw_id = r.raw_id)
         ORDER BY r.raw_id
        """,
        arguments,
    )


def supersede_seen(connection: Connection, target: Target, first: date) -> None:
    """Versions that the pulls of the sync dates from `first` saw, that nobody decided, and whose record has a newer decided version."""
    connection.execute(
        """
        INSERT INTO ops.fate (raw_id, connection, stream, source_id, sync_date, fate, reason, units, version_at, run_id, decided_at)
        SELECT DISTINCT ON (r.raw_id) r.raw_id, r.connection, r.stream, r.source_id, p.sync_date, 'superseded',
               'a newer version of this record', r.units, coalesce(r.version_at, p.started_at), %(run)s, %(at)s
          FROM raw.pull p JOIN raw.seen s USING (pull_id) JOIN raw.record r USING (raw_id)
         WHERE p.connection = %(connection)s AND p.sync_date BETWEEN %(first)s AND %(last)s
           AND NOT EXISTS (SELECT 1 FROM ops.fate f WHERE f.raw_id = r.raw_id)
           AND EXISTS (SELECT 1 FROM ops.fate f
                        WHERE (f.connection, f.stream, f.source_id) = (r.connection, r.stream, r.source_id) AND f.fate <> 'quarantined'
                          AND (f.version_at, f.raw_id) > (coalesce(r.version_at, p.started_at), r.raw_id))
         ORDER BY r.raw_id, p.pull_id DESC
        """,
        {
            "connection": target.connection,
            "first": first,
            "last": target.sync_date,
            "run": target.run_id,
            "at": target.at,
        },
    )


# moving a line -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Move:
    """An entry whose lines on one role belong on another."""

    entry_id: int
    from_role: str
    to_role: str


def move(connection: Connection, target: Target, moves: Sequence[Move]) -> Posted:
    """Correct entries by the role of a line alone: a reversal and a replacement each, of the same payload, amounts, mapping and rule.

    For entries of one currency, whose lines a rule makes in the order of role and currency: the replacement is what the rule would make.

    What was corrected by somebody else meanwhile is left alone. Hold the connection's `post` lock.
    """
    result = Posted()
    wanted = {one.entry_id: one for one in moves}
    rows = connection.execute(
        "SELECT entry_id FROM ledger.live_entry WHERE entry_id = ANY(%s) AND entity = %s AND connection = %s ORDER BY 1",
        (list(wanted), target.entity, target.connection),
    )
    ids = [row[0] for row in rows]
    if not ids:
        return result
    closed = closed_months(connection, target)
    old_entries, old_lines = _reversals(connection, target, ids, closed)
    new_entries, new_lines = _replaced(target, old_entries, old_lines, [wanted[id_] for id_ in ids], closed)
    numbers = np.asarray(next_values(connection, "ledger.entry_id_seq", 2 * len(ids)), np.int64)
    counts = old_entries["line_count"].to_numpy()
    entries = pa.concat_tables([old_entries, new_entries]).set_column(0, "entry_id", pa.array(numbers))
    lines = pa.concat_tables([old_lines, new_lines])
    lines = lines.set_column(0, "entry_id", pa.array(np.repeat(numbers, np.concatenate([counts, counts]))))
    result.corrected = result.reversed = len(ids)
    result.lines = lines.num_rows
    result.batch_ids = [_append(connection, target, entries, lines)]
    return result


def _replaced(
    target: Target, reversals: pa.Table, mirrored: pa.Table, moves: Sequence[Move], closed: set[date]
) -> tuple[pa.Table, pa.Table]:
    """The entries that the reversals (their lines `mirrored`) undo, with the moved roles and these roles' accounts."""
    by_entry = {one.entry_id: one for one in moves}
    posted_on = dict(
        zip(by_entry, (first_open_day(d, closed) for d in reversals["occurred_on"].to_pylist()), strict=True)
    )
    rows = mirrored.to_pylist()
    for row in rows:
        one = by_entry[row["entry_id"]]
        row |= {
            "amount_minor": -row["amount_minor"],
            "base_minor": -row["base_minor"],
            "posted_on": posted_on[one.entry_id],
        }
        if row["role"] == one.from_role:
            row |= {"role": one.to_role, "account": target.account_of(one.to_role)}
    rows.sort(key=lambda row: (row["entry_id"], row["role"], row["currency"]))  # the order in which rules make lines
    for number, row in enumerate(rows):
        is_first = not number or rows[number - 1]["entry_id"] != row["entry_id"]
        row["line_no"] = 1 if is_first else rows[number - 1]["line_no"] + 1
    lines = pa.Table.from_pylist(rows, _LINES)
    prints = fingerprints(
        reversals["occurred_on"].combine_chunks(), lines, np.asarray(reversals["line_count"].to_numpy())
    )
    entries = [
        row | {
            "kind": "replacement",
            "version": row["version"] + 1,
            "posted_on": posted_on[one.entry_id],
            "is_prior_period": posted_on[one.entry_id] != row["occurred_on"],
            "fingerprint": print_,
        }
        for row, one, print_ in zip(reversals.to_pylist(), moves, prints.to_pylist(), strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(entries, _entry_schema()), lines
