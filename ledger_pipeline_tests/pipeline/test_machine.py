"""The ledger against a dictionary: orders are placed, edited, deleted, delivered late and out of order, postings crash, months close and reopen,
the mapping changes and is replayed; after each step every month's balances are what a few lines of Python say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger_pipeline import sources
from ledger_pipeline.checks import suites
from ledger_pipeline.connect import convert
from ledger_pipeline.connect.mapping import Field
from ledger_pipeline.orchestration import replay, steps
from ledger_pipeline.store import periods, posting
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.fakes import FakeCompany, fake_source, gone, order

MONTHS = [date(2026, 10, 1), date(2026, 11, 1), date(2026, 12, 1)]
IDS = ["o1", "o2", "o3", "o4"]
ROLES = ["sales", "shipping_income"]
FIRST, LAST = date(2026, 10, 1), date(2026, 12, 31)


class Crash(Exception):
    """The process dies in the middle of a posting."""


@dataclass
class Version:
    """One state of an order at the source; `total` 0: deleted."""

    id: str
    number: int
    day: date
    total: int

    def wire(self) -> dict[str, Any]:
        at = datetime(2026, 10, 1, tzinfo=UTC) + timedelta(minutes=self.number)
        if not self.total:
            return gone(self.id) | {"updated": at.isoformat()}
        return order(self.id, self.total, at=f"{self.day}T12:00:00+00:00", updated=at.isoformat())


@dataclass
class Dictionary:
    """The ledger in a few lines: what stands per order, and what was ever posted per month and role."""

    closed: set[date] = field(default_factory=set)
    standing: dict[str, tuple[date, int, str]] = field(default_factory=dict)
    decided: dict[str, int] = field(default_factory=dict)
    posted: Counter[tuple[date, str]] = field(default_factory=Counter)

    def decide(self, version: Version, role: str) -> None:
        """The newest version of an order counts; older ones that come later change nothing."""
        if version.number <= self.decided.get(version.id, -1):
            return
        self.decided[version.id] = version.number
        now = self.standing.get(version.id)
        if now is not None and (now[1:] == (version.total, role)) and self.day_of[version.id] == version.day:
            return
        self.day_of[version.id] = version.day
        self.take_back(version.id)
        if version.total:
            self.book(version.id, self.open_day(version.day), version.total, role)

    day_of: dict[str, date] = field(default_factory=dict)

    def restate(self, id_: str, role: str) -> None:
        """A replay: the same order, by today's mapping."""
        if id_ in self.standing and self.standing[id_][2] != role:
            total = self.standing[id_][1]
            self.take_back(id_)
            self.book(id_, self.open_day(self.day_of[id_]), total, role)

    def take_back(self, id_: str) -> None:
        if id_ in self.standing:
            day, total, role = self.standing.pop(id_)
            self.add(self.open_day(day), -total, role)

    def book(self, id_: str, day: date, total: int, role: str) -> None:
        self.standing[id_] = (day, total, role)
        self.add(day, total, role)

    def add(self, day: date, total: int, role: str) -> None:
        self.posted[day.replace(day=1), "order_clearing:till"] += total
        self.posted[day.replace(day=1), role] -= total

    def open_day(self, day: date) -> date:
        while day.replace(day=1) in self.closed:
            day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        return day


