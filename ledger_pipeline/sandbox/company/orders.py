"""Orders: a draft of what was bought and what became of it, built into an `Order` that ties in two currencies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from random import Random

from ledger_pipeline.sandbox.events import Money, Order, OrderLine, Refund, RefundLine, Tax, Tender

from . import ids
from .facts import CONNECTIONS, PROCESSOR_OF, PRODUCTS, SHIPPING_TAXED, US_TAXES, Product, instant, zone_of
from .rates import shop_rate

GIFT_CARD = Product("GIFT-CARD", "Gift Card", 50_00, 50_00)
REFUND_HORIZON_DAYS = 3  # an ordinary order changes for the last time this many days after it was made


@dataclass(slots=True)
class RefundPlan:
    """`kind`: full, line (the first line), line_shipping (the first line and the shipping), goodwill."""

    kind: str
    at: datetime


@dataclass(slots=True)
class DisputePlan:
    opened_at: datetime
    decided_at: datetime
    outcome: str


@dataclass(slots=True)
class Draft:
    """What the order is about, before money is computed. `items` are (product, quantity); amounts are minor shop units.

    `flow`: sale, capture (authorised, then captured), failed_first, authorised, voided. `gift_paid` is capped at the
    total.
    """

    connection: str
    day: date
    index: int
    at: datetime
    presentment: str
    country: str
    province: str | None
    items: list[tuple[Product, int]]
    gateway: str = "stripe"
    source_name: str = "web"
    gift_card_value: int = 0
    discount_percent: int = 0
    shipping: int = 0
    tip: int = 0
    gift_paid: int = 0
    credit_paid: int = 0
    flow: str = "sale"
    refund: RefundPlan | None = None
    edit: tuple[datetime, Product] | None = None
    cancelled_at: datetime | None = None
    is_test: bool = False
    has_charge: bool = True
    charge_at: datetime | None = None
    charge_refund_at: datetime | None = None
    dispute: DisputePlan | None = None
    fault: str | None = None
    overrides: dict[str, str] = field(default_factory=dict)


def half_up(numerator: int, denominator: int) -> int:
    """The rounded quotient of two numbers that are not negative."""
    return (2 * numerator + denominator) // (2 * denominator)


class Purse:
    """Makes `Money` at one day's rate between a shop's currency and a presentment currency."""

    __slots__ = ("_rate", "presentment", "shop")

    def __init__(self, day: date, shop: str, presentment: str) -> None:
        self.shop = shop
        self.presentment = presentment
        self._rate = None if shop == presentment else shop_rate(day, shop, presentment)

    def money(self, amount: int) -> Money:
        if self._rate is None:
            return Money(amount, self.shop, amount, self.presentment)
        numerator, denominator, step = self._rate
        return self.both(amount, half_up(amount * numerator, denominator * step) * step)

    def both(self, shop: int, presentment: int) -> Money:
        return Money(shop, self.shop, presentment, self.presentment)

    def total(self, plus: Iterable[Money], minus: Iterable[Money] = ()) -> Money:
        shop = presentment = 0
        for part in plus:
            shop += part.shop
            presentment += part.presentment
        for part in minus:
            shop -= part.shop
            presentment -= part.presentment
        return self.both(shop, presentment)

    def times(self, price: Money, quantity: int) -> Money:
        return price if quantity == 1 else self.both(price.shop * quantity, price.presentment * quantity)


class OrderBuilder:
    """Builds one order from its draft."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.shop = CONNECTIONS[draft.connection].currency
        self.is_tax_included = self.shop == "GBP"
        self.purse = Purse(draft.day, self.shop, draft.presentment)
        self._zero = self.purse.both(0, 0)

    def build(self) -> Order:
        draft = self.draft
        lines = self._lines()
        tip = self.purse.money(draft.tip) if draft.tip else None
        tenders = self._tenders(lines, tip)
        refunds = (self._refund(lines, tenders, draft.refund),) if draft.refund else ()
        return Order(
            connection=draft.connection,
            order_id=ids.order_id(draft.connection, draft.day, draft.index),
            name=f"#{draft.day:%y%m%d}{draft.index + 1:04d}",
            at=draft.at,
            customer_id=None if draft.source_name == "pos" else self._customer_id(),
            shop_currency=self.shop,
            presentment_currency=draft.presentment,
            is_tax_included=self.is_tax_included,
            ship_country=draft.country,
            ship_province=draft.province,
            source_name=draft.source_name,
            lines=tuple(lines),
            tip=tip,
            tenders=tuple(tenders),
            refunds=refunds,
            is_test=draft.is_test,
            cancelled_at=draft.cancelled_at,
            edited_at=draft.edit[0] if draft.edit else None,
            fault=draft.fault,
            overrides=draft.overrides,
        )

    def _customer_id(self) -> int:
        number = (self.draft.day.toordinal() * 7919 + self.draft.index * 104_729) % CUSTOMERS
        return customer_id(self.draft.connection, number)

    def _child(self, kind: str, n: int) -> int:
        return ids.shopify_id(self.draft.connection, kind, self.draft.day, self.draft.index, n)

    def _lines(self) -> list[OrderLine]:
        draft = self.draft
        lines = [
            self._line(n, "goods", product, product.price(self.shop), quantity)
            for n, (product, quantity) in enumerate(draft.items)
        ]
        if draft.gift_card_value:
            lines.append(self._line(len(lines), "gift_card", GIFT_CARD, draft.gift_card_value, 1))
        if draft.shipping:
            lines.append(self._line(len(lines), "shipping", _SHIPPING, draft.shipping, 1))
        if draft.edit:
            added_at, product = draft.edit
            lines.append(self._line(len(lines), "goods", product, product.price(self.shop), 1, added_at))
        return lines

    def _line(
        self, n: int, kind: str, product: Product, price: int, quantity: int, added_at: datetime | None = None
    ) -> OrderLine:
        unit = self.purse.money(price)
        gross = self.purse.times(unit, quantity)
        has_discount = kind == "goods" and self.draft.discount_percent and added_at is None
        discount = (
            self.purse.money(half_up(gross.shop * self.draft.discount_percent, 100)) if has_discount else self._zero
        )
        taxes = () if kind == "gift_card" else self._taxes(kind, product, gross.shop - discount.shop)
        line_id = self._child("line", n)
        return OrderLine(line_id, kind, product.sku, product.title, quantity, unit, gross, discount, taxes, added_at)

    def _taxes(self, kind: str, product: Product, amount: int) -> tuple[Tax, ...]:
        draft = self.draft
        if self.is_tax_included:
            if draft.country != "GB" or product.is_zero_rated:
                return ()
            return (Tax("VAT", "GB", "0.2", self.purse.money(half_up(amount * 20, 120))),)
        if draft.country != "US" or draft.province is None:
            return ()
        if kind == "shipping" and draft.province not in SHIPPING_TAXED:
            return ()
        return tuple(
            Tax(title, f"US-{draft.province}", rate, self.purse.money(half_up(amount * parts, 100_000)))
            for title, rate, parts in US_TAXES[draft.province]
        )

    def _due(self, lines: Sequence[OrderLine]) -> Money:
        plus = [line.gross for line in lines]
        if not self.is_tax_included:
            plus += [tax.amount for line in lines for tax in line.taxes]
        return self.purse.total(plus, [line.discount for line in lines])

    def _tenders(self, lines: Sequence[OrderLine], tip: Money | None) -> list[Tender]:
        draft = self.draft
        first = self._due([line for line in lines if line.added_at is None])
        rest = self.purse.total([first, tip]) if tip else first
        tenders: list[Tender] = []
        for gateway, wanted in (("gift_card", draft.gift_paid), ("shopify_store_credit", draft.credit_paid)):
            if wanted and rest.shop > 0:
                part = rest if wanted + _SMALLEST_CHARGE > rest.shop else self.purse.money(wanted)
                tenders.append(self._tender(len(tenders), "SALE", "SUCCESS", gateway, part, draft.at))
                rest = self.purse.total([rest], [part])
        if rest.shop > 0:
            self._pay(tenders, rest)
        if draft.edit:
            extra = self._due([line for line in lines if line.added_at is not None])
            at = draft.edit[0] + timedelta(seconds=4)
            tenders.append(self._tender(len(tenders), "SALE", "SUCCESS", draft.gateway, extra, at))
        return tenders

    def _pay(self, tenders: list[Tender], amount: Money) -> None:
        draft, flow, at = self.draft, self.draft.flow, self.draft.at

        def add(kind: str, status: str, seconds: int, parent: int | None = None, when: datetime | None = None) -> int:
            moment = (when or at) + timedelta(seconds=seconds)
            tenders.append(self._tender(len(tenders), kind, status, draft.gateway, amount, moment, parent))
            return tenders[-1].tender_id

        if flow in ("capture", "authorised", "voided"):
            parent = add("AUTHORIZATION", "SUCCESS", 2)
            if flow == "capture":
                add("CAPTURE", "SUCCESS", 40, parent)
            if flow == "voided":
                add("VOID", "SUCCESS", 1, parent, draft.cancelled_at)
            return
        if flow == "failed_first":
            add("SALE", "FAILURE", 2)
        add("SALE", "SUCCESS", 30 if flow == "failed_first" else 2)

    def _tender(
        self, n: int, kind: str, status: str, gateway: str, amount: Money, at: datetime, parent: int | None = None
    ) -> Tender:
        draft = self.draft
        processor = PROCESSOR_OF.get((draft.connection, gateway))
        payment_id = None
        if processor is not None and status == "SUCCESS":
            # A capture and a void are of the charge that the authorisation made.
            root = n - 1 if parent is not None and kind in ("CAPTURE", "VOID") else n
            name = "refund" if kind == "REFUND" else "charge"
            payment_id = ids.processor_id(processor, name, draft.day, draft.index, root)
        return Tender(self._child("tender", n), kind, status, gateway, amount, at, payment_id, parent)

    def _refund(self, lines: Sequence[OrderLine], tenders: Sequence[Tender], plan: RefundPlan) -> Refund:
        paid = [tender for tender in tenders if tender.kind in ("SALE", "CAPTURE") and tender.status == "SUCCESS"]
        chosen, adjustment = self._refunded(lines, plan.kind)
        amount = self._refund_total(chosen, adjustment)
        main = paid[-1]
        if amount.shop > main.amount.shop or amount.presentment > main.amount.presentment:
            chosen, adjustment = self._refunded(lines, "full")
            amount = self._refund_total(chosen, adjustment)
        goods = [line for line in chosen if line.kind != "shipping"]
        shipping = next((line for line in chosen if line.kind == "shipping"), None)
        return Refund(
            refund_id=self._child("refund", 0),
            at=plan.at,
            lines=tuple(self._refund_line(line) for line in goods),
            shipping=self._net(shipping) if shipping else None,
            shipping_tax=self._tax(shipping) if shipping else None,
            adjustment=adjustment,
            tenders=tuple(self._refund_tenders(paid, amount, plan.at)),
        )

    def _refunded(self, lines: Sequence[OrderLine], kind: str) -> tuple[list[OrderLine], Money | None]:
        if kind == "full":
            return list(lines), None
        if kind == "goodwill":
            return [], self.purse.money(max(1, min(5_00, half_up(lines[0].gross.shop, 10))))
        return [
            line for n, line in enumerate(lines) if n == 0 or (kind == "line_shipping" and line.kind == "shipping")
        ], None

    def _refund_total(self, lines: Sequence[OrderLine], adjustment: Money | None) -> Money:
        due = self._due(lines)
        return self.purse.total([due, adjustment]) if adjustment else due

    def _net(self, line: OrderLine) -> Money:
        return self.purse.total([line.gross], [line.discount])

    def _tax(self, line: OrderLine) -> Money:
        return self.purse.total(tax.amount for tax in line.taxes)

    def _refund_line(self, line: OrderLine) -> RefundLine:
        return RefundLine(line.line_id, line.quantity, self._net(line), self._tax(line), line.kind)

    def _refund_tenders(self, paid: Sequence[Tender], amount: Money, at: datetime) -> list[Tender]:
        """What goes back: a part goes to the last tender, the whole to each as it paid (a tip is kept)."""
        shares: list[tuple[Tender, Money]] = []
        rest = amount
        if amount.shop <= paid[-1].amount.shop and amount.presentment <= paid[-1].amount.presentment:
            shares.append((paid[-1], amount))
        else:
            for tender in paid[:-1]:
                shares.append((tender, tender.amount))
                rest = self.purse.total([rest], [tender.amount])
            shares.append((paid[-1], rest))
        return [
            self._tender(ids.REFUND_N + n, "REFUND", "SUCCESS", tender.gateway, share, at, tender.tender_id)
            for n, (tender, share) in enumerate(shares)
        ]


