"""Proof that the books are what was posted: hashes, chains, balances, references, periods and fates are recomputed from what the tables hold.

It only reads, in one snapshot and in bounded chunks. What it can't see is a chain cut at its end together with every payload and fate that
speaks of it; against that, note the heads (entity, number, hash) that a proof returns outside of the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from psycopg import sql

from ledger_pipeline.model.journal import fingerprints
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.store import frames, periods, standing
from ledger_pipeline.store.database import Connection, Database
from ledger_pipeline.store.posting import ENTRY_TEXT, LINE_TEXT, chain_hash, text_of

Ints = npt.NDArray[np.int64]

CHUNK = 20_000
"""Entries read at once."""
PAYLOADS = 1_000
"""Payloads read at once."""
MOST = 1_000
"""Findings that are kept; further ones are counted only."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A row that isn't what was posted: its table, its id there, and what differs."""

    table: str
    id: str
    what: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last batch of an entity's chain; whoever notes its hash elsewhere can tell later that nothing was cut off."""

    entity: str
    chain_no: int
    batch_id: int
    hash: str


@dataclass(frozen=True, slots=True)
class PeriodHead:
    """The last event of an entity's periods; noted elsewhere, it tells later that no closing was cut off."""

    entity: str
    event_no: int
    month: date
    event: str
    hash: str


@dataclass(slots=True)
class Proof:
    """What was recomputed, in numbers, and what was found.

    `pending` are landed versions that no posting has decided yet; `closed` are the months whose lines were held against their closing.


    `standing` is a SHA-256 per entity over the entries that stand, without ids and times: equal for equal books, whatever the order in which
    they came about.
    """

    batches: int = 0
    entries: int = 0
    lines: int = 0
    payloads: int = 0
    pending: int = 0
    count: int = 0
    findings: list[Finding] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    standing: dict[str, str] = field(default_factory=dict)
    closed: int = 0
    period_heads: list[PeriodHead] = field(default_factory=list)

    def add(self, table: str, id_: object, what: str) -> None:
        """Another finding."""
        self.count += 1
        if len(self.findings) < MOST:
            self.findings.append(Finding(table, str(id_), what))


def verify(
    database: Database, *, entity: str | None = None, connections: Sequence[str] = (), chunk: int = CHUNK
) -> Proof:
    """Recompute the books, of all entities or of one; raw records and fates then are those of its connections.

    `connections` adds connections of the entity that may have posted nothing. Findings are data, never exceptions.
    """
    proof = Proof()
    with database.connect("reader") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        scope = {"entity": entity, "names": _connections(connection, entity, connections)}
        _chains(connection, proof, entity, chunk)
        _periods(connection, proof, entity)
        proof.standing = {head.entity: standing.fingerprint(connection, head.entity) for head in proof.heads}
        _payloads(connection, proof, scope)
        _files(connection, proof, scope)
        for table, query in (*_REFERENCES, *_CORRECTIONS, *_FATES):
            for id_, what in connection.execute(query, scope):
                proof.add(table, id_, what)
        proof.pending = _one(
            connection, f"SELECT count(*) FROM raw.record r WHERE {_IN} AND {_UNDECIDED} AND NOT {_DUE}", scope
        )
    return proof


def _connections(connection: Connection, entity: str | None, more: Sequence[str]) -> list[str] | None:
    if entity is None:
        return None
    rows = connection.execute(
        "SELECT connection FROM ledger.batch WHERE entity = %(e)s UNION SELECT connection FROM ledger.entry WHERE entity = %(e)s",
        {"e": entity},
    )
    return sorted({row[0] for row in rows} | set(more))


def _one(connection: Connection, query: str, arguments: dict[str, Any]) -> int:
    row = connection.execute(query, arguments).fetchone()
    return int(row[0]) if row else 0


# batches ---------------------------------------------------------------------------------------------------------------

_HEADER = "batch_id, entity, chain_no, connection, sync_date, run_id, posted_at"


