"""The bank accounts: payouts that arrive, rent, subscriptions, card purchases, fees, interest, and the stall's cash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from random import Random

from ledger_pipeline.sandbox.events import BankAccount, BankLine, Payout, StallReceipt

from .facts import PRODUCTS, instant, zone_of
from .ids import plaid_id

CASH_BANKED_WEEKDAY = 4  # Friday, for the seven days before it


@dataclass(frozen=True, slots=True)
class Purchase:
    """A shop that cards are used at: `role` is what the bookkeeper books it to."""

    description: str
    merchant: str
    category: str
    role: str
    low: int
    high: int


_PURCHASES = {
    "USD": (
        Purchase("STAPLES 0042 BROOKLYN NY", "Staples", "GENERAL_MERCHANDISE", "office_supplies", 12_00, 140_00),
        Purchase("ULINE SHIP SUPPLIES", "Uline", "GENERAL_MERCHANDISE", "office_supplies", 45_00, 300_00),
        Purchase("HUDSON RESTAURANT NEW YORK", "Hudson Restaurant", "FOOD_AND_DRINK", "meals", 18_00, 95_00),
        Purchase("CORNER CAFE 118", "Corner Cafe", "FOOD_AND_DRINK", "meals", 4_00, 22_00),
    ),
    "GBP": (
        Purchase("RYMAN LTD LONDON EC2", "Ryman", "GENERAL_MERCHANDISE", "office_supplies", 6_00, 80_00),
        Purchase("QUAYSIDE RESTAURANT", "Quayside Restaurant", "FOOD_AND_DRINK", "meals", 15_00, 70_00),
        Purchase("PIER CAFE BRISTOL", "Pier Cafe", "FOOD_AND_DRINK", "meals", 3_00, 16_00),
    ),
    "EUR": (Purchase("BUERO DIREKT GMBH", "Buero Direkt", "GENERAL_MERCHANDISE", "office_supplies", 20_00, 120_00),),
}
_SOFTWARE = {
    "USD": (("GOOGLE WORKSPACE HARBOURPINE", 86_40), ("ADOBE CREATIVE CLOUD", 59_99), ("NOTION LABS INC", 48_00)),
    "GBP": (("ADOBE SYSTEMS SOFTWARE", 51_98), ("NOTION LABS INC", 40_00)),
}
_RENT = {"USD": ("RENT 214 WATER ST LLC", 4_800_00), "GBP": ("RENT QUAYSIDE UNITS LTD", 2_150_00)}
_FEE = {"USD": 25_00, "GBP": 12_50, "EUR": 9_00}
_INTEREST = {"USD": 31_17, "GBP": 14_02, "EUR": 3_41}
_PAYOUT_WORDS = {
    "USD": "STRIPE TRANSFER ST-{} HARBOUR AND PINE INC",
    "GBP": "STRIPE PAYMENTS UK LTD {}",
    "EUR": "STRIPE TECHNOLOGY EUROPE LTD {}",
}


class Ledger:
    """Makes the lines of one account; `add` gives each an id of the account's own kind."""

    def __init__(self, seed: int, account: BankAccount) -> None:
        self.seed = seed
        self.account = account
        self.zone = zone_of(account.connection)

    def line_id(self, day: date, key: str) -> str:
        if self.account.connection.startswith("plaid_"):
            return plaid_id(self.seed, self.account.connection, day, key)
        serial = int.from_bytes(plaid_id(self.seed, key).encode()[:6], "big") % 10**9
        return f"{day:%Y%m%d}{serial:09d}"

    def line(
        self,
        day: date,
        key: str,
        amount: int,
        description: str,
        role: str,
        category: str,
        at: datetime,
        **more: object,
    ) -> BankLine:
        return BankLine(
            connection=self.account.connection,
            account_id=self.account.account_id,
            line_id=self.line_id(day, key),
            at=at,
            day=day,
            amount=amount,
            currency=self.account.currency,
            description=description,
            category=category,
            role=role,
            **more,  # type: ignore[arg-type]
        )

    def lines(self, day: date, arrived: Iterable[Payout], start: date, cash_banked: int) -> list[BankLine]:
        """All of `day`'s ordinary lines by instant; `arrived` are the payouts that reach the account that day."""
        found = [self._payout(day, payout) for payout in arrived]
        found += self._regular(day)
        found += self._purchases(day)
        if day > start:
            found += self._settled_purchases(day - timedelta(days=1))
        if cash_banked:
            at = instant(self.zone, day, 11, 30)
            found.append(
                self.line(
                    day, "cash", cash_banked, "CASH DEPOSIT MARKET STALL", "order_clearing:cash", "TRANSFER_IN", at
                )
            )
        return found

    def _payout(self, day: date, payout: Payout) -> BankLine:
        words = _PAYOUT_WORDS[self.account.currency]
        if not payout.connection.startswith("stripe_"):
            words = "SHOPIFY PAYMENTS {}"
        description = words.format(payout.payout_id[-10:].upper())
        category = "TRANSFER_IN" if payout.amount >= 0 else "TRANSFER_OUT"
        at = instant(self.zone, day, 8)
        key = f"payout {payout.payout_id}"
        return self.line(
            day, key, payout.amount, description, "payout_in_transit", category, at, payout_id=payout.payout_id
        )

    def _regular(self, day: date) -> list[BankLine]:
        currency = self.account.currency
        week, weekday = divmod(day.day - 1, 7)[0], day.weekday()
        at = instant(self.zone, day, 9)
        found = []
        if weekday == 1 and week == 0 and currency in _RENT:
            words, amount = _RENT[currency]
            found.append(self.line(day, "rent", -amount, words, "rent", "RENT_AND_UTILITIES", at))
        if weekday == 2 and currency in _SOFTWARE:
            words, amount = _SOFTWARE[currency][week % len(_SOFTWARE[currency])]
            found.append(self.line(day, "software", -amount, words, "software", "GENERAL_SERVICES", at))
        if weekday == 3 and week == 1:
            words = "MONTHLY SERVICE CHARGE"
            found.append(self.line(day, "fee", -_FEE[currency], words, "bank_fees", "BANK_FEES", at))
        if weekday == 4 and week == 1:
            words = "INTEREST PAID"
            found.append(self.line(day, "interest", _INTEREST[currency], words, "other_income", "INCOME", at))
        return found

    def _drawn(self, day: date) -> list[tuple[Purchase, int, bool, datetime, str]]:
        rng = Random(f"{self.seed}|{self.account.connection}|{day}|card")
        shops = _PURCHASES[self.account.currency]
        drawn = []
        for number in range(rng.choice((0, 1, 1, 2, 3)) if len(shops) > 1 else rng.choice((0, 0, 1))):
            shop = rng.choice(shops)
            amount = rng.randint(shop.low, shop.high)
            is_pending_first = rng.random() < 0.6 and self.account.iban is None
            at = instant(self.zone, day, 10, rng.randrange(480))
            drawn.append((shop, amount, is_pending_first, at, f"card {number}"))
        return drawn

    def _purchases(self, day: date) -> list[BankLine]:
        return [
            self.line(
                day,
                key,
                -amount,
                shop.description,
                shop.role,
                shop.category,
                at,
                merchant=shop.merchant,
                is_pending=is_pending,
                removed_at=instant(self.zone, day + timedelta(days=1), 10) if is_pending else None,
            )
            for shop, amount, is_pending, at, key in self._drawn(day)
        ]

    def _settled_purchases(self, day: date) -> list[BankLine]:
        """The booked lines, one day later, of the purchases that were pending on `day`."""
        booked_on = day + timedelta(days=1)
        return [
            self.line(
                booked_on,
                f"booked {key}",
                -amount,
                shop.description,
                shop.role,
                shop.category,
                instant(self.zone, booked_on, 10),
                merchant=shop.merchant,
                replaces_pending_id=self.line_id(day, key),
            )
            for shop, amount, is_pending, _at, key in self._drawn(day)
            if is_pending
        ]


def stall_receipts(seed: int, day: date, number_of_sales: int) -> list[StallReceipt]:
    """A day's takings at the market stall, by time, 09:30 to 16:00."""
    rng = Random(f"{seed}|stall_uk|{day}")
    zone = zone_of("stall_uk")
    receipts = []
    for number in range(number_of_sales):
        product = rng.choice(PRODUCTS)
        at = instant(zone, day, 9, 30, int(23_400 * (number + rng.random()) / number_of_sales))
        receipts.append(
            StallReceipt(
                receipt_no=f"S{day:%y%m%d}-{number + 1:03d}",
                at=at,
                sku=product.sku,
                description=product.title,
                quantity=rng.choice((1, 1, 1, 2)),
                unit_price=product.gbp,
                paid_by="cash",
            )
        )
    return receipts


def takings(receipts: Sequence[StallReceipt]) -> int:
    return sum(receipt.quantity * receipt.unit_price for receipt in receipts)
