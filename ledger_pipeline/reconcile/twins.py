"""One business event that several connections tell of (`same_as`) is posted once: the later path's record is the twin of what stands.

Records are the same event when they are equal in what `model.records` declares as their identity; equal ones are counted, so that two lines
that both paths have are two, and what one path has more stays posted. Nothing is derived from the order of days: at the end, each identity
stands as often as the path that has it most often says.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
from psycopg import sql

from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.store import frames
from ledger_pipeline.store.database import Connection, lock

IDENTIFIED = tuple(name for name, record in RECORDS.items() if record.identity)
"""Records that declare an identity."""
DECLARED = hashlib.sha256(repr([(n, RECORDS[n].identity, RECORDS[n].agrees) for n in IDENTIFIED]).encode()).hexdigest()
_SEPARATOR = "\x1f"
_NUMBER_SIGN = "order_number"
"""Shops write #1001, files 1001."""


@dataclass(frozen=True, slots=True)
class Told:
    """A record that a connection wants to post. `key` is its identity, `agrees` what must then be equal, as texts."""

    record: str
    source_id: str
    raw_id: int
    key: str
    agrees: str


@dataclass(frozen=True, slots=True)
class Stands:
    """A record with that identity in the books, whoever posted it."""

    connection: str
    record: str
    source_id: str
    key: str
    agrees: str

    @property
    def name(self) -> str:
        """Connection, record and id, for people."""
        return f"{self.connection}/{self.record}/{self.source_id}"


@dataclass(frozen=True, slots=True)
class Known:
    """That a connection's record was left out before, and as whose twin."""

    connection: str
    record: str
    source_id: str
    raw_id: int
    key: str
    twin_connection: str
    twin_source_id: str

    @property
    def twin_name(self) -> str:
        """Whose twin it is, as `Stands.name`."""
        return f"{self.twin_connection}/{self.record}/{self.twin_source_id}"


@dataclass(slots=True)
class Paired:
    """What is not posted because another path's record stands, and what contradicts one that does.

    `moved`: twins of a record that stands no more, each now as the twin of another one.
    """

    twins: dict[Told, Stands] = field(default_factory=dict)
    conflicts: dict[Told, Stands] = field(default_factory=dict)
    moved: dict[Known, Stands] = field(default_factory=dict)


# which is whose twin -------------------------------------------------------------------------------------------------------


def pair(
    name: str, told: Iterable[Told], standing: Iterable[Stands], known: Iterable[Known], *, is_replay: bool = False
) -> Paired:
    """Pair what a connection tells with what its paths have posted, one to one.

    `known` are earlier twins with their keys, of all paths. What it has posted itself stays, unless a replay asks what today's configuration
    would do; and then, too, where another path's record is its twin and can't be any other's.
    """
    found = Paired()
    by_key: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for one in told:
        by_key[one.record, one.key].append(one)
    there: dict[tuple[str, str], list[Stands]] = defaultdict(list)
    for other in standing:
        there[other.record, other.key].append(other)
    before: dict[tuple[str, str], list[Known]] = defaultdict(list)
    for earlier in known:
        before[earlier.record, earlier.key].append(earlier)
    for at, rows in by_key.items():
        if there[at]:
            _pair_equal(name, rows, there[at], before[at], found, is_replay)
    return found


