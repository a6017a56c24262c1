"""What stands in quarantine now, what is known about it, and what people decided about it.

A version is in quarantine when its fate is quarantined, or when it was refused and its day isn't decided yet (a closed gate). `ops.quarantine`
keeps the reasons per sync date that staged the version.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from ledger_pipeline.store.database import Connection

Decision = Literal["ignore", "withdrawn"]


class QuarantineRefused(Exception):
    """An act on a version that doesn't allow it; says why."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a version was refused: stage is staging, check or posting; `path` the field or the check at fault."""

    stage: str
    record: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """A version in quarantine. `fate` is quarantined, or empty while its day is undecided.

    `earlier_versions` counts those of the same record that landed before it; `amount` is what the source's totals count it with, in major
    units of `currency`, where it is readable.
    """

    raw_id: int
    connection: str
    stream: str
    source_id: str
    sync_date: date
    landed_at: datetime
    fate: str
    earlier_versions: int
    amount: Decimal | None
    currency: str | None
    reasons: tuple[Reason, ...] = ()

    @property
    def why(self) -> str:
        """The first reason, as `path: reason`."""
        return f"{self.reasons[0].path}: {self.reasons[0].reason}" if self.reasons else ""


_HELD = """
    SELECT r.raw_id, r.connection, r.stream, r.source_id, coalesce(f.sync_date, q.sync_date), r.fetched_at, coalesce(f.fate, ''),
           (SELECT count(*) FROM raw.record o WHERE (o.connection, o.stream, o.source_id) = (r.connection, r.stream, r.source_id)
               AND o.raw_id < r.raw_id),
           f.control_amount, f.control_currency
      FROM (SELECT raw_id FROM ops.fate WHERE fate = 'quarantined'
            UNION SELECT raw_id FROM ops.quarantine q WHERE NOT EXISTS (SELECT 1 FROM ops.fate f WHERE f.raw_id = q.raw_id)) held
      JOIN raw.record r USING (raw_id) LEFT JOIN ops.fate f USING (raw_id)
      LEFT JOIN LATERAL (SELECT max(sync_date) AS sync_date FROM ops.quarantine WHERE raw_id = r.raw_id) q ON true
     WHERE (%(connection)s::text IS NULL OR r.connection = %(connection)s) AND (%(raw_id)s::bigint IS NULL OR r.raw_id = %(raw_id)s)
     ORDER BY 5 DESC, 2, 1
"""


def held(connection: Connection, name: str | None = None, raw_id: int | None = None) -> list[Held]:
    """What is in quarantine now, of all connections or one, or that one version; the newest sync date first."""
    rows = connection.execute(_HELD, {"connection": name, "raw_id": raw_id}).fetchall()
    reasons = _reasons(connection, [row[0] for row in rows])
    return [replace(Held(*row), reasons=tuple(reasons[row[0]])) for row in rows]


def _reasons(connection: Connection, raw_ids: Sequence[int]) -> dict[int, list[Reason]]:
    """Each reason once, as the last day that staged the version gave it."""
    found: dict[int, list[Reason]] = defaultdict(list)
    for raw_id, *reason in connection.execute(
        "SELECT raw_id, stage, record, path, reason FROM ops.quarantine q WHERE raw_id = ANY(%s) "
        "AND sync_date = (SELECT max(sync_date) FROM ops.quarantine WHERE raw_id = q.raw_id) ORDER BY quarantine_id",
        (list(raw_ids),),
    ):
        found[raw_id].append(Reason(*reason))
    return found


def of_day(connection: Connection, name: str, sync_date: date) -> list[int]:
    """raw_ids in quarantine now that a connection's sync date staged."""
    return [
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT q.raw_id FROM ops.quarantine q LEFT JOIN ops.fate f USING (raw_id) "
            "WHERE q.connection = %s AND q.sync_date = %s AND coalesce(f.fate, 'quarantined') = 'quarantined' ORDER BY 1",
            (name, sync_date),
        )
    ]


def days(connection: Connection, raw_ids: Sequence[int]) -> list[tuple[str, date]]:
    """(connection, sync date) of every day that refused one of these versions or decided it, in the order of the days."""
    return connection.execute(
        "SELECT connection, sync_date FROM ops.quarantine WHERE raw_id = ANY(%(ids)s) "
        "UNION SELECT connection, sync_date FROM ops.fate WHERE raw_id = ANY(%(ids)s) ORDER BY 2, 1",
        {"ids": list(raw_ids)},
    ).fetchall()


