"""How Shopify's lists are read: orders by pages or, where there are thousands, in bulk; both yield the same payloads.

An order that came in part (more lines than one page, refunds) is completed before it is handed on. What stood in one
answer keeps the provider's bytes; a completed list is those bytes with the other pages' nodes spliced in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from ledger_pipeline.connect.client import Client, Response
from ledger_pipeline.connect.errors import PageFault, RateLimited, RequestRejected
from ledger_pipeline.connect.listing import HttpList, note
from ledger_pipeline.connect.paging import GraphQLConnection, Guard, Listing, Page
from ledger_pipeline.connect.source import Request
from ledger_pipeline.connect.window import rfc3339

from . import queries

VERSION = "2026-10"
PATH = f"/admin/api/{VERSION}/graphql.json"
BULK_MOST = 20_000
"""Orders of one bulk operation: a larger window is halved, because a file is held in memory as a whole."""
BULK_SECONDS = 3600.0
HELD = 1000
"""Listed orders that are completed and handed on together: what some of them lack is asked for in few requests."""
_NARROWEST = 1.0  # seconds; a window is not halved further

Raw = msgspec.Raw


class _PageInfo(msgspec.Struct):
    hasNextPage: bool  # noqa: N815 - the wire's name
    endCursor: str | None = None  # noqa: N815


class _Connection(msgspec.Struct):
    pageInfo: _PageInfo  # noqa: N815


class _Refund(msgspec.Struct):
    id: str
    refundLineItems: _Connection | None = None  # noqa: N815
    refundShippingLines: _Connection | None = None  # noqa: N815
    orderAdjustments: _Connection | None = None  # noqa: N815
    transactions: _Connection | None = None


class _Order(msgspec.Struct):
    """What tells whether an order is complete."""

    id: str
    refunds: list[_Refund]
    lineItems: _Connection | None = None  # noqa: N815
    shippingLines: _Connection | None = None  # noqa: N815


class _RestPage(msgspec.Struct):
    pageInfo: _PageInfo  # noqa: N815
    nodes: list[Raw]


class _Line(msgspec.Struct):
    """One line of a bulk file."""

    id: str | None = None
    parent: str | None = msgspec.field(default=None, name="__parentId")
    kind: str = msgspec.field(default="", name="__typename")


_order = msgspec.json.Decoder(_Order)
_line = msgspec.json.Decoder(_Line)
_object = msgspec.json.Decoder(dict[str, Raw])
_END = msgspec.json.encode({"hasNextPage": False, "endCursor": None})


@dataclass(frozen=True)
class Orders:
    """Reads the `orders` stream.

    Shopify's own count is asked first, and the listing checked against it at its end. One that differs is read once more,
    because an order that changes meanwhile leaves the window; then a listing that falls short is a PageFault, and one that
    has more than was counted is noted. What was handed on by then comes again, and lands once.
    """

    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    bulk_most: int = BULK_MOST

    def __call__(self, request: Request) -> Iterator[Sequence[bytes]]:
        """Pages of whole orders, each order a JSON object."""
        client = _client(request)
        count = _count(client, request.start, request.end)
        request.expected = count
        if count is None or count < request.options.bulk_from:
            yield from self._paged(client, request)
            return
        request.notes["bulk_operations"] = 0
        for start, end, part in _parts(client, request.start, request.end, count, self.bulk_most):
            yield self._in_bulk(client, request, start, end, part)

    # by pages

    def _paged(self, client: Client, request: Request) -> Iterator[list[bytes]]:
        ids: set[str] = set()
        for attempt in (1, 2):
            if attempt == 2:
                request.expected = _count(client, request.start, request.end)
                request.notes["read_again"] = 1
            listing = self._listing(client, request)
            found, held = 0, list[bytes]()
            for page in listing:
                held += [bytes(item) for item in page.items]
                if len(held) >= HELD:
                    yield _completed(client, request, held, ids)
                    found, held = found + len(held), []
            found += len(held)
            note(request, listing)
            if request.expected in (None, found):
                break
        if request.expected is not None and found < request.expected:
            listing.expect(request.expected)
        yield _completed(client, request, held, ids)
        if request.expected is not None and len(ids) > request.expected:
            request.notes["listed_more_than_counted"] = len(ids) - request.expected

    def _listing(self, client: Client, request: Request) -> Listing:
        variables = {"query": search(request.start, request.end)}
        fetch = client.fetcher("POST", PATH, json={"query": queries.ORDERS, "variables": variables}, is_safe=True)
        pager = GraphQLConnection("data.orders", limit_variable="first", limit=request.options.page_size)
        return Listing(pager, fetch, connection=request.connection, stream=request.stream)

    # in bulk

    def _in_bulk(self, client: Client, request: Request, start: datetime, end: datetime, count: int) -> list[bytes]:
        state = self._operation(client, request, queries.bulk_orders(search(start, end)))
        request.notes["bulk_operations"] += 1
        request.pages += 1
        orders = reassembled(_download(request, state["url"])) if state["url"] else []
        if len(orders) != int(state["rootObjectCount"]):
            message = f"{len(orders)} of {state['rootObjectCount']} orders are in the bulk file"
            raise _fault(request, "early_end", message)
        if len(orders) < count:
            raise _fault(request, "early_end", f"the bulk operation brought {len(orders)} of {count} orders")
        return _completed(client, request, orders, set())

    def _operation(self, client: Client, request: Request, query: str) -> dict[str, Any]:
        """Runs it to its end; waits for another one that is under way. Raises where it fails or takes too long."""
        deadline, wait, operation = self.clock() + BULK_SECONDS, 0.5, None
        while True:
            state = _started(client, query) if operation is None else _state(client, operation)
            if state is not None:
                operation = state["id"]
                if state["status"] == "COMPLETED":
                    return state
                if state["status"] not in ("CREATED", "RUNNING"):
                    why = state.get("errorCode") or "no reason given"
                    message = f"bulk operation {operation}: {state['status']}, {why}"
                    raise RequestRejected(request.connection, message, is_transient=True)
            if self.clock() + wait > deadline:
                what = operation or "another bulk operation of this app"
                raise RateLimited(request.connection, f"{what} was not over after {BULK_SECONDS:.0f} s")
            self.sleep(wait)
            wait = min(30.0, wait * 1.5)


def search(start: datetime, end: datetime) -> str:
    """Orders whose last change lies in [start, end), in Shopify's search syntax; unquoted it would cut the time off."""
    return f"updated_at:>='{rfc3339(start)}' AND updated_at:<'{rfc3339(end)}'"


