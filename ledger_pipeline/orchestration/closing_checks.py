"""What a month must answer before it is closed: each check looks at one snapshot of the database and says in a sentence what it found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, get_args

from ledger_pipeline import sources
from ledger_pipeline.config import EntityConfig, LedgerConfig
from ledger_pipeline.model.money import from_minor
from ledger_pipeline.model.months import last_of_month
from ledger_pipeline.orchestration import clearing_causes
from ledger_pipeline.orchestration import currency as currency_run
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import open_items
from ledger_pipeline.reconcile.calendar import Calendar
from ledger_pipeline.reconcile.engine import Policy
from ledger_pipeline.reports import controls
from ledger_pipeline.store.database import Connection

MOST_ROWS = 50
"""Rows that a check keeps; its sentence says how many there are."""
MOST_NAMED = 5
"""Things that a check's sentence names."""

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Check:
    """One question that a month must answer before it is closed.

    `found` is a sentence, `rows` is what it speaks of (at most MOST_ROWS, the same columns in each). `accepted` and `accepted_by` are of a
    failing check that somebody takes as it is.
    """

    name: str
    holds: bool
    doc: str
    found: str
    rows: tuple[Row, ...] = ()
    accepted: str = ""
    accepted_by: str = ""

    @property
    def is_passed(self) -> bool:
        """It holds, or somebody accepted it."""
        return self.holds or bool(self.accepted)

    def as_json(self) -> dict[str, Any]:
        """As the closing records it; the rows only of what was accepted."""
        made: dict[str, Any] = {"name": self.name, "holds": self.holds, "found": self.found}
        if not self.holds:
            made |= {"accepted": self.accepted, "accepted_by": self.accepted_by, "rows": [dict(r) for r in self.rows]}
        return made


@dataclass(frozen=True)
class Scope:
    """A month (its first day) of an entity, read in one snapshot."""

    runtime: Runtime
    connection: Connection
    entity: str
    month: date

    @property
    def settings(self) -> EntityConfig:
        """The entity's configuration."""
        return self.runtime.config.entities[self.entity]

    @cached_property
    def last(self) -> date:
        """The month's last day."""
        return last_of_month(self.month)

    @cached_property
    def connections(self) -> list[str]:
        """Those that feed the entity's books, also by a route, also those that are switched off."""
        return feeding(self.runtime.config, self.entity)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Of a query that may speak of %(entity)s, %(names)s (the connections), %(first)s and %(last)s (days)."""
        scope = {"entity": self.entity, "names": self.connections, "first": self.month, "last": self.last}
        return self.connection.execute(query, scope).fetchall()


def feeding(config: LedgerConfig, entity: str) -> list[str]:
    """Connections of the entity, and those that route records to it."""
    return [
        name for name, of in config.connections.items() if entity in (of.entity, *(route.entity for route in of.routes))
    ]


def run(scope: Scope) -> list[Check]:
    """All checks, in the order of DOCS."""
    return [_answer(scope, name) for name in DOCS]


def _answer(scope: Scope, name: str) -> Check:
    answer = _ANSWERS[name](scope)
    return Check(name, answer.holds, DOCS[name], answer.found, tuple(answer.rows[:MOST_ROWS]))


@dataclass(frozen=True, slots=True)
class _Answer:
    holds: bool
    found: str
    rows: Sequence[Row] = ()


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - MOST_NAMED
    return ", ".join(texts[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, thing: str, things: str = "") -> str:
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def _money(minor: int, currency: str) -> str:
    return f"{from_minor(minor, currency):,} {currency}"


# the nights ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Night:
    """What the database has of a connection's sync date; `pulled` is the last end of a pull by stream, `is_open` its gate (staging clears it)."""

    pulled: Mapping[str, datetime]
    staged_at: datetime | None
    is_open: bool | None
    is_decided: bool

    def missing(self, streams: Iterable[str]) -> str:
        """What it lacks of pull, staging, gate and posting, the first of them; empty when the night is in."""
        unpulled = [stream for stream in streams if stream not in self.pulled]
        if unpulled:
            return f"no pull of {', '.join(unpulled)}"
        if self.staged_at is None or self.staged_at < max(self.pulled.values()):
            return "not staged" if self.staged_at is None else "pulled again, but not staged since"
        if self.is_open is None:
            return "not checked"
        if not self.is_open:
            return "the gate is closed"
        return "" if self.is_decided else "not posted"