def _pair_equal(
    name: str, rows: Sequence[Told], there: Sequence[Stands], before: Sequence[Known], found: Paired, is_replay: bool
) -> None:
    """Records of one identity."""
    ours = {one.source_id for one in there if one.connection == name}
    ids = {row.source_id for row in rows}
    earlier = {one.source_id: one for one in before if one.connection == name}
    taken = {(one.twin_connection, one.twin_source_id) for id_, one in earlier.items() if id_ not in ids}
    others = [one for one in there if one.connection != name and (one.connection, one.source_id) not in taken]
    free = {(o.connection, o.source_id): o for o in sorted(others, key=lambda o: (o.connection, o.source_id))}
    waiting = []
    for row in sorted(rows, key=lambda row: (row.source_id in ours, row.source_id)):
        was = earlier.get(row.source_id)
        same = free.pop((was.twin_connection, was.twin_source_id), None) if was else None
        if was and same and (was.raw_id == row.raw_id or same.agrees == row.agrees):
            found.twins[row] = same
            continue
        if same:
            free[same.connection, same.source_id] = same
        if row.source_id not in ours or is_replay:
            waiting.append(row)
    relied = _Relied(before, there)
    for row in waiting:
        equal = next((at for at, one in free.items() if one.agrees == row.agrees), None)
        if equal and (row.source_id not in ours or relied.hand_over((name, row.source_id), found.moved)):
            found.twins[row] = free.pop(equal)
        elif free and not equal and row.source_id not in ours:
            found.conflicts[row] = next(iter(free.values()))


_At = tuple[str, str]
"""(connection, source id)."""


class _Relied:
    """Which standing record of an identity is whose twin. Each path's records are twins of different ones."""

    def __init__(self, known: Iterable[Known], there: Iterable[Stands]) -> None:
        self._standing: dict[_At, Stands] = {(one.connection, one.source_id): one for one in there}
        self._on: dict[_At, list[Known]] = defaultdict(list)
        self._by: dict[str, set[_At]] = defaultdict(set)
        for one in known:
            self._rely(one, (one.twin_connection, one.twin_source_id))

    def _rely(self, one: Known, at: _At) -> None:
        self._on[at].append(one)
        self._by[one.connection].add(at)

    def hand_over(self, at: _At, moved: dict[Known, Stands]) -> bool:
        """Let a record stand no more: its twins become those of others that say the same. False, and nothing is done, where one can't."""
        leaving = self._standing[at]
        to: dict[Known, _At] = {}
        for one in self._on[at]:
            for other, stands in self._standing.items():
                is_free = other != at and other[0] != one.connection and other not in self._by[one.connection]
                if is_free and stands.agrees == leaving.agrees:
                    to[one] = other
                    break
            else:
                return False
        for one, other in to.items():
            self._by[one.connection].discard(at)
            self._rely(one, other)
            moved[one] = self._standing[other]
        del self._on[at], self._standing[at]
        return True


def told(entries: Iterable[pa.Table], tables: Mapping[str, pa.Table]) -> list[Told]:
    """The identities of what is wanted in the books: entries with record and source_id, and the rows that they are made of."""
    wanted = {
        (record, source_id, raw_id)
        for table in entries
        for record, source_id, raw_id in zip(
            *(table[n].to_pylist() for n in ("record", "source_id", "raw_id")), strict=True
        )
        if RECORDS[record].identity
    }
    found: dict[tuple[str, str], Told] = {}
    for record in sorted({record for record, _, _ in wanted}):
        declared, table = RECORDS[record], tables[record]
        keys = zip(*(_texts(table, name) for name in declared.identity), strict=True)
        agrees = (
            zip(*(_texts(table, name) for name in declared.agrees), strict=True)
            if declared.agrees
            else [()] * table.num_rows
        )
        rows = zip(table["source_id"].to_pylist(), table["raw_id"].to_pylist(), keys, agrees, strict=True)
        for source_id, raw_id, key, more in rows:
            if (record, source_id, raw_id) in wanted:
                made = Told(record, source_id, raw_id, _SEPARATOR.join(key), _SEPARATOR.join(more))
                found.setdefault((record, source_id), made)
    return list(found.values())


def _texts(table: pa.Table, column: str) -> list[str]:
    values = ["" if value is None else str(value) for value in table[column].to_pylist()]
    return [value.lstrip("# ") for value in values] if column == _NUMBER_SIGN else values


# in the database -----------------------------------------------------------------------------------------------------------


def hold(connection: Connection, paths: Collection[str]) -> None:
    """Wait until no other of these connections posts; taken after a connection's own lock and before any chain's."""
    lock(connection, "paths", *sorted(paths))


