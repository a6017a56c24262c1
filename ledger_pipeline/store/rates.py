"""Reference rates that were fetched after the package's own history ends: appended once, never changed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal

from ledger_pipeline.store.database import Connection


def load(connection: Connection) -> dict[date, dict[str, Decimal]]:
    """Units per euro by day and currency."""
    found: dict[date, dict[str, Decimal]] = {}
    for day, currency, per_euro in connection.execute("SELECT day, currency, per_euro FROM ledger.rate"):
        found.setdefault(day, {})[currency] = per_euro
    return found


def keep(
    connection: Connection, quotes: Iterable[tuple[date, str, Decimal]], source: str, at: datetime
) -> tuple[int, list[str]]:
    """Append what isn't there; returns (new quotes, those that differ from what was used before, as sentences: they change nothing)."""
    known = load(connection)
    new, differing = 0, []
    for day, currency, per_euro in quotes:
        before = known.get(day, {}).get(currency)
        if before is None:
            connection.execute(
                "INSERT INTO ledger.rate (day, currency, per_euro, source, fetched_at) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (day, currency, per_euro, source, at),
            )
            new += 1
        elif before != per_euro:
            differing.append(f"{currency} on {day}: {before} is kept, the source now says {per_euro}")
    return new, differing
