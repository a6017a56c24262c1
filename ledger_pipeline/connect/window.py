"""How a day becomes request parameters: windows in UTC from a sync date and a zone, and the cursors that sources offer.

A cursor is a frozen dataclass whose `change(window, token)` says what to add to a stream's base request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from ledger_pipeline.connect.paging import Change, Place


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open, aware, in UTC: start ≤ t < end."""

    start: datetime
    end: datetime

    @classmethod
    def of_day(cls, day: date, zone: str) -> Window:
        """A local day: 23 or 25 hours long where clocks change; successive days neither overlap nor leave a gap."""
        return cls(_midnight(day, zone), _midnight(day + timedelta(days=1), zone))

    def back(self, days: int) -> Window:
        return Window(self.start - timedelta(days=days), self.end)


def _midnight(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


Write = Callable[[datetime], object]


def rfc3339(moment: datetime) -> str:
    """2026-10-05T04:00:00Z; fractions only where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def unix_seconds(moment: datetime) -> int:
    return int(moment.timestamp())


class Cursor(Protocol):
    """`token` is what the last complete pull left behind; only sync tokens use it."""

    def change(self, window: Window, token: str | None = None) -> Change: ...


@dataclass(frozen=True, slots=True)
class Updated:
    """Records changed in the window: `Updated("updated_at")` asks for updated_at_min and updated_at_max; give other
    names in full.

    `overlap_seconds` reaches back for sources that index late. Providers disagree on whether the end is included:
    raw keeps one copy.
    """

    param: str
    start: str = "{param}_min"
    end: str = "{param}_max"
    write: Write = rfc3339
    place: Place = "params"
    overlap_seconds: int = 0

    def change(self, window: Window, token: str | None = None) -> Change:
        since = window.start - timedelta(seconds=self.overlap_seconds)
        return _range(self, since, window.end)


@dataclass(frozen=True, slots=True)
class Created:
    """Records created in the window or up to `lookback_days` before it: `Created("created")` asks for created[gte]
    and created[lt].
    """

    param: str
    lookback_days: int = 0
    start: str = "{param}[gte]"
    end: str = "{param}[lt]"
    write: Write = unix_seconds
    place: Place = "params"

    def change(self, window: Window, token: str | None = None) -> Change:
        wider = window.back(self.lookback_days)
        return _range(self, wider.start, wider.end)


def _range(cursor: Updated | Created, start: datetime, end: datetime) -> Change:
    names = cursor.start.format(param=cursor.param), cursor.end.format(param=cursor.param)
    return Change.at(cursor.place, {names[0]: cursor.write(start), names[1]: cursor.write(end)})


@dataclass(frozen=True, slots=True)
class Search:
    """The window inside a search text: `Search("query", "updated_at:>='{start}' updated_at:<'{end}'",
    place="variables")` (Shopify).
    """

    param: str
    template: str
    write: Write = rfc3339
    place: Place = "params"
    lookback_days: int = 0

    def change(self, window: Window, token: str | None = None) -> Change:
        wider = window.back(self.lookback_days)
        text = self.template.format(start=self.write(wider.start), end=self.write(wider.end))
        return Change.at(self.place, {self.param: text})


@dataclass(frozen=True, slots=True)
class SyncTokenCursor:
    """What changed since the stored token; everything where there is none yet. The window does not matter."""

    param: str = "cursor"
    place: Place = "json"

    def change(self, window: Window, token: str | None = None) -> Change:
        return Change.at(self.place, {self.param: token} if token else {})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole list, every time."""

    def change(self, window: Window, token: str | None = None) -> Change:
        return Change()
