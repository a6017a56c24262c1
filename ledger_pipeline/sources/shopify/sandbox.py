"""The sandbox's Shopify Admin: GraphQL with costs and a leaky bucket, search syntax, cursors, bulk operations.

Lists are walked by local day, so that a shop with 100,000 orders a day answers one window without making the others.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
from graphql import GraphQLError, build_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ledger_pipeline.sandbox.company import CUSTOMERS, customer_id
from ledger_pipeline.sandbox.company.facts import PROCESSOR_OF
from ledger_pipeline.sandbox.company.ids import order_id as order_number
from ledger_pipeline.sandbox.company.ids import read_shopify_id
from ledger_pipeline.sandbox.events import Dispute, Order, Payout, ProcessorTransaction
from ledger_pipeline.sandbox.graphql import (
    CostModel,
    Engine,
    Page,
    QueryError,
    check_sizes,
    cursor_of,
    place_of,
    project,
    slice_of,
)
from ledger_pipeline.sandbox.wire import Clock, Site, days_between, fault_of, json_response, local_day, opaque, zone_of

from . import sandbox_shapes as shapes
from .sandbox_bulk import BulkOperations
from .sandbox_schema import sdl
from .sandbox_search import Search, parse

if TYPE_CHECKING:
    from ledger_pipeline.sandbox.company import Company

API_VERSION = "2026-10"
MUTATION_COST = 10
DOC = "https://shopify.dev/api/usage/"
SETTLED_DAYS = 45  # after which nothing of a day changes any more
PAYOUT_BACK_DAYS = 10  # how far back a payout's members may lie

Args = dict[str, Any]
Row = tuple[Any, int, Any]  # (sort value, number, fact), ascending within a day

ORDER_FIELDS = {
    "id": "number", "name": "text", "created_at": "time", "updated_at": "time", "processed_at": "time", "test": "flag",
    "financial_status": "text", "customer_id": "number", "source_name": "text", "status": "text", "currency": "text",
}  # fmt: skip
TRANSACTION_FIELDS = {
    "id": "number", "processed_at": "time", "payments_transfer_id": "number", "payout_status": "text",
    "payout_date": "time", "available_on": "time", "currency": "text", "transaction_type": "text",
    "payment_method_name": "text", "credit_card_last4": "text",
}  # fmt: skip
PAYOUT_FIELDS = {"id": "number", "issued_at": "time", "status": "text", "currency": "text"}
DISPUTE_FIELDS = {"id": "number", "initiated_at": "time", "status": "text"}
ORDER_SORTS = {
    "CREATED_AT": "created_at",
    "PROCESSED_AT": "processed_at",
    "UPDATED_AT": "updated_at",
    "ID": "created_at",
}


def access_token(connection: str) -> str:
    return f"shpat_sandbox_{connection}"


def refusal(kind: str, retry_after: float) -> Response:
    """Shopify's own answer to a planned fault: 429, 500, 503 or expired_token."""
    if kind == "expired_token":
        return unauthorized()
    if kind == "429":
        words = "Exceeded 2 calls per second for api client. Reduce request rates to resume uninterrupted service."
        return json_response({"errors": words}, 429, {"Retry-After": f"{retry_after:.1f}"})
    words = "Internal Server Error" if kind == "500" else "Service Unavailable"
    headers = {"Retry-After": f"{retry_after:.1f}"} if kind == "503" else None
    return json_response({"errors": words}, int(kind), headers)


def unauthorized() -> Response:
    return json_response(
        {"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"}, 401
    )


@cache
def engine() -> Engine:
    return Engine(build_schema(sdl()))


class Bucket:
    """The leaky bucket of calculated costs, in real seconds."""

    def __init__(self, size: float, restore_rate: float) -> None:
        self.size, self.restore_rate = size, restore_rate
        self._left, self._at = size, time.monotonic()

    def left(self) -> float:
        now = time.monotonic()
        self._left = min(self.size, self._left + (now - self._at) * self.restore_rate)
        self._at = now
        return self._left

    def take(self, cost: float) -> bool:
        if self.left() < cost:
            return False
        self._left -= cost
        return True

    def give_back(self, cost: float) -> None:
        self._left = min(self.size, self._left + cost)

    def status(self) -> dict[str, float]:
        return {
            "maximumAvailable": float(self.size),
            "currentlyAvailable": int(self.left()),
            "restoreRate": float(self.restore_rate),
        }