def _client(request: Request) -> Client:
    if request.client is None:
        raise TypeError(f"{request.connection}: Shopify's lists need a client")
    return request.client


def _fault(request: Request, kind: Literal["early_end", "shift"], message: str) -> PageFault:
    return PageFault(request.connection, message, kind=kind, stream=request.stream, page=request.pages)


def _ask(client: Client, query: str, variables: dict[str, Any]) -> Response:
    """Reads may be repeated; so may a bulk query, whose second start is refused while the first one runs."""
    return client.post(PATH, json={"query": query, "variables": variables}, is_safe=True)


class _Count(msgspec.Struct):
    count: int
    precision: str


class _Counted(msgspec.Struct):
    ordersCount: _Count | None  # noqa: N815


class _CountAnswer(msgspec.Struct):
    data: _Counted


def _count(client: Client, start: datetime, end: datetime) -> int | None:
    """Shopify's own count of a window; None where it isn't exact."""
    found = _ask(client, queries.ORDERS_COUNT, {"query": search(start, end)}).decode(_CountAnswer).data.ordersCount
    return found.count if found is not None and found.precision == "EXACT" else None


def _parts(
    client: Client, start: datetime, end: datetime, count: int, most: int
) -> Iterator[tuple[datetime, datetime, int]]:
    """(start, end, count) of windows that follow each other and hold at most `most` orders, where that can be had."""
    if count <= most or (end - start).total_seconds() <= _NARROWEST:
        yield start, end, count
        return
    middle = (start + (end - start) / 2).replace(microsecond=0)
    for first, last in ((start, middle), (middle, end)):
        part = _count(client, first, last)
        yield from _parts(client, first, last, part if part is not None else 0, most)


# completing ---------------------------------------------------------------------------------------


def _completed(client: Client, request: Request, orders: Sequence[bytes], ids: set[str]) -> list[bytes]:
    """The same orders in the same places: those with refunds read again as a whole, and every list to its end. Adds their ids to `ids`."""
    out = list(orders)
    peeks = [_order.decode(order) for order in orders]
    ids.update(peek.id for peek in peeks)
    wanting = [n for n, peek in enumerate(peeks) if peek.refunds]
    size = queries.WHOLE_PER_REQUEST
    for at in range(0, len(wanting), size):
        batch = wanting[at : at + size]
        for n, whole in zip(batch, _whole(client, request, [peeks[n].id for n in batch]), strict=True):
            out[n], peeks[n] = whole, _order.decode(whole)
    rest = [n for n, peek in enumerate(peeks) if any(True for _ in _unfinished(peek))]
    for n in rest:
        for path, owner, owner_id, cursor in _unfinished(peeks[n]):
            out[n] = spliced(out[n], path, list(_rest(client, request, owner, owner_id, str(path[-1]), cursor)))
    counted = {"orders_with_refunds": len(wanting), "orders_with_longer_lists": len(rest)}
    for name, number in counted.items():
        if number:
            request.notes[name] = request.notes.get(name, 0) + number
    return out


