"""Every night is asked for exactly once, in the entity's own zone, through every change of the clocks."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import calendar, jobs

ZONES = ("America/New_York", "Europe/London", "Australia/Lord_Howe", "America/Havana", "Pacific/Apia", "UTC")


def config(*zones: str, **schedule: Any) -> LedgerConfig:
    """An entity with one Stripe connection per zone."""
    return LedgerConfig.model_validate(
        {
            "entities": {f"e{n}": {"name": "E", "base_currency": "USD", "time_zone": z} for n, z in enumerate(zones)},
            "connections": {
                f"c{n}": {"entity": f"e{n}", "source": "stripe", "api_key": "k"} for n in range(len(zones))
            },
            "schedule": {"start": "2026-01-01", **schedule},
        }
    )


def requests_of_a_year(of: LedgerConfig) -> list[tuple[str, str | None, str | None, datetime]]:
    """(connection, sync date, run key, tick) of every request that the scheduler's ticks make in a year."""
    nightly, _ = jobs.jobs(of)
    found = []
    for schedule in jobs.schedules(of, nightly):
        zone = schedule.execution_timezone or "UTC"
        names = [n for n in jobs.enabled(of) if of.schedule.time_zone or of.entity_of(n).time_zone == zone]
        start, end = datetime(2026, 1, 2, 12, tzinfo=UTC), datetime(2027, 1, 3, 12, tzinfo=UTC)
        for tick in schedule_execution_time_iterator(start.timestamp(), schedule.cron_schedule, zone, ascending=True):
            if tick >= end:
                break
            for request in jobs.night_of(of, names, tick, zone):
                found.append((request.tags[jobs.CONNECTION], request.partition_key, request.run_key, tick))
    return found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", ["30 2 * * *", "30 1 * * *", "30 0 * * *", "0 2 * * *", "15 6 * * *"])
def test_every_night_of_a_year_once(zone: str, cron: str) -> None:
    """2:30 doesn't exist in New York on 2026-03-08, 1:30 comes twice on 2026-11-01; Lord Howe's clocks move by half an hour."""
    of = config(zone, cron=cron)
    asked = {(key, day) for _, day, key, _ in requests_of_a_year(of)}
    days = Counter(day for _, day in asked)
    expected = {(date(2026, 1, 3) + timedelta(days=n)).isoformat() for n in range(360)}
    assert expected - set(days) == set()
    assert {day: count for day, count in days.items() if count != 1} == {}


@pytest.mark.parametrize("zone", ZONES)
def test_a_day_is_asked_for_after_it_has_ended_and_is_a_partition_then(zone: str) -> None:
    of = config(zone, "America/New_York")
    partitions = jobs.partitions(of)
    for name, day, _, tick in requests_of_a_year(of):
        assert day is not None
        assert tick >= calendar.end_of(date.fromisoformat(day), of.entity_of(name).zone)
    sample = requests_of_a_year(config(zone))[::30]
    for _, day, _, tick in sample:
        with dg.partition_loading_context(effective_dt=tick):
            assert partitions.has_partition_key(day)  # type: ignore[arg-type]


def test_one_schedule_in_a_zone_of_its_own_takes_the_day_that_ended_last_in_each_entitys_zone() -> None:
    of = config("America/Los_Angeles", "Pacific/Auckland", time_zone="UTC", cron="0 6 * * *")
    nightly, _ = jobs.jobs(of)
    [schedule] = jobs.schedules(of, nightly)
    assert schedule.name == "nightly"
    at = datetime(2026, 6, 10, 6, tzinfo=UTC)  # 23:00 of the 9th in Los Angeles, 18:00 of the 10th in Auckland
    found = {r.tags[jobs.CONNECTION]: r.partition_key for r in jobs.night_of(of, ["c0", "c1"], at, "UTC")}
    assert found == {"c0": "2026-06-08", "c1": "2026-06-09"}


def test_entities_of_several_zones_have_a_schedule_each() -> None:
    of = config("America/New_York", "Europe/London", "America/New_York")
    nightly, _ = jobs.jobs(of)
    names = {s.name: s.execution_timezone for s in jobs.schedules(of, nightly)}
    assert names == {"nightly_america_new_york": "America/New_York", "nightly_europe_london": "Europe/London"}


def test_a_day_before_the_first_sync_date_is_not_asked_for() -> None:
    of = config("UTC", start="2026-06-10")
    assert list(jobs.night_of(of, ["c0"], datetime(2026, 6, 10, 3, tzinfo=UTC), "UTC")) == []
    assert len(list(jobs.night_of(of, ["c0"], datetime(2026, 6, 11, 3, tzinfo=UTC), "UTC"))) == 1


def test_a_night_is_due_at_the_first_tick_after_its_end_also_where_that_hour_is_left_out() -> None:
    of = config("America/New_York", cron="30 2 * * *")
    due = calendar.due_at(of, "c0", date(2026, 3, 7))
    assert due == datetime(2026, 3, 8, 3, tzinfo=ZoneInfo("America/New_York"))
    assert calendar.due_at(of, "c0", date(2026, 6, 1)) == datetime(2026, 6, 2, 6, 30, tzinfo=UTC)


def test_the_deadline_is_a_time_on_the_wall() -> None:
    of = config("Europe/London")
    assert calendar.deadline_of(of, "c0", date(2026, 3, 28)) == datetime(2026, 3, 29, 11, tzinfo=UTC)
    assert calendar.last_due(of, "c0", datetime(2026, 3, 29, 10, 59, tzinfo=UTC)) == date(2026, 3, 27)
    assert calendar.last_due(of, "c0", datetime(2026, 3, 29, 11, 0, tzinfo=UTC)) == date(2026, 3, 28)


def test_days_end_first_in_the_east() -> None:
    of = config("America/New_York", "Australia/Lord_Howe", "Europe/London")
    assert (calendar.easternmost(of).key, calendar.westernmost(of).key) == ("Australia/Lord_Howe", "America/New_York")