class Walk:
    """A list that lies in days: each day's rows are ascending, and days follow each other."""

    def __init__(self, first: date, last: date, rows: Callable[[date], Sequence[Row]], zone: ZoneInfo) -> None:
        self.first, self.last, self.rows, self.zone = first, last, rows, zone

    def ascending(self, after: tuple[Any, int] | None) -> Iterator[Row]:
        first = self.first if after is None else max(self.first, local_day(after[0], self.zone))
        for day in days_between(first, self.last):
            rows = self.rows(day)
            start = 0 if after is None else bisect_right(rows, after, key=_key)
            yield from rows[start:]

    def descending(self, before: tuple[Any, int] | None) -> Iterator[Row]:
        last = self.last if before is None else min(self.last, local_day(before[0], self.zone))
        for day in days_between(self.first, last, newest_first=True):
            rows = self.rows(day)
            stop = len(rows) if before is None else bisect_left(rows, before, key=_key)
            yield from reversed(rows[:stop])

    def page(self, args: Args, is_wanted: Callable[[Row], bool]) -> tuple[list[Row], bool]:
        """The rows that first/after or last/before ask for, in the list's order, and whether more lie beyond them."""
        is_forward = args.get("first") is not None
        given = args.get("after") if is_forward else args.get("before")
        edge = None if not given else read_cursor(given)
        is_ascending = bool(args.get("reverse")) != is_forward
        count = args["first"] if is_forward else args["last"]
        found = []
        for row in self.ascending(edge) if is_ascending else self.descending(edge):
            if is_wanted(row):
                found.append(row)
                if len(found) > count:
                    break
        has_more = len(found) > count
        rows = found[:count]
        return (rows if is_forward else rows[::-1]), has_more


def _key(row: Row) -> tuple[Any, int]:
    return row[0], row[1]


def read_cursor(text: str) -> tuple[Any, int]:
    place = place_of(text)
    try:
        return datetime.fromisoformat(place[0]), int(place[1])
    except (IndexError, TypeError, ValueError) as error:
        raise QueryError(f"Invalid cursor for current pagination sort: {text!r}.") from error


def row_cursor(row: Row, *more: int) -> str:
    return cursor_of(row[0].isoformat(), row[1], *more)


