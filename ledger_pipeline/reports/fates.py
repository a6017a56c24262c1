"""What became of the records of sync dates, in records, in rows of the source, and in the money with which the source counts them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from ledger_pipeline.store.database import Connection


@dataclass(frozen=True, slots=True)
class Fate:
    """How many records of a stream met a fate.

    `units` are rows of the source (lines of a file; 1 per record of an API). `control` is the sum, in major units of `currency`, of the
    figure with which the source's own totals count a record; None where the stream has none, or a record doesn't state it readably.
    """

    connection: str
    stream: str
    fate: str
    currency: str | None
    records: int
    units: int
    control: Decimal | None


def of_days(connection: Connection, first: date | None = None, last: date | None = None) -> list[Fate]:
    """Fates of the sync dates from `first` to `last` (one day when only `first` is given, all when neither)."""
    rows = connection.execute(
        "SELECT connection, stream, fate, control_currency, count(*), sum(units)::bigint, sum(control_amount) FROM ops.fate "
        "WHERE (%(first)s::date IS NULL OR sync_date BETWEEN %(first)s AND coalesce(%(last)s::date, %(first)s)) "
        "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
        {"first": first, "last": last},
    )
    return [Fate(*row) for row in rows]
