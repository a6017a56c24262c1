"""Days as instants, and instants as parameters."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_pipeline.connect.window import Created, Search, Snapshot, SyncTokenCursor, Updated, Window, unix_seconds

DAY = Window.of_day(date(2026, 10, 5), "America/New_York")


def test_a_day_is_local_and_stored_in_utc():
    assert (DAY.start, DAY.end) == (datetime(2026, 10, 5, 4, tzinfo=UTC), datetime(2026, 10, 6, 4, tzinfo=UTC))
    assert DAY.start.tzinfo is UTC


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        (date(2026, 3, 8), "America/New_York", 23),
        (date(2026, 11, 1), "America/New_York", 25),
        (date(2026, 3, 29), "Europe/London", 23),
        (date(2026, 10, 25), "Europe/London", 25),
        (date(2024, 9, 8), "America/Santiago", 23),  # the clock goes from 24:00 to 01:00: that day has no midnight
        (date(2023, 10, 29), "Asia/Beirut", 24),
        (date(2026, 4, 5), "Australia/Lord_Howe", 24.5),
    ],
)
def test_a_day_is_as_long_as_it_is(day, zone, hours):
    window = Window.of_day(day, zone)
    assert window.end - window.start == timedelta(hours=hours)


@given(
    st.dates(date(1990, 1, 1), date(2035, 1, 1)),
    st.sampled_from(
        ["America/New_York", "Europe/London", "America/Sao_Paulo", "Asia/Beirut", "America/Havana", "Atlantic/Azores"]
    ),
)
def test_days_follow_one_another_without_gap_or_overlap(day, zone):
    window = Window.of_day(day, zone)
    assert window.end == Window.of_day(day + timedelta(days=1), zone).start
    assert timedelta(hours=22) < window.end - window.start < timedelta(hours=26)


def test_an_unknown_zone_is_an_error():
    with pytest.raises(KeyError):
        Window.of_day(date(2026, 1, 1), "Europe/Atlantis")


def test_created_asks_in_unix_seconds_and_looks_back():
    assert Created("created").change(DAY).params == {"created[gte]": 1791172800, "created[lt]": 1791259200}
    assert Created("created", lookback_days=2).change(DAY).params["created[gte]"] == 1791172800 - 2 * 86400


def test_updated_asks_in_rfc_3339():
    expected = {"updated_at_min": "2026-10-05T04:00:00Z", "updated_at_max": "2026-10-06T04:00:00Z"}
    assert Updated("updated_at").change(DAY).params == expected


def test_names_place_form_and_overlap_can_be_told():
    cursor = Updated("since", start="since", end="until", write=unix_seconds, place="json", overlap_seconds=60)
    change = cursor.change(DAY)
    assert change.json == {"since": 1791172800 - 60, "until": 1791259200}
    assert change.params == {}


def test_search_writes_the_window_into_a_text():
    cursor = Search("query", "updated_at:>='{start}' updated_at:<'{end}'", place="variables")
    text = "updated_at:>='2026-10-05T04:00:00Z' updated_at:<'2026-10-06T04:00:00Z'"
    assert cursor.change(DAY).json == {"variables": {"query": text}}


def test_a_sync_token_is_sent_once_there_is_one():
    assert SyncTokenCursor().change(DAY).json == {}
    assert SyncTokenCursor().change(DAY, "abc").json == {"cursor": "abc"}


def test_a_snapshot_asks_for_everything():
    change = Snapshot().change(DAY, "abc")
    assert (change.params, change.json, change.url) == ({}, {}, "")