def _chains(connection: Connection, proof: Proof, entity: str | None, chunk: int) -> None:
    """Every entity's batches in the order of their numbers, each with its entries."""
    rows = connection.execute(
        f"SELECT {_HEADER}, entry_count, line_count, content_hash, previous_hash, hash FROM ledger.batch "
        "WHERE %(e)s::text IS NULL OR entity = %(e)s ORDER BY entity, chain_no, batch_id",
        {"e": entity},
    ).fetchall()
    last: Head | None = None
    for *header, entry_count, line_count, content, previous, own in rows:
        batch_id, of, chain_no = header[:3]
        if last is not None and last.entity != of:
            proof.heads.append(last)
            last = None
        for what in _links(last, chain_no, bytes(previous)):
            proof.add("ledger.batch", batch_id, what)
        header[-1] = _utc(header[-1])
        if chain_hash(bytes(previous), bytes(content), header) != bytes(own):
            proof.add("ledger.batch", batch_id, "its hash isn't that of its header, content hash and previous hash")
        _content(connection, proof, batch_id, (entry_count, line_count, bytes(content)), chunk)
        last = Head(of, chain_no, batch_id, bytes(own).hex())
    if last is not None:
        proof.heads.append(last)
    proof.batches = len(rows)


def _links(last: Head | None, chain_no: int, previous: bytes) -> Iterator[str]:
    """How a batch follows the one before it in its entity's chain; the first one has number 1 and follows 32 zero bytes."""
    before, expected = (last.chain_no, last.hash) if last else (0, bytes(32).hex())
    if chain_no == before:
        yield f"the chain forks: number {chain_no} is also that of batch {last.batch_id if last else '?'}"
    elif chain_no != before + 1:
        yield f"the chain has a gap: number {chain_no} comes after {before}"
    if previous.hex() != expected:
        after = f"batch {last.batch_id} before it has {expected}" if last else "it is the first one left"
        yield f"its previous hash is {previous.hex()}, but {after}"


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


_INTS = ("entry_id", "line_no", "version", "raw_id", "rule_version", "corrects_entry_id", "line_count")
_KINDS: dict[str, pa.DataType] = {
    **dict.fromkeys((*_INTS, "amount_minor", "base_minor", "version_at"), pa.int64()),
    **dict.fromkeys(("occurred_on", "posted_on"), pa.date32()),
    "is_prior_period": pa.bool_(),
}
_EXPRESSIONS = {
    "content_hash": "encode(content_hash, 'hex')",
    "fingerprint": "encode(fingerprint, 'hex')",
    "version_at": "(extract(epoch FROM version_at) * 1000000)::bigint",
}
"""Hashes come as hex and times as microseconds: as such `text_of` leaves them as it writes the posting's own types."""


def _schema(names: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, _KINDS.get(name, pa.string())) for name in names])


def _columns(names: Sequence[str]) -> sql.SQL:
    return sql.SQL(", ".join(_EXPRESSIONS.get(name, name) for name in names))


def _content(connection: Connection, proof: Proof, batch_id: int, stated: tuple[int, int, bytes], chunk: int) -> None:
    """One batch: the hash over its entries and then their lines, its counts, and each entry by itself."""
    digest = hashlib.sha256()
    chunks: list[tuple[int, int]] = []
    entries = lines = 0
    for table in _entries(connection, batch_id, ENTRY_TEXT, chunk):
        digest.update((b"\n" if chunks else b"") + text_of(table))
        chunks.append((table["entry_id"][0].as_py(), table["entry_id"][-1].as_py()))
        entries += table.num_rows
    digest.update(b"\x1e")
    for span in chunks:
        of = _span(connection, "ledger.entry", _ENTRY, batch_id, span)
        table = _span(connection, "ledger.line", LINE_TEXT, batch_id, span)
        if table.num_rows:
            digest.update((b"\n" if lines else b"") + text_of(table))
        lines += table.num_rows
        _check_entries(proof, of, table)
    if (entries, lines) != stated[:2]:
        proof.add(
            "ledger.batch",
            batch_id,
            f"it states {stated[0]} entries with {stated[1]} lines but holds {entries} with {lines}",
        )
    if digest.digest() != stated[2]:
        proof.add(
            "ledger.batch",
            batch_id,
            f"its entries and lines hash to {digest.hexdigest()}, but {stated[2].hex()} was posted",
        )
    proof.entries += entries
    proof.lines += lines


