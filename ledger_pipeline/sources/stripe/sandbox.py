"""The sandbox's Stripe: lists newest first with starting_after, objects as of API 2026-10-28, errors in Stripe's words.

Objects are rendered from the company's facts as of the clock; shapes are checked against the published OpenAPI schemas.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ledger_pipeline.sandbox.events import Dispute, Payout, ProcessorTransaction
from ledger_pipeline.sandbox.wire import (
    Clock,
    DayCache,
    Site,
    days_between,
    fault_of,
    json_response,
    local_day,
    opaque,
    unix,
    zone_of,
)

if TYPE_CHECKING:
    from ledger_pipeline.sandbox.company import Company

API_VERSION = "2026-10-28.endive"
MAX_LIMIT = 100
EVENT_DAYS = 30
DISPUTE_DAYS = 120  # how far back a decided dispute may have been opened
PAYOUT_DAYS = 14
DOC = "https://stripe.com/docs/error-codes/"

Row = tuple[datetime, str, Any]
_TYPES = {"dispute": "adjustment", "dispute_reversal": "adjustment", "fee": "stripe_fee"}
_REPORTING = {"payout_failure": "payout_reversal", "refund_failure": "refund_failure"}
_RANGES = {"gte": "__ge__", "gt": "__gt__", "lte": "__le__", "lt": "__lt__"}


def api_key(connection: str) -> str:
    return f"sk_test_sandbox_{connection}"


class StripeError(Exception):
    """Answered with `status` and Stripe's error object."""

    def __init__(self, status: int, message: str, **fields: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": "invalid_request_error", **fields}}


def missing(noun: str, object_id: str, param: str = "id") -> StripeError:
    return StripeError(
        404 if param == "id" else 400,
        f"No such {noun}: '{object_id}'",
        code="resource_missing",
        param=param,
        doc_url=DOC + "resource-missing",
    )


def refusal(kind: str, retry_after: float) -> Response:
    """Stripe's own answer to a planned fault: 429, 500, 503 or expired_token."""
    if kind == "expired_token":
        error = {
            "code": "api_key_expired",
            "message": "Expired API Key provided: sk_test_*****",
            "type": "invalid_request_error",
        }
        return json_response({"error": error | {"doc_url": DOC + "api-key-expired"}}, 401)
    if kind == "429":
        error = {
            "code": "rate_limit",
            "doc_url": DOC + "rate-limit",
            "message": "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
            "type": "invalid_request_error",
        }
        headers = {"Stripe-Rate-Limited-Reason": "global-rate", "Stripe-Should-Retry": "true"}
        return json_response({"error": error}, 429, headers | {"Retry-After": f"{retry_after:g}"})
    error = {"message": "An unknown error occurred", "type": "api_error"}
    return json_response({"error": error}, int(kind), {"Stripe-Should-Retry": "true"})


@dataclass(frozen=True)
class Resource:
    """One list of the API: what a day of it holds, how an object is rendered, and which filters exist."""

    noun: str
    path: str
    rows: Callable[[date], list[Row]]
    render: Callable[[Any, datetime], dict[str, Any]]
    ranges: tuple[str, ...] = ("created",)
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    event_id: str
    name: str
    at: datetime
    subject: Payout | Dispute


@dataclass
class Query:
    """A list request's parameters, read and checked."""

    limit: int
    starting_after: str | None
    ending_before: str | None
    ranges: dict[str, dict[str, int]]
    filters: dict[str, str]
    types: tuple[str, ...]
    expand: tuple[str, ...]

    def is_in(self, name: str, value: int) -> bool:
        return all(getattr(value, _RANGES[op])(limit) for op, limit in self.ranges.get(name, {}).items())


def read_query(request: Request, resource: Resource) -> Query:
    """Raises StripeError for an unknown parameter, a limit over 100 or what is no integer, in Stripe's words."""
    plain: dict[str, str] = {}
    ranges: dict[str, dict[str, int]] = {}
    lists: dict[str, list[str]] = {"types": [], "expand": []}
    for key, value in request.query_params.multi_items():
        name, _, inner = key.partition("[")
        inner = inner.removesuffix("]")
        if name in resource.ranges:
            for op in ("gte", "lte") if not inner else (inner,):
                if op not in _RANGES:
                    raise StripeError(400, f"Received unknown parameter: {key}", code="parameter_unknown", param=key)
                ranges.setdefault(name, {})[op] = _integer(key, value)
        elif name == "expand" or (name == "types" and resource.noun == "event"):
            lists[name].append(value)
        elif name in ("limit", "starting_after", "ending_before", *resource.filters):
            plain[name] = value
        else:
            raise StripeError(
                400,
                f"Received unknown parameter: {name}",
                code="parameter_unknown",
                param=name,
                doc_url=DOC + "parameter-unknown",
            )
    limit = _integer("limit", plain.pop("limit", "10"))
    if limit > MAX_LIMIT:
        raise StripeError(
            400, f"This value must be less than or equal to 100 (it currently is '{limit}').", param="limit"
        )
    if limit < 1:
        raise StripeError(
            400, f"This value must be greater than or equal to 1 (it currently is '{limit}').", param="limit"
        )
    after, before = plain.pop("starting_after", None), plain.pop("ending_before", None)
    if after and before:
        raise StripeError(400, "You may only specify one of these parameters: starting_after, ending_before.")
    return Query(limit, after, before, ranges, plain, tuple(lists["types"]), tuple(lists["expand"]))


def _integer(name: str, value: str) -> int:
    if not re.fullmatch(r"-?\d+", value):
        raise StripeError(
            400,
            f"Invalid integer: {value}",
            code="parameter_invalid_integer",
            param=name,
            doc_url=DOC + "parameter-invalid-integer",
        )
    return int(value)


class Account:
    """One Stripe account of the company, as of the clock."""

    def __init__(self, company: Company, clock: Clock, connection: str, site: Site) -> None:
        self.company, self.clock, self.connection, self.site = company, clock, connection, site
        self.zone = zone_of(company, connection)
        self.account_id = "acct_1" + opaque(connection, length=15)
        self._transactions = DayCache(self._make_transactions)
        self._few: dict[tuple[str, date], list[Row]] = {}
        self._places: dict[str, Row] = {}
        self._carried: dict[str, list[Row]] = {}
        self._sums: dict[date, Counter[tuple[str, datetime]]] = {}
        resources = (
            Resource(
                "balance transaction",
                "balance_transactions",
                lambda day: self._transactions(connection, day),
                self.balance_transaction,
                filters=("payout", "type", "currency", "source"),
            ),
            Resource(
                "charge", "charges", lambda day: self._of_kind("charge", day), self.charge, filters=("payment_intent",)
            ),
            Resource("refund", "refunds", lambda day: self._of_kind("refund", day), self.refund, filters=("charge",)),
            Resource(
                "payout",
                "payouts",
                lambda day: self._rare("payout", day),
                self.payout,
                ranges=("created", "arrival_date"),
                filters=("status", "destination"),
            ),
            Resource("dispute", "disputes", lambda day: self._rare("dispute", day), self.dispute, filters=("charge",)),
            Resource("event", "events", self._events, self.event, filters=("type",)),
        )
        self.resources = {resource.path: resource for resource in resources}

    # Facts by day, each list oldest first.

    def _make_transactions(self, connection: str, day: date) -> list[Row]:
        return sorted(
            ((one.at, one.txn_id, one) for one in self.company.processor_transactions(connection, day)), key=_place
        )

    def _of_kind(self, kind: str, day: date) -> list[Row]:
        return sorted(
            ((at, one.source_id, one) for at, _, one in self._transactions(self.connection, day) if one.kind == kind),
            key=_place,
        )

    def _rare(self, kind: str, day: date) -> list[Row]:
        """Payouts or disputes of a day, which are few enough to keep."""
        rows = self._few.get((kind, day))
        if rows is None:
            if kind == "payout":
                rows = [(one.at, one.payout_id, one) for one in self.company.payouts(self.connection, day)]
            else:
                rows = [(one.at, one.dispute_id, one) for one in self.company.disputes(self.connection, day)]
            rows = self._few[kind, day] = sorted(rows, key=_place)
        return rows

    def _back(self, kind: str, day: date, days: int) -> Iterator[Any]:
        for earlier in days_between(max(self.company.start, day - timedelta(days=days)), day):
            yield from (one for _, _, one in self._rare(kind, earlier))

    def _events(self, day: date) -> list[Row]:
        """What happened to payouts and disputes on a day; an event that is delivered twice stands twice."""
        happened: list[tuple[str, datetime | None, Payout | Dispute]] = []
        for payout in self._back("payout", day, PAYOUT_DAYS):
            happened += [("payout.created", payout.at, payout), ("payout.failed", payout.failed_at, payout)]
            if payout.failed_at is None:
                happened.append(("payout.paid", payout.paid_at, payout))
                happened.append(("payout.reconciliation_completed", payout.paid_at, payout))
        for dispute in self._back("dispute", day, DISPUTE_DAYS):
            happened += [
                ("charge.dispute.created", dispute.at, dispute),
                ("charge.dispute.closed", dispute.decided_at, dispute),
            ]
        rows = []
        for name, at, subject in happened:
            if at is not None and local_day(at, self.zone) == day:
                subject_id = subject.payout_id if isinstance(subject, Payout) else subject.dispute_id
                event = Event("evt_1" + opaque(self.connection, name, subject_id, length=23), name, at, subject)
                rows += [(at, event.event_id, event)] * (2 if self._is_delivered_twice(event) else 1)
        return sorted(rows, key=_place)

    def _is_delivered_twice(self, event: Event) -> bool:
        subject_id = event.subject.payout_id if isinstance(event.subject, Payout) else event.subject.dispute_id
        day = local_day(event.at, self.zone)
        return event.name == "payout.failed" and any(
            one.kind == "duplicate_event" and (one.connection, one.source_id) == (self.connection, subject_id)
            for one in self.company.planted(day - timedelta(days=1), day)
        )

    # Lists.

    def page(self, request: Request, resource: Resource) -> dict[str, Any]:
        """One list answer: the newest visible objects, narrowed by the request's filters."""
        query = read_query(request, resource)
        now = self.clock.now()
        rows: list[Row] = []
        if fault_of(request) == "page_shift":
            rows += self._shifted(resource, now, query)
        wanted = query.limit + 1
        if query.ending_before:
            rows = [*self._before(resource, query, now, wanted)]
            has_more = len(rows) > query.limit
            rows = rows[: query.limit][::-1]
        else:
            for row in self._newest_first(resource, query, now):
                rows.append(row)
                if len(rows) == wanted:
                    break
            has_more = len(rows) > query.limit and fault_of(request) != "early_end"
            rows = rows[: query.limit]
        self._places = {row[1]: row for row in rows} | dict(list(self._places.items())[:5000])
        data = [self._expanded(resource.render(row[2], now), query.expand, "data.", now) for row in rows]
        return {"object": "list", "url": f"/v1/{resource.path}", "has_more": has_more, "data": data}

    def _newest_first(self, resource: Resource, query: Query, now: datetime) -> Iterator[Row]:
        first, last = self._span(resource, query, now)
        after = self._place_of(resource, query.starting_after, "starting_after") if query.starting_after else None
        if after:
            last = min(last, local_day(after[0], self.zone))
        by_day: Iterable[list[Row]] = (resource.rows(day) for day in days_between(first, last, newest_first=True))
        if "payout" in query.filters:
            by_day = [self._payout_rows(query.filters["payout"])]
        for rows in by_day:
            for row in reversed(rows):
                if (after is None or _place(row) < _place(after)) and self._is_wanted(resource, row, query, now):
                    yield row

    def _before(self, resource: Resource, query: Query, now: datetime, wanted: int) -> list[Row]:
        """The objects next before `ending_before` in the list, which are the next newer ones, oldest first."""
        first, last = self._span(resource, query, now)
        before = self._place_of(resource, str(query.ending_before), "ending_before")
        by_day: Iterable[list[Row]] = (
            resource.rows(day) for day in days_between(max(first, local_day(before[0], self.zone)), last)
        )
        if "payout" in query.filters:
            by_day = [self._payout_rows(query.filters["payout"])]
        newer = (row for rows in by_day for row in rows if _place(row) > _place(before))
        return list(islice((row for row in newer if self._is_wanted(resource, row, query, now)), wanted))

    def _span(self, resource: Resource, query: Query, now: datetime) -> tuple[date, date]:
        """The local days that can hold what the query wants."""
        first, last = self.company.start, local_day(now, self.zone)
        for op, limit in query.ranges.get("created", {}).items():
            day = local_day(datetime.fromtimestamp(limit, UTC), self.zone)
            first, last = (max(first, day), last) if op in ("gte", "gt") else (first, min(last, day))
        if resource.noun == "event":
            first = max(first, local_day(now - timedelta(days=EVENT_DAYS), self.zone))
        return first, last

    def _payout_rows(self, payout_id: str) -> list[Row]:
        """The transactions that a payout carries and the payout's own, oldest first; kept, as pages follow pages."""
        if payout_id in self._carried:
            return self._carried[payout_id]
        payout = self.company.find(self.connection, payout_id)
        if not isinstance(payout, Payout) or payout.at > self.clock.now():
            raise missing("payout", payout_id, "payout")
        rows = [
            row
            for day in self._payout_days(payout)
            for row in self._transactions(self.connection, day)
            if row[2].source_id == payout_id
        ]
        wanted = set(payout.member_ids)
        last = local_day(payout.at, self.zone)
        for day in days_between(self.company.start, last, newest_first=True):
            found = [row for row in self._transactions(self.connection, day) if row[1] in wanted]
            rows += found
            wanted.difference_update(row[1] for row in found)
            if not wanted:
                break
        if len(self._carried) > 7:
            self._carried.pop(next(iter(self._carried)))
        self._carried[payout_id] = sorted(rows, key=_place)
        return self._carried[payout_id]

    def _payout_days(self, payout: Payout) -> list[date]:
        """The days on which the payout's own transactions stand: when it left, and when it came back."""
        return sorted({local_day(at, self.zone) for at in (payout.at, payout.failed_at) if at is not None})

    def _is_wanted(self, resource: Resource, row: Row, query: Query, now: datetime) -> bool:
        at, _, one = row
        if at > now or not query.is_in("created", unix(at)):
            return False
        if query.types and not any(_is_type(pattern, one.name) for pattern in query.types):
            return False
        if resource.noun == "event" and (
            at < now - timedelta(days=EVENT_DAYS) or query.filters.get("type", one.name) != one.name
        ):
            return False
        shown = {name: value for name, value in query.filters.items() if name != "payout" and resource.noun != "event"}
        if not shown and "arrival_date" not in query.ranges:
            return True
        body = resource.render(one, now)
        return all(body.get(name) == value for name, value in shown.items()) and (
            "arrival_date" not in query.ranges or query.is_in("arrival_date", body["arrival_date"])
        )

    def _place_of(self, resource: Resource, object_id: str, param: str) -> Row:
        found = self._places.get(object_id) or self.look_up(resource, object_id)
        if found is None or found[0] > self.clock.now():
            raise missing(resource.noun, object_id, param)
        return found

    def look_up(self, resource: Resource, object_id: str) -> Row | None:
        """The row of an object, visible or not, from its id alone; events are searched."""
        if resource.noun == "event":
            days = days_between(self.company.start, local_day(self.clock.now(), self.zone))
            return next((row for day in days for row in resource.rows(day) if row[1] == object_id), None)
        one = self.company.find(self.connection, object_id)
        if isinstance(one, Payout):
            return (one.at, object_id, one) if resource.noun == "payout" else None
        if isinstance(one, Dispute):
            return (one.at, object_id, one) if resource.noun == "dispute" else None
        if one is None or resource.noun not in ("balance transaction", "charge", "refund"):
            return None
        is_right = one.txn_id == object_id if resource.noun == "balance transaction" else one.kind == resource.noun
        return (
            (one.at, object_id, one)
            if is_right and (one.txn_id == object_id) == (resource.noun == "balance transaction")
            else None
        )

    def _shifted(self, resource: Resource, now: datetime, query: Query) -> list[Row]:
        """A record that came in between two pages: it stands in front of the list, where cursors do not look."""
        if query.starting_after or query.ending_before:
            return []
        newest = next(self._newest_first(resource, query, now), None)
        if newest is None or not isinstance(newest[2], ProcessorTransaction):
            return []
        one = replace(newest[2], txn_id=f"{newest[2].txn_id[:-6]}Shift0", source_id=f"{newest[2].source_id[:-6]}Shift0")
        return [(now, one.txn_id if resource.path == "balance_transactions" else one.source_id, one)]

    # Single objects.

    def retrieve(self, request: Request, resource: Resource) -> dict[str, Any]:
        now = self.clock.now()
        object_id = request.path_params["object_id"]
        row = self.look_up(resource, object_id)
        if row is None or row[0] > now:
            raise missing(resource.noun, object_id)
        expand = tuple(value for key, value in request.query_params.multi_items() if key.partition("[")[0] == "expand")
        return self._expanded(resource.render(row[2], now), expand, "", now)

    def _expanded(self, body: dict[str, Any], expand: tuple[str, ...], prefix: str, now: datetime) -> dict[str, Any]:
        for path in expand:
            field = path.removeprefix(prefix)
            if field not in ("source", "charge", "balance_transaction") or not path.startswith(prefix):
                raise StripeError(
                    400, f"This property cannot be expanded ({path.removeprefix('data.')}).", param="expand"
                )
            if isinstance(body.get(field), str):
                body[field] = self._object(body[field], now)
        return body

    def _object(self, object_id: str, now: datetime) -> dict[str, Any]:
        noun = {
            "ch": "charges",
            "re": "refunds",
            "po": "payouts",
            "du": "disputes",
            "dp": "disputes",
            "txn": "balance_transactions",
        }
        resource = self.resources[noun[object_id.partition("_")[0]]]
        row = self.look_up(resource, object_id)
        if row is None:
            raise missing(resource.noun, object_id)
        return resource.render(row[2], now)

    # Shapes.

    def balance_transaction(self, one: ProcessorTransaction, now: datetime) -> dict[str, Any]:
        details = {
            "amount": one.fee,
            "application": None,
            "currency": one.currency.lower(),
            "description": "Dispute fee" if one.kind == "dispute" else "Stripe processing fees",
            "type": "stripe_fee",
        }
        return {
            "id": one.txn_id,
            "object": "balance_transaction",
            "amount": one.amount,
            "available_on": unix(one.available_at),
            "balance_type": "payments",
            "created": unix(one.at),
            "currency": one.currency.lower(),
            "description": one.description or _DESCRIPTION.get(one.kind),
            "exchange_rate": None if one.exchange_rate is None else Decimal(one.exchange_rate),
            "fee": one.fee,
            "fee_details": [details] if one.fee else [],
            "net": one.amount - one.fee,
            "reporting_category": _REPORTING.get(one.kind, one.kind),
            "source": one.source_id,
            "status": "available" if one.available_at <= now else "pending",
            "type": _TYPES.get(one.kind, one.kind),
        }

    def charge(self, one: ProcessorTransaction, now: datetime) -> dict[str, Any]:
        refunded = sum(refund.source_amount for refund in self._refunds_of(one, now))
        order = {} if one.order_id is None else {"order_id": str(one.order_id)}
        last4 = f"{int(opaque(one.source_id, 'card', length=6), 16) % 10000:04d}"
        return _CHARGE | {
            "id": one.source_id,
            "amount": one.source_amount,
            "amount_captured": one.source_amount,
            "amount_refunded": refunded,
            "balance_transaction": one.txn_id,
            "created": unix(one.at),
            "currency": one.source_currency.lower(),
            "description": one.description or None,
            "disputed": self._is_disputed(one, now),
            "metadata": order,
            "payment_intent": f"pi_3{one.source_id[4:]}",
            "payment_method": f"pm_1{opaque(one.source_id, 'pm', length=23)}",
            "payment_method_details": {"card": _CARD | {"last4": last4}, "type": "card"},
            "receipt_url": f"https://pay.stripe.com/receipts/payment/{one.source_id}",
            "refunded": refunded >= one.source_amount,
        }

    def _refunds_of(self, charge: ProcessorTransaction, now: datetime) -> list[ProcessorTransaction]:
        """The charge's refunds so far, found over its order."""
        shop = next(
            (
                name
                for name, info in self.company.connections.items()
                if info.system == "shopify" and info.entity == self.company.connections[self.connection].entity
            ),
            None,
        )
        order = None if charge.order_id is None or shop is None else self.company.order(shop, charge.order_id)
        tenders = [tender for refund in order.refunds for tender in refund.tenders] if order else []
        found = (
            self.company.find(self.connection, tender.payment_id)
            for tender in tenders
            if tender.payment_id and tender.gateway == "stripe"
        )
        return [
            one
            for one in found
            if isinstance(one, ProcessorTransaction)
            and one.charge_id == charge.source_id
            and one.kind == "refund"
            and one.at <= now
        ]

    def _is_disputed(self, charge: ProcessorTransaction, now: datetime) -> bool:
        first = local_day(charge.at, self.zone)
        last = min(local_day(now, self.zone), first + timedelta(days=DISPUTE_DAYS))
        return any(
            one.charge_id == charge.source_id and one.at <= now
            for day in days_between(first, last)
            for _, _, one in self._rare("dispute", day)
        )

    def refund(self, one: ProcessorTransaction, now: datetime) -> dict[str, Any]:
        return _REFUND | {
            "id": one.source_id,
            "amount": one.source_amount,
            "balance_transaction": one.txn_id,
            "charge": one.charge_id,
            "created": unix(one.at),
            "currency": one.source_currency.lower(),
            "metadata": {} if one.order_id is None else {"order_id": str(one.order_id)},
            "payment_intent": f"pi_3{(one.charge_id or one.source_id)[4:]}",
        }

    def payout(self, one: Payout, now: datetime) -> dict[str, Any]:
        has_failed = one.failed_at is not None and one.failed_at <= now
        is_paid = one.paid_at is not None and one.paid_at <= now
        own = {
            row[2].kind: row[1]
            for day in self._payout_days(one)
            for row in self._transactions(self.connection, day)
            if row[2].source_id == one.payout_id and row[0] <= now
        }
        return _PAYOUT | {
            "id": one.payout_id,
            "amount": one.amount,
            "arrival_date": unix(datetime.combine(one.arrival_day, datetime.min.time(), UTC)),
            "balance_transaction": own.get("payout"),
            "created": unix(one.at),
            "currency": one.currency.lower(),
            "destination": "ba_1" + opaque(self.connection, one.bank_account_id, length=23),
            "failure_balance_transaction": own.get("payout_failure"),
            "failure_code": "account_closed" if has_failed else None,
            "failure_message": "The bank account has been closed." if has_failed else None,
            "reconciliation_status": "completed" if is_paid else "in_progress",
            "status": "failed" if has_failed else "paid" if is_paid else "in_transit",
        }

    def dispute(self, one: Dispute, now: datetime) -> dict[str, Any]:
        is_decided = one.decided_at is not None and one.decided_at <= now
        days = {local_day(at, self.zone) for at in (one.at, one.decided_at) if at is not None and at <= now}
        own = [
            row[2]
            for day in sorted(days)
            for row in self._transactions(self.connection, day)
            if row[2].source_id == one.dispute_id and row[0] <= now
        ]
        due = one.at + timedelta(days=14)
        return _DISPUTE | {
            "id": one.dispute_id,
            "amount": one.amount,
            "balance_transactions": [self.balance_transaction(txn, now) for txn in own],
            "charge": one.charge_id,
            "created": unix(one.at),
            "currency": one.currency.lower(),
            "evidence_details": {
                "due_by": unix(due),
                "enhanced_eligibility": {},
                "has_evidence": is_decided,
                "past_due": due < now and not is_decided,
                "submission_count": int(is_decided),
            },
            "metadata": {} if one.order_id is None else {"order_id": str(one.order_id)},
            "payment_intent": f"pi_3{one.charge_id[4:]}",
            "reason": one.reason,
            "status": one.outcome if is_decided else "needs_response",
        }

    def event(self, one: Event, now: datetime) -> dict[str, Any]:
        """The event with its subject as it was at that moment."""
        subject = one.subject
        shown = self.payout(subject, one.at) if isinstance(subject, Payout) else self.dispute(subject, one.at)
        return {
            "id": one.event_id,
            "object": "event",
            "api_version": API_VERSION,
            "created": unix(one.at),
            "data": {"object": shown},
            "livemode": False,
            "pending_webhooks": 0,
            "request": {"id": None, "idempotency_key": None},
            "type": one.name,
        }

    def balance(self, now: datetime) -> dict[str, Any]:
        """What is available and what is pending, by currency: the sum of every visible transaction's net."""
        sums: dict[str, Counter[str]] = {"available": Counter(), "pending": Counter()}
        today = local_day(now, self.zone)
        for day in days_between(self.company.start, today):
            for (currency, available_at), net in self._day_sums(day, now if day == today else None).items():
                sums["available" if available_at <= now else "pending"][currency] += net
        names = sorted({currency for part in sums.values() for currency in part}) or ["usd"]
        parts = {
            name: [{"amount": part[one], "currency": one, "source_types": {"card": part[one]}} for one in names]
            for name, part in sums.items()
        }
        reserved = [{"amount": 0, "currency": one} for one in names]
        return {"object": "balance", "livemode": False, "connect_reserved": reserved, **parts}

    def _day_sums(self, day: date, until: datetime | None) -> Counter[tuple[str, datetime]]:
        found = None if until else self._sums.get(day)
        if found is None:
            found = Counter()
            for at, _, one in self._transactions(self.connection, day):
                if until is None or at <= until:
                    found[one.currency.lower(), one.available_at] += one.amount - one.fee
            if until is None:
                self._sums[day] = found
        return found


def _place(row: Row) -> tuple[datetime, str]:
    return row[0], row[1]


def _is_type(pattern: str, name: str) -> bool:
    return name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1]))


