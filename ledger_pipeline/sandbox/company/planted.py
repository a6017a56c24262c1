"""The faults that are put into the sample company on purpose, each once in every seven days from the start.

The schedule is by offset: day 0 is the start (and every seventh day after it). All of it is a pure function of the day.
What changes so late that its month has been closed comes once in every 28 days, from the third week on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import partial

from ledger_pipeline.sandbox.events import BankLine, Planted, ProcessorTransaction

from .bank import Ledger
from .facts import BANK_ACCOUNTS, EUR_IBAN, PROCESSOR_OF, PRODUCT, PRODUCTS, instant, local_day, zone_of
from .ids import DISPUTE_N, order_id, processor_id
from .orders import DisputePlan, Draft, RefundPlan
from .processor import payout_id, unknown_payment

WEEK = 7
HORIZON_DAYS = 6  # a planted order changes for the last time this many days after it was made, but for the late ones
LATE_DAYS = 42
"""Whatever day of its month it was made: a month that is closed on the 11th of the next one is closed by then."""
_LATE_EVERY, _LATE_OFFSET, _LATE_STATEMENT_OFFSET = 28, 16, 18
_QUIET_EUR_OFFSET = 1  # no EUR business at stripe_uk but one refund
_FAILING_OFFSET = 2
_DUPLICATE_STATEMENT_OFFSET = 3
_IDENTICAL_STATEMENT_OFFSET = 2

Recipe = Callable[[Draft, Callable[..., datetime]], None]


class Plan:
    """The planted faults of a company that starts on `start`; `counts` are the ordinary orders a day by shop.

    `late_days`: after how many days what is late changes or arrives; more than HORIZON_DAYS (ValueError).
    """

    def __init__(self, seed: int, start: date, counts: dict[str, int], is_on: bool, late_days: int = LATE_DAYS) -> None:
        if late_days <= HORIZON_DAYS:
            raise ValueError(f"late_days is {late_days}, it must be more than {HORIZON_DAYS}")
        self.late_days = late_days
        self.seed = seed
        self.start = start
        self.counts = counts
        self.is_on = is_on

    def offset(self, day: date) -> int:
        """0 to 6; -1 where nothing is planted."""
        return (day - self.start).days % WEEK if self.is_on and day >= self.start else -1

    def is_late(self, day: date, offset: int = _LATE_OFFSET) -> bool:
        """True on the days of which something changes `late_days` later."""
        return self.is_on and day >= self.start and (day - self.start).days % _LATE_EVERY == offset

    def drafts(self, shop: str, day: date) -> list[Draft]:
        """The day's planted orders; the first has the index after the last ordinary one."""
        recipes = _RECIPES.get((shop, self.offset(day)), ())
        if self.is_late(day):
            late = _LATE_RECIPES[shop]
            recipes += tuple((kind, partial(recipe, late_days=self.late_days)) for kind, recipe in late)
        return [self._draft(shop, day, n, kind, recipe) for n, (kind, recipe) in enumerate(recipes)]

    def _draft(self, shop: str, day: date, n: int, kind: str, recipe: Recipe) -> Draft:
        def at(days: int, hour: int, minute: int = 0) -> datetime:
            return instant(zone_of(shop), day + timedelta(days=days), hour, minute)

        is_us = shop == "shopify_us"
        draft = Draft(
            shop,
            day,
            self.counts[shop] + n,
            at(0, 9, 7 + 11 * n),
            "USD" if is_us else "GBP",
            "US" if is_us else "GB",
            "NY" if is_us else "ENG",
            [(PRODUCT["CND-CED"], 1), (PRODUCT["MUG-STN"], 2)],
            gateway="stripe" if is_us else "shopify_payments",
            shipping=5_99 if is_us else 3_95,
            fault=kind,
        )
        recipe(draft, at)
        return draft

    def is_quiet(self, processor: str, currency: str, day: date) -> bool:
        """True on the days on which nothing ordinary may happen in that balance."""
        return (processor, currency) == ("stripe_uk", "EUR") and self.offset(day) == _QUIET_EUR_OFFSET

    def failing_payouts(self, connection: str, day: date) -> frozenset[str]:
        if connection == "stripe_us" and self.offset(day) == _FAILING_OFFSET:
            return frozenset({payout_id(connection, "USD", day)})
        return frozenset()

    def unknown_payments(self, connection: str, day: date) -> list[ProcessorTransaction]:
        if connection == "stripe_us" and self.offset(day) == 4:
            return [unknown_payment(connection, day, 0, instant(zone_of(connection), day, 14, 20), 180_00)]
        return []

    def has_duplicate_statement(self, day: date) -> bool:
        return self.offset(day) == _DUPLICATE_STATEMENT_OFFSET

    def has_late_statement(self, day: date) -> bool:
        """True when the EUR account's statement of that day arrives `late_days` later."""
        return self.is_late(day, _LATE_STATEMENT_OFFSET)

    def bank_lines(self, ledger: Ledger, day: date) -> list[BankLine]:
        connection, at = ledger.account.connection, partial(instant, ledger.zone, day)
        recipes = [_BANK_RECIPES.get((connection, self.offset(day)))]
        if connection == "plaid_uk" and self.is_late(day):
            recipes.append(partial(_line_modified_late, late_days=self.late_days))
        if connection == "bank_eur" and self.has_late_statement(day):
            recipes.append(_line_of_late_statement)
        return [line for make in recipes if make for line in make(ledger, day, at)]

    def planted(self, first: date, last: date) -> list[Planted]:
        """What is planted with an order, payout, line or file of a day from `first` to `last`, both included."""
        found: list[Planted] = []
        day = max(first, self.start)
        while day <= last and self.is_on:
            found += self._planted_orders(day) + self._planted_money(day) + self._planted_lines(day)
            day += timedelta(days=1)
        return list(dict.fromkeys(found))

    def _planted_orders(self, day: date) -> list[Planted]:
        found = []
        for shop in self.counts:
            for draft in self.drafts(shop, day):
                kind = draft.fault or ""
                number = str(order_id(shop, day, draft.index))
                shown_on = draft.edit[0] if draft.edit else draft.refund.at if draft.refund else draft.at
                connection, stream, source_id = shop, "orders", number
                if draft.dispute is not None:
                    connection, stream = PROCESSOR_OF[shop, draft.gateway], "disputes"
                    source_id = processor_id(connection, "dispute", day, draft.index, DISPUTE_N)
                    shown_on = draft.dispute.opened_at
                if kind == "negative_payout":
                    connection, stream = "stripe_uk", "payouts"
                    shown_on += timedelta(days=2)
                    source_id = payout_id(connection, "EUR", _local(connection, shown_on))
                found.append(Planted(kind, connection, stream, source_id, _local(connection, shown_on), _NOTES[kind]))
        return found

    def _planted_money(self, day: date) -> list[Planted]:
        found = []
        for failed in self.failing_payouts("stripe_us", day):
            for kind, stream in (("failed_payout", "payouts"), ("duplicate_event", "events")):
                found.append(Planted(kind, "stripe_us", stream, failed, day, _NOTES[kind]))
        for txn in self.unknown_payments("stripe_us", day):
            kind = "payment_without_order"
            found.append(Planted(kind, "stripe_us", "balance_transactions", txn.txn_id, day, _NOTES[kind]))
        return found

    def _planted_lines(self, day: date) -> list[Planted]:
        found = []
        for account in BANK_ACCOUNTS:
            ledger = Ledger(self.seed, account)
            stream = "transactions" if account.iban is None else "statements"
            for line in self.bank_lines(ledger, day):
                if line.fault is not None:
                    source_id = line.line_id if account.iban is None else f"{EUR_IBAN}-{day:%Y%m%d}"
                    found.append(Planted(line.fault, account.connection, stream, source_id, day, _NOTES[line.fault]))
        if self.has_duplicate_statement(day):
            kind = "duplicate_statement"
            found.append(Planted(kind, "bank_eur", "statements", f"{EUR_IBAN}-{day:%Y%m%d}", day, _NOTES[kind]))
        if self.has_late_statement(day):
            kind, shown_on = "statement_late", day + timedelta(days=self.late_days)
            found.append(Planted(kind, "bank_eur", "statements", f"{EUR_IBAN}-{day:%Y%m%d}", shown_on, _NOTES[kind]))
        return found