def _whole(client: Client, request: Request, ids: list[str]) -> list[bytes]:
    variables = {f"id{n}": one for n, one in enumerate(ids)}
    answer = _ask(client, queries.whole_orders(len(ids)), variables)
    found = answer.decode(_WholeAnswer).data
    orders = [found[f"o{n}"] for n in range(len(ids))]
    gone = [one for one, order in zip(ids, orders, strict=True) if bytes(order) == b"null"]
    if gone:
        raise _fault(request, "shift", f"deleted while the list was read: {', '.join(gone)}")
    return [bytes(order) for order in orders]


class _WholeAnswer(msgspec.Struct):
    data: dict[str, Raw]


def _unfinished(order: _Order) -> Iterator[tuple[tuple[str | int, ...], str, str, str]]:
    """(path in the payload, order or refund, its id, cursor) of each connection that goes on."""
    owners: list[tuple[tuple[str | int, ...], str, _Order | _Refund]] = [((), "order", order)]
    owners += [(("refunds", n), "refund", refund) for n, refund in enumerate(order.refunds)]
    for path, kind, owner in owners:
        for name in queries.NESTED[kind]:
            found: _Connection | None = getattr(owner, name)
            if found is not None and found.pageInfo.hasNextPage:
                yield (*path, name), kind, owner.id, found.pageInfo.endCursor or ""


class _Owner(msgspec.Struct):
    rest: _RestPage


class _OwnerData(msgspec.Struct):
    owner: _Owner | None


class _RestAnswer(msgspec.Struct):
    data: _OwnerData


def _rest(client: Client, request: Request, owner: str, owner_id: str, name: str, cursor: str) -> Iterator[bytes]:
    """The nodes of a connection after `cursor`."""
    seen = {cursor}
    while True:
        variables = {"id": owner_id, "first": queries.REST_PER_PAGE, "after": cursor}
        found = _ask(client, queries.rest_of(owner, name), variables).decode(_RestAnswer).data.owner
        if found is None:
            raise _fault(request, "shift", f"{owner_id} was deleted while its {name} were read")
        yield from (bytes(node) for node in found.rest.nodes)
        if not found.rest.pageInfo.hasNextPage:
            return
        cursor = found.rest.pageInfo.endCursor or ""
        if cursor in seen:
            raise _fault(request, "shift", f"{owner_id}: the cursor of its {name} doesn't move")
        seen.add(cursor)


def spliced(payload: bytes, path: Sequence[str | int], nodes: Iterable[bytes]) -> bytes:
    """The payload with nodes added to the connection at `path`, which then ends; all other values keep their bytes."""
    if not path:
        found = _object.decode(payload)
        own = msgspec.json.decode(found["nodes"], type=list[Raw])
        found["nodes"] = Raw(b"[" + b",".join([*(bytes(one) for one in own), *nodes]) + b"]")
        found["pageInfo"] = Raw(_END)
        return msgspec.json.encode(found)
    first, rest = path[0], path[1:]
    if isinstance(first, int):
        items = msgspec.json.decode(payload, type=list[Raw])
        items[first] = Raw(spliced(bytes(items[first]), rest, nodes))
        return msgspec.json.encode(items)
    members = _object.decode(payload)
    members[first] = Raw(spliced(bytes(members[first]), rest, nodes))
    return msgspec.json.encode(members)


# bulk operations ----------------------------------------------------------------------------------


class _UserError(msgspec.Struct):
    message: str
    code: str | None = None


class _Run(msgspec.Struct):
    bulkOperation: dict[str, Any] | None  # noqa: N815
    userErrors: list[_UserError]  # noqa: N815


class _RunData(msgspec.Struct):
    bulkOperationRunQuery: _Run  # noqa: N815


class _RunAnswer(msgspec.Struct):
    data: _RunData


class _StateData(msgspec.Struct):
    bulkOperation: dict[str, Any] | None  # noqa: N815


class _StateAnswer(msgspec.Struct):
    data: _StateData


def _started(client: Client, query: str) -> dict[str, Any] | None:
    """A new operation; None while another one is under way."""
    answer = _ask(client, queries.BULK_RUN, {"query": query})
    run = answer.decode(_RunAnswer).data.bulkOperationRunQuery
    if any(error.code in ("OPERATION_IN_PROGRESS", "LIMIT_REACHED") for error in run.userErrors):
        return None
    if run.userErrors or run.bulkOperation is None:
        why = "; ".join(error.message for error in run.userErrors)
        raise answer.fault(RequestRejected, f"bulk query refused: {why}")
    return run.bulkOperation