_DESCRIPTION = {
    "dispute": "Chargeback withdrawal",
    "dispute_reversal": "Chargeback reversal",
    "payout": "STRIPE PAYOUT",
    "payout_failure": "STRIPE PAYOUT (failed)",
}

_CARD: dict[str, Any] = {
    "amount_authorized": None,
    "authorization_code": None,
    "brand": "visa",
    "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
    "country": "US",
    "exp_month": 8,
    "exp_year": 2030,
    "extended_authorization": {"status": "disabled"},
    "fingerprint": "AOB934RVNwzk6xtn",
    "funding": "credit",
    "incremental_authorization": {"status": "unavailable"},
    "installments": None,
    "mandate": None,
    "multicapture": {"status": "unavailable"},
    "network": "visa",
    "network_token": {"used": False},
    "network_transaction_id": None,
    "overcapture": {"maximum_amount_capturable": 0, "status": "unavailable"},
    "regulated_status": None,
    "three_d_secure": None,
    "transaction_link_id": None,
    "wallet": None,
}

_CHARGE: dict[str, Any] = {
    "id": "",
    "object": "charge",
    "application": None,
    "application_fee": None,
    "application_fee_amount": None,
    "billing_details": {
        "address": {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None},
        "email": None,
        "name": None,
        "phone": None,
        "tax_id": None,
    },
    "calculated_statement_descriptor": "HARBOUR & PINE",
    "captured": True,
    "customer": None,
    "failure_balance_transaction": None,
    "failure_code": None,
    "failure_message": None,
    "fraud_details": {},
    "livemode": False,
    "on_behalf_of": None,
    "outcome": {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "approved_by_network",
        "reason": None,
        "seller_message": "Payment complete.",
        "type": "authorized",
    },
    "paid": True,
    "receipt_email": None,
    "receipt_number": None,
    "review": None,
    "shipping": None,
    "source": None,
    "source_transfer": None,
    "statement_descriptor": None,
    "statement_descriptor_suffix": None,
    "status": "succeeded",
    "transfer_data": None,
    "transfer_group": None,
}

