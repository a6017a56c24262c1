"""The ordinary reader: one HTTP list per stream, a pager, a cursor, and the guard that notices what paging gets wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger_pipeline.connect.client import merged
from ledger_pipeline.connect.paging import Listing, Pager
from ledger_pipeline.connect.source import Request
from ledger_pipeline.connect.window import Cursor, Snapshot, Window


@dataclass(frozen=True)
class HttpList:
    """`path` is asked page by page for what the cursor says about the sync date; records are handed on as the provider's bytes."""

    path: str
    page: Pager
    cursor: Cursor = field(default_factory=Snapshot)
    method: str = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    record_id: str = "id"

    def __call__(self, request: Request) -> Iterator[Sequence[bytes]]:
        """Pages of the list; at the end the request knows pages, repeats and the cursor to keep."""
        listing = self.listing(request)
        for page in listing:
            yield [bytes(item) for item in page.items]
        note(request, listing)
        request.next_cursor = listing.cursor

    def listing(self, request: Request) -> Listing:
        """The listing of a request, not started."""
        if request.client is None:
            raise TypeError(f"{request.connection}: an HTTP list needs a client")
        change = self.cursor.change(Window(request.start, request.end), request.cursor)
        fetch = request.client.fetcher(
            self.method,
            self.path,
            params={**self.params, **change.params},
            json=None if self.json is None and not change.json else merged(self.json or {}, change.json),
            is_safe=True,
        )
        return Listing(self.page, fetch, connection=request.connection, stream=request.stream, record_id=self.record_id)


def note(request: Request, listing: Listing) -> None:
    """Add what a listing counted to the request."""
    request.pages += listing.pulled.pages
    request.repeated += listing.pulled.repeated
    if listing.pulled.changed:
        request.notes["changed while paging"] = request.notes.get("changed while paging", 0) + listing.pulled.changed