_SMALLEST_CHARGE = 1_00  # a gift card pays the whole rather than leave less than this to the card
_SHIPPING = Product("SHIPPING", "Standard", 5_99, 3_95)
CUSTOMERS = 5_000


def customer_id(connection: str, number: int) -> int:
    """13 digits; `number` counts from 0 to CUSTOMERS - 1."""
    return int(f"{ids.SHOP_DIGIT[connection]}8{number:011d}")


_US_PLACES = (
    ("US", "NY"), ("US", "NY"), ("US", "NY"), ("US", "CA"), ("US", "CA"), ("US", "TX"),
    ("US", "TX"), ("US", "WA"), ("US", "FL"), ("US", "OR"), ("GB", "ENG"), ("AU", "NSW"),
)  # fmt: skip
_PRESENTMENT_US = (("USD", 80), ("CAD", 8), ("EUR", 6), ("JPY", 4), ("KWD", 2))
_ABROAD = {"CAD": ("CA", "ON"), "EUR": ("DE", None), "JPY": ("JP", "JP-13"), "KWD": ("KW", None)}
_LINE_COUNTS = (1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 4)
_REFUND_KINDS = ("full", "full", "full", "line", "line_shipping", "goodwill")


def refund_delays(seed: int, connection: str, day: date, count: int) -> list[int | None]:
    """Days until each ordinary order of a day is refunded, or None: cheap, so that a later day finds its refunds."""
    rng = Random(f"{seed}|{connection}|{day}|refunds")
    delays: list[int | None] = []
    for index in range(count):
        draw = rng.random()
        delay = int(draw / 0.08 * (REFUND_HORIZON_DAYS + 1)) if draw < 0.08 else None
        # A late order isn't refunded on its own day.
        delays.append(1 if delay == 0 and index > 0.8 * count else delay)
    return delays


