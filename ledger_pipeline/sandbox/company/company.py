"""The sample company itself: each day is a pure function of seed, start, size and faults, made when asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import TypeVar

from ledger_pipeline.sandbox.events import (
    BankAccount,
    BankLine,
    ConnectionInfo,
    Dispute,
    EntityInfo,
    Order,
    Payout,
    Planted,
    ProcessorTransaction,
    StallReceipt,
)

from . import bank, ids, processor
from .facts import (
    BANK_ACCOUNTS,
    CONNECTIONS,
    ENTITIES,
    PAYOUT_ACCOUNT,
    PAYOUT_LAG_DAYS,
    PROCESSOR_OF,
    SHOP_OF,
    day_bounds,
    local_day,
    next_business_day,
    zone_of,
)
from .orders import REFUND_HORIZON_DAYS, Draft, OrderBuilder, ordinary_draft, refund_delays
from .planted import HORIZON_DAYS, LATE_DAYS, Plan

T = TypeVar("T")
_KEPT_OBJECTS = 400_000  # how many cached orders or transactions may stay in memory


class DayCache:
    """The last used days' lists, as many as fit into a number of objects (at least eight days); for any thread."""

    def __init__(self, limit: int = _KEPT_OBJECTS) -> None:
        self._days: OrderedDict[tuple[object, ...], list[object]] = OrderedDict()
        self._limit = limit
        self._count = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...], make: Callable[[], list[T]]) -> list[T]:
        with self._lock:
            kept = self._days.get(key)
            if kept is not None:
                self._days.move_to_end(key)
                return kept  # type: ignore[return-value]
        made = make()  # unlocked: it asks for other days; two threads may make the same
        with self._lock:
            if key not in self._days:
                self._days[key] = made  # type: ignore[assignment]
                self._count += len(made)
            while self._count > self._limit and len(self._days) > 8:
                _, dropped = self._days.popitem(last=False)
                self._count -= len(dropped)
        return made