class Shop:
    """One shop of the company as of the clock: the GraphQL root's values."""

    def __init__(self, company: Company, clock: Clock, connection: str, site: Site) -> None:
        self.company, self.clock, self.connection, self.site = company, clock, connection, site
        self.info = company.connections[connection]
        self.zone = zone_of(company, connection)
        self.has_payments = connection in PROCESSOR_OF.values()
        self.fault = ""
        self.warnings: list[dict[str, Any]] = []
        self._rows: dict[tuple[str, date, datetime | None], list[Row]] = {}
        self._sums: dict[date, Counter[str]] = {}
        self.bulk = BulkOperations(self, engine())

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def today(self) -> date:
        return local_day(self.now, self.zone)

    def frozen(self) -> Shop:
        """The same shop with the clock stopped now, for work that takes longer than one request."""
        return Shop(self.company, Clock(self.now), self.connection, self.site)

    def root(self) -> dict[str, Any]:
        """The query root: constants and, for what takes arguments, callables."""
        return {
            "order": lambda args: self.node(args, "Order"),
            "refund": lambda args: self.node(args, "Refund"),
            "node": self.node,
            "orders": self.orders,
            "ordersCount": self.orders_count,
            "customer": lambda args: self.node(args, "Customer"),
            "customers": self.customers,
            "shop": self.shop(),
            "shopifyPaymentsAccount": self.payments_account if self.has_payments else None,
            "bulkOperation": lambda args: self.bulk.get(args["id"]),
            "bulkOperations": lambda args: slice_of(self.bulk.list(args.get("query")), args),
            "currentBulkOperation": lambda _args: self.bulk.current(),
        }

    def mutations(self, base_url: str) -> dict[str, Any]:
        return {
            "bulkOperationRunQuery": lambda args: self.bulk.run(args["query"], args["groupObjects"], base_url),
            "bulkOperationCancel": lambda args: self.bulk.cancel(args["id"]),
        }

    # Orders.

    def _cached(self, name: str, day: date, make: Callable[[], list[Row]]) -> list[Row]:
        """A day's rows as of now, for the last few (list, day, clock); an old day's do not change any more."""
        key = (name, day, self.now if (self.today() - day).days <= SETTLED_DAYS else None)
        rows = self._rows.pop(key, None)
        if rows is None:
            rows = make()
            while len(self._rows) >= 12:
                self._rows.pop(next(iter(self._rows)))
        self._rows[key] = rows
        return rows

    def created_rows(self, day: date) -> list[Row]:
        def make() -> list[Row]:
            now = self.now
            return [(one.at, one.order_id, one) for one in self.company.orders(self.connection, day) if one.at <= now]

        return self._cached("created", day, lambda: sorted(make(), key=_key))

    def updated_rows(self, day: date) -> list[Row]:
        """The orders whose last change up to now lies on `day`."""

        def make() -> list[Row]:
            now = self.now
            rows = []
            for one in self.company.orders_touched(self.connection, day):
                if one.at <= now:
                    changed_at = shapes.updated_at(one, now)
                    if local_day(changed_at, self.zone) == day:
                        rows.append((changed_at, one.order_id, one))
            return sorted(rows, key=_key)

        return self._cached("updated", day, make)

    def order_walk(self, search: Search, sort: str) -> Walk:
        """Raises QueryError for a sort key that the sandbox doesn't offer."""
        if sort not in ORDER_SORTS:
            raise QueryError(f"The sandbox sorts orders by {', '.join(ORDER_SORTS)}; not by {sort}")
        name = ORDER_SORTS[sort]
        names = ("created_at", "processed_at") if name != "updated_at" else ("updated_at",)
        first, last = self.company.start, self.today()
        for one in names:
            lower, upper = search.bounds(one)
            first = max(first, local_day(lower, self.zone)) if lower.year > 1 else first
            last = min(last, local_day(upper, self.zone)) if upper.year < 9999 else last
        return Walk(first, last, self.updated_rows if name == "updated_at" else self.created_rows, self.zone)

    def _search(self, text: str | None, fields: dict[str, str], path: str) -> Search:
        search = parse(text, fields, self.zone)
        if search.warnings:
            self.warnings.append({"path": [path], "query": text, "parsed": {}, "warnings": search.warnings})
        return search

    def _order_values(self, one: Order) -> Callable[[str], Any]:
        def value(name: str) -> Any:
            if name in ("created_at", "processed_at"):
                return one.at
            if name == "updated_at":
                return shapes.updated_at(one, self.now)
            if name in ("financial_status", "status"):
                shown = shapes.OrderShape(one, self.now).shape()
                return shown["displayFinancialStatus"].lower() if name == "financial_status" else _status(shown)
            return {
                "id": one.order_id, "name": one.name.lower(), "test": one.is_test, "customer_id": one.customer_id,
                "source_name": one.source_name.lower(), "currency": one.shop_currency.lower(),
            }[name]  # fmt: skip

        return value

    def orders(self, args: Args) -> Page:
        """The order that is planted to stand on two pages ends its page and opens the next one."""
        search = self._search(args.get("query"), ORDER_FIELDS, "orders")
        walk = self.order_walk(search, args["sortKey"])
        repeated = self._repeated(args)
        if repeated:
            args = args | {"first": args["first"] - 1}
        rows, has_more = walk.page(args, lambda row: search.is_met(self._order_values(row[2])))
        cursors = [row_cursor(row) for row in rows]
        for place, row in enumerate(rows):
            if row[2].fault == "duplicate_order" and args.get("first") is not None and not args.get("once"):
                rows, has_more = rows[: place + 1], True
                cursors = [*cursors[:place], row_cursor(row, 1)]
                break
        if repeated:
            rows, cursors = [repeated, *rows], [row_cursor(repeated), *cursors]
        if self.fault == "early_end":
            has_more = False
        nodes = [shapes.OrderShape(row[2], self.now).shape() for row in rows]
        return _page(nodes, cursors, has_more, args)

    def _repeated(self, args: Args) -> Row | None:
        """The order that the last page ended with and that this one repeats."""
        if not args.get("after") or args.get("first") is None:
            return None
        place = place_of(args["after"])
        if len(place) < 3:
            return None
        order = self.company.order(self.connection, int(place[1]))
        return None if order is None else (datetime.fromisoformat(place[0]), order.order_id, order)

    def orders_count(self, args: Args) -> dict[str, Any]:
        search = self._search(args.get("query"), ORDER_FIELDS, "ordersCount")
        is_by_update = any(term.name == "updated_at" for terms in search.alternatives for term in terms)
        walk = self.order_walk(search, "UPDATED_AT" if is_by_update else "CREATED_AT")
        limit = args.get("limit")
        count = 0
        for row in walk.ascending(None):
            count += search.is_met(self._order_values(row[2]))
            if limit is not None and count >= limit:
                break
        if self.fault == "stale_count":
            count = max(0, count - 1)
        is_capped = limit is not None and count >= limit
        return {"count": count, "precision": "AT_LEAST" if is_capped else "EXACT"}

    def customers(self, args: Args) -> Page:
        """Reference records; a `query` is ignored with a warning, as there is nothing to search."""
        self._search(args.get("query"), {}, "customers")
        numbers = range(CUSTOMERS)[:: -1 if args.get("reverse") else 1]
        ids = [{"id": shapes.gid("Customer", customer_id(self.connection, number))} for number in numbers]
        page = slice_of(ids, {**args, "reverse": False})
        page.nodes = [shapes.customer(int(one["id"].rpartition("/")[2])) for one in page.nodes]
        return page

    def node(self, args: Args, kind: str = "") -> dict[str, Any] | None:
        """The object of a gid, or None when there is none (yet)."""
        match = re.fullmatch(r"gid://shopify/(\w+)/(\d+)", args["id"])
        if match is None or (kind and match[1] != kind):
            raise QueryError([{"message": f"Invalid global id '{args['id']}'", "path": [kind.lower() or "node"]}])
        name, number = match[1], int(match[2])
        if name == "Order":
            order = self.company.order(self.connection, number)
            return shapes.OrderShape(order, self.now).shape() if order and order.at <= self.now else None
        if name == "Refund":
            return self._refund(number)
        if name == "Customer":
            is_known = 0 <= number - customer_id(self.connection, 0) < CUSTOMERS
            return shapes.customer(number) if is_known else None
        if name == "BulkOperation":
            return self.bulk.get(args["id"])
        return self._payments_node(name, str(number)) if self.has_payments else None

    def _refund(self, number: int) -> dict[str, Any] | None:
        place = read_shopify_id(self.connection, number)
        order = None
        if place is not None:
            order = self.company.order(self.connection, order_number(self.connection, place.day, place.index))
        refunds = shapes.OrderShape(order, self.now).shape()["refunds"] if order and order.at <= self.now else []
        return next((one for one in refunds if one["legacyResourceId"] == str(number)), None)

    def shop(self) -> dict[str, Any]:
        domain = f"harbour-pine-{self.connection.removeprefix('shopify_')}.myshopify.com"
        offset = self.now.astimezone(self.zone).strftime("%z")
        return {
            "__typename": "Shop",
            "id": shapes.gid("Shop", int(opaque(self.connection, length=10), 16)),
            "name": self.company.entities[self.info.entity].name,
            "currencyCode": self.info.currency,
            "email": "books@example.com",
            "ianaTimezone": str(self.zone),
            "timezoneOffset": offset,
            "myshopifyDomain": domain,
            "url": f"https://{domain}",
            "taxesIncluded": self.info.currency == "GBP",
            "plan": {"partnerDevelopment": True, "publicDisplayName": "Developer Preview", "shopifyPlus": False},
        }

    # Shopify Payments.

    def payments_account(self, _args: Args) -> dict[str, Any]:
        return {
            "__typename": "ShopifyPaymentsAccount",
            "id": shapes.gid("ShopifyPaymentsAccount", int(opaque(self.connection, "payments", length=8), 16)),
            "activated": True,
            "country": "GB",
            "defaultCurrency": self.info.currency,
            "balance": lambda _args: self.balance(),
            "balanceTransactions": self.balance_transactions,
            "payouts": self.payouts,
            "disputes": self.disputes,
        }

    def balance(self) -> list[dict[str, Any]]:
        sums: Counter[str] = Counter({self.info.currency: 0})
        now, today = self.now, self.today()
        for day in days_between(self.company.start, today):
            if day not in self._sums or day == today:
                moved: Counter[str] = Counter()
                for one in self.company.processor_transactions(self.connection, day):
                    if one.at <= now:
                        moved[one.currency] += one.amount - one.fee
                if day == today:
                    sums.update(moved)
                    continue
                self._sums[day] = moved
            sums.update(self._sums[day])
        return [shapes.money(amount, currency) for currency, amount in sorted(sums.items())]

    def _days(self, name: str, search: Search, rows: Callable[[date], list[Row]]) -> Walk:
        first, last = self.company.start, self.today()
        lower, upper = search.bounds(name)
        first = max(first, local_day(lower, self.zone)) if lower.year > 1 else first
        last = min(last, local_day(upper, self.zone)) if upper.year < 9999 else last
        return Walk(first, last, rows, self.zone)

    def _sorted_by(self, args: Args, offered: tuple[str, ...]) -> None:
        if args.get("sortKey", offered[0]) not in offered:
            raise QueryError(f"The sandbox sorts by {', '.join(offered)}; not by {args['sortKey']}")

    def transaction_rows(self, day: date) -> list[Row]:
        now = self.now
        found = self.company.processor_transactions(self.connection, day)
        return sorted(((one.at, int(one.txn_id), one) for one in found if one.at <= now), key=_key)

    def payout_of(self, one: ProcessorTransaction) -> Payout | None:
        """The payout that carries the transaction, once it has been made."""
        found = self.company.find(self.connection, one.payout_id) if one.payout_id else None
        return found if isinstance(found, Payout) and found.at <= self.now else None

    def _order_of(self, number: int | None) -> Callable[[], Order | None]:
        return lambda: None if number is None else self.company.order(self.connection, number)

    def _transaction_values(self, one: ProcessorTransaction) -> Callable[[str], Any]:
        def value(name: str) -> Any:
            payout = self.payout_of(one) if name.startswith("pay") and name != "payment_method_name" else None
            return {
                "id": int(one.txn_id),
                "processed_at": one.at,
                "payments_transfer_id": int(payout.payout_id) if payout else None,
                "payout_status": (shapes.payout_status(payout, self.now) if payout else "PENDING").lower(),
                "payout_date": payout.at if payout else None,
                "available_on": one.available_at,
                "currency": one.currency.lower(),
                "transaction_type": shapes.TRANSACTION_TYPES[one.kind][0].lower(),
                "payment_method_name": "visa" if one.kind in ("charge", "refund") else None,
                "credit_card_last4": None,
            }[name]

        return value

    def balance_transactions(self, args: Args) -> Page:
        self._sorted_by(args, ("PROCESSED_AT", "ID"))
        search = self._search(args.get("query"), TRANSACTION_FIELDS, "balanceTransactions")
        walk = self._days(
            "processed_at", search, lambda day: self._cached("transactions", day, lambda: self.transaction_rows(day))
        )
        payout_id = search.only("payments_transfer_id")
        if payout_id is not None:
            self._narrow(walk, str(payout_id))
        is_hidden = args.get("hideTransfers")

        def is_wanted(row: Row) -> bool:
            return not (is_hidden and row[2].kind == "payout") and search.is_met(self._transaction_values(row[2]))

        rows, has_more = walk.page(args, is_wanted)
        nodes = [self._transaction(row[2]) for row in rows]
        return _page(nodes, [row_cursor(row) for row in rows], has_more, args)

    def _transaction(self, one: ProcessorTransaction) -> dict[str, Any]:
        return shapes.balance_transaction(one, self.payout_of(one), self._order_of(one.order_id), self.now)

    def _narrow(self, walk: Walk, payout_id: str) -> None:
        """To the days in which a payout's transactions can lie."""
        payout = self.company.find(self.connection, payout_id)
        if isinstance(payout, Payout):
            day = local_day(payout.at, self.zone)
            walk.first = max(walk.first, day - timedelta(days=PAYOUT_BACK_DAYS))
            walk.last = min(walk.last, day)

    def payouts(self, args: Args) -> Page:
        self._sorted_by(args, ("ISSUED_AT", "ID"))
        search = self._search(args.get("query"), PAYOUT_FIELDS, "payouts")

        def rows_of(day: date) -> list[Row]:
            found = self.company.payouts(self.connection, day)
            return sorted(((one.at, int(one.payout_id), one) for one in found if one.at <= self.now), key=_key)

        def is_wanted(row: Row) -> bool:
            one: Payout = row[2]
            values = {
                "id": int(one.payout_id), "issued_at": one.at, "currency": one.currency.lower(),
                "status": shapes.payout_status(one, self.now).lower(),
            }  # fmt: skip
            wanted = args.get("transactionType")
            return wanted in (None, "DEPOSIT" if one.amount >= 0 else "WITHDRAWAL") and search.is_met(
                values.__getitem__
            )

        rows, has_more = self._days("issued_at", search, rows_of).page(args, is_wanted)
        nodes = [self._payout(row[2]) for row in rows]
        return _page(nodes, [row_cursor(row) for row in rows], has_more, args)

    def _payout(self, one: Payout) -> dict[str, Any]:
        def members() -> list[ProcessorTransaction]:
            day, wanted = local_day(one.at, self.zone), set(one.member_ids)
            days = days_between(max(self.company.start, day - timedelta(days=PAYOUT_BACK_DAYS)), day)
            return [row[2] for back in days for row in self.transaction_rows(back) if row[2].txn_id in wanted]

        return shapes.payout_shape(one, members, self.now)

    def disputes(self, args: Args) -> Page:
        search = self._search(args.get("query"), DISPUTE_FIELDS, "disputes")

        def rows_of(day: date) -> list[Row]:
            found = self.company.disputes(self.connection, day)
            return sorted(((one.at, int(one.dispute_id), one) for one in found if one.at <= self.now), key=_key)

        def is_wanted(row: Row) -> bool:
            shown = self._dispute(row[2])
            values = {"id": row[1], "initiated_at": row[0], "status": shown["status"].lower()}
            return search.is_met(values.__getitem__)

        rows, has_more = self._days("initiated_at", search, rows_of).page(args, is_wanted)
        nodes = [self._dispute(row[2]) for row in rows]
        return _page(nodes, [row_cursor(row) for row in rows], has_more, args)

    def _dispute(self, one: Dispute) -> dict[str, Any]:
        return shapes.dispute_shape(one, self._order_of(one.order_id), self.now)

    def _payments_node(self, name: str, number: str) -> dict[str, Any] | None:
        one = self.company.find(self.connection, number)
        if one is None or one.at > self.now:
            return None
        if name == "ShopifyPaymentsPayout" and isinstance(one, Payout):
            return self._payout(one)
        if name == "ShopifyPaymentsDispute" and isinstance(one, Dispute):
            return self._dispute(one)
        is_transaction = isinstance(one, ProcessorTransaction) and one.txn_id == number
        return self._transaction(one) if name == "ShopifyPaymentsBalanceTransaction" and is_transaction else None  # type: ignore[arg-type]