def ordinary_draft(seed: int, connection: str, day: date, index: int, count: int, delay: int | None) -> Draft:
    """The ordinary order number `index` of `count`; they are spread evenly over 07:30 to 23:00."""
    rng = Random(((seed * 10 + ids.SHOP_DIGIT[connection]) * 10**6 + day.toordinal()) * 10**7 + index)
    seconds = int(54_000 * (index + rng.random()) / count)
    at = instant(zone_of(connection), day, 7, 30, seconds)
    draft = _us_draft(rng, day, index, at) if connection == "shopify_us" else _uk_draft(rng, day, index, at)
    if rng.random() < 0.10:
        draft.discount_percent = rng.choice((5, 10, 15, 25))
    if rng.random() < 0.02:
        draft.gift_card_value = rng.choice((25_00, 50_00, 100_00))
    paying = rng.random()
    if paying < 0.03:
        draft.gift_paid, draft.tip = rng.choice((10_00, 25_00, 50_00)), 0
    elif paying < 0.04:
        draft.credit_paid, draft.tip = rng.choice((5_00, 12_50)), 0
    flow = rng.random()
    draft.flow = "capture" if flow < 0.08 else "failed_first" if flow < 0.10 else "sale"
    if delay is not None:
        later = rng.randrange(1_800, 5_400)
        when = (
            at + timedelta(seconds=later)
            if delay == 0
            else instant(zone_of(connection), day + timedelta(days=delay), 9, 0, later * 9)
        )
        draft.refund = RefundPlan(rng.choice(_REFUND_KINDS), when)
    return draft