def _entries(connection: Connection, batch_id: int, names: Sequence[str], chunk: int) -> Iterator[pa.Table]:
    after = -(2**63)
    while True:
        query = sql.SQL("SELECT {} FROM ledger.entry WHERE batch_id = {} AND entry_id > {} ORDER BY entry_id LIMIT {}")
        literals = (sql.Literal(value) for value in (batch_id, after, chunk))
        table = frames.read(connection, query.format(_columns(names), *literals), _schema(names))
        if table.num_rows:
            yield table
            after = table["entry_id"][-1].as_py()
        if table.num_rows < chunk:
            return


def _span(connection: Connection, table: str, names: Sequence[str], batch_id: int, span: tuple[int, int]) -> pa.Table:
    """Entries of a batch, or their lines, from the first entry to the last."""
    order = "entry_id, line_no" if "line_no" in names else "entry_id"
    query = sql.SQL(
        "SELECT {} FROM {} WHERE entry_id IN (SELECT entry_id FROM ledger.entry WHERE batch_id = {} AND entry_id BETWEEN {} AND {}) "
        "ORDER BY {}"
    ).format(_columns(names), sql.SQL(table), *(sql.Literal(value) for value in (batch_id, *span)), sql.SQL(order))
    return frames.read(connection, query, _schema(names))


_ENTRY = ("entry_id", "entity", "kind", "occurred_on", "posted_on", "line_count", "fingerprint")


def _check_entries(proof: Proof, entries: pa.Table, lines: pa.Table) -> None:
    """Counts, numbering, balances, what the lines repeat of their entry, and the fingerprint over them."""
    ids, of = _ints(entries, "entry_id"), _ints(lines, "entry_id")
    at = np.searchsorted(ids, of)
    counts = np.bincount(at, minlength=len(ids)).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    stated = _ints(entries, "line_count")
    for row in np.flatnonzero(counts != stated).tolist():
        proof.add("ledger.entry", ids[row], f"it states {stated[row]} lines but has {counts[row]}")
    numbers = _ints(lines, "line_no")
    for row in np.unique(at[numbers != np.arange(len(of)) - starts[at] + 1]).tolist():
        proof.add("ledger.entry", ids[row], "its lines aren't numbered from 1 without a gap")
    for name in ("entity", "posted_on"):
        theirs = entries[name].combine_chunks().take(pa.array(at))
        differs = [
            n for n, (a, b) in enumerate(zip(lines[name].to_pylist(), theirs.to_pylist(), strict=True)) if a != b
        ]
        for row in differs:
            proof.add(
                "ledger.line",
                f"{of[row]}/{numbers[row]}",
                f"its {name} is {lines[name][row]}, its entry's {theirs[row]}",
            )
    _check_balances(proof, ids, at, lines)
    _check_fingerprints(proof, entries, lines, counts, at)


def _ints(table: pa.Table, name: str) -> Ints:
    return np.asarray(table[name].to_numpy(), np.int64)


def _check_balances(proof: Proof, ids: Ints, at: npt.NDArray[np.intp], lines: pa.Table) -> None:
    sums: dict[tuple[int, str], int] = {}
    base: dict[int, int] = {}
    rows = zip(
        at.tolist(),
        lines["currency"].to_pylist(),
        lines["amount_minor"].to_pylist(),
        lines["base_minor"].to_pylist(),
        strict=True,
    )
    for entry, currency, amount, in_base in rows:  # Python's integers can't overflow
        sums[entry, currency] = sums.get((entry, currency), 0) + amount
        base[entry] = base.get(entry, 0) + in_base
    for (entry, currency), total in sums.items():
        if total:
            proof.add("ledger.entry", ids[entry], f"it is unbalanced by {total} {currency} minor units")
    for entry, total in base.items():
        if total:
            proof.add("ledger.entry", ids[entry], f"it is unbalanced by {total} minor units in base")