def _status(shown: dict[str, Any]) -> str:
    return "cancelled" if shown["cancelledAt"] else "closed" if shown["closed"] else "open"


def _page(nodes: list[dict[str, Any]], cursors: list[str], has_more: bool, args: Args) -> Page:
    is_forward = args.get("first") is not None
    return Page(
        nodes,
        cursors,
        has_more if is_forward else bool(args.get("before")),
        bool(args.get("after")) if is_forward else has_more,
    )


# HTTP.


class Api:
    """Answers GraphQL requests: binds, prices, throttles, projects."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        free = {"PageInfo"} | ({"MoneyBag", "MoneyV2"} if shop.site.is_money_free else set())
        self.cost = CostModel(free=frozenset(free))
        self.bucket = Bucket(shop.site.bucket, shop.site.restore_rate)

    def answer(self, body: dict[str, Any], base_url: str) -> dict[str, Any]:
        """The answer's JSON; errors in a query are part of it, with HTTP 200."""
        try:
            is_mutation, fields = engine().bind(
                str(body.get("query") or ""), body.get("variables") or {}, body.get("operationName")
            )
            check_sizes(fields)
        except QueryError as refused:
            return {"errors": refused.errors}
        requested = MUTATION_COST if is_mutation else self.cost.requested(fields)
        if requested > self.shop.site.max_cost:
            return {"errors": [_too_costly(requested, self.shop.site.max_cost)]}
        if not self.bucket.take(requested):
            error = {"message": "Throttled", "extensions": {"code": "THROTTLED", "documentation": DOC + "rate-limits"}}
            return {"errors": [error], "extensions": {"cost": self._cost(requested, None)}}
        self.shop.warnings = []
        source = self.shop.mutations(base_url) if is_mutation else self.shop.root()
        try:
            data: dict[str, Any] | None = project(source, fields)
            errors = {}
        except QueryError as refused:
            data, errors = None, {"errors": refused.errors}
        actual = MUTATION_COST if is_mutation else min(requested, self.cost.actual(fields, data))
        self.bucket.give_back(requested - actual)
        extensions: dict[str, Any] = {"cost": self._cost(requested, actual)}
        if self.shop.warnings:
            extensions["search"] = self.shop.warnings
        return {**errors, "data": data, "extensions": extensions}

    def _cost(self, requested: int, actual: int | None) -> dict[str, Any]:
        return {"requestedQueryCost": requested, "actualQueryCost": actual, "throttleStatus": self.bucket.status()}