# one version ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Version:
    """A landed version of a record; `fate` is empty while it is undecided."""

    raw_id: int
    sync_date: date
    landed_at: datetime
    content_hash: str
    fate: str
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """An entry of the record that isn't reversed; amounts are on its lines (`ledger-pipeline entries`)."""

    entry_id: int
    entity: str
    record: str
    source_id: str
    posted_on: date
    raw_id: int


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person decided about a version, and why."""

    decision: Decision
    by_whom: str
    reason: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class File:
    """All that is known about a version; `held` is None when it isn't in quarantine. The payload is the source's own text."""

    raw_id: int
    connection: str
    stream: str
    source_id: str
    payload: str
    held: Held | None
    versions: tuple[Version, ...]
    entries: tuple[Standing, ...]
    decisions: tuple[Decided, ...]


def file_of(connection: Connection, raw_id: int) -> File:
    """Raises QuarantineRefused for an id that never landed."""
    row = connection.execute(
        "SELECT connection, stream, source_id, payload::text FROM raw.record WHERE raw_id = %s", (raw_id,)
    ).fetchone()
    if row is None:
        raise QuarantineRefused(f"no version with id {raw_id} has landed; `ledger-pipeline quarantine` lists ids")
    key: tuple[str, str, str] = row[:3]
    versions = connection.execute(
        "SELECT r.raw_id, r.sync_date, r.fetched_at, encode(r.content_hash, 'hex'), coalesce(f.fate, ''), coalesce(f.reason, '') "
        "FROM raw.record r LEFT JOIN ops.fate f USING (raw_id) WHERE (r.connection, r.stream, r.source_id) = (%s, %s, %s) ORDER BY 1",
        key,
    )
    entries = connection.execute(
        "SELECT entry_id, entity, record, source_id, posted_on, raw_id FROM ledger.live_entry "
        "WHERE (connection, stream, origin_id) = (%s, %s, %s) ORDER BY 1",
        key,
    )
    one = held(connection, raw_id=raw_id)
    return File(
        raw_id,
        *key,
        row[3],
        one[0] if one else None,
        tuple(Version(*v) for v in versions),
        tuple(Standing(*e) for e in entries),
        tuple(decisions(connection, raw_id)),
    )


def fates(connection: Connection, raw_ids: Sequence[int]) -> dict[int, tuple[str, str]]:
    """raw_id → (fate, reason), of those that have one."""
    rows = connection.execute("SELECT raw_id, fate, reason FROM ops.fate WHERE raw_id = ANY(%s)", (list(raw_ids),))
    return {raw_id: (fate, reason) for raw_id, fate, reason in rows}


# decisions -----------------------------------------------------------------------------------------------------------------


def decisions(connection: Connection, raw_id: int) -> list[Decided]:
    """All that was decided about a version, in order; the last one counts."""
    rows = connection.execute(
        "SELECT decision, by_whom, reason, decided_at FROM ops.decision WHERE raw_id = %s ORDER BY decision_id",
        (raw_id,),
    )
    return [Decided(*row) for row in rows]


def decide(connection: Connection, raw_id: int, decision: Decision, *, by: str, reason: str, at: datetime) -> None:
    """Record a person's decision about one version. Posting its day decides the fate accordingly.

    Raises QuarantineRefused when a version that isn't in quarantine should be ignored, or a decision withdrawn that doesn't stand.
    """
    if not by.strip() or not reason.strip():
        raise QuarantineRefused("a decision needs a name and a reason: they are recorded")
    file = file_of(connection, raw_id)
    stands = bool(file.decisions) and file.decisions[-1].decision == "ignore"
    if decision == "withdrawn" and not stands:
        raise QuarantineRefused(f"nobody has decided to ignore version {raw_id}: there is nothing to withdraw")
    if decision == "ignore" and stands:
        raise QuarantineRefused(f"version {raw_id} is ignored already, by {file.decisions[-1].by_whom}")
    if decision == "ignore" and file.held is None:
        fate = next((v.fate for v in file.versions if v.raw_id == raw_id), "") or "undecided"
        raise QuarantineRefused(f"version {raw_id} is {fate}, not in quarantine: there is nothing to ignore")
    connection.execute(
        "INSERT INTO ops.decision (raw_id, connection, stream, source_id, decision, by_whom, reason, decided_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (raw_id, file.connection, file.stream, file.source_id, decision, by.strip(), reason.strip(), at),
    )
