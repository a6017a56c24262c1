"""One piece of work at a time behind the caller's back: the database reads and writes chunks while another one is mapped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
TURN_MICROSECONDS = 500
"""How long one thread keeps the interpreter while another one, whose database is ready for more, waits for it; Python's own 5,000 starve it."""


@contextmanager
def short_turns() -> Iterator[None]:
    """Around work that maps in one thread and reads or writes in another."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN_MICROSECONDS / 10**6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Behind:
    """`do` waits for the piece before, raises what that raised, and returns while the new one runs. Leaving waits for the last one.

    Pieces run in the order given, never two at once, so they may share a database connection that the caller leaves alone meanwhile.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._last: Future[Any] | None = None

    def __enter__(self) -> Behind:
        return self

    def do(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Start a piece when the one before has ended."""
        self.wait()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._last = self._pool.submit(work, *arguments)

    def wait(self) -> None:
        """Wait for the last piece; raises what it raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            if self._pool is not None:
                self._pool.shutdown()


@contextmanager
def ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """The same items; while the caller is at one, the next is being read. Leaving waits for the one that is being read.

    What the items are read from is the reader's alone meanwhile.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        yield _read_ahead(pool, items)


def _read_ahead(pool: ThreadPoolExecutor, items: Iterator[T]) -> Iterator[T]:
    coming = pool.submit(_next, items)
    while found := coming.result():
        coming = pool.submit(_next, items)
        yield found[0]


def _next(items: Iterator[T]) -> tuple[T] | None:
    """The next item, boxed, since a StopIteration doesn't pass through a future."""
    for item in items:
        return (item,)
    return None