def _nights_are_in(scope: Scope) -> _Answer:
    nights = _nights(scope)
    expected = dict(_expected(scope))
    missing = {name: _missing(nights, name, days, _streams(scope, name)) for name, days in expected.items()}
    rows = [row for name, of in missing.items() for row in _runs(name, of)]
    total = sum(len(days) for days in expected.values())
    of_all = f"{_count(total, 'night')} of {_count(len(expected), 'connection')}"
    if not rows:
        return _Answer(True, f"all {of_all} are in" if total else "no night is expected")
    named = [
        f"{r['connection']} {r['from']}{'' if r['from'] == r['to'] else ' to ' + r['to']} ({r['missing']})"
        for r in rows
    ]
    return _Answer(False, f"{sum(map(len, missing.values())):,} of {of_all} are not in: {_some(named)}", rows)


def _missing(
    nights: Callable[[str, date], _Night], name: str, days: Sequence[date], streams: Sequence[str]
) -> list[tuple[date, str]]:
    return [(day, what) for day in days if (what := nights(name, day).missing(streams))]


def _runs(name: str, missing: Sequence[tuple[date, str]]) -> list[Row]:
    """Days in a row that lack the same, as one."""
    runs: list[tuple[date, date, str]] = []
    for day, what in missing:
        if runs and runs[-1][1:] == (day - timedelta(days=1), what):
            runs[-1] = (runs[-1][0], day, what)
        else:
            runs.append((day, day, what))
    return [
        {"connection": name, "from": str(a), "to": str(b), "nights": str((b - a).days + 1), "missing": what}
        for a, b, what in runs
    ]


def _streams(scope: Scope, name: str) -> list[str]:
    return [stream.name for stream in sources.load(scope.runtime.config.connections[name].source).streams]


def _expected(scope: Scope) -> Iterator[tuple[str, list[date]]]:
    """The sync dates that each enabled connection should have, from its first one ever, or from the schedule's when it has none."""
    begun = dict(
        scope.rows("SELECT connection, min(sync_date) FROM raw.pull WHERE connection = ANY(%(names)s) GROUP BY 1")
    )
    start = date.fromisoformat(scope.runtime.config.schedule.start)
    for name in scope.connections:
        if scope.runtime.config.connections[name].is_enabled:
            first = max(scope.month, start, begun.get(name, start))
            yield name, [first + timedelta(days=n) for n in range((scope.last - first).days + 1)]


def _nights(scope: Scope) -> Callable[[str, date], _Night]:
    within = "connection = ANY(%(names)s) AND sync_date BETWEEN %(first)s AND %(last)s"
    pulled: dict[tuple[str, date], dict[str, datetime]] = defaultdict(dict)
    query = f"SELECT connection, sync_date, stream, max(ended_at) FROM raw.pull WHERE {within} GROUP BY 1, 2, 3"
    for name, day, stream, ended_at in scope.rows(query):
        pulled[name, day][stream] = ended_at
    staged = {
        row[:2]: row[2] for row in scope.rows(f"SELECT connection, sync_date, staged_at FROM ops.staged WHERE {within}")
    }
    gates = {
        row[:2]: row[2] for row in scope.rows(f"SELECT connection, sync_date, is_open FROM ops.gate WHERE {within}")
    }
    undecided = set(
        scope.rows(
            f"SELECT DISTINCT connection, sync_date FROM staging.document d WHERE {within} "
            "AND NOT EXISTS (SELECT 1 FROM ops.fate f WHERE f.raw_id = d.raw_id)"
        )
    )

    def night(name: str, day: date) -> _Night:
        key = name, day
        return _Night(pulled.get(key, {}), staged.get(key), gates.get(key), key not in undecided)

    return night


_LANDED = "r.connection = ANY(%(names)s) AND r.sync_date BETWEEN %(first)s AND %(last)s"
"""Versions count for the sync date that they landed for; a fate moves on when a later night sees the same version again."""