class Company:
    """Harbour & Pine. Every list is of the events whose first instant lies on that local day, in order of time.

    `orders_per_day` is shopify_us's ordinary orders (planted ones come on top), shopify_uk has 5/8 of it;
    8 to 150,000 (ValueError). `late_days`: after how many days the late faults change. All methods are pure; callers
    don't change what they get.
    """

    def __init__(
        self,
        seed: int = 7,
        start: date = date(2026, 10, 5),
        orders_per_day: int = 40,
        faults: bool = True,
        late_days: int = LATE_DAYS,
    ) -> None:
        if not 8 <= orders_per_day <= 150_000:
            raise ValueError(f"orders_per_day is {orders_per_day}, it must be 8 to 150000")
        self.seed = seed
        self.start = start
        self.orders_per_day = orders_per_day
        self.entities: dict[str, EntityInfo] = dict(ENTITIES)
        self.connections: dict[str, ConnectionInfo] = dict(CONNECTIONS)
        self.bank_accounts: tuple[BankAccount, ...] = BANK_ACCOUNTS
        self._counts = {"shopify_us": orders_per_day, "shopify_uk": orders_per_day * 5 // 8}
        self.plan = Plan(seed, start, self._counts, faults, late_days)
        self._cache = DayCache()
        self._delays_cache = DayCache(4_000_000)  # small integers
        self._payouts_cache = DayCache(60)  # a payout names all its members
        self._closing: dict[tuple[str, date], int] = {}

    def zone(self, connection: str) -> str:
        """The IANA name of the time zone of the connection's entity."""
        return zone_of(connection)

    def planted(self, first: date, last: date) -> list[Planted]:
        """The faults planted with something that starts on a day from `first` to `last`."""
        return self.plan.planted(first, last)

    # Orders

    def orders(self, connection: str, day: date) -> list[Order]:
        """Created that day, with their whole life; `connection` is a shop."""
        return self._cache.get(("orders", connection, day), lambda: self._make_orders(connection, day))

    def _make_orders(self, shop: str, day: date) -> list[Order]:
        if day < self.start:
            return []
        made = [self._ordinary(shop, day, index) for index in range(self._counts[shop])]
        made += [OrderBuilder(draft).build() for draft in self.plan.drafts(shop, day)]
        return sorted(made, key=lambda order: (order.at, order.order_id))

    def _delays(self, shop: str, day: date) -> list[int | None]:
        count = self._counts[shop] if day >= self.start else 0
        return self._delays_cache.get(("delays", shop, day), lambda: refund_delays(self.seed, shop, day, count))

    def _ordinary(self, shop: str, day: date, index: int) -> Order:
        delay = self._delays(shop, day)[index]
        draft = ordinary_draft(self.seed, shop, day, index, self._counts[shop], delay)
        if (shop, draft.gateway, draft.presentment) == ("shopify_uk", "stripe", "EUR"):
            if self.plan.is_quiet("stripe_uk", "EUR", day):
                draft.gateway = "shopify_payments"
            elif draft.refund and self.plan.is_quiet("stripe_uk", "EUR", day + timedelta(days=delay or 0)):
                draft.refund = None
        return OrderBuilder(draft).build()

    def _earlier(self, shop: str, day: date) -> Iterator[Order]:
        """Earlier orders that may have changed on `day`: the ordinary ones refunded then, and all planted ones."""
        for back in range(1, REFUND_HORIZON_DAYS + 1):
            made_on = day - timedelta(days=back)
            for index, delay in enumerate(self._delays(shop, made_on)):
                if delay == back:
                    yield self._ordinary(shop, made_on, index)
        for back in (*range(1, HORIZON_DAYS + 1), self.plan.late_days):
            for draft in self.plan.drafts(shop, day - timedelta(days=back)):
                yield OrderBuilder(draft).build()

    def orders_touched(self, connection: str, day: date) -> list[Order]:
        """Orders with any change (created, paid, edited, refunded, cancelled) that day, by instant of creation."""
        return self._cache.get(("touched", connection, day), lambda: self._make_touched(connection, day))

    def _make_touched(self, shop: str, day: date) -> list[Order]:
        first, end = day_bounds(zone_of(shop), day)
        touched = [order for order in self._earlier(shop, day) if any(first <= at < end for at in changes(order))]
        return sorted(touched, key=lambda order: (order.at, order.order_id)) + self.orders(shop, day)

    def order(self, connection: str, order_id: int) -> Order | None:
        """The order of that number, or None; made from its id alone."""
        place = ids.read_order_id(connection, order_id)
        return self._order_at(connection, *place) if place else None

    def _order_at(self, shop: str, day: date, index: int) -> Order | None:
        if day < self.start:
            return None
        if index < self._counts[shop]:
            return self._ordinary(shop, day, index)
        draft = self._draft_at(shop, day, index)
        return OrderBuilder(draft).build() if draft else None

    def _draft_at(self, shop: str, day: date, index: int) -> Draft | None:
        """The draft of a planted order; None for an ordinary one."""
        drafts = self.plan.drafts(shop, day) if index >= self._counts[shop] else []
        return next((draft for draft in drafts if draft.index == index), None)

    # Processors

    def _transactions_of(self, order: Order) -> list[ProcessorTransaction]:
        place = ids.read_order_id(order.connection, order.order_id)
        draft = self._draft_at(order.connection, *place) if order.fault and place else None
        return processor.order_transactions(order, draft)

    def _activity(self, connection: str, day: date) -> list[ProcessorTransaction]:
        """The day's transactions but for payouts."""
        return self._cache.get(("activity", connection, day), lambda: self._make_activity(connection, day))

    def _make_activity(self, connection: str, day: date) -> list[ProcessorTransaction]:
        shop = SHOP_OF[connection]
        first, end = day_bounds(zone_of(shop), day)
        found = [
            txn
            for orders in (self.orders(shop, day), self._earlier(shop, day))
            for order in orders
            for txn in self._transactions_of(order)
            if txn.connection == connection and first <= txn.at < end
        ]
        found += self.plan.unknown_payments(connection, day)
        return sorted(found, key=lambda txn: (txn.at, txn.txn_id))

    def processor_transactions(self, connection: str, day: date) -> list[ProcessorTransaction]:
        """Balance transactions created that day, payouts and their failures included."""
        made = self.payouts(connection, day)
        moves = [processor.payout_transaction(payout) for payout in made]
        moves += [processor.payout_failure(payout, day) for payout in made if payout.failed_at]
        return sorted([*self._activity(connection, day), *moves], key=lambda txn: (txn.at, txn.txn_id))

    def payouts(self, connection: str, day: date) -> list[Payout]:
        """Created that day at 07:00 local."""
        return self._payouts_cache.get(("payouts", connection, day), lambda: self._make_payouts(connection, day))

    def _make_payouts(self, connection: str, day: date) -> list[Payout]:
        before = day - timedelta(days=1)
        members = list(self._activity(connection, day - timedelta(days=PAYOUT_LAG_DAYS[connection])))
        if self.plan.failing_payouts(connection, before):
            members += [
                processor.payout_failure(payout, before)
                for payout in self.payouts(connection, before)
                if payout.failed_at
            ]
        return processor.build_payouts(connection, day, members, self.plan.failing_payouts(connection, day))

    def disputes(self, connection: str, day: date) -> list[Dispute]:
        """Opened that day."""
        shop = SHOP_OF[connection]
        found = []
        for back in range(HORIZON_DAYS + 1):
            for draft in self.plan.drafts(shop, day - timedelta(days=back)):
                opened = draft.dispute and local_day(zone_of(connection), draft.dispute.opened_at)
                if opened == day and PROCESSOR_OF.get((shop, draft.gateway)) == connection:
                    found.append(self._dispute(draft))
        return sorted(found, key=lambda dispute: (dispute.at, dispute.dispute_id))

    def _dispute(self, draft: Draft) -> Dispute:
        charge = next(txn for txn in self._transactions_of(OrderBuilder(draft).build()) if txn.kind == "charge")
        return processor.dispute_of(charge, draft, (draft.day, draft.index))

    def find(self, connection: str, object_id: str) -> ProcessorTransaction | Payout | Dispute | None:
        """The object of that id at a processor, whatever its instant, or None.

        The id of a charge or refund gives its balance transaction; a txn id gives any balance transaction.
        """
        place = self._place(connection, object_id)
        if place is None or place.day < self.start:
            return None
        if place.kind == "payout":
            return next(
                (payout for payout in self.payouts(connection, place.day) if payout.payout_id == object_id), None
            )
        if place.kind == "dispute":
            draft = self._draft_at(SHOP_OF[connection], place.day, place.index)
            dispute = self._dispute(draft) if draft and draft.dispute else None
            return dispute if dispute and dispute.dispute_id == object_id else None
        candidates: list[ProcessorTransaction]
        if place.index >= ids.PAYOUT_INDEX:
            candidates = self.processor_transactions(connection, place.day)
        else:
            order = self._order_at(SHOP_OF[connection], place.day, place.index)
            candidates = self._transactions_of(order) if order else []
        return next(
            (
                txn
                for txn in candidates
                if txn.connection == connection
                and (txn.txn_id == object_id or (txn.source_id == object_id and txn.kind in ("charge", "refund")))
            ),
            None,
        )

    @staticmethod
    def _place(connection: str, object_id: str) -> ids.Place | None:
        if connection.startswith("stripe_"):
            return ids.read_stripe_id(connection, object_id)
        return ids.read_shopify_id(connection, int(object_id)) if object_id.isdecimal() else None

    # Bank and stall

    def bank_lines(self, connection: str, account_id: str, day: date) -> list[BankLine]:
        """First seen that day (pending or booked)."""
        return self._cache.get(
            ("bank", connection, day), lambda: self._make_lines(self.account(connection, account_id), day)
        )

    def statement_arrives(self, day: date) -> date:
        """The sync date on which the EUR account's statement of a day is delivered."""
        return day + timedelta(days=self.plan.late_days) if self.plan.has_late_statement(day) else day

    def account(self, connection: str, account_id: str) -> BankAccount:
        """Raises KeyError for an account that the connection doesn't have."""
        for account in self.bank_accounts:
            if (account.connection, account.account_id) == (connection, account_id):
                return account
        raise KeyError(f"{connection} has no account {account_id}")

    def _make_lines(self, account: BankAccount, day: date) -> list[BankLine]:
        if day < self.start:
            return []
        ledger = bank.Ledger(self.seed, account)
        cash = self._cash_banked(day) if account.connection == "plaid_uk" else 0
        lines = ledger.lines(day, self._arrived(account, day), self.start, cash) + self.plan.bank_lines(ledger, day)
        return sorted(lines, key=lambda line: (line.at, line.line_id))

    def _arrived(self, account: BankAccount, day: date) -> list[Payout]:
        return [
            payout
            for back in (3, 2, 1)
            if next_business_day(day - timedelta(days=back)) == day
            for (connection, currency), target in PAYOUT_ACCOUNT.items()
            if target == account
            for payout in self.payouts(connection, day - timedelta(days=back))
            if payout.currency == currency and payout.paid_at is not None
        ]

    def bank_balance(self, connection: str, account_id: str, at: datetime) -> int:
        """The account's booked balance at an instant; lines whose wire form is broken are not money of the account."""
        account = self.account(connection, account_id)
        day = local_day(zone_of(connection), at)
        return self.closing_balance(account, day - timedelta(days=1)) + self._moved(account, day, at)

    def closing_balance(self, account: BankAccount, day: date) -> int:
        """The booked balance at the end of a local day."""
        if day < self.start:
            return account.opening
        known = day
        while known >= self.start and (account.connection, known) not in self._closing:
            known -= timedelta(days=1)
        balance = self._closing.get((account.connection, known), account.opening)
        while known < day:
            known += timedelta(days=1)
            balance += self._moved(account, known, day_bounds(zone_of(account.connection), known)[1])
            self._closing[account.connection, known] = balance
        return balance

    def _moved(self, account: BankAccount, day: date, until: datetime) -> int:
        first = day_bounds(zone_of(account.connection), day)[0]
        lines = [
            line
            for back in (1, 0)
            for line in self.bank_lines(account.connection, account.account_id, day - timedelta(days=back))
            if not (line.is_pending or line.wire_amount or line.wire_currency)
        ]
        booked = sum(line.amount for line in lines if first <= line.at <= until)
        return booked - sum(line.amount for line in lines if line.removed_at and first <= line.removed_at <= until)

    def stall_receipts(self, day: date) -> list[StallReceipt]:
        """The market stall's takings of a day."""
        if day < self.start:
            return []
        number = min(200, max(5, self.orders_per_day // 4))
        return self._cache.get(("stall", day), lambda: bank.stall_receipts(self.seed, day, number))

    def _cash_banked(self, day: date) -> int:
        if day.weekday() != bank.CASH_BANKED_WEEKDAY:
            return 0
        return sum(bank.takings(self.stall_receipts(day - timedelta(days=back))) for back in range(1, 8))


def changes(order: Order) -> Iterator[datetime]:
    """Every instant at which the order changed."""
    yield order.at
    yield from (tender.at for tender in order.tenders)
    yield from (refund.at for refund in order.refunds)
    if order.edited_at:
        yield order.edited_at
    if order.cancelled_at:
        yield order.cancelled_at


def company_from(seed: int = 7, start: date = date(2026, 10, 5), orders_per_day: int = 40) -> Company:
    """The sample company with its planted faults."""
    return Company(seed, start, orders_per_day)
