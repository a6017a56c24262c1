"""What is fixed about Harbour & Pine: entities, connections, accounts, products, taxes, how it reads bank lines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from ledger_pipeline.sandbox.events import BankAccount, ConnectionInfo, EntityInfo

from .ids import plaid_id

ENTITIES = {
    "hp_us": EntityInfo("hp_us", "Harbour & Pine Inc.", "USD", "America/New_York"),
    "hp_uk": EntityInfo("hp_uk", "Harbour & Pine Ltd", "GBP", "Europe/London"),
}
CONNECTIONS = {
    info.connection: info
    for info in (
        ConnectionInfo("shopify_us", "hp_us", "shopify", "USD"),
        ConnectionInfo("stripe_us", "hp_us", "stripe", "USD"),
        ConnectionInfo("plaid_us", "hp_us", "plaid", "USD"),
        ConnectionInfo("shopify_uk", "hp_uk", "shopify", "GBP"),
        ConnectionInfo("stripe_uk", "hp_uk", "stripe", "GBP"),
        ConnectionInfo("plaid_uk", "hp_uk", "plaid", "GBP"),
        ConnectionInfo("bank_eur", "hp_uk", "bank_file", "EUR"),
        ConnectionInfo("stall_uk", "hp_uk", "delimited_file", "GBP"),
    )
}
EUR_IBAN = "IE29AIBK93115212345678"
BANK_ACCOUNTS = (
    BankAccount("plaid_us", plaid_id("account", "plaid_us"), "Business Checking", "4417", "USD", 250_000_00),
    BankAccount("plaid_uk", plaid_id("account", "plaid_uk"), "Business Account", "8802", "GBP", 180_000_00),
    BankAccount("bank_eur", EUR_IBAN, "EUR Account", EUR_IBAN[-4:], "EUR", 40_000_00, EUR_IBAN),
)
PROCESSOR_OF = {  # (shop, gateway) → the connection whose balance takes the money
    ("shopify_us", "stripe"): "stripe_us",
    ("shopify_uk", "stripe"): "stripe_uk",
    ("shopify_uk", "shopify_payments"): "shopify_uk",
}
SHOP_OF = {"stripe_us": "shopify_us", "stripe_uk": "shopify_uk", "shopify_uk": "shopify_uk"}
SETTLES_IN = {"stripe_us": ("USD",), "stripe_uk": ("GBP", "EUR"), "shopify_uk": ("GBP",)}
PAYOUT_LAG_DAYS = {"stripe_us": 2, "stripe_uk": 2, "shopify_uk": 1}
PAYOUT_ACCOUNT = {
    ("stripe_us", "USD"): BANK_ACCOUNTS[0],
    ("stripe_uk", "GBP"): BANK_ACCOUNTS[1],
    ("shopify_uk", "GBP"): BANK_ACCOUNTS[1],
    ("stripe_uk", "EUR"): BANK_ACCOUNTS[2],
}
FEES = {  # (processor, settlement currency) → (per 100,000 of the amount, fixed minor units)
    ("stripe_us", "USD"): (2_900, 30),
    ("stripe_uk", "GBP"): (1_500, 20),
    ("stripe_uk", "EUR"): (1_500, 25),
    ("shopify_uk", "GBP"): (1_700, 25),
}
DISPUTE_FEES = {"USD": 15_00, "GBP": 15_00, "EUR": 20_00}

# First match wins; a line that no rule knows is uncategorised_expense (out) or unidentified_receipts (in).
BANK_RULES: tuple[tuple[str, str], ...] = (
    ("STRIPE", "payout_in_transit"),
    ("SHOPIFY", "payout_in_transit"),
    ("RENT ", "rent"),
    ("GOOGLE WORKSPACE", "software"),
    ("ADOBE", "software"),
    ("NOTION", "software"),
    ("STAPLES", "office_supplies"),
    ("RYMAN", "office_supplies"),
    ("ULINE", "office_supplies"),
    ("BUERO", "office_supplies"),
    ("RESTAURANT", "meals"),
    ("CAFE", "meals"),
    ("SERVICE CHARGE", "bank_fees"),
    ("INTEREST", "other_income"),
    ("CASH DEPOSIT", "order_clearing:cash"),
)


@dataclass(frozen=True, slots=True)
class Product:
    """`usd` without tax, `gbp` with VAT inside (unless zero-rated), in minor units."""

    sku: str
    title: str
    usd: int
    gbp: int
    is_zero_rated: bool = False

    def price(self, currency: str) -> int:
        return self.usd if currency == "USD" else self.gbp


PRODUCTS = (
    Product("CND-CED", "Cedar & Smoke Candle", 28_00, 24_00),
    Product("CND-SEA", "Sea Salt Candle", 28_00, 24_00),
    Product("SOP-PIN", "Pine Tar Soap", 9_50, 7_95),
    Product("BLK-WOL", "Lambswool Blanket", 145_00, 125_00),
    Product("MUG-STN", "Stoneware Mug", 22_00, 18_50),
    Product("JNL-LIN", "Linen Journal", 19_95, 16_99, True),
    Product("BOK-TID", "A Book of Tides", 34_00, 27_99, True),
    Product("TEA-BRK", "Breakfast Tea, 250 g", 14_25, 11_40, True),
    Product("TWL-TRK", "Turkish Towel", 42_00, 36_00),
    Product("OIL-LAM", "Brass Oil Lamp", 89_00, 79_00),
    Product("RPE-DRS", "Rope Door Stop", 31_49, 26_75),
    Product("CAP-WAX", "Waxed Cap", 54_90, 45_00),
    Product("PEN-BRS", "Brass Pen", 38_75, 32_15),
    Product("STK-PCK", "Sticker Pack", 4_99, 3_99),
)
PRODUCT = {product.sku: product for product in PRODUCTS}

US_TAXES: dict[str, tuple[tuple[str, str, int], ...]] = {  # title, rate, rate × 100,000
    "NY": (("New York State Tax", "0.04", 4_000), ("New York City Tax", "0.04875", 4_875)),
    "CA": (("California State Tax", "0.0725", 7_250),),
    "TX": (("Texas State Tax", "0.0625", 6_250), ("Austin City Tax", "0.02", 2_000)),
    "WA": (("Washington State Tax", "0.065", 6_500),),
    "FL": (("Florida State Tax", "0.06", 6_000),),
    "OR": (),
}
SHIPPING_TAXED = frozenset({"NY", "TX", "WA"})


@cache
def _six_in_the_morning(zone: str, day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 6, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def instant(zone: str, day: date, hour: int, minute: int = 0, second: int = 0) -> datetime:
    """The UTC instant of a local time from 06:00 on (after any change of the clocks); hour 24 is midnight."""
    return _six_in_the_morning(zone, day) + timedelta(hours=hour - 6, minutes=minute, seconds=second)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local_day(zone: str, at: datetime) -> date:
    return at.astimezone(_zone(zone)).date()


@cache
def day_bounds(zone: str, day: date) -> tuple[datetime, datetime]:
    """The instants in UTC at which the local day starts and ends (the end is not in it)."""
    following = day + timedelta(days=1)
    start = datetime(day.year, day.month, day.day, tzinfo=_zone(zone))
    end = datetime(following.year, following.month, following.day, tzinfo=_zone(zone))
    return start.astimezone(UTC), end.astimezone(UTC)


def zone_of(connection: str) -> str:
    return ENTITIES[CONNECTIONS[connection].entity].zone


def next_business_day(day: date) -> date:
    """Monday to Friday; bank holidays are not observed."""
    following = day + timedelta(days=1)
    while following.weekday() >= 5:
        following += timedelta(days=1)
    return following