def _nothing_undecided(scope: Scope) -> _Answer:
    found = scope.rows(
        "SELECT r.connection, r.stream, count(*) FROM raw.record r LEFT JOIN ops.fate f USING (raw_id) "
        f"WHERE {_LANDED} AND f.raw_id IS NULL GROUP BY 1, 2 ORDER BY 1, 2"
    )
    if not found:
        return _Answer(True, "every landed version has a fate")
    total = sum(count for *_, count in found)
    named = [f"{count:,} of {name}/{stream}" for name, stream, count in found]
    rows = [{"connection": name, "stream": stream, "versions": f"{count:,}"} for name, stream, count in found]
    return _Answer(False, f"{_count(total, 'landed version')} without a fate: {_some(named)}", rows)


_QUARANTINED = f"""
    SELECT f.connection, f.stream, f.control_currency, count(*), count(f.control_amount), sum(f.control_amount)
      FROM raw.record r JOIN ops.fate f USING (raw_id)
     WHERE {_LANDED} AND f.fate = 'quarantined'
     GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def _quarantine_within_limit(scope: Scope) -> _Answer:
    """One that was repaired at the source is superseded by the newer version, so it isn't in quarantine any more."""
    found = scope.rows(_QUARANTINED)
    total, limit = sum(row[3] for row in found), scope.settings.closing.quarantine_limit
    money: dict[str, Decimal] = defaultdict(Decimal)
    for _, _, currency, _, stated, amount in found:
        if stated:
            money[currency] += amount
    unstated = total - sum(row[4] for row in found)
    sums = [f"{amount:,f} {currency}" for currency, amount in sorted(money.items())]
    sums += [f"{unstated:,} without a readable amount"] if unstated else []
    rows = [
        {
            "connection": name,
            "stream": stream,
            "records": f"{count:,}",
            "money": f"{amount:,f} {currency}" if stated else "",
        }
        for name, stream, currency, count, stated, amount in found
    ]
    said = f"{_count(total, 'record')} in quarantine" + (f" ({', '.join(sums)})" if total else "")
    return _Answer(total <= limit, f"{said}, the limit is {limit:,}", rows)


# the books -----------------------------------------------------------------------------------------------------------------


def _clearing_explained(scope: Scope) -> _Answer:
    policy = Policy(calendar=Calendar(scope.settings.country))
    items = open_items.of_entity(scope.connection, scope.entity, scope.last, policy)
    limit = scope.settings.closing.clearing_days
    stands = clearing_causes.by_cause(items, scope.last, limit, scope.settings.base_currency)
    rows = [one.as_row() for one in stands]
    old = [one.said_of_old() for one in stands if one.is_old]
    said = (
        f"on clearing accounts: {_some(clearing_causes.by_account(stands))}"
        if stands
        else "nothing stands on clearing accounts"
    )
    if old:
        return _Answer(False, f"unexplained and older than {_count(limit, 'day')}: {_some(old)}; {said}", rows)
    return _Answer(True, f"{said}, the limit for what isn't explained is {_count(limit, 'day')}", rows)


def _control_totals_tie(scope: Scope) -> _Answer:
    found = controls.of_entity(scope.connection, scope.entity, scope.connections, scope.month, scope.last)
    off = [one for one in found if not one.holds]
    if not off:
        kinds = [kind for kind in get_args(controls.Kind) if any(one.kind == kind for one in found)]
        return _Answer(
            True,
            f"{_count(len(found), 'total')} tie{'s' if len(found) == 1 else ''} ({', '.join(kinds) or 'nothing landed'})",
        )
    named = [
        f"{one.connection}/{one.stream} {one.what}: {one.theirs:,f} against {one.ours:,f} {one.unit}" for one in off
    ]
    return _Answer(
        False, f"{len(off):,} of {_count(len(found), 'total')} differ: {_some(named)}", [_control(one) for one in off]
    )


def _control(one: controls.Control) -> Row:
    return {
        "connection": one.connection, "stream": one.stream, "total": one.what, "unit": one.unit, "theirs": f"{one.theirs:,f}",
        "ours": f"{one.ours:,f}", "difference": f"{one.difference:,f}", "explained": f"{one.explained:,f}",
    }  # fmt: skip


