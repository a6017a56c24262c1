"""One piece of work at a time behind the caller's back: the database writes a chunk while the next one is read or mapped."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any


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
