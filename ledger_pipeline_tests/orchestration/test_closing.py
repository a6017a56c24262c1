"""Closing a month: what each check finds, who may accept what, and that nothing slips in beside a close or past it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest

from ledger_pipeline.orchestration import closing, closing_checks, steps
from ledger_pipeline.orchestration import periods as period_assets
from ledger_pipeline.orchestration.closing import NotClosed
from ledger_pipeline.orchestration.closing_checks import DOCS, Check
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile.open_items import open_parts
from ledger_pipeline.store import periods, posting
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.periods import PeriodRefused
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.fakes import DAY, FakeCompany, order
from ledger_pipeline_tests.orchestration.months import NIGHTS, SEPTEMBER, booked_month, deliver
from ledger_pipeline_tests.reconcile.conftest import CLEARING, Desk

OCTOBER = date(2024, 10, 1)
NOW = datetime(2024, 10, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def booked(new_database: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory) -> Database:
    database = new_database()
    booked_month(tmp_path_factory.mktemp("booked"), database)
    return database


class Office:
    """A company whose September can be closed, at work on a copy of its books."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database
        self.path = self._configure()

    def _configure(self, closing: str = "") -> Path:
        from ledger_pipeline_tests.orchestration.months import CONFIG

        (self.folder / "bank").mkdir(exist_ok=True)
        path = self.folder / "ledger.yaml"
        text = CONFIG.format(url=self.database.url, folder=self.folder)
        path.write_text(
            text.replace("time_zone: UTC}", f"time_zone: UTC, closing: {{{closing}}}}}") if closing else text
        )
        self.runtime = Runtime.from_file(path)
        self.at(NOW)
        return path

    def with_closing(self, text: str) -> None:
        """Other limits: `quarantine_limit: 1`."""
        self._configure(text)

    def at(self, now: datetime) -> None:
        self.runtime.clock = lambda: now

    def night(self, day: date, *lines: str) -> steps.Day:
        deliver(self.folder, day, *lines)
        return steps.run_day(self.runtime, "bank", day, "test")

    def checks(self, month: date = SEPTEMBER) -> dict[str, Check]:
        return {check.name: check for check in closing.check(self.runtime, "acme", month)}

    def failing(self, month: date = SEPTEMBER) -> dict[str, str]:
        return {name: check.found for name, check in self.checks(month).items() if not check.holds}

    def close(self, month: date = SEPTEMBER, **accept: str) -> closing.Closed:
        return closing.close(self.runtime, "acme", month, "Ann", accept)

    def state(self, month: date = SEPTEMBER) -> str:
        with self.database.connect("reader") as connection:
            return periods.state(connection, "acme", month)

    def posted(self) -> list[tuple[Any, ...]]:
        with self.database.connect("reader") as connection:
            return connection.execute(
                "SELECT source_id, kind, occurred_on, posted_on, is_prior_period FROM ledger.entry WHERE batch_id > 3 ORDER BY entry_id"
            ).fetchall()

    def do(self, statement: str, *arguments: object) -> None:
        """As a superuser who switched the triggers off."""
        with self.database.connect("owner") as connection:
            connection.execute("SET LOCAL session_replication_role = replica")
            assert connection.execute(statement, arguments).rowcount > 0


@pytest.fixture
def office(tmp_path: Path, booked: Database, copy_of: Callable[[str], Database]) -> Office:
    return Office(tmp_path, copy_of(urlsplit(booked.url).path.lstrip("/")))


# the checks --------------------------------------------------------------------------------------------------------


def test_a_sound_month_holds(office: Office) -> None:
    checks = office.checks()
    assert list(checks) == list(DOCS)
    assert {name: check.found for name, check in checks.items()} == {
        "nights_are_in": "all 3 nights of 1 connection are in",
        "nothing_undecided": "every landed version has a fate",
        "quarantine_within_limit": "0 records in quarantine, the limit is 0",
        "clearing_explained": "nothing stands on clearing accounts, the limit for what isn't explained is 10 days",
        "control_totals_tie": "2 totals tie (landed)",
        "debits_equal_credits": "6 lines in 1 currency balance, and in base",
        "earlier_months_closed": "no earlier month has entries",
        "month_is_over": "its last day was 2024-09-30",
        "currency_run_is_current": "gains and revaluation are booked",
    }
    assert all(check.holds for check in checks.values())