def _local(connection: str, at: datetime) -> date:
    return local_day(zone_of(connection), at)


def _edited(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.edit = (at(2, 11, 15), PRODUCT["PEN-BRS"])


def _edited_late(draft: Draft, at: Callable[..., datetime], late_days: int) -> None:
    draft.presentment, draft.country, draft.province = "CAD", "CA", "ON"
    draft.edit = (at(late_days, 11, 25), PRODUCT["PEN-BRS"])


def _gift_card_sold(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.items, draft.shipping, draft.gift_card_value = [], 0, 100_00


def _gift_card_redeemed(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.items, draft.gift_paid = [(PRODUCT["BLK-WOL"], 1)], 100_00


def _gift_card_pays_all(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.gift_paid = 1_000_00


def _dispute_lost(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.dispute = DisputePlan(at(1, 12, 30), at(4, 15), "lost")


def _dispute_won(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.dispute = DisputePlan(at(2, 12, 40), at(5, 15), "won")


def _shopify_dispute_lost(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.dispute = DisputePlan(at(2, 12, 45), at(5, 16), "lost")


def _dispute_lost_late(draft: Draft, at: Callable[..., datetime], late_days: int) -> None:
    draft.presentment, draft.country, draft.province, draft.gateway = "EUR", "IE", None, "stripe"
    draft.dispute = DisputePlan(at(2, 12, 50), at(late_days, 15, 30), "lost")


def _partial_refund(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.discount_percent = 10
    draft.refund = RefundPlan("line_shipping", at(1, 10, 5))


def _full_refund(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.presentment, draft.country, draft.province = "CAD", "CA", "ON"
    draft.refund = RefundPlan("full", at(2, 10, 35))


def _test_order(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.is_test = True


def _refund_before_charge(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.at = at(0, 23, 50)
    draft.refund = RefundPlan("full", at(0, 23, 58))
    draft.charge_at = at(0, 24, 5)
    draft.charge_refund_at = at(1, 8, 15)


def _authorised_only(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.flow = "authorised"


def _cancelled_before_capture(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.flow, draft.cancelled_at = "voided", at(0, 17)


def _cancelled_after_capture(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.flow, draft.cancelled_at = "capture", at(0, 15, 30)
    draft.refund = RefundPlan("full", at(0, 15, 30))


def _order_without_payment(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.has_charge = False


def _many_lines(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.items = [(PRODUCTS[n % len(PRODUCTS)], 1) for n in range(60)]


def _eur_sale_refunded_alone(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.presentment, draft.country, draft.province, draft.gateway = "EUR", "IE", None, "stripe"
    draft.refund = RefundPlan("full", at(1, 13, 10))


def _malformed_amount(draft: Draft, at: Callable[..., datetime]) -> None:
    draft.items, draft.shipping = [(PRODUCT["SOP-PIN"], 1)], 4_55  # 12.50 in all
    draft.overrides = {"totalPriceSet.shopMoney.amount": "12,50"}


def _as_it_is(draft: Draft, at: Callable[..., datetime]) -> None:
    """Nothing but an order that a test can name."""


_RECIPES: dict[tuple[str, int], tuple[tuple[str, Recipe], ...]] = {
    ("shopify_us", 0): (
        ("edited_order", _edited),
        ("gift_card_sold", _gift_card_sold),
        ("dispute_lost", _dispute_lost),
        ("dispute_won", _dispute_won),
    ),
    ("shopify_us", 1): (
        ("partial_refund", _partial_refund),
        ("full_refund", _full_refund),
        ("test_order", _test_order),
    ),
    ("shopify_us", 2): (
        ("refund_before_charge", _refund_before_charge),
        ("authorised_only", _authorised_only),
        ("cancelled_before_capture", _cancelled_before_capture),
    ),
    ("shopify_us", 3): (
        ("cancelled_after_capture", _cancelled_after_capture),
        ("gift_card_redeemed", _gift_card_redeemed),
        ("duplicate_order", _as_it_is),
    ),
    ("shopify_us", 4): (
        ("order_without_payment", _order_without_payment),
        ("gift_card_pays_all", _gift_card_pays_all),
    ),
    ("shopify_us", 5): (("many_lines", _many_lines),),
    ("shopify_uk", 0): (
        ("tax_included", _as_it_is),
        ("negative_payout", _eur_sale_refunded_alone),
        ("dispute_lost", _shopify_dispute_lost),
    ),
    ("shopify_uk", 3): (("malformed_amount", _malformed_amount),),
}

_LATE_RECIPES: dict[str, tuple[tuple[str, Callable[..., None]], ...]] = {
    "shopify_us": (("edited_late", _edited_late),),
    "shopify_uk": (("dispute_lost_late", _dispute_lost_late),),
}


def _lines_1(ledger: Ledger, day: date, at: Callable[..., datetime]) -> list[BankLine]:
    booked_at = instant(ledger.zone, day + timedelta(days=1), 10, 20)
    cafe = partial(ledger.line, day, amount=-4_50, description="CORNER CAFE 118", role="meals")
    return [
        cafe(key="twin 1", category="FOOD_AND_DRINK", at=at(12, 1), fault="identical_bank_lines"),
        cafe(key="twin 2", category="FOOD_AND_DRINK", at=at(12, 1), fault="identical_bank_lines"),
        ledger.line(day, "tip", -62_00, "HUDSON RESTAURANT NEW YORK", "meals", "FOOD_AND_DRINK", at(20, 45),
                    is_pending=True, removed_at=booked_at, fault="pending_amount_changed"),
    ]  # fmt: skip


def _lines_2(ledger: Ledger, day: date, at: Callable[..., datetime]) -> list[BankLine]:
    pending_id = ledger.line_id(day - timedelta(days=1), "tip")
    return [
        ledger.line(day, "tip booked", -74_40, "HUDSON RESTAURANT NEW YORK", "meals", "FOOD_AND_DRINK", at(10, 20),
                    replaces_pending_id=pending_id),
        ledger.line(day, "modified", -36_18, "POS 8841 3321 NY", "uncategorised_expense", "GENERAL_MERCHANDISE",
                    at(13, 30), modified_at=instant(ledger.zone, day + timedelta(days=1), 9, 30),
                    modified_description="STAPLES 0042 BROOKLYN NY", modified_role="office_supplies",
                    fault="bank_line_modified"),
        ledger.line(day, "unknown out", -212_75, "HP*INSTRUMENT HIRE 77102", "uncategorised_expense",
                    "GENERAL_SERVICES", at(15), fault="unknown_bank_line"),
    ]  # fmt: skip


def _lines_3(ledger: Ledger, day: date, at: Callable[..., datetime]) -> list[BankLine]:
    return [
        ledger.line(day, "removed", -118_20, "ULINE SHIP SUPPLIES", "office_supplies", "GENERAL_MERCHANDISE", at(11, 5),
                    removed_at=instant(ledger.zone, day + timedelta(days=1), 11), fault="bank_line_removed"),
        ledger.line(day, "unknown in", 300_00, "WIRE IN 00917 M KOWALSKI", "unidentified_receipts", "TRANSFER_IN",
                    at(14, 10), fault="unknown_bank_line"),
    ]  # fmt: skip


def _lines_4(ledger: Ledger, day: date, at: Callable[..., datetime]) -> list[BankLine]:
    return [
        ledger.line(day, "usdt", -50_00, "CRYPTO OFFRAMP 5521", "uncategorised_expense", "GENERAL_SERVICES", at(16),
                    wire_currency="USDT", fault="unknown_bank_currency"),
    ]  # fmt: skip


def _lines_5(ledger: Ledger, day: date, at: Callable[..., datetime]) -> list[BankLine]:
    return [
        ledger.line(day, "decimals", -12_34, "FUEL STOP 0093", "uncategorised_expense", "TRANSPORTATION", at(17),
                    wire_amount="12.345", fault="too_many_decimals"),
    ]  # fmt: skip


def _statement_twins(ledger: Ledger, day: date, at: Callable[..., datetime]) -> list[BankLine]:
    twin = partial(ledger.line, day, amount=-35_00, description="BUERO DIREKT GMBH", role="office_supplies")
    return [
        twin(key=f"twin {n}", category="GENERAL_MERCHANDISE", at=at(12), fault="identical_statement_lines")
        for n in (1, 2)
    ]


def _line_modified_late(ledger: Ledger, day: date, at: Callable[..., datetime], late_days: int) -> list[BankLine]:
    return [
        ledger.line(day, "modified late", -48_60, "POS 5512 0093 BRISTOL", "uncategorised_expense", "GENERAL_MERCHANDISE",
                    at(13, 40), modified_at=instant(ledger.zone, day + timedelta(days=late_days), 9, 40),
                    modified_description="RYMAN LTD LONDON EC2", modified_role="office_supplies",
                    fault="bank_line_modified_late"),
    ]  # fmt: skip


def _line_of_late_statement(ledger: Ledger, day: date, at: Callable[..., datetime]) -> list[BankLine]:
    return [
        ledger.line(day, "late", -640_00, "BUERO DIREKT GMBH", "office_supplies", "GENERAL_MERCHANDISE", at(12, 30))
    ]


_BANK_RECIPES: dict[tuple[str, int], Callable[[Ledger, date, Callable[..., datetime]], list[BankLine]]] = {
    ("plaid_us", 1): _lines_1,
    ("plaid_us", 2): _lines_2,
    ("plaid_us", 3): _lines_3,
    ("plaid_us", 4): _lines_4,
    ("plaid_us", 5): _lines_5,
    ("bank_eur", _IDENTICAL_STATEMENT_OFFSET): _statement_twins,
}

_NOTES = {
    "edited_order": "a line is added two days later and the extra captured",
    "gift_card_sold": "a gift card of 100.00 is sold",
    "gift_card_redeemed": "100.00 of the order is paid with the gift card",
    "gift_card_pays_all": "a gift card pays the whole order, no processor sees it",
    "dispute_lost": "the customer's bank takes the charge back for good",
    "dispute_won": "the charge is taken back and returned",
    "partial_refund": "one line and the shipping are refunded the next day",
    "full_refund": "a CAD order is refunded in full two days later, at another rate",
    "test_order": "a test order, without a charge",
    "refund_before_charge": "order 23:50, refund 23:58; at Stripe the charge 00:05 the next day, the refund 08:15",
    "authorised_only": "authorised, never captured",
    "cancelled_before_capture": "authorised, then voided and cancelled",
    "cancelled_after_capture": "captured, then cancelled and refunded in full",
    "duplicate_order": "stands on two pages of one listing",
    "order_without_payment": "paid by stripe on Shopify, no charge at Stripe",
    "payment_without_order": "a Stripe charge without order metadata",
    "many_lines": "60 line items, more than one nested page",
    "tax_included": "prices include 20 % VAT",
    "negative_payout": "the only EUR business two days before was a refund",
    "malformed_amount": 'the total amount on the wire is "12,50"',
    "failed_payout": "fails at 16:00; the next day's payout carries the money again",
    "duplicate_event": "payout.failed is delivered twice",
    "identical_bank_lines": "same description and amount on one day, two ids",
    "pending_amount_changed": "pending without the tip, booked with it under another id",
    "bank_line_modified": "the descriptor changes the next day, and the category with it",
    "bank_line_removed": "booked, then removed the next day",
    "unknown_bank_line": "no rule knows the description",
    "unknown_bank_currency": "iso_currency_code null, unofficial_currency_code USDT",
    "too_many_decimals": "amount 12.345 in USD",
    "identical_statement_lines": "two equal entries in one CAMT statement",
    "duplicate_statement": "one statement under two file names",
    "edited_late": "a line is added to a CAD order six weeks later and the extra captured",
    "dispute_lost_late": "a charge in EUR is disputed, and lost six weeks later",
    "bank_line_modified_late": "the descriptor changes six weeks later, and the category with it",
    "statement_late": "the statement of the day arrives six weeks later",
}