def _items(rng: Random) -> list[tuple[Product, int]]:
    products = rng.sample(PRODUCTS, rng.choice(_LINE_COUNTS))
    return [(product, 1 if rng.random() < 0.75 else rng.choice((2, 3))) for product in products]


def _us_draft(rng: Random, day: date, index: int, at: datetime) -> Draft:
    presentment = _weighted(rng, _PRESENTMENT_US)
    country, province = _ABROAD[presentment] if presentment != "USD" else rng.choice(_US_PLACES)
    draft = Draft("shopify_us", day, index, at, presentment, country, province, _items(rng))
    if presentment == "USD" and rng.random() < 0.07:
        draft.source_name, draft.country, draft.province = "pos", "US", "NY"
    else:
        draft.shipping = rng.choice((5_99, 5_99, 12_00, 0))
    if rng.random() < 0.05:
        draft.tip = rng.choice((1_00, 2_50, 5_00))
    return draft


def _uk_draft(rng: Random, day: date, index: int, at: datetime) -> Draft:
    presentment = "EUR" if rng.random() < 0.15 else "GBP"
    country, province = (
        rng.choice((("GB", None), ("IE", None), ("DE", None))) if presentment == "EUR" else ("GB", "ENG")
    )
    draft = Draft("shopify_uk", day, index, at, presentment, country, province, _items(rng))
    draft.gateway = "stripe" if rng.random() < 0.25 else "shopify_payments"
    if presentment == "GBP" and rng.random() < 0.06:
        draft.source_name = "pos"
    else:
        draft.shipping = rng.choice((3_95, 3_95, 7_50, 0))
    return draft


def _weighted(rng: Random, choices: tuple[tuple[str, int], ...]) -> str:
    draw = rng.random() * 100
    for name, weight in choices:
        draw -= weight
        if draw < 0:
            return name
    return choices[0][0]