_REFUND: dict[str, Any] = {
    "id": "",
    "object": "refund",
    "customer": None,
    "customer_account": None,
    "destination_details": {"card": {"type": "refund"}, "type": "card"},
    "payment_method": None,
    "reason": None,
    "receipt_number": None,
    "source_transfer_reversal": None,
    "status": "succeeded",
    "transfer_reversal": None,
}

_PAYOUT: dict[str, Any] = {
    "id": "",
    "object": "payout",
    "application_fee": None,
    "application_fee_amount": None,
    "automatic": True,
    "description": "STRIPE PAYOUT",
    "livemode": False,
    "metadata": {},
    "method": "standard",
    "original_payout": None,
    "payout_method": None,
    "reversed_by": None,
    "source_type": "card",
    "statement_descriptor": None,
    "trace_id": None,
    "type": "bank_account",
}

_EVIDENCE = [
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
]

_DISPUTE: dict[str, Any] = {
    "id": "",
    "object": "dispute",
    "enhanced_eligibility_types": [],
    "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": {}},
    "is_charge_refundable": False,
    "livemode": False,
    "payment_method_details": {
        "card": {"brand": "visa", "case_type": "chargeback", "network": "visa", "network_reason_code": "10.4"},
        "type": "card",
    },
}


def check_key(request: Request, connection: str) -> None:
    """Bearer, or Basic with the key as user name; raises StripeError (401) in Stripe's words."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[0]
        except ValueError:
            given = ""
    if not given.strip():
        raise StripeError(
            401,
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
            "https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.",
        )
    if given.strip() != api_key(connection):
        shown = given[:8] + "*" * max(len(given) - 12, 0) + given[-4:]
        raise StripeError(401, f"Invalid API Key provided: {shown}")


def routes(company: Company, clock: Clock, connection: str, site: Site) -> list[Route]:
    """The routes below /{connection}; the key is `api_key(connection)`."""
    account = Account(company, clock, connection, site)
    counter = iter(range(1, 1 << 62))

    def answer(work: Callable[[Request], dict[str, Any]]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            headers = {
                "Request-Id": f"req_{opaque(connection, next(counter), length=14)}",
                "Stripe-Version": request.headers.get("stripe-version", API_VERSION),
            }
            try:
                check_key(request, connection)
                return json_response(work(request), headers=headers)
            except StripeError as error:
                return json_response(error.body, error.status, headers)

        return endpoint

    def listing(resource: Resource) -> Callable[[Request], dict[str, Any]]:
        return lambda request: account.page(request, resource)

    def single(resource: Resource) -> Callable[[Request], dict[str, Any]]:
        return lambda request: account.retrieve(request, resource)

    def unknown(request: Request) -> dict[str, Any]:
        raise StripeError(
            404,
            f"Unrecognized request URL ({request.method}: {request.url.path.removeprefix('/' + connection)}). Please "
            "see https://stripe.com/docs or we can help at https://support.stripe.com/.",
        )

    found = [Route("/v1/balance", answer(lambda _: account.balance(clock.now())), methods=["GET"])]
    for resource in account.resources.values():
        found.append(Route(f"/v1/{resource.path}", answer(listing(resource)), methods=["GET"]))
        found.append(Route(f"/v1/{resource.path}/{{object_id}}", answer(single(resource)), methods=["GET"]))
    return [*found, Route("/{rest:path}", answer(unknown), methods=["GET", "POST", "DELETE"])]