def _debits_equal_credits(scope: Scope) -> _Answer:
    found = scope.rows(
        "SELECT currency, sum(amount_minor)::bigint, sum(base_minor)::bigint, count(*) FROM ledger.line "
        "WHERE entity = %(entity)s AND posted_on <= %(last)s GROUP BY 1 ORDER BY 1"
    )
    base = sum(row[2] for row in found)
    off = [_money(amount, currency) for currency, amount, *_ in found if amount]
    if base:
        off.append(f"{_money(base, scope.settings.base_currency)} in base")
    lines = sum(row[3] for row in found)
    if off:
        return _Answer(False, f"debits exceed credits by {', '.join(off)}")
    return _Answer(
        True, f"{_count(lines, 'line')} in {_count(len(found), 'currency', 'currencies')} balance, and in base"
    )


def _earlier_months_closed(scope: Scope) -> _Answer:
    found = scope.rows(
        "SELECT m.month, coalesce(p.state, 'open') FROM (SELECT DISTINCT date_trunc('month', posted_on)::date AS month "
        "FROM ledger.entry WHERE entity = %(entity)s AND posted_on < %(first)s) m "
        "LEFT JOIN ledger.period p ON p.entity = %(entity)s AND p.month = m.month ORDER BY 1"
    )
    rows = [{"month": f"{month:%Y-%m}", "state": state} for month, state in found if state != "closed"]
    if not rows:
        return _Answer(
            True,
            f"{_count(len(found), 'earlier month')} with entries, all closed"
            if found
            else "no earlier month has entries",
        )
    return _Answer(False, "not closed: " + _some([f"{row['month']} ({row['state']})" for row in rows]), rows)


def _month_is_over(scope: Scope) -> _Answer:
    today = scope.runtime.clock().astimezone(scope.settings.zone).date()
    is_over = scope.last < today
    return _Answer(
        is_over, f"its last day was {scope.last}" if is_over else f"its last day is {scope.last}, today is {today}"
    )


def _currency_run_is_current(scope: Scope) -> _Answer:
    missing = currency_run.missing(scope.runtime, scope.entity, scope.month)
    if missing.posted.batch_ids:
        return _Answer(False, "gains or revaluation are missing or no longer fit the books; closing books them")
    if missing.not_revalued:
        return _Answer(
            False, f"not revalued, because the month's end has no known rate: {', '.join(missing.not_revalued)}"
        )
    return _Answer(True, "gains and revaluation are booked")


DOCS: Mapping[str, str] = {
    "nights_are_in": "Every enabled connection has a pull of every stream, staging, an open gate and fates for every sync date of the month.",
    "nothing_undecided": "Every version that landed for the month's sync dates has a fate.",
    "quarantine_within_limit": "Not more records are quarantined than the entity's closing.quarantine_limit.",
    "clearing_explained": "What stands on clearing accounts at the month's end is on its way (timing) or a matter of rates (fx); the rest isn't older than closing.clearing_days.",
    "control_totals_tie": "What the sources state ties to the books: records and money by fate, the sources' own counts, bank and processor balances.",
    "debits_equal_credits": "Through the month's end, debits equal credits in every currency and in base.",
    "earlier_months_closed": "Every earlier month with entries is closed.",
    "month_is_over": "The month's last day lies before today in the entity's time zone.",
    "currency_run_is_current": "The month's currency gains and revaluation are posted for the books as they are.",
}
"""The checks by name, and what each demands."""
_ANSWERS: Mapping[str, Callable[[Scope], _Answer]] = {
    "nights_are_in": _nights_are_in,
    "nothing_undecided": _nothing_undecided,
    "quarantine_within_limit": _quarantine_within_limit,
    "clearing_explained": _clearing_explained,
    "control_totals_tie": _control_totals_tie,
    "debits_equal_credits": _debits_equal_credits,
    "earlier_months_closed": _earlier_months_closed,
    "month_is_over": _month_is_over,
    "currency_run_is_current": _currency_run_is_current,
}
