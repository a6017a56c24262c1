"""Missed nights: what is asked for again, what isn't, and what is said about it. And: a day that is late in the books is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ledger_pipeline.connect.errors import AuthError, TransportError
from ledger_pipeline.orchestration import catching_up, freshness, jobs, steps
from ledger_pipeline.orchestration.catching_up import CATCH_UP, Missed, missed
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.store import gate
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.fakes import FakeCompany, order
from ledger_pipeline_tests.operations.receivers import hook
from ledger_pipeline_tests.orchestration.office import Office

S = dg.DagsterRunStatus
MONDAY = datetime(2026, 10, 12, 9, tzinfo=UTC)
DAYS = [date(2026, 10, 5) + timedelta(days=n) for n in range(7)]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def office(tmp_path: Path, database: Database) -> Office:
    return Office(tmp_path, database, 'schedule: { start: "2026-10-05" }\n')


def deliver(office: Office, name: str, day: date, lines: int = 3, bad: int = 0) -> None:
    rows = [f"{day},{n}.00,line {n}" for n in range(1, lines + 1)] + [f"{day},{n}.001,odd {n}" for n in range(bad)]
    (office.folder / name / f"{day}.csv").write_text("\n".join(["Date,Amount,Text", *rows]) + "\n")


def post(office: Office, name: str, day: date) -> None:
    """What a night on which nothing came leaves behind."""
    with office.database.connect() as connection:
        for stream in office.runtime.link(name).source.streams:
            connection.execute(
                "INSERT INTO raw.pull (pull_id, connection, stream, sync_date, run_id, started_at, ended_at, pages, records, repeated, "
                "landed, calls, retries) VALUES (nextval('raw.pull_id_seq'), %s, %s, %s, 'night', now(), now(), 0, 0, 0, 0, 0, 0)",
                (name, stream.name, day),
            )
        gate.write(connection, name, day, gate.Gate(True, bytes(32), {}), suite="", run_id="night", at=MONDAY)


def found(office: Office, instance: dg.DagsterInstance, now: datetime = MONDAY) -> list[Missed]:
    return list(missed(office.database, instance, office.runtime.config, now))


def ran(instance: dg.DagsterInstance, name: str, day: date, status: S, attempt: int | None = None) -> None:
    tags = {jobs.NIGHT: day.isoformat(), jobs.CONNECTION: name} | ({CATCH_UP: str(attempt)} if attempt else {})
    instance.add_run(dg.DagsterRun(job_name="nightly", tags=tags, status=status))


def test_a_machine_that_was_off_over_the_week_end_is_caught_up_oldest_first(
    office: Office, instance: dg.DagsterInstance
) -> None:
    for day in DAYS[:5]:
        post(office, "good", day)
        post(office, "bad", day)
    assert found(office, instance) == [
        Missed("bad", DAYS[5], 1),
        Missed("good", DAYS[5], 1),
        Missed("bad", DAYS[6], 1),
        Missed("good", DAYS[6], 1),
    ]


def test_the_sensor_asks_with_the_nights_own_tags(office: Office, instance: dg.DagsterInstance) -> None:
    sensor = office.repository.get_sensor_def("missed_nights")
    context = dg.build_sensor_context(
        instance=instance,
        repository_def=office.repository,
        resources={"ledger": Ledger(config_path=str(office.config))},
    )
    requests = sensor.evaluate_tick(context).run_requests or ()
    assert 0 < len(requests) <= catching_up.MOST_AT_ONCE
    first = requests[0]
    assert first.tags[jobs.NIGHT] == first.partition_key
    assert first.tags[CATCH_UP] == "1"
    assert {key.path[1] for key in first.asset_selection or ()} == {first.tags[jobs.CONNECTION]}


def test_the_night_itself_comes_first(office: Office, instance: dg.DagsterInstance) -> None:
    for day in DAYS[:6]:
        post(office, "good", day)
        post(office, "bad", day)
    at = datetime(2026, 10, 12, 3, 29, tzinfo=UTC)  # the schedule's tick was at 2:30
    assert found(office, instance, at) == []
    assert len(found(office, instance, at + timedelta(minutes=1))) == 2


def test_a_night_that_is_being_run_is_not_asked_for(office: Office, instance: dg.DagsterInstance) -> None:
    for name in ("good", "bad"):
        for day in DAYS:
            ran(instance, name, day, S.STARTED)
    assert found(office, instance) == []


def test_a_pull_without_posting_is_missing_and_a_closed_gate_is_not(
    office: Office, instance: dg.DagsterInstance
) -> None:
    for day in DAYS:
        post(office, "good", day)
    for day in DAYS[:6]:
        post(office, "bad", day)
    link = office.runtime.link("bad")
    deliver(office, "bad", DAYS[6])
    for stream in link.source.streams:
        steps.pull(office.runtime, link, stream, DAYS[6], "killed")
    assert found(office, instance) == [Missed("bad", DAYS[6], 1)]
    steps.stage(office.runtime, link, DAYS[6], "killed")
    steps.check(office.runtime, link, DAYS[6], "killed")
    assert found(office, instance) == [Missed("bad", DAYS[6], 1)], "killed between check and post"
    deliver(office, "bad", DAYS[6], 20, bad=20)
    steps.run_day(office.runtime, "bad", DAYS[6], "again")
    assert found(office, instance) == []


def test_runs_of_a_night_are_bounded_and_then_somebody_is_told(office: Office, instance: dg.DagsterInstance) -> None:
    for day in DAYS:
        post(office, "good", day)
    for day in DAYS[1:]:
        post(office, "bad", day)
    for attempt in (1, 2, 3):
        ran(instance, "bad", DAYS[0], S.FAILURE, attempt)
    later = datetime.now(UTC) + timedelta(days=3)
    config = office.runtime.config.model_copy(
        update={"schedule": office.runtime.config.schedule.model_copy(update={"catch_up_days": 4000})}
    )
    [first, *_] = missed(office.database, instance, config, max(later, MONDAY))
    assert (first.sync_date, first.connection) == (DAYS[0], "bad")
    assert first.given_up.startswith("3 more runs have not brought it in")


def test_two_tries_lie_some_time_apart(office: Office, instance: dg.DagsterInstance) -> None:
    for day in DAYS:
        post(office, "good", day)
    for day in DAYS[1:]:
        post(office, "bad", day)
    ran(instance, "bad", DAYS[0], S.FAILURE, 1)
    updated = instance.get_run_records()[0].update_timestamp
    config = office.runtime.config.model_copy(
        update={"schedule": office.runtime.config.schedule.model_copy(update={"catch_up_days": 4000})}
    )

    def first(after: timedelta) -> Missed | None:
        return next(
            (m for m in missed(office.database, instance, config, updated + after) if m.sync_date == DAYS[0]), None
        )

    assert first(timedelta(minutes=29)) is None
    assert first(timedelta(minutes=31)) == Missed("bad", DAYS[0], 2)


# causes ---------------------------------------------------------------------------------------------------------


def fail_with(company: FakeCompany, error: Exception | None) -> None:
    def before(stream: str, page: int) -> None:
        if error is not None:
            raise error

    company.shelf.before_page = before


def test_a_permanent_cause_waits_for_somebody_until_it_is_gone(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    company = FakeCompany(database, tmp_path, monkeypatch)
    config = company.runtime.config
    name = next(iter(config.connections))
    company.shelf.put("orders", order("o1"))
    fail_with(company, AuthError(name, "401: key expired"))
    with pytest.raises(AuthError):
        steps.run_day(company.runtime, name, DAYS[0], "r1")

    def judged() -> Missed:
        return next(
            m for m in missed(database, instance, config, MONDAY) if (m.sync_date, m.connection) == (DAYS[0], name)
        )

    assert judged().given_up.startswith("it waits for somebody, because trying again will not help: credentials: ")
    fail_with(company, None)
    company.runtime.clock = lambda: MONDAY
    steps.run_day(company.runtime, name, DAYS[1], "r2")
    assert judged() == Missed(name, DAYS[0], 1), "a later night shows that the key is right again"


def test_a_transient_cause_is_tried_again(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    company = FakeCompany(database, tmp_path, monkeypatch)
    config = company.runtime.config
    name = next(iter(config.connections))
    company.shelf.put("orders", order("o1"))
    fail_with(company, TransportError(name, "reset"))
    with pytest.raises(TransportError):
        steps.run_day(company.runtime, name, DAYS[0], "r1")
    assert Missed(name, DAYS[0], 1) in list(missed(database, instance, config, MONDAY))


# freshness ------------------------------------------------------------------------------------------------------


def test_a_day_that_is_late_in_the_books_is_told_once(office: Office, instance: dg.DagsterInstance) -> None:
    for day in DAYS:
        post(office, "good", day)
    post(office, "bad", DAYS[0])
    at = datetime(2026, 10, 12, 12, tzinfo=UTC)
    [stale] = freshness.stale_connections(office.database, office.runtime.config, at)
    assert (stale.connection, stale.partition) == ("bad", "2026-10-11")
    assert stale.sentence == (
        "ledger/bad/entries lacks 2026-10-11, due by 2026-10-12 12:00 UTC: it was not pulled, checked and posted"
    )
    assert list(freshness.stale_connections(office.database, office.runtime.config, at)) == [stale]
    post(office, "bad", DAYS[6])
    assert list(freshness.stale_connections(office.database, office.runtime.config, at)) == []


def test_before_the_deadline_the_day_before_counts(office: Office) -> None:
    for name in ("good", "bad"):
        post(office, name, DAYS[5])
    at = datetime(2026, 10, 12, 11, 59, tzinfo=UTC)
    assert list(freshness.stale_connections(office.database, office.runtime.config, at)) == []


def test_a_breach_reaches_somebody(tmp_path: Path, database: Database, instance: dg.DagsterInstance) -> None:
    with hook() as slack:
        more = f'schedule: {{ start: "2026-10-05" }}\nalerts: {{channels: [{{type: slack, url: "{slack.url}"}}]}}\n'
        office = Office(tmp_path, database, more)
        for _ in range(2):
            context = dg.build_sensor_context(
                instance=instance,
                repository_def=office.repository,
                resources={"ledger": Ledger(config_path=str(office.config))},
            )
            office.repository.get_sensor_def("stale_assets").evaluate_tick(context)
    assert sorted(one["text"].split(" lacks ")[0] for one in slack.got) == [
        f"Books are out of date: {name}, {date.today() - timedelta(days=1 + (datetime.now(UTC).hour < 12))}. ledger/{name}/entries"  # noqa: DTZ011
        for name in ("bad", "good")
    ]
