"""The month-end currency run: realised gains by day of settlement, the revaluation of open foreign balances, and its reversal.

Realised gains are by weighted average per role and currency (`model.gains`). It computes all months until the given one from what is
posted, by posting day; running it again books only what differs. Its figures land as payloads of the connection `books:<entity>`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from itertools import groupby
from typing import Any

from ledger_pipeline.model.gains import MONETARY, Adjustment, Gain, Movement, lines_of, realised
from ledger_pipeline.model.journal import Rates
from ledger_pipeline.model.money import digits_of, divide_half_even, from_minor
from ledger_pipeline.model.months import following_month, last_of_month
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store import actions, calculated, events, posting
from ledger_pipeline.store.calculated import PREFIX, Computation, Entry
from ledger_pipeline.store.database import Connection
from ledger_pipeline.store.posting import Posted

RULE = ("currency_gains", 1)
RECORDS = ("realised_gain", "revaluation", "revaluation_reversal")


@dataclass(slots=True)
class Ran:
    """What a currency run booked, and the month's realised and unrealised gains in base minor units."""

    entity: str
    month: date
    posted: Posted = field(default_factory=Posted)
    realised_minor: int = 0
    unrealised_minor: int = 0
    not_revalued: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Pool:
    role: str
    currency: str
    days: tuple[Gain, ...]


def run(runtime: Runtime, entity: str, month: date, by: str, run_id: str) -> Ran:
    """Book the gains of an entity until the end of a month (its first day is given), in one transaction, and note who asked for it.

    What has no known rate at the month's end stays as it is carried and is named in `not_revalued`.
    """
    runtime.refresh_rates_for(last_of_month(month))
    with runtime.database.connect() as connection:
        done = _book(runtime, connection, entity, month, run_id)
        if done.posted.batch_ids:
            details = {"entity": entity, "month": f"{month:%Y-%m}"}
            actions.note(connection, "currency run", by=by, run_id=run_id, details=details, at=runtime.clock())
    return done


def missing(runtime: Runtime, entity: str, month: date) -> Ran:
    """What a run until that month would book now, and what it couldn't revalue; nothing is written."""
    with runtime.database.connect() as connection, connection.transaction(force_rollback=True):
        return _book(runtime, connection, entity, month, "dry run")


def is_current(runtime: Runtime, entity: str, month: date) -> bool:
    """True when a run until that month would book nothing."""
    return not missing(runtime, entity, month).posted.batch_ids


def _book(runtime: Runtime, connection: Connection, entity: str, month: date, run_id: str) -> Ran:
    settings = runtime.config.entities[entity]
    name = PREFIX + entity
    target = posting.Target(
        *(
            name,
            entity,
            settings.chart.account_of,
            f"{RULE[0]}@{RULE[1]}",
            run_id,
            last_of_month(month),
            runtime.clock(),
        ),
        is_adjusting=True,
    )
    posting.ensure_accounts(connection, entity, settings.chart.accounts.values())
    pools = list(_pools(connection, entity, settings.base_currency, last_of_month(month)))
    ran = Ran(entity, month)
    gains = _by_day(pools)
    booked = {date.fromisoformat(day): () for day in _booked(connection, name, "realised_gains", last_of_month(month))}
    computed = [_realised(entity, settings.base_currency, day, of) for day, of in sorted({**booked, **gains}.items())]
    ran.posted.add(calculated.post(connection, target, "realised_gains", RULE, computed))
    ran.realised_minor = sum(g.gain for day, of in gains.items() if day >= month for _, g in of)
    rates = runtime.rates(connection)
    revalued = []
    for first in _months(pools, month):
        one, total, ran.not_revalued = _revalued(entity, settings.base_currency, first, pools, rates)
        revalued.append(one)
        ran.unrealised_minor = total
    ran.posted.add(calculated.post(connection, target, "revaluations", RULE, revalued))
    events.entries_posted(connection, runtime.config.told_of("entry.posted"), ran.posted.batch_ids, target.at)
    return ran