def test_a_night_that_was_never_pulled_is_named(office: Office) -> None:
    found = office.failing(OCTOBER)
    assert found["nights_are_in"] == (
        "31 of 31 nights of 1 connection are not in: bank 2024-10-01 to 2024-10-31 (no pull of records)"
    )
    office.night(date(2024, 10, 2))
    (first, second) = office.checks(OCTOBER)["nights_are_in"].rows
    assert (first["from"], first["to"], second["from"], second["nights"]) == (
        "2024-10-01",
        "2024-10-01",
        "2024-10-03",
        "29",
    )


def test_every_step_of_a_night_must_be_done(office: Office) -> None:
    link, day, found = office.runtime.link("bank"), NIGHTS[-1], []

    def look() -> None:
        found.append(office.failing().get("nights_are_in", "all in").rpartition("(")[2].rstrip(")"))

    deliver(office.folder, day, f"{day},3.00,line 3", f"{day},4.00,line 4")
    office.at(NOW + timedelta(hours=1))
    (stream,) = link.source.streams
    steps.pull(office.runtime, link, stream, day, "test")
    look()
    office.at(NOW + timedelta(hours=2))
    steps.stage(office.runtime, link, day, "test")
    look()
    office.at(NOW + timedelta(hours=3))
    steps.check(office.runtime, link, day, "test")
    look()
    assert set(office.failing()) == {"nights_are_in", "nothing_undecided", "control_totals_tie"}
    steps.post(office.runtime, link, day, "test")
    look()
    assert found == [
        "pulled again, but not staged since",
        "not checked",
        "not posted",
        "all in",
    ]


def test_a_closed_gate_is_found(office: Office) -> None:
    assert office.night(NIGHTS[0], *(f"{NIGHTS[0]},{n}.001,odd" for n in range(30))).error
    assert (
        office.failing()["nights_are_in"]
        == "1 of 3 nights of 1 connection are not in: bank 2024-09-28 (the gate is closed)"
    )


def test_what_has_no_fate_is_counted(office: Office) -> None:
    office.do("DELETE FROM ops.fate WHERE sync_date = %s", NIGHTS[0])
    found = office.failing()
    assert found["nothing_undecided"] == "1 landed version without a fate: 1 of bank/records"
    assert found["control_totals_tie"].startswith("2 of 2 totals differ: bank/records ")
    rows = office.checks()["control_totals_tie"].rows
    assert [(r["unit"], r["theirs"], r["ours"]) for r in rows] == [("records", "3", "2"), ("GBP", "6.00", "5.00")]


def test_quarantine_is_limited_and_a_repaired_record_does_not_count(office: Office) -> None:
    day = NIGHTS[1]
    office.night(day, f"{day},2.00,line 2", f"{day},1.001,odd")
    assert office.failing() == {
        "quarantine_within_limit": "1 record in quarantine (1 without a readable amount), the limit is 0"
    }
    office.with_closing("quarantine_limit: 1")
    assert office.failing() == {}
    assert office.checks()["quarantine_within_limit"].rows == (
        {"connection": "bank", "stream": "records", "records": "1", "money": ""},
    )