class Books(RuleBasedStateMachine):
    """The real ledger beside the dictionary."""

    def __init__(self, company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.company, self.monkeypatch = company, monkeypatch
        self.dictionary = Dictionary()
        self.versions: dict[str, list[Version]] = {}
        self.number = 0
        self.role = ROLES[0]
        self.pulled: dict[date, dict[str, Version]] = {}
        self.landed: set[tuple[str, int]] = set()

    @initialize()
    def nothing_yet(self) -> None:
        """Every example has a database of its own."""

    # what happens at the source ----------------------------------------------------------------------------------

    @rule(id_=st.sampled_from(IDS), day=st.dates(FIRST, LAST), total=st.integers(1, 10**6))
    def place_or_edit(self, id_: str, day: date, total: int) -> None:
        """An edit keeps the day on which the order was placed, mostly."""
        history = self.versions.setdefault(id_, [])
        if history and total % 5:
            day = history[-1].day
        self._next(Version(id_, 0, day, total))

    @rule(id_=st.sampled_from(IDS))
    @precondition(lambda self: self.versions)
    def touch(self, id_: str) -> None:
        """A new version that says the same."""
        if self.versions.get(id_):
            self._next(replace(self.versions[id_][-1]))

    @rule(id_=st.sampled_from(IDS))
    @precondition(lambda self: self.versions)
    def delete(self, id_: str) -> None:
        if self.versions.get(id_) and self.versions[id_][-1].total:
            self._next(replace(self.versions[id_][-1], total=0))

    def _next(self, version: Version) -> None:
        self.number += 1
        version.number = self.number
        self.versions.setdefault(version.id, []).append(version)

    # what the pipeline does ---------------------------------------------------------------------------------------

    @rule(
        day=st.dates(FIRST, LAST),
        wanted=st.lists(
            st.tuples(st.sampled_from(IDS), st.integers(0, 3)), min_size=1, max_size=4, unique_by=lambda w: w[0]
        ),
        is_crash=st.sampled_from([False, False, True]),
    )
    @precondition(lambda self: self.versions)
    def sync(self, day: date, wanted: list[tuple[str, int]], is_crash: bool) -> None:
        """A sync date delivers some orders, each in its newest version or in an older one."""
        delivered = [
            self.versions[i][max(0, len(self.versions[i]) - 1 - back)] for i, back in wanted if self.versions.get(i)
        ]
        self.company.shelf.put("orders", *(version.wire() for version in delivered))
        self.company.pull(day)
        seen = self.pulled.setdefault(day, {})
        for version in delivered:
            self.landed.add((version.id, version.number))
            if version.number > seen.get(version.id, replace(version, number=-1)).number:
                seen[version.id] = version
        self._post(day, is_crash=is_crash)

    @rule(is_crash=st.booleans(), pick=st.integers(0, 10**6))
    @precondition(lambda self: self.pulled)
    def again(self, is_crash: bool, pick: int) -> None:
        """A sync date of before is run once more, from what landed then."""
        days = sorted(self.pulled)
        self._post(days[pick % len(days)], is_crash=is_crash)

    def _post(self, day: date, *, is_crash: bool) -> None:
        link = self.company.runtime.link("shop")
        steps.stage(self.company.runtime, link, day, "test")
        steps.check(self.company.runtime, link, day, "test")
        if is_crash:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(posting, "decide", _die)
                with pytest.raises(Crash):
                    self.company.post(day)
            return
        self.company.post(day)
        for version in self.pulled[day].values():
            self.dictionary.decide(version, self.role)

    @rule(role=st.sampled_from(ROLES))
    def change_the_mapping(self, role: str) -> None:
        self.role = role
        source = fake_source(self.company.shelf)
        mappings = tuple(
            replace(m, fields=tuple(Field("role", (), convert.constant(role)) if f.target == "role" else f for f in m.fields))
            if m.record == "sale_line" else m
            for m in source.mappings
        )  # fmt: skip
        changed = replace(source, mappings=mappings)
        self.monkeypatch.setattr(sources, "load", lambda name: changed)
        self.company.runtime._links.clear()

    @rule(is_kept=st.booleans())
    @precondition(lambda self: self.pulled)
    def replay(self, is_kept: bool) -> None:
        """All that landed, by today's mapping; also what a crash left unposted."""
        shown = replay.replay(self.company.runtime, "shop", FIRST, LAST)
        if not is_kept:
            return
        word = {"digest": shown.digest, "by": "Ann", "reason": "test", "run_id": "replay"}
        replay.apply(self.company.runtime, "shop", FIRST, LAST, **word)
        newest: dict[str, Version] = {}
        for seen in self.pulled.values():
            for version in seen.values():
                if version.number > newest.get(version.id, replace(version, number=-1)).number:
                    newest[version.id] = version
        for version in newest.values():
            if version.number > self.dictionary.decided.get(version.id, -1):
                self.dictionary.decide(version, self.role)
            self.dictionary.restate(version.id, self.role)

    @rule(month=st.sampled_from(MONTHS))
    def close_or_reopen(self, month: date) -> None:
        events = ("reopened",) if month in self.dictionary.closed else ("closing", "closed")
        for event in events:
            with self.company.database.connect() as connection:
                _record(connection, month, event)
        self.dictionary.closed ^= {month}

    # what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def the_months_are_as_the_dictionary_says(self) -> None:
        rows = self.company.rows(
            "SELECT date_trunc('month', posted_on)::date, role, sum(amount_minor)::bigint FROM ledger.line GROUP BY 1, 2"
        )
        assert {(m, r): a for m, r, a in rows if a} == {key: a for key, a in self.dictionary.posted.items() if a}

    @invariant()
    def what_stands_is_as_the_dictionary_says(self) -> None:
        rows = self.company.rows("SELECT source_id, posted_on FROM ledger.live_entry")
        assert dict(rows) == {i: day for i, (day, _, _) in self.dictionary.standing.items()}  # type: ignore[arg-type]

    def teardown(self) -> None:
        """Every landed version that was ever staged has one fate, and the proof finds nothing."""
        fates = self.company.rows("SELECT fate, count(*) FROM ops.fate WHERE stream = 'orders' GROUP BY 1")
        assert sum(n for _, n in fates) <= len(self.landed)
        proof = verify(self.company.database)
        assert proof.findings == []


def _die(*_: object) -> None:
    raise Crash


def _record(connection: Any, month: date, event: Any) -> None:
    closed = periods.content(connection, "acme", month) if event == "closed" else None
    at = datetime(2027, 1, 5, tzinfo=UTC)
    periods.record_event(connection, "acme", month, event, by="Ann", reason="test", at=at, closed=closed)


@pytest.mark.parametrize(
    ("examples", "length"),
    [(4, 30), pytest.param(50, 50, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])],
    ids=["short", "nightly"],
)
def test_the_ledger_is_what_a_dictionary_says(
    examples: int,
    length: int,
    new_database: Callable[[], Database],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suites, "check", lambda *_, **__: [])  # expectations have their own tests
    made = iter(range(10**6))

    def machine() -> Books:
        folder = tmp_path / str(next(made))
        folder.mkdir()
        return Books(FakeCompany(new_database(), folder, monkeypatch, limit=1), monkeypatch)

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=length,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
