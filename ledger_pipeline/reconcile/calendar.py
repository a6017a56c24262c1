"""Business days: weekends, and the bank holidays of a country, or of TARGET where no country is given."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

_YEARS = range(2000, 2061)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Counts business days; `country` is an ISO 3166 code (`GB`, `US`), empty for TARGET's holidays. Holidays are known for 2000 to 2060."""

    country: str = ""

    def is_business_day(self, day: date) -> bool:
        """Monday to Friday, no holiday."""
        return self._number(day) != self._number(day - timedelta(days=1))

    def between(self, a: date, b: date) -> int:
        """Business days that lie after the earlier and up to the later of two days; 0 from Friday to Sunday, 1 from Friday to Monday."""
        return abs(self._number(a) - self._number(b))

    def after(self, day: date, count: int) -> date:
        """The day that lies `count` business days after `day`; `day` itself for 0."""
        found = day
        while self.between(day, found) < count:
            found += timedelta(days=1)
        return found

    def _number(self, day: date) -> int:
        """Business days up to `day`, since the calendar's first."""
        weeks, weekday = divmod(day.toordinal() - 1, 7)  # ordinal 1 is a Monday
        return weeks * 5 + min(weekday + 1, 5) - bisect_right(_holidays(self.country), day)


@cache
def _holidays(country: str) -> list[date]:
    """Those from Monday to Friday, in order. Raises ValueError for a country that isn't known."""
    import holidays

    try:
        known = (
            holidays.country_holidays(country, years=_YEARS)
            if country
            else holidays.financial_holidays("XECB", years=_YEARS)
        )
    except NotImplementedError:
        raise ValueError(f"no holidays are known for the country {country!r} (ISO 3166, such as GB)") from None
    return sorted(day for day in known if day.weekday() < 5)
