"""Three measures of a connection's sync date: how complete, how timely, and how far cleared its records are; kept in ops.measure.

Each is a share of two stored figures, so that a history can be summed. A day that is measured again gets the figures of now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from psycopg import sql
from psycopg.types.json import Jsonb

from ledger_pipeline.model.accounts import CLEARING_ROLES
from ledger_pipeline.model.money import from_minor
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.store.database import Connection

Name = Literal["completeness", "timeliness", "clearing"]
MEASURES: Mapping[Name, str] = {
    "completeness": "Of the versions that landed for the sync date, and those that the source counts besides: the share whose fate is decided. "
    "What is quarantined, undecided or missing lowers it.",
    "timeliness": "Of the versions that landed for the sync date and say when they happened or changed: the share that was pulled "
    "within 24 hours after the end of that day.",
    "clearing": "Of the money that moved over the connection's clearing accounts in the last 30 days: the share that isn't open "
    "for more than 3 days, first in, first out.",
}
"""The measures, and what each says."""
TURNOVER_DAYS = 30
OPEN_DAYS = 3


@dataclass(frozen=True, slots=True)
class Measure:
    """`numerator` of `denominator`: versions, or for clearing money in major units of the entity's base currency. `details` are JSON values."""

    connection: str
    sync_date: date
    measure: Name
    numerator: Decimal
    denominator: Decimal
    details: Mapping[str, Any]

    @property
    def share(self) -> Decimal | None:
        """Between 0 and 1, to four digits; None where there was nothing to measure."""
        return (self.numerator / self.denominator).quantize(Decimal("0.0001")) if self.denominator else None


@dataclass(frozen=True, slots=True)
class Subject:
    """A connection, and of its entity: name, base currency and IANA time zone."""

    connection: str
    entity: str
    base_currency: str
    time_zone: str


def of_day(connection: Connection, subject: Subject, sync_date: date) -> list[Measure]:
    """All three, in the order of MEASURES, from the database as it is now."""
    return [
        _completeness(connection, subject, sync_date),
        _timeliness(connection, subject, sync_date),
        _clearing(connection, subject, sync_date),
    ]


def keep(connection: Connection, measures: Iterable[Measure], at: datetime) -> None:
    """Store measures; those of a day replace what was measured before."""
    for one in measures:
        connection.execute(
            "INSERT INTO ops.measure (connection, sync_date, measure, numerator, denominator, details, measured_at) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (connection, sync_date, measure) DO UPDATE SET "
            "numerator = excluded.numerator, denominator = excluded.denominator, details = excluded.details, measured_at = excluded.measured_at",
            (one.connection, one.sync_date, one.measure, one.numerator, one.denominator, Jsonb(dict(one.details)), at),
        )


def history(connection: Connection, names: Sequence[str], first: date, last: date) -> list[Measure]:
    """What was measured for the sync dates from `first` to `last`, by connection, day and measure."""
    rows = connection.execute(
        "SELECT connection, sync_date, measure, numerator, denominator, details FROM ops.measure "
        "WHERE connection = ANY(%s) AND sync_date BETWEEN %s AND %s ORDER BY 1, 2, array_position(%s::text[], measure)",
        (list(names), first, last, list(MEASURES)),
    )
    return [Measure(*row) for row in rows]


# completeness --------------------------------------------------------------------------------------------------------------

_COMPLETENESS = """
    SELECT count(*), count(f.raw_id) FILTER (WHERE f.fate <> 'quarantined'), count(*) FILTER (WHERE f.fate = 'quarantined'),
           (SELECT coalesce(sum(greatest(p.expected - p.records, 0)), 0)::bigint
              FROM (SELECT DISTINCT ON (stream) expected, records FROM raw.pull
                     WHERE connection = %(connection)s AND sync_date = %(day)s ORDER BY stream, pull_id DESC) p)
      FROM raw.record r LEFT JOIN ops.fate f USING (raw_id) WHERE r.connection = %(connection)s AND r.raw_id = ANY(%(landed)s)
"""


def _landed(connection: Connection, subject: Subject, sync_date: date) -> list[int]:
    """Versions that landed for the day; found by its pulls, because raw records have no index by day."""
    rows = connection.execute(
        "SELECT DISTINCT r.raw_id FROM raw.pull p JOIN raw.seen s USING (pull_id) JOIN raw.record r USING (raw_id) "
        "WHERE p.connection = %s AND p.sync_date = %s AND r.sync_date = p.sync_date",
        (subject.connection, sync_date),
    )
    return [row[0] for row in rows]


def _completeness(connection: Connection, subject: Subject, sync_date: date) -> Measure:
    arguments = {
        "connection": subject.connection,
        "day": sync_date,
        "landed": _landed(connection, subject, sync_date),
    }
    ((landed, decided, quarantined, missing),) = connection.execute(_COMPLETENESS, arguments).fetchall()
    details = {
        "landed": landed,
        "quarantined": quarantined,
        "undecided": landed - decided - quarantined,
        "missing": missing,
    }
    return Measure(subject.connection, sync_date, "completeness", Decimal(decided), Decimal(landed + missing), details)


# timeliness ----------------------------------------------------------------------------------------------------------------


