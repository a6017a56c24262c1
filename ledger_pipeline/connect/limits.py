"""Rate limits that keep us below a system's own, so that 429 stays the exception.

Our own forty lines instead of pyrate-limiter: its buckets start a leaker thread per process, have no injectable
clock that sleeps, and do not tell how long a caller waited, which the sync log reports. A limit holds within one
process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ledger_pipeline.connect.client import Response

Clock = Callable[[], float]
Sleep = Callable[[float], None]


class Bucket(Protocol):
    """The running state of a limit, shared by the threads of one client."""

    def acquire(self) -> float:
        """Wait for a turn; returns the seconds waited."""

    def learn(self, response: Response | None) -> None:
        """Called once per acquire, with what an answer says about the limit; None where no answer came."""


class RateLimit(Protocol):
    """A declaration that a source can hold as a constant; each client starts a bucket of its own."""

    def start(self, clock: Clock, sleep: Sleep) -> Bucket: ...


@dataclass(frozen=True, slots=True)
class Limit:
    """`per_second` requests on average, `burst` at once. `Limit(per_second=0.5)` is one every two seconds."""

    per_second: float
    burst: int = 1

    def start(self, clock: Clock, sleep: Sleep) -> Bucket:
        return _TokenBucket(self.per_second, float(self.burst), 1.0, clock, sleep, None)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a server reports with an answer: points left, points restored per second, points that this request was
    charged beforehand.
    """

    available: float
    per_second: float
    requested: float


@dataclass(frozen=True, slots=True)
class CostLimit:
    """Points instead of requests, fed by the server's own report. `read` finds the report in an answer; None where
    it has none.

    The next request is taken to cost what the dearest one so far did. `maximum` is the bucket's size before the
    first report.
    """

    read: Callable[[Response], Cost | None]
    maximum: float = 1000
    per_second: float = 50

    def start(self, clock: Clock, sleep: Sleep) -> Bucket:
        return _TokenBucket(self.per_second, self.maximum, 1.0, clock, sleep, self.read)


class _TokenBucket:
    """Each caller takes its tokens at once, into debt if need be, and sleeps its debt off outside the lock: first
    come, first served.
    """

    def __init__(
        self,
        rate: float,
        size: float,
        cost: float,
        clock: Clock,
        sleep: Sleep,
        read: Callable[[Response], Cost | None] | None,
    ) -> None:
        if rate <= 0 or size < 1:
            raise ValueError(f"a limit needs a rate above 0 and a burst of 1 or more, not {rate} and {size}")
        self._rate, self._size, self._cost, self._tokens = rate, size, cost, size
        self._clock, self._sleep, self._read = clock, sleep, read
        self._at = clock()
        self._open = 0  # turns taken whose answer is still out
        self._lock = threading.Lock()

    def acquire(self) -> float:
        with self._lock:
            now = self._clock()
            self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate) - min(self._cost, self._size)
            self._at = now
            self._open += 1
            wait = max(0.0, -self._tokens / self._rate)
        if wait:
            self._sleep(wait)
        return wait

    def learn(self, response: Response | None) -> None:
        report = self._read(response) if self._read and response is not None else None
        with self._lock:
            self._open -= 1
            if report is not None and report.per_second > 0:
                self._rate = report.per_second
                self._size = max(self._size, report.available)
                self._cost = max(self._cost, report.requested)
                # The server gives back what a query cost less than announced, and hasn't seen what is still on its way.
                self._tokens = report.available - self._open * self._cost
                self._at = self._clock()