def identify(connection: Connection, paths: Iterable[str]) -> None:
    """Bring recon.identity up to what these connections have posted; in a night that is what came since the last one."""
    for name in paths:
        row = connection.execute(
            "SELECT batch_id FROM recon.identified WHERE connection = %s AND declared = %s", (name, DECLARED)
        ).fetchone()
        if row is None:
            connection.execute("DELETE FROM recon.identity WHERE connection = %s", (name,))
        since = row[0] if row else 0
        newest = connection.execute(
            "SELECT max(batch_id) FROM ledger.batch WHERE connection = %s AND batch_id > %s", (name, since)
        ).fetchone()
        if newest is None or newest[0] is None:
            continue
        _identify(connection, name, since)
        connection.execute(
            "INSERT INTO recon.identified (connection, declared, batch_id) VALUES (%s, %s, %s) "
            "ON CONFLICT (connection) DO UPDATE SET declared = excluded.declared, batch_id = excluded.batch_id",
            (name, DECLARED, newest[0]),
        )


def _identify(connection: Connection, name: str, since: int) -> None:
    """By the staged row behind each entry: of the batch's day (indexed), else the newest of that id."""
    for record in IDENTIFIED:
        declared = RECORDS[record]
        parts = {
            "table": sql.Identifier("staging", record),
            "key": _joined(declared.identity),
            "agrees": _joined(declared.agrees),
        }
        arguments = {"name": name, "since": since, "record": record}
        for query in (_OF_ITS_DAY, _NEWEST):
            connection.execute(sql.SQL(query).format(**parts), arguments)


_NEW = """
    new AS MATERIALIZED (
      SELECT e.entry_id, e.connection, e.record, e.source_id, e.raw_id, b.sync_date FROM ledger.batch b JOIN ledger.entry e USING (batch_id)
       WHERE b.connection = %(name)s AND b.batch_id > %(since)s AND e.record = %(record)s AND e.kind <> 'reversal'
         AND NOT EXISTS (SELECT 1 FROM recon.identity i WHERE i.entry_id = e.entry_id))
"""
_OF_ITS_DAY = f"""
    WITH {_NEW}
    INSERT INTO recon.identity (entry_id, connection, record, source_id, key, agrees)
    SELECT n.entry_id, n.connection, n.record, n.source_id, {{key}}, {{agrees}}
      FROM new n JOIN {{table}} s USING (connection, sync_date, raw_id, source_id)
    ON CONFLICT DO NOTHING
"""
_NEWEST = f"""
    WITH {_NEW}
    INSERT INTO recon.identity (entry_id, connection, record, source_id, key, agrees)
    SELECT DISTINCT ON (n.entry_id) n.entry_id, n.connection, n.record, n.source_id, {{key}}, {{agrees}}
      FROM new n JOIN {{table}} s USING (connection, source_id)
     ORDER BY n.entry_id, s.raw_id = n.raw_id DESC, s.sync_date DESC, s.raw_id DESC
    ON CONFLICT DO NOTHING
"""


_TEXT = {
    _NUMBER_SIGN: "coalesce(ltrim(s.{}, '# '), '')",
    "bank_role": "coalesce((SELECT l.role FROM ledger.line l WHERE l.entry_id = n.entry_id AND l.role LIKE 'bank:%%' "
    "AND l.amount_minor = s.amount_minor ORDER BY l.line_no LIMIT 1), s.{})",
}
"""A replay can have moved a line to the account's new name; its day is staged under the old one."""


def _joined(columns: Sequence[str]) -> sql.Composable:
    """As `told` writes it."""
    if not columns:
        return sql.SQL("''")
    texts = [
        sql.SQL(_TEXT.get(column, "coalesce(s.{}::text, '')")).format(sql.Identifier(column)) for column in columns
    ]
    return sql.SQL("concat_ws({}, {})").format(sql.Literal(_SEPARATOR), sql.SQL(", ").join(texts))