def test_a_repaired_record_does_not_count(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = FakeCompany(database, tmp_path, monkeypatch)

    def found() -> str:
        checks = closing.check(company.runtime, "acme", DAY.replace(day=1))
        return next(check.found for check in checks if check.name == "quarantine_within_limit")

    company.run(order("o1", 1250, net=1), order("o2", 300), order("o3", 75, net=2, currency="EUR"))
    assert found() == "2 records in quarantine (0.75 EUR, 12.50 USD), the limit is 0"
    company.now += timedelta(days=1)
    company.run(order("o1", 1250), day=DAY + timedelta(days=1))
    assert found() == "1 record in quarantine (0.75 EUR), the limit is 0"


D = [date(2026, 10, n) for n in range(1, 32)]


@pytest.mark.parametrize(
    ("days", "parts"),
    [
        ([], []),
        ([(D[0], 5, 0), (D[1], 0, 5)], []),
        ([(D[0], 5, 0), (D[1], 7, 0), (D[2], 0, 5)], [(D[1], 7)]),
        ([(D[0], 5, 0), (D[1], 7, 0), (D[2], 0, 6)], [(D[1], 6)]),
        ([(D[0], 5, 0), (D[1], 7, 0), (D[2], 0, 3)], [(D[0], 2), (D[1], 7)]),
        ([(D[0], 0, 9), (D[1], 4, 1)], [(D[0], -5), (D[1], -1)]),
        ([(D[0], 5, 0), (D[1], 0, 8), (D[2], 1, 0)], [(D[1], -2)]),
        ([(D[0], 5, 5), (D[1], 3, 1)], [(D[1], 2)]),
    ],
)
def test_what_a_balance_consists_of_first_in_first_out(
    days: list[tuple[date, int, int]], parts: list[tuple[date, int]]
) -> None:
    assert open_parts(days) == parts


class Clearing:
    """Acme in USD, whose clearing accounts a test fills by hand; day 0 is Monday, 5 October 2026, day 26 the last one of the month."""

    def __init__(self, database: Database, folder: Path, days: int = 10) -> None:
        path = folder / "ledger.yaml"
        path.write_text(
            f"database_url: {database.url}\nschedule: {{start: '2026-11-01'}}\nentities: {{acme: {{name: Acme, base_currency: USD, "
            f"time_zone: UTC, closing: {{clearing_days: {days}}}}}}}\nconnections: {{}}\n"
        )
        self.runtime = Runtime.from_file(path)
        self.runtime.clock = lambda: datetime(2026, 11, 20, tzinfo=UTC)
        self.desk = Desk(database)
        with database.connect(
            "owner"
        ) as connection:  # the desk numbers its entries itself, the currency run's come behind
            connection.execute("SELECT setval('ledger.entry_id_seq', 100000), setval('ledger.batch_id_seq', 100000)")
        self.desk.sale("old", 50, -30)
        self.desk.charge("old", "old", 50, -30)
        self.desk.payout("po_old", 40, -28)
        self.desk.bank("old", 40, -27)

    def check(self) -> Check:
        """After the nightly matching."""
        self.desk.run()
        checks = closing.check(self.runtime, "acme", date(2026, 10, 1))
        return next(check for check in checks if check.name == "clearing_explained")


@pytest.fixture
def clearing(database: Database, tmp_path: Path) -> Clearing:
    return Clearing(database, tmp_path)


LIMIT = ", the limit for what isn't explained is 10 days"


def test_what_is_on_its_way_when_the_month_ends_is_explained(clearing: Clearing) -> None:
    clearing.desk.sale("o1", 300, 26)
    clearing.desk.payout("po_1", 500, 25)
    check = clearing.check()
    assert (check.holds, check.found) == (
        True,
        f"on clearing accounts: order_clearing:stripe 3.00 USD (timing 3.00), payout_in_transit 5.00 USD (timing 5.00){LIMIT}",
    )


def test_what_nothing_explains_may_be_as_old_as_the_limit(clearing: Clearing) -> None:
    clearing.desk.sale("o1", 300, 26)
    clearing.desk.sale("o2", 200, 16)
    check = clearing.check()
    stands = "on clearing accounts: order_clearing:stripe 5.00 USD (timing 3.00, payment missing 2.00)"
    assert (check.holds, check.found) == (True, stands + LIMIT)
    clearing.desk.sale("o3", 100, 15)
    clearing.desk.charge("t1", "gone", 400, 12)
    check = clearing.check()
    assert (check.holds, check.found) == (
        False,
        "unexplained and older than 10 days: order_clearing:stripe 1.00 USD payment missing since 2026-10-20 (11 days), "
        "order_clearing:stripe -4.00 USD order missing since 2026-10-17 (14 days); "
        "on clearing accounts: order_clearing:stripe 2.00 USD (timing 3.00, payment missing 3.00, order missing -4.00)",
    )
    assert [(row["cause"], row["items"], row["amount"], row["too old"], row["since"], row["days"]) for row in check.rows] == [
        ("payment missing", "2", "3.00", "1.00", "2026-10-20", "11"),
        ("order missing", "1", "-4.00", "-4.00", "2026-10-17", "14"),
        ("timing", "1", "3.00", "0.00", "2026-10-31", "0"),
    ]  # fmt: skip


def test_equal_amounts_that_do_not_belong_together_do_not_hide_each_other(clearing: Clearing) -> None:
    clearing.desk.sale("o1", 300, 2)
    clearing.desk.charge("t1", "gone", 300, 2)
    check = clearing.check()
    assert not check.holds
    assert check.found.endswith("order_clearing:stripe 0.00 USD (payment missing 3.00, order missing -3.00)")


def test_rates_are_explained_however_old_they_are(clearing: Clearing) -> None:
    clearing.desk.sale("e1", 100, 0, CLEARING, "EUR", 110)
    clearing.desk.charge("e1", "e1", 100, 1, "EUR", 113)
    check = clearing.check()
    assert (check.holds, check.found) == (
        True,
        f"on clearing accounts: order_clearing:stripe 0.00 EUR (fx -0.03 USD in base){LIMIT}",
    )


def test_the_rest_of_a_match_is_as_old_as_what_left_it(clearing: Clearing) -> None:
    clearing.desk.sale("o1", 300, 0)
    clearing.desk.charge("t1", "o1", 300, 0)
    clearing.desk.refund("r1", "o1", 120, 20)
    check = clearing.check()
    assert (check.holds, [(row["cause"], row["since"], row["days"]) for row in check.rows]) == (
        True,
        [("refund pending", "2026-10-25", "6")],
    )


def test_the_next_months_records_do_not_change_what_a_month_answers(clearing: Clearing) -> None:
    """A payout of day 15 is due on day 21 by then; the bank shows it on day 30, as it does many that come later."""
    clearing.desk.payout("po_lost1", 500, 15)
    before = clearing.check()
    assert not before.holds
    assert "5.00 USD payment missing since 2026-10-20 (11 days)" in before.found
    for n in range(21):
        clearing.desk.payout(f"po_late{n}", 700 + n, 28)
        clearing.desk.bank(f"late{n}", 700 + n, 60, text=f"STRIPE po_late{n}")
    assert clearing.check() == before
    clearing.desk.bank("b1", 500, 30, text="STRIPE po_lost1")
    after = clearing.check()
    assert not after.holds
    assert "5.00 USD timing since 2026-10-20 (11 days)" in after.found


def test_the_sources_own_count_must_have_come(office: Office) -> None:
    office.do("UPDATE raw.pull SET expected = 2 WHERE sync_date = %s", NIGHTS[0])
    (found,) = office.failing().items()
    assert found[0] == "control_totals_tie"
    assert found[1].startswith("1 of 3 totals differ: bank/records ")
    assert found[1].endswith("2024-09-28: 2 against 1 records")
    (row,) = office.checks()["control_totals_tie"].rows
    assert (row["connection"], row["theirs"], row["ours"], row["difference"]) == ("bank", "2", "1", "1")
    office.do("UPDATE raw.pull SET expected = 1 WHERE expected = 2")
    assert office.failing() == {}
    assert office.checks()["control_totals_tie"].found == "3 totals tie (landed, counted)"


def test_unbalanced_books_are_found(office: Office) -> None:
    office.do("UPDATE ledger.line SET amount_minor = amount_minor + 1 WHERE entry_id = 1 AND line_no = 1")
    assert office.failing()["debits_equal_credits"] == "debits exceed credits by 0.01 GBP"
    office.do("UPDATE ledger.line SET base_minor = base_minor - 3 WHERE entry_id = 1 AND line_no = 2")
    assert office.failing()["debits_equal_credits"] == "debits exceed credits by 0.01 GBP, -0.03 GBP in base"


def test_an_earlier_month_with_entries_is_closed_first(office: Office) -> None:
    office.night(NIGHTS[0], f"{NIGHTS[0]},1.00,line 1", "2024-08-01,9.00,late")
    assert office.failing() == {"earlier_months_closed": "not closed: 2024-08 (open)"}
    closing.begin(office.runtime, "acme", date(2024, 8, 1), "Ann")
    assert office.failing() == {"earlier_months_closed": "not closed: 2024-08 (closing)"}
    office.close(date(2024, 8, 1))
    assert office.failing() == {}


@pytest.mark.parametrize(("hour", "holds"), [(22, False), (23, True)])
def test_the_month_is_over_in_the_entitys_own_zone(office: Office, hour: int, holds: bool) -> None:
    office.path.write_text(
        office.path.read_text().replace("time_zone: UTC", "time_zone: Europe/London")
    )  # UTC+1 in September
    office.runtime = Runtime.from_file(office.path)
    office.at(datetime(2024, 9, 30, hour, 30, tzinfo=UTC))
    assert ("month_is_over" not in office.failing()) is holds


def test_a_month_without_nights_before_the_schedule_begins_expects_none(office: Office) -> None:
    assert office.checks(date(2024, 8, 1))["nights_are_in"].found == "no night is expected"


# closing -----------------------------------------------------------------------------------------------------------


def test_closing_records_who_when_what_and_a_hash(office: Office) -> None:
    done = office.close()
    with office.database.connect("reader") as connection:
        content = periods.content(connection, "acme", SEPTEMBER)
        begun, closed = periods.history(connection, "acme")
    assert (begun.event, closed.event, closed.by_whom, closed.happened_at) == ("closing", "closed", "Ann", NOW)
    assert (closed.entry_count, closed.line_count, closed.content_hash) == (3, 6, content.hash)
    assert [check["name"] for check in closed.checks] == list(DOCS)
    assert (done.event, office.state()) == (closed, "closed")
    assert verify(office.database).findings == []


def test_a_failing_check_leaves_the_month_in_closing_until_somebody_accepts_it(office: Office) -> None:
    day = NIGHTS[1]
    office.night(day, f"{day},2.00,line 2", f"{day},1.001,odd")
    office.do("DELETE FROM ops.gate WHERE sync_date = %s", NIGHTS[0])
    with pytest.raises(NotClosed) as error:
        office.close(nights_are_in="the bank was shut")
    assert [check.name for check in error.value.failing] == ["quarantine_within_limit"]
    assert str(error.value) == (
        "period 2024-09 of acme stays in closing: quarantine_within_limit: "
        "1 record in quarantine (1 without a readable amount), the limit is 0"
    )
    assert len(error.value.checks) == len(DOCS)
    assert office.state() == "closing"
    done = office.close(
        nights_are_in="the bank was shut", quarantine_within_limit="a test line", month_is_over="not needed"
    )
    said = {check["name"]: check for check in done.event.checks}
    assert {name: (check["accepted"], check["accepted_by"]) for name, check in said.items() if not check["holds"]} == {
        "nights_are_in": ("the bank was shut", "Ann"),
        "quarantine_within_limit": ("a test line", "Ann"),
    }
    assert said["nights_are_in"]["rows"][0]["missing"] == "not checked"
    assert set(said["month_is_over"]) == {"name", "holds", "found"}


@pytest.mark.parametrize(
    ("by", "accept", "said"),
    [
        (" ", {}, "say who closes the period"),
        ("Ann", {"all": "x"}, "unknown check 'all'; known are nights_are_in"),
        ("Ann", {"month_is_over": " "}, "say why month_is_over is accepted"),
    ],
)
def test_a_close_without_a_name_or_a_reason_changes_nothing(
    office: Office, by: str, accept: dict[str, str], said: str
) -> None:
    with pytest.raises(PeriodRefused, match=said):
        closing.close(office.runtime, "acme", SEPTEMBER, by, accept)
    assert office.state() == "open"


def test_an_unknown_entity_is_refused(office: Office) -> None:
    for act in (
        closing.check,
        lambda *a: closing.close(*a, "Ann"),
        lambda *a: closing.begin(*a, "Ann"),
        lambda *a: closing.reopen(*a, "Ann", "x"),
    ):
        with pytest.raises(PeriodRefused, match="unknown entity 'nobody'; known are acme"):
            act(office.runtime, "nobody", SEPTEMBER)  # type: ignore[operator]


def test_what_the_currency_run_could_not_value_fails_its_check(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = closing.currency.Ran("acme", SEPTEMBER, not_revalued=["bank:x XOF"])
    monkeypatch.setattr(closing_checks.currency_run, "missing", lambda *a: ran)
    with pytest.raises(NotClosed, match=r"currency_run_is_current: not revalued, .*: bank:x XOF$"):
        office.close()


def test_closing_books_the_months_currency_gains(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = FakeCompany(database, tmp_path, monkeypatch, base="GBP")
    company.run(order("o1", 100_00))
    company.now = datetime(2026, 11, 3, tzinfo=UTC)
    month = DAY.replace(day=1)
    before = {check.name: check.holds for check in closing.check(company.runtime, "acme", month)}
    assert not before["currency_run_is_current"]
    accept = dict.fromkeys(("nights_are_in", "clearing_explained"), "a test")
    done = closing.close(company.runtime, "acme", month, "Ann", accept)
    assert done.event.entry_count == 2
    assert company.rows("SELECT record, posted_on FROM ledger.entry WHERE record LIKE 'reval%%' ORDER BY 2") == [
        ("revaluation", date(2026, 10, 31)),
        ("revaluation_reversal", date(2026, 11, 1)),
    ]
    assert verify(database).findings == []


def test_reopening_needs_a_reason_and_lets_it_be_closed_again(office: Office) -> None:
    office.close()
    with pytest.raises(PeriodRefused, match="2024-09 of acme is closed already; reopen it first"):
        office.close()
    with pytest.raises(PeriodRefused, match="say why"):
        closing.reopen(office.runtime, "acme", SEPTEMBER, "Ann", "")
    closing.reopen(office.runtime, "acme", SEPTEMBER, "Bob", "a late bank line")
    office.night(NIGHTS[0], f"{NIGHTS[0]},1.00,line 1", f"{NIGHTS[0]},8.00,late")
    assert [row[3:] for row in office.posted()] == [(NIGHTS[0], False)]
    again = office.close()
    assert (again.event.event_no, again.event.entry_count) == (5, 4)
    assert verify(office.database).findings == []


# late records --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["closing", "closed"])
def test_the_nights_post_late_records_into_the_open_month(office: Office, state: str) -> None:
    if state == "closed":
        office.close()
    else:
        closing.begin(office.runtime, "acme", SEPTEMBER, "Ann")
    late = NIGHTS[-1]
    office.night(late, f"{late},3.00,line 3", f"{late},8.00,late")
    assert [row[1:] for row in office.posted()] == [("original", late, OCTOBER, True)]
    assert verify(office.database).findings == []


def test_late_records_pass_over_every_month_that_is_not_open(office: Office) -> None:
    office.close()
    closing.begin(office.runtime, "acme", OCTOBER, "Ann")
    office.at(datetime(2024, 11, 5, tzinfo=UTC))
    late = NIGHTS[-1]
    office.night(late, f"{late},3.00,line 3", f"{late},8.00,late", "2024-10-02,1.00,new", "2024-11-04,1.00,newer")
    assert sorted(row[2:] for row in office.posted()) == [
        (late, date(2024, 11, 1), True),
        (date(2024, 10, 2), date(2024, 11, 1), True),
        (date(2024, 11, 4), date(2024, 11, 4), False),
    ]


def prepared(office: Office, night: date = NIGHTS[-1]) -> date:
    """A late line of September, checked and not yet posted."""
    link, late = office.runtime.link("bank"), NIGHTS[-1]
    deliver(office.folder, night, *([f"{late},3.00,line 3"] if night == late else []), f"{late},8.00,late")
    for stream in link.source.streams:
        steps.pull(office.runtime, link, stream, night, "test")
    steps.stage(office.runtime, link, night, "test")
    steps.check(office.runtime, link, night, "test")
    return late


def post(office: Office, night: date = NIGHTS[-1], *, is_adjusting: bool = False) -> None:
    steps.post(office.runtime, office.runtime.link("bank"), night, "test", is_adjusting=is_adjusting)


def test_a_persons_act_still_posts_into_a_month_that_is_closing_but_not_into_a_closed_one(office: Office) -> None:
    closing.begin(office.runtime, "acme", SEPTEMBER, "Ann")
    late = prepared(office)
    post(office, is_adjusting=True)
    assert [row[3:] for row in office.posted()] == [(late, False)]
    office.close()
    deliver(office.folder, late, f"{late},3.00,line 3", f"{late},8.00,late", f"{late},9.00,later")
    steps.run_day(office.runtime, "bank", late, "test")
    assert [row[3:] for row in office.posted()][1:] == [(OCTOBER, True)]


def test_a_correction_of_a_closed_month_is_posted_in_the_open_one(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = FakeCompany(database, tmp_path, monkeypatch)
    company.run(order("o1", 1000))
    company.now = datetime(2026, 11, 3, tzinfo=UTC)
    done = closing.close(
        company.runtime,
        "acme",
        DAY.replace(day=1),
        "Ann",
        dict.fromkeys(("nights_are_in", "clearing_explained"), "a test"),
    )
    company.run(order("o1", 1300), day=date(2026, 11, 2))
    assert company.rows("SELECT kind, occurred_on, posted_on, is_prior_period FROM ledger.entry ORDER BY entry_id") == [
        ("original", DAY, DAY, False),
        ("reversal", DAY, date(2026, 11, 1), True),
        ("replacement", DAY, date(2026, 11, 1), True),
    ]
    with database.connect("reader") as connection:
        assert periods.content(connection, "acme", DAY).hash == done.event.content_hash
    assert verify(database).findings == []


# races ---------------------------------------------------------------------------------------------------------------


class Beside:
    """A piece of work in a thread; `error` is what it raised."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.result: object = None
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> object:
        self._thread.join(30)
        assert not self.is_running
        if self.error is not None:
            raise self.error
        return self.result


def until_somebody_waits(database: Database) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with database.connect("reader") as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                "WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
            ).fetchone()
        if row and row[0]:
            return
        time.sleep(0.01)
    pytest.fail("nobody waits")


class Stop:
    """Holds a function up before it runs, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        real = getattr(module, name)

        def held(*arguments: Any, **more: Any) -> Any:
            if not self.reached.is_set():
                self.reached.set()
                assert self.go.wait(30)
            return real(*arguments, **more)

        monkeypatch.setattr(module, name, held)


def test_a_close_waits_for_a_posting_in_flight_and_its_hash_contains_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = prepared(office)
    before_commit = Stop(monkeypatch, posting, "decide")
    poster = Beside(lambda: post(office))
    assert before_commit.reached.wait(20)
    closer = Beside(office.close)
    until_somebody_waits(office.database)
    assert office.state() == "open"
    before_commit.go.set()
    poster.end()
    done = closer.end()
    assert [row[3:] for row in office.posted()] == [(late, False)]
    assert isinstance(done, closing.Closed)
    assert done.event.entry_count == 4
    assert verify(office.database).findings == []


def test_a_posting_that_comes_while_a_month_is_closed_goes_to_the_next_one(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person's act, which would still post into the month if it looked before the close commits."""
    closing.begin(office.runtime, "acme", SEPTEMBER, "Ann")
    late = prepared(office)
    hashing = Stop(monkeypatch, periods, "content")
    accept = dict.fromkeys(("nights_are_in", "nothing_undecided", "control_totals_tie"), "it is late")
    closer = Beside(lambda: office.close(**accept))
    assert hashing.reached.wait(20)
    poster = Beside(lambda: post(office, is_adjusting=True))
    until_somebody_waits(office.database)
    hashing.go.set()
    done = closer.end()
    poster.end()
    assert isinstance(done, closing.Closed)
    assert done.event.entry_count == 3
    assert [row[2:] for row in office.posted()] == [(late, OCTOBER, True)]
    assert verify(office.database).findings == []


@pytest.mark.parametrize("what", ["posting", "another night's posting", "pull"])
def test_what_comes_between_the_checks_and_the_lock_is_checked_too(
    office: Office, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    closing.begin(office.runtime, "acme", SEPTEMBER, "Ann")
    looked: list[str] = []
    real = closing_checks.run

    def run(scope: Any) -> list[Check]:
        checks = real(scope)
        if not looked:
            night = OCTOBER if what == "another night's posting" else NIGHTS[-1]
            prepared(office, night)
            if what != "pull":
                post(office, night, is_adjusting=True)
        looked.append("once")
        return checks

    monkeypatch.setattr(closing_checks, "run", run)
    if what != "pull":
        assert office.close().event.entry_count == 4
    else:
        with pytest.raises(NotClosed, match="not posted"):
            office.close()
    assert len(looked) == 2


def test_a_month_that_never_comes_to_rest_is_not_closed(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "_has_changed", lambda *_: True)
    with pytest.raises(PeriodRefused, match="changed whenever it had been checked"):
        office.close()
    assert office.state() == "closing"


# as assets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def materialise(
    office: Office, instance: dg.DagsterInstance, noun: str, config: dict[str, Any] | None = None
) -> dg.ExecuteInProcessResult:
    monthly = period_assets.months(office.runtime.config)
    (asset,) = [a for a in period_assets.assets(office.runtime.config, monthly) if a.key.path[-1] == noun]
    op = asset.op.name
    return dg.materialize(
        [asset], instance=instance, partition_key="2024-09-01", resources={"ledger": Ledger(config_path=str(office.path))},
        run_config={"ops": {op: {"config": config}}} if config else None, raise_on_error=False,
    )  # fmt: skip


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_the_period_asset_shows_the_state_and_what_stands_in_the_way(
    office: Office, instance: dg.DagsterInstance
) -> None:
    day = NIGHTS[1]
    office.night(day, f"{day},2.00,line 2", f"{day},1.001,odd")
    result = materialise(office, instance, "period")
    assert result.success
    found = {e.check_name: (e.passed, e.description, e.severity) for e in result.get_asset_check_evaluations()}
    assert list(found) == list(DOCS)
    said = "1 record in quarantine (1 without a readable amount), the limit is 0"
    assert found.pop("quarantine_within_limit") == (False, said, dg.AssetCheckSeverity.WARN)
    assert all(passed for passed, *_ in found.values())
    data = told(result)
    assert data["state"] == "open"
    assert f"| quarantine_within_limit | fails | {said} |  |" in data["checks"]
    assert office.state() == "open"


def test_materialising_the_closed_period_closes_the_month(office: Office, instance: dg.DagsterInstance) -> None:
    result = materialise(office, instance, "closed_period", {"by": "Ann"})
    assert result.success
    data = told(result)
    assert (data["state"], data["closed by"], data["entries"], data["dagster/row_count"]) == ("closed", "Ann", 3, 6)
    shown = told(materialise(office, instance, "period"))
    assert (shown["state"], shown["sha256"], shown["closed by"]) == ("closed", data["sha256"], "Ann")
    assert data["sha256"] in shown["history"]
    again = materialise(office, instance, "closed_period", {"by": "Ann"})
    assert (
        "is closed already; reopen it first"
        in again.get_step_failure_events()[0].step_failure_data.error_display_string
    )


def test_a_failing_check_fails_the_run_by_name_until_it_is_accepted(
    office: Office, instance: dg.DagsterInstance
) -> None:
    day = NIGHTS[1]
    office.night(day, f"{day},2.00,line 2", f"{day},1.001,odd")
    refused = materialise(office, instance, "closed_period", {"by": "Ann"})
    assert not refused.success
    failure = refused.get_step_failure_events()[0].step_failure_data
    assert "stays in closing: quarantine_within_limit: 1 record in quarantine" in failure.error_display_string
    assert failure.user_failure_data is not None
    assert "quarantine_within_limit | fails" in str(failure.user_failure_data.metadata["checks"].value)
    assert office.state() == "closing"
    taken = materialise(
        office, instance, "closed_period", {"by": "Ann", "accept": {"quarantine_within_limit": "a test"}}
    )
    assert taken.success
    assert "| quarantine_within_limit | accepted |" in told(taken)["checks"]
    assert "by Ann: a test" in told(taken)["checks"]


def test_nobody_closes_without_a_name(office: Office, instance: dg.DagsterInstance) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        materialise(office, instance, "closed_period", {"accept": {}})
    assert office.state() == "open"


def test_each_entity_has_its_assets_and_its_job(office: Office) -> None:
    config = office.runtime.config
    monthly = period_assets.months(config)
    made = period_assets.assets(config, monthly)
    assert [a.key.to_user_string() for a in made] == ["books/acme/period", "books/acme/closed_period"]
    assert {a.group_names_by_key[a.key] for a in made} == {"books"}
    assert monthly.get_first_partition_key() == "2024-09-01"
    assert [job.name for job in period_assets.jobs(config)] == ["close_period_acme"]