def _check_fingerprints(
    proof: Proof, entries: pa.Table, lines: pa.Table, counts: Ints, at: npt.NDArray[np.intp]
) -> None:
    """A reversal bears the fingerprint of what it reverses: its lines count with the other sign."""
    sign = np.where(np.array(entries["kind"].to_pylist(), object) == "reversal", -1, 1)[at]
    signed = lines
    for name in ("amount_minor", "base_minor"):
        signed = signed.set_column(signed.column_names.index(name), name, pa.array(_ints(lines, name) * sign))
    made = fingerprints(entries["occurred_on"].combine_chunks(), signed, counts).to_pylist()
    rows = zip(entries["entry_id"].to_pylist(), entries["fingerprint"].to_pylist(), made, strict=True)
    for entry_id, stored, found in rows:
        if found.hex() != stored:
            proof.add("ledger.entry", entry_id, "its day and lines don't have its fingerprint")


# periods ---------------------------------------------------------------------------------------------------------------


def _periods(connection: Connection, proof: Proof, entity: str | None) -> None:
    """The chain of period events, the states that they come to, and the lines of closed months."""
    for table, id_, what in periods.faults(connection, entity):
        proof.add(table, id_, what)
    events = periods.history(connection, entity)
    last = {(event.entity, event.month): event.event for event in events}
    proof.closed = sum(event == "closed" for event in last.values())
    heads = {event.entity: event for event in events}
    proof.period_heads = [PeriodHead(e.entity, e.event_no, e.month, e.event, e.hash.hex()) for e in heads.values()]


# payloads --------------------------------------------------------------------------------------------------------------

_IN = "(%(names)s::text[] IS NULL OR r.connection = ANY(%(names)s))"


def _payloads(connection: Connection, proof: Proof, scope: dict[str, Any]) -> None:
    with connection.cursor(name="payloads") as cursor:
        cursor.execute(
            f"SELECT raw_id, content_hash, payload::text FROM raw.record r WHERE {_IN} ORDER BY raw_id", scope
        )
        while rows := cursor.fetchmany(PAYLOADS):
            for raw_id, stored, payload in rows:
                found = hashlib.sha256(payload.encode()).digest()
                if found != bytes(stored):
                    proof.add(
                        "raw.record", raw_id, f"its payload hashes to {found.hex()}, but {bytes(stored).hex()} landed"
                    )
            proof.payloads += len(rows)


def _files(connection: Connection, proof: Proof, scope: dict[str, Any]) -> None:
    with connection.cursor(name="files") as cursor:
        cursor.execute(f"SELECT content_hash, content FROM raw.file r WHERE {_IN} ORDER BY content_hash", scope)
        while row := cursor.fetchone():
            found = hashlib.sha256(row[1]).hexdigest()
            if found != bytes(row[0]).hex():
                proof.add("raw.file", bytes(row[0]).hex(), f"its content hashes to {found}")


# references, corrections and fates: each query gives (id, what differs) ------------------------------------------------

_OF = "(%(entity)s::text IS NULL OR e.entity = %(entity)s)"

