"""What each payout carried, as Stripe names it: one document per payout, with its balance transactions as they were sent.

Stripe lists a payout's transactions once it has reconciled it, which an event tells. So a night asks for that day's events, and for as many
pages as the payouts of these events have: no fewer requests are possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from ledger_pipeline.connect.listing import HttpList, note
from ledger_pipeline.connect.paging import Listing, StartingAfter
from ledger_pipeline.connect.source import Request
from ledger_pipeline.connect.window import Created

RECONCILED = "payout.reconciliation_completed"
PATH = "/v1/balance_transactions"


class _Payout(msgspec.Struct):
    id: str


class _Data(msgspec.Struct):
    object: _Payout


class _Event(msgspec.Struct):
    data: _Data


_event = msgspec.json.Decoder(_Event)


@dataclass(frozen=True)
class PayoutMembers:
    """Reads the `payout_members` stream."""

    page: StartingAfter

    def __call__(self, request: Request) -> Iterator[Sequence[bytes]]:
        """A page per payout that Stripe reconciled in the window; an event that comes twice is asked for once."""
        events = HttpList("/v1/events", self.page, Created("created"), params={"types[]": [RECONCILED]}).listing(
            request
        )
        payouts = dict.fromkeys(_event.decode(item).data.object.id for page in events for item in page.items)
        note(request, events)
        for payout in payouts:
            yield [self._document(request, payout)]

    def _document(self, request: Request, payout: str) -> bytes:
        if request.client is None:
            raise TypeError(f"{request.connection}: an HTTP list needs a client")
        fetch = request.client.fetcher("GET", PATH, params={"payout": payout}, is_safe=True)
        listing = Listing(self.page, fetch, connection=request.connection, stream=request.stream, record_id="id")
        items = b",".join(bytes(item) for page in listing for item in page.items)
        note(request, listing)
        return b'{"payout":' + msgspec.json.encode(payout) + b',"balance_transactions":[' + items + b"]}"