def _too_costly(cost: int, limit: int) -> dict[str, Any]:
    message = (
        f"Query cost is {cost}, which exceeds the single query max cost limit ({limit}).\n\n"
        "See https://shopify.dev/concepts/about-apis/rate-limits for more information on how the\ncost of a query is "
        "calculated.\n\nTo query larger amounts of data with fewer limits, bulk operations should be used instead.\n"
        "See https://shopify.dev/api/usage/bulk-operations/queries for usage details.\n"
    )
    return {
        "message": message,
        "extensions": {
            "code": "MAX_COST_EXCEEDED",
            "cost": cost,
            "maxCost": limit,
            "documentation": DOC + "rate-limits",
        },
    }


def routes(company: Company, clock: Clock, connection: str, site: Site) -> list[Route]:
    """The routes below /{connection}; the token is `access_token(connection)`."""
    shop = Shop(company, clock, connection, site)
    api = Api(shop)
    counter = iter(range(1, 1 << 62))

    async def graphql(request: Request) -> Response:
        if request.headers.get("x-shopify-access-token") != access_token(connection):
            return unauthorized()
        headers = {"X-Request-Id": opaque(connection, next(counter), length=32), "X-Shopify-API-Version": API_VERSION}
        try:
            body = msgspec.json.decode(await request.body(), type=dict[str, Any])
        except msgspec.DecodeError:
            return json_response({"errors": {"query": "Required parameter missing or invalid"}}, 400, headers)
        shop.fault = fault_of(request)
        base_url = f"{request.url.scheme}://{request.url.netloc}/{connection}"
        try:
            return json_response(api.answer(body, base_url), headers=headers)
        except GraphQLError as error:
            return json_response({"errors": [{"message": error.message}]}, headers=headers)

    async def bulk_file(request: Request) -> Response:
        return shop.bulk.file(request.path_params["name"], request.query_params.get("signature", ""))

    async def unknown(_: Request) -> Response:
        return json_response({"errors": "Not Found"}, 404)

    return [
        Route("/admin/api/{version}/graphql.json", graphql, methods=["POST"]),
        Route("/bulk/{name}", bulk_file, methods=["GET"]),
        Route("/{rest:path}", unknown, methods=["GET", "POST", "PUT", "DELETE"]),
    ]