_REFERENCES = (
    (
        "ledger.entry",
        f"""SELECT e.entry_id, format('its batch %%s is missing', e.batch_id)
              FROM ledger.entry e LEFT JOIN ledger.batch b USING (batch_id) WHERE b.batch_id IS NULL AND {_OF} ORDER BY 1""",
    ),
    (
        "ledger.entry",
        f"""SELECT e.entry_id, format('it is %%s of %%s, its batch is %%s of %%s', e.connection, e.entity, b.connection, b.entity)
              FROM ledger.entry e JOIN ledger.batch b USING (batch_id)
             WHERE (e.entity, e.connection) <> (b.entity, b.connection) AND {_OF} ORDER BY 1""",
    ),
    (
        "ledger.line",
        f"""SELECT l.entry_id || '/' || l.line_no, format('its entry %%s is missing', l.entry_id)
              FROM ledger.line l LEFT JOIN ledger.entry n USING (entry_id)
             WHERE n.entry_id IS NULL AND {_OF.replace("e.", "l.")} ORDER BY l.entry_id, l.line_no""",
    ),
    (
        "ledger.line",
        f"""SELECT l.entry_id || '/' || l.line_no, format('its account %%s is unknown in %%s', l.account, l.entity)
              FROM ledger.line l LEFT JOIN ledger.account a ON (a.entity, a.code) = (l.entity, l.account)
             WHERE a.code IS NULL AND {_OF.replace("e.", "l.")} ORDER BY l.entry_id, l.line_no""",
    ),
    (
        "ledger.entry",
        f"""SELECT e.entry_id, CASE WHEN r.raw_id IS NULL THEN format('its source, raw record %%s, is missing', e.raw_id)
                   WHEN r.content_hash <> e.content_hash THEN format('its content hash is not that of raw record %%s', e.raw_id)
                   ELSE format('it is of %%s/%%s %%s, but raw record %%s of %%s/%%s %%s', e.connection, e.stream, e.origin_id, r.raw_id,
                               r.connection, r.stream, r.source_id) END
              FROM ledger.entry e LEFT JOIN raw.record r USING (raw_id)
             WHERE {_OF} AND (r.raw_id IS NULL OR r.content_hash <> e.content_hash
                   OR (r.connection, r.stream, r.source_id) <> (e.connection, e.stream, e.origin_id)) ORDER BY 1""",
    ),
    (
        "raw.seen",
        """SELECT s.pull_id || '/' || s.raw_id, format('raw record %%s, which a pull saw, is missing', s.raw_id)
             FROM raw.seen s LEFT JOIN raw.record r USING (raw_id) LEFT JOIN raw.pull p USING (pull_id)
            WHERE r.raw_id IS NULL AND (%(names)s::text[] IS NULL OR p.connection = ANY(%(names)s)) ORDER BY s.pull_id, s.raw_id""",
    ),
)

_CORRECTIONS = (
    (
        "ledger.entry",
        f"""SELECT e.entry_id, CASE WHEN o.entry_id IS NULL THEN format('entry %%s, which it corrects, is missing', e.corrects_entry_id)
                   WHEN o.kind = 'reversal' THEN format('it corrects entry %%s, a reversal', o.entry_id)
                   WHEN e.version <> o.version + (e.kind = 'replacement')::int
                   THEN format('it is a %%s of version %%s, entry %%s which it corrects is version %%s', e.kind, e.version, o.entry_id, o.version)
                   ELSE format('it corrects entry %%s of another record', o.entry_id) END
              FROM ledger.entry e LEFT JOIN ledger.entry o ON o.entry_id = e.corrects_entry_id
             WHERE e.corrects_entry_id IS NOT NULL AND {_OF}
               AND (o.entry_id IS NULL OR o.kind = 'reversal' OR e.version <> o.version + (e.kind = 'replacement')::int
                    OR (e.entity, e.connection, e.record, e.source_id, e.rule) <> (o.entity, o.connection, o.record, o.source_id, o.rule))
             ORDER BY 1""",
    ),
    (
        "ledger.entry",
        f"""SELECT e.entry_id, format('it replaces entry %%s, which no entry reverses', e.corrects_entry_id)
              FROM ledger.entry e LEFT JOIN ledger.entry v ON v.corrects_entry_id = e.corrects_entry_id AND v.kind = 'reversal'
             WHERE e.kind = 'replacement' AND v.entry_id IS NULL AND {_OF} ORDER BY 1""",
    ),
    (
        "ledger.entry",
        f"""SELECT DISTINCT e.entry_id, format('its lines are not those of entry %%s with the other sign', e.corrects_entry_id)
              FROM ledger.entry e JOIN ledger.entry o ON o.entry_id = e.corrects_entry_id
              CROSS JOIN LATERAL (
                   (SELECT line_no, account, role, currency, -amount_minor, -base_minor FROM ledger.line WHERE entry_id = o.entry_id
                    EXCEPT SELECT line_no, account, role, currency, amount_minor, base_minor FROM ledger.line WHERE entry_id = e.entry_id)
                   UNION ALL
                   (SELECT line_no, account, role, currency, -amount_minor, -base_minor FROM ledger.line WHERE entry_id = e.entry_id
                    EXCEPT SELECT line_no, account, role, currency, amount_minor, base_minor FROM ledger.line WHERE entry_id = o.entry_id)) d
             WHERE e.kind = 'reversal' AND {_OF} ORDER BY 1""",
    ),
)