def _timeliness(connection: Connection, subject: Subject, sync_date: date) -> Measure:
    """A version says when it changed (version_at), or, where it is the first of its record, when it happened; others prove nothing."""
    happened = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT raw_id, {} AS day FROM staging.{} WHERE connection = {} AND sync_date = {}").format(
            _day_of(record.date_field, record.field(record.date_field).kind, subject.time_zone),
            sql.Identifier(record.name),
            sql.Literal(subject.connection),
            sql.Literal(sync_date),
        )
        for record in RECORDS.values()
        if record.date_field and not record.parent
    )
    query = sql.SQL(
        """
        WITH happened AS (SELECT raw_id, max(day) AS day FROM ({happened}) s GROUP BY 1),
        dated AS (
          SELECT r.fetched_at, CASE WHEN r.version_at IS NOT NULL THEN (r.version_at AT TIME ZONE {zone})::date
                  WHEN NOT EXISTS (SELECT 1 FROM raw.record o WHERE (o.connection, o.stream, o.source_id) = (r.connection, r.stream, r.source_id)
                                      AND o.raw_id < r.raw_id) THEN h.day END AS day
            FROM raw.record r LEFT JOIN happened h USING (raw_id) WHERE r.raw_id = ANY({landed})),
        late AS (SELECT extract(epoch FROM fetched_at - (day + 1)::timestamp AT TIME ZONE {zone}) / 3600 AS hours FROM dated)
        SELECT count(hours), count(*) FILTER (WHERE hours <= 24), count(*) - count(hours),
               percentile_disc(0.5) WITHIN GROUP (ORDER BY hours), percentile_disc(0.95) WITHIN GROUP (ORDER BY hours) FROM late
        """
    ).format(
        happened=happened,
        zone=sql.Literal(subject.time_zone),
        landed=sql.Literal(_landed(connection, subject, sync_date)),
    )
    ((dated, timely, undated, middle, most),) = connection.execute(query).fetchall()
    details = {"undated": undated, "p50_hours": _hours(middle), "p95_hours": _hours(most)}
    return Measure(subject.connection, sync_date, "timeliness", Decimal(timely), Decimal(dated), details)


def _day_of(column: str, kind: str, zone: str) -> sql.Composable:
    if kind == "date":
        return sql.Identifier(column)
    return sql.SQL("({} AT TIME ZONE {})::date").format(sql.Identifier(column), sql.Literal(zone))


def _hours(value: Decimal | None) -> str | None:
    """After the end of the day, to a tenth; negative before it."""
    return None if value is None else str(value.quantize(Decimal("0.1")))


# clearing ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Day:
    """What a role moved on a day: in its currency, and in base, both positive; minor units."""

    day: date
    debit: int
    credit: int
    debit_base: int
    credit_base: int


_ROLES = """
    SELECT DISTINCT l.role FROM ledger.line l JOIN ledger.entry e USING (entry_id)
     WHERE l.entity = %(entity)s AND l.posted_on BETWEEN %(since)s AND %(day)s AND split_part(l.role, ':', 1) = ANY(%(clearing)s)
       AND e.connection = %(connection)s
"""
_DAYS = """
    SELECT role, currency, posted_on,
           coalesce(sum(amount_minor) FILTER (WHERE amount_minor > 0), 0)::bigint, coalesce(-sum(amount_minor) FILTER (WHERE amount_minor < 0), 0)::bigint,
           coalesce(sum(base_minor) FILTER (WHERE amount_minor > 0), 0)::bigint, coalesce(-sum(base_minor) FILTER (WHERE amount_minor < 0), 0)::bigint
      FROM ledger.line WHERE entity = %(entity)s AND role = ANY(%(roles)s) AND posted_on <= %(day)s AND amount_minor <> 0
     GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def _clearing(connection: Connection, subject: Subject, sync_date: date) -> Measure:
    """The accounts are cleared by other connections, too: their lines count, whoever posted them."""
    since = sync_date - timedelta(days=TURNOVER_DAYS - 1)
    arguments: dict[str, Any] = {
        "entity": subject.entity, "connection": subject.connection, "day": sync_date, "since": since, "clearing": list(CLEARING_ROLES),
    }  # fmt: skip
    arguments["roles"] = [row[0] for row in connection.execute(_ROLES, arguments)]
    moved: dict[tuple[str, str], list[_Day]] = defaultdict(list)
    for role, currency, *day in connection.execute(_DAYS, arguments) if arguments["roles"] else ():
        moved[role, currency].append(_Day(*day))
    turnover = open_base = 0
    accounts = []
    for (role, currency), days in moved.items():
        recent = [one for one in days if one.day >= since]
        turned = max(sum(one.debit_base for one in recent), sum(one.credit_base for one in recent))
        old, old_base = _open_since(days, sync_date - timedelta(days=OPEN_DAYS))
        turnover, open_base = turnover + turned, open_base + abs(old_base)
        if old:
            accounts.append({"role": role, "currency": currency, "open": format(from_minor(old, currency), "f")})
    base = subject.base_currency
    details = {"currency": base, "open": accounts}
    return Measure(
        subject.connection,
        sync_date,
        "clearing",
        from_minor(max(turnover - open_base, 0), base),
        from_minor(turnover, base),
        details,
    )


def _open_since(days: Sequence[_Day], before: date) -> tuple[int, int]:
    """(amount, base) of the balance's parts from before a day, debit positive. What offsets, offsets the oldest first."""
    balance = sum(one.debit - one.credit for one in days)
    rest, old, old_base = abs(balance), 0, 0
    for one in reversed(days):
        amount, base = (one.debit, one.debit_base) if balance > 0 else (one.credit, one.credit_base)
        taken = min(rest, amount)
        rest -= taken
        if taken and one.day < before:
            old += taken
            old_base += int((Decimal(base) * taken / amount).to_integral_value())
    sign = 1 if balance > 0 else -1
    return sign * old, sign * old_base