def _pools(connection: Connection, entity: str, base: str, last: date) -> Iterator[_Pool]:
    """What each monetary role holds in each foreign currency, day by day until `last`."""
    rows = connection.execute(
        """
        SELECT role, currency, posted_on,
               coalesce(sum(amount) FILTER (WHERE amount > 0), 0)::bigint, coalesce(sum(base) FILTER (WHERE amount > 0), 0)::bigint,
               coalesce(sum(amount) FILTER (WHERE amount < 0), 0)::bigint, coalesce(sum(base) FILTER (WHERE amount < 0), 0)::bigint,
               coalesce(sum(base) FILTER (WHERE amount = 0), 0)::bigint
          FROM (SELECT l.role, l.currency, l.posted_on, sum(l.amount_minor) AS amount, sum(l.base_minor) AS base
                  FROM ledger.line l JOIN ledger.entry e USING (entry_id)
                 WHERE l.entity = %(entity)s AND l.currency <> %(base)s AND l.posted_on <= %(last)s AND e.record <> ALL(%(own)s)
                   AND split_part(l.role, ':', 1) = ANY(%(monetary)s)
                 GROUP BY l.role, l.currency, l.posted_on, e.connection, e.record, e.source_id, e.rule) net
         GROUP BY role, currency, posted_on ORDER BY role, currency, posted_on
        """,
        {"entity": entity, "base": base, "last": last, "own": list(RECORDS), "monetary": list(MONETARY)},
    )
    for (role, currency), days in groupby(rows, key=lambda row: row[:2]):
        moves = [Movement(d[2], (d[3], d[4]), (d[5], d[6]), d[7]) for d in days]
        yield _Pool(role, currency, tuple(realised(moves)))


def _by_day(pools: Sequence[_Pool]) -> dict[date, tuple[tuple[_Pool, Gain], ...]]:
    """The pools' gains by day; days without any are left out."""
    found: dict[date, tuple[tuple[_Pool, Gain], ...]] = {}
    for pool in pools:
        for gain in pool.days:
            if gain.gain:
                found[gain.day] = (*found.get(gain.day, ()), (pool, gain))
    return found


def _booked(connection: Connection, name: str, stream: str, last: date) -> list[str]:
    """Source ids with a standing entry: a day that has no gain any more is reversed."""
    rows = connection.execute(
        "SELECT DISTINCT source_id FROM ledger.live_entry WHERE connection = %s AND stream = %s AND occurred_on <= %s",
        (name, stream, last),
    )
    return [row[0] for row in rows]


def _realised(entity: str, base: str, day: date, gains: Sequence[tuple[_Pool, Gain]]) -> Computation:
    payload = {
        "entity": entity,
        "day": day.isoformat(),
        "base_currency": base,
        "method": "weighted average per role and currency",
        "pools": [
            {
                "role": pool.role,
                "currency": pool.currency,
                **{
                    name: {"amount_minor": pair[0], "base_minor": pair[1]}
                    for name in ("before", "debits", "credits", "after")
                    for pair in (getattr(gain, name),)
                },
                "gain_base_minor": gain.gain,
            }
            for pool, gain in gains
        ],
    }
    lines = lines_of((Adjustment(pool.role, pool.currency, gain.gain) for pool, gain in gains), base)
    return Computation(day.isoformat(), payload, (Entry("realised_gain", day, tuple(lines)),) if lines else ())


def _months(pools: Sequence[_Pool], last: date) -> Iterator[date]:
    """First days of the months from the first movement to `last`."""
    month = min((pool.days[0].day for pool in pools), default=last).replace(day=1)
    while month <= last:
        yield month
        month = following_month(month)


def _revalued(
    entity: str, base: str, month: date, pools: Sequence[_Pool], rates: Rates
) -> tuple[Computation, int, list[str]]:
    """(computation, gain in base minor units, what could not be revalued) at a month's end."""
    day = last_of_month(month)
    rows: list[dict[str, Any]] = []
    unknown: list[str] = []
    for pool in pools:
        amount, carried = next((g.after for g in reversed(pool.days) if g.day <= day), (0, 0))
        if not amount:
            continue
        try:
            rate = rates(pool.currency, base, day)
        except LookupError as error:
            unknown.append(f"{pool.role}: {from_minor(amount, pool.currency)} {pool.currency} ({error.args[0]})")
            continue
        minor = rate * Fraction(10) ** (digits_of(base) - digits_of(pool.currency))
        value = divide_half_even(amount * minor.numerator, minor.denominator)
        rows.append(
            {
                "role": pool.role,
                "currency": pool.currency,
                "amount_minor": amount,
                "carried_base_minor": carried,
                "rate": f"{rate.numerator}/{rate.denominator}",
                "value_base_minor": value,
                "gain_base_minor": value - carried,
            }
        )
    payload = {
        "entity": entity,
        "month": f"{month:%Y-%m}",
        "day": day.isoformat(),
        "base_currency": base,
        "rates": "ECB euro reference rates, base units per unit of the currency",
        "pools": rows,
        "not_revalued": unknown,
    }
    lines = lines_of((Adjustment(r["role"], r["currency"], r["gain_base_minor"]) for r in rows), base)
    back = tuple((role, currency, -amount, -in_base) for role, currency, amount, in_base in lines)
    entries = (
        Entry("revaluation", day, tuple(lines)),
        Entry("revaluation_reversal", following_month(month), back),
    )
    return (
        Computation(f"{month:%Y-%m}", payload, entries if lines else ()),
        sum(r["gain_base_minor"] for r in rows),
        unknown,
    )