def read(connection: Connection, paths: Collection[str], wanted: Sequence[Told]) -> tuple[list[Stands], list[Known]]:
    """What stands with these identities, and which records are twins already: two queries, whatever the day's size."""
    keys = sorted({(one.record, one.key) for one in wanted})
    if not keys:
        return [], []
    records, texts = [list(column) for column in zip(*keys, strict=True)]
    standing = connection.execute(
        """
        SELECT DISTINCT i.connection, i.record, i.source_id, i.key, i.agrees
          FROM unnest(%s::text[], %s::text[]) AS k (record, key) JOIN recon.identity i USING (record, key)
          JOIN ledger.live_entry e USING (entry_id)
         WHERE i.connection = ANY(%s)
        """,
        (records, texts, sorted(paths)),
    )
    found = [Stands(*row) for row in standing]
    known = connection.execute(
        "SELECT t.connection, t.record, t.source_id, t.raw_id, t.key, t.twin_connection, t.twin_source_id "
        "FROM unnest(%s::text[], %s::text[]) AS k (record, key) JOIN recon.twin t USING (record, key) WHERE t.connection = ANY(%s)",
        (records, texts, sorted(paths)),
    )
    return found, [Known(*row) for row in known]


def keep(connection: Connection, name: str, paired: Paired, documents: pa.Table, run_id: str, at: datetime) -> None:
    """Keep which records are left out; what these payloads said before is forgotten. `documents`: raw_id, stream, origin_id."""
    for one, other in paired.moved.items():
        connection.execute(
            "UPDATE recon.twin SET twin_connection = %s, twin_source_id = %s, run_id = %s, noticed_at = %s "
            "WHERE (connection, record, source_id) = (%s, %s, %s)",
            (other.connection, other.source_id, run_id, at, one.connection, one.record, one.source_id),
        )
    origins = [documents[column].to_pylist() for column in ("raw_id", "stream", "origin_id")]
    connection.execute(
        "DELETE FROM recon.twin t USING unnest(%s::text[], %s::text[]) AS d (stream, origin_id) "
        "WHERE (t.connection, t.stream, t.origin_id) = (%s, d.stream, d.origin_id)",
        (origins[1], origins[2], name),
    )
    origin: dict[int, tuple[Any, Any]] = {raw_id: (stream, id_) for raw_id, stream, id_ in zip(*origins, strict=True)}
    rows = [
        (name, told.record, told.source_id, *origin[told.raw_id], told.raw_id, told.key, twin.connection, twin.source_id, run_id, at)
        for told, twin in paired.twins.items()
    ]  # fmt: skip
    if not rows:
        return
    ids = [[row[column] for row in rows] for column in (1, 2)]
    connection.execute(
        "DELETE FROM recon.twin t USING unnest(%s::text[], %s::text[]) AS d (record, source_id) "
        "WHERE (t.connection, t.record, t.source_id) = (%s, d.record, d.source_id)",
        (*ids, name),
    )
    columns = (
        *(
            "connection",
            "record",
            "source_id",
            "stream",
            "origin_id",
            "raw_id",
            "key",
            "twin_connection",
            "twin_source_id",
        ),
        *("run_id", "noticed_at"),
    )
    frames.insert_rows(connection, "recon", "twin", columns, rows)


_ORPHANS = """
    SELECT t.connection, t.record, t.source_id, t.twin_connection, t.twin_source_id, f.sync_date
      FROM recon.twin t LEFT JOIN ops.fate f USING (raw_id)
     WHERE t.connection = ANY(%s)
       AND NOT EXISTS (SELECT 1 FROM ledger.live_entry e JOIN recon.identity i USING (entry_id)
                        WHERE (e.connection, e.record, e.source_id) = (t.twin_connection, t.record, t.twin_source_id) AND i.key = t.key)
     ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A record that is left out as another's twin, which doesn't stand any more: its sync date has to be booked again."""

    connection: str
    record: str
    source_id: str
    twin_connection: str
    twin_source_id: str
    sync_date: Any


def orphans(connection: Connection, names: Collection[str]) -> list[Orphan]:
    """Of these connections."""
    return [Orphan(*row) for row in connection.execute(_ORPHANS, (sorted(names),))]