_UNDECIDED = "NOT EXISTS (SELECT 1 FROM ops.fate f WHERE f.raw_id = r.raw_id)"
_DUE = """(EXISTS (SELECT 1 FROM ledger.entry e WHERE e.raw_id = r.raw_id)
        OR EXISTS (SELECT 1 FROM ops.fate f WHERE (f.connection, f.sync_date) = (r.connection, r.sync_date) AND f.decided_at >= r.fetched_at)
        OR EXISTS (SELECT 1 FROM ledger.batch b
                    WHERE (b.connection, b.sync_date) = (r.connection, r.sync_date) AND b.posted_at >= r.fetched_at))"""
"""A version is due for a fate when it was booked, or when its day was decided after it had landed; before, it is only pending."""

_HEADS = " UNION ALL ".join(
    f"SELECT '{name}' AS record, connection, raw_id, source_id FROM staging.{name}"
    for name, record in RECORDS.items()
    if not record.parent
)

_FATES: tuple[tuple[str, str], ...] = (
    (
        "raw.record",
        f"SELECT r.raw_id, format('%%s/%%s %%s landed for %%s but has no fate', r.connection, r.stream, r.source_id, r.sync_date) "
        f"FROM raw.record r WHERE {_IN} AND {_UNDECIDED} AND {_DUE} ORDER BY 1",
    ),
    (
        "ops.fate",
        f"""SELECT r.raw_id, CASE WHEN c.raw_id IS NULL THEN 'its raw record is missing'
                   ELSE format('it is of %%s/%%s %%s with %%s units, its raw record of %%s/%%s %%s with %%s', r.connection, r.stream,
                               r.source_id, r.units, c.connection, c.stream, c.source_id, c.units) END
              FROM ops.fate r LEFT JOIN raw.record c USING (raw_id)
             WHERE {_IN} AND (c.raw_id IS NULL OR (r.connection, r.stream, r.source_id, r.units) <> (c.connection, c.stream, c.source_id, c.units))
             ORDER BY 1""",
    ),
    (
        "ops.fate",  # an entry that two payloads tell alike (a line in two statements) stands once, under the first payload's id
        f"""SELECT r.raw_id, format('%%s/%%s %%s is said to be posted but no entry of it stands', r.connection, r.stream, r.source_id)
              FROM ops.fate r
             WHERE {_IN} AND r.fate = 'posted'
               AND NOT EXISTS (SELECT 1 FROM ledger.live_entry e
                                WHERE e.connection = r.connection AND e.stream = r.stream AND e.origin_id = r.source_id)
               AND r.raw_id NOT IN (SELECT s.raw_id FROM ({_HEADS}) s JOIN ledger.live_entry e
                                      ON e.connection = s.connection AND e.record = s.record AND e.source_id = s.source_id)
             ORDER BY 1""",
    ),
    (
        "ledger.entry",
        f"""SELECT e.entry_id, format('it stands, but no version of %%s/%%s %%s is said to be posted', e.connection, e.stream, e.origin_id)
              FROM ledger.live_entry e
             WHERE {_OF} AND NOT EXISTS (SELECT 1 FROM ops.fate f WHERE f.connection = e.connection AND f.stream = e.stream
                                            AND f.source_id = e.origin_id AND f.fate = 'posted')
             ORDER BY 1""",
    ),
)
