"""What every sandbox server needs: the clock, the site that routes stand on, JSON answers, walks over local days."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ledger_pipeline.sandbox.faults import FaultBook

if TYPE_CHECKING:
    from ledger_pipeline.sandbox.company import Company

DIGITS = {"JPY": 0, "KRW": 0, "BHD": 3, "JOD": 3, "KWD": 3, "OMR": 3, "TND": 3}
_encode = msgspec.json.Encoder(decimal_format="number").encode
FAULT_KEY = "ledger_pipeline.sandbox.fault"
T = TypeVar("T")


class Clock:
    """The sandbox's idea of now, in UTC: the real one until it is set."""

    def __init__(self, now: datetime | None = None) -> None:
        self._now: datetime | None = None
        self.set(now)

    def set(self, now: datetime | None) -> None:
        """Stop the clock at `now`, or let it run again with None; raises ValueError for a naive datetime."""
        if now is not None and now.tzinfo is None:
            raise ValueError(f"the sandbox clock needs an offset: {now.isoformat()}")
        self._now = None if now is None else now.astimezone(UTC)

    @property
    def is_real(self) -> bool:
        return self._now is None

    def now(self) -> datetime:
        return self._now or datetime.now(UTC)


@dataclass
class Site:
    """What `routes(company, clock, connection, site)` may use besides the company: faults and the knobs of the limits.

    `bucket` points that restore at `restore_rate` a second limit Shopify, and a query may cost `max_cost`; with
    `is_money_free` MoneyBag and MoneyV2 cost nothing. `bulk_polls` is how often a bulk operation is asked for before
    it is COMPLETED.
    """

    faults: FaultBook = field(default_factory=FaultBook)
    bucket: float = 2000.0
    restore_rate: float = 100.0
    max_cost: int = 1000
    is_money_free: bool = False
    bulk_polls: int = 2


def fault_of(request: Request) -> str:
    """The kind of the fault that the answer itself must show (page_shift, stale_count, early_end), or ""."""
    return str(request.scope.get(FAULT_KEY, ""))


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in compact JSON; a Decimal becomes a JSON number with its own digits."""
    return Response(_encode(body), status, headers, media_type="application/json")


def zone_of(company: Company, connection: str) -> ZoneInfo:
    return ZoneInfo(str(company.entities[company.connections[connection].entity].zone))


def local_day(instant: datetime, zone: ZoneInfo) -> date:
    return instant.astimezone(zone).date()


def days_between(first: date, last: date, *, newest_first: bool = False) -> Iterator[date]:
    """Every day from `first` to `last`, both included."""
    count = (last - first).days + 1
    return (first + timedelta(days=step) for step in (reversed(range(count)) if newest_first else range(count)))


def digits(currency: str) -> int:
    return DIGITS.get(currency, 2)


def major(minor: int, currency: str) -> Decimal:
    """Minor units as a Decimal with exactly the currency's digits: (8449, USD) → 84.49."""
    return Decimal(minor).scaleb(-digits(currency))


def opaque(*parts: object, length: int = 24) -> str:
    """A stable identifier without meaning, letters and digits."""
    return sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:length]


def unix(instant: datetime) -> int:
    return int(instant.timestamp())


def iso_z(instant: datetime) -> str:
    """2026-10-05T14:03:22Z."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class DayCache(Generic[T]):
    """Keeps what was made for the last few days of a connection, because consecutive pages ask for the same days."""

    def __init__(self, make: Callable[[str, date], T], size: int = 24) -> None:
        self._make, self._size = make, size
        self._kept: dict[tuple[str, date], T] = {}

    def __call__(self, connection: str, day: date) -> T:
        key = (connection, day)
        found = self._kept.pop(key, None)
        if found is None:
            found = self._make(connection, day)
            while len(self._kept) >= self._size:
                self._kept.pop(next(iter(self._kept)))
        self._kept[key] = found
        return found