def _state(client: Client, operation: str) -> dict[str, Any]:
    answer = _ask(client, queries.BULK_STATE, {"id": operation})
    found = answer.decode(_StateAnswer).data.bulkOperation
    if found is None:
        raise answer.fault(RequestRejected, f"Shopify doesn't know the bulk operation {operation}")
    return found


def _download(request: Request, url: str) -> bytes:
    """The file at its signed address, which is another host's: a client of its own, without our key."""
    parsed = urlsplit(url)
    with Client(request.connection, f"{parsed.scheme}://{parsed.netloc}", timeout=(5, 120)) as client:
        return client.get(url).json_bytes


def reassembled(file: bytes) -> list[bytes]:
    """Orders of a JSONL file in the shape of the paged ones: children go into their order's lists, in file order."""
    orders: dict[str, bytes] = {}
    children: dict[str, dict[str, list[bytes]]] = {}
    for text in file.splitlines():
        if not text:
            continue
        line = _line.decode(text)
        if line.parent is None:
            one = str(line.id)
            orders[one] = text.strip()
            children.setdefault(one, {"LineItem": [], "ShippingLine": []})
        else:
            children.setdefault(line.parent, {"LineItem": [], "ShippingLine": []})[line.kind].append(text)
    lost = children.keys() - orders.keys()
    if lost:
        raise ValueError(f"the bulk file has lines of orders that aren't in it: {sorted(lost)[:3]}")
    return [
        b'%s,"lineItems":%s,"shippingLines":%s}'
        % (text[:-1], _as_connection(children[one]["LineItem"]), _as_connection(children[one]["ShippingLine"]))
        for one, text in orders.items()
    ]


def _as_connection(nodes: list[bytes]) -> bytes:
    return b'{"pageInfo":%s,"nodes":[%s]}' % (_END, b",".join(nodes))


# Shopify Payments ---------------------------------------------------------------------------------


class _Account(msgspec.Struct):
    shopifyPaymentsAccount: Raw  # noqa: N815


class _AccountAnswer(msgspec.Struct):
    data: _Account


def _has_account(body: bytes) -> bool:
    found = msgspec.json.decode(body, type=_AccountAnswer).data.shopifyPaymentsAccount
    return bytes(found) != b"null"


@dataclass(frozen=True)
class AccountConnection(GraphQLConnection):
    """A connection of shopifyPaymentsAccount; empty where the shop has no such account."""

    def read(self, response: Response, number: int, before: Page | None, guard: Guard) -> Page:
        if not _has_account(response.json_bytes):
            return Page(number, [], response.json_bytes, False)
        return super().read(response, number, before, guard)


@dataclass(frozen=True)
class PaymentsList(HttpList):
    """A list of Shopify Payments; a shop without it is noted and has none."""

    path: str = PATH
    page: GraphQLConnection = field(default_factory=lambda: AccountConnection(""))

    def __call__(self, request: Request) -> Iterator[Sequence[bytes]]:
        """Pages of the list."""
        listing = self.listing(request)
        for page in listing:
            if not _has_account(page.raw):
                request.notes["skipped"] = "this shop has no Shopify Payments account"
            yield [bytes(item) for item in page.items]
        note(request, listing)


# What a 200 may really be -------------------------------------------------------------------------


class Cause(msgspec.Struct):
    message: str = ""
    path: list[str | int] = msgspec.field(default_factory=list)
    extensions: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def code(self) -> str:
        return str(self.extensions.get("code", ""))


class _Status(msgspec.Struct):
    currentlyAvailable: float  # noqa: N815
    restoreRate: float  # noqa: N815
    maximumAvailable: float = 0  # noqa: N815


class _Cost(msgspec.Struct):
    requestedQueryCost: float  # noqa: N815
    throttleStatus: _Status  # noqa: N815


class _Extensions(msgspec.Struct):
    cost: _Cost | None = None
    search: list[dict[str, Any]] = msgspec.field(default_factory=list)


class Envelope(msgspec.Struct):
    """An answer without its data."""

    errors: list[Cause] | str = msgspec.field(default_factory=list)
    extensions: _Extensions = msgspec.field(default_factory=_Extensions)


_envelope = msgspec.json.Decoder(Envelope)


def envelope(response: Response) -> Envelope | None:
    """None where the body is no GraphQL answer; whoever decodes it will say so."""
    try:
        return _envelope.decode(response.json_bytes)
    except msgspec.DecodeError:
        return None
