"""The sample company's own books, by another path than the pipeline: it walks the events and adds to a dict.

Nothing here knows the pipeline's model or rules; exchange rates to the base currency are the ECB's (`company.rates`).
A record is followed through the nights that saw it change; each change is posted where it is still allowed to.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache

from ledger_pipeline.sandbox.company import Company, changes
from ledger_pipeline.sandbox.company.facts import day_bounds, local_day
from ledger_pipeline.sandbox.company.rates import per_euro
from ledger_pipeline.sandbox.events import (
    BankAccount,
    BankLine,
    Dispute,
    Order,
    OrderLine,
    ProcessorTransaction,
    Refund,
    StallReceipt,
    Tender,
)
from ledger_pipeline.sandbox.gains import Posting, currency_run, month_end

THIRD_PARTY_GATEWAYS = frozenset({"stripe"})
TENDER_ROLES = {"gift_card": "gift_card_liability", "shopify_store_credit": "store_credit_liability"}


@dataclass(frozen=True, slots=True)
class Balance:
    """Signed, debits positive: `amount_minor` in `currency`, `base_minor` in the entity's base currency."""

    entity: str
    role: str
    currency: str
    amount_minor: int
    base_minor: int


@dataclass(frozen=True, slots=True)
class Exceptional:
    """A source record that is not in the books: `fate` is ignored or quarantined."""

    connection: str
    stream: str
    source_id: str
    fate: str
    reason: str


@dataclass(frozen=True, slots=True)
class Match:
    """A payout and the bank line that it became."""

    connection: str
    payout_id: str
    bank_connection: str
    line_id: str


@dataclass(frozen=True, slots=True)
class Truth:
    """What the books must say at the end of `through`.

    `balances` has no row where both amounts are zero. `fates` is connection → stream → fate → number of source records.
    """

    through: date
    balances: tuple[Balance, ...]
    fates: dict[str, dict[str, dict[str, int]]]
    exceptions: tuple[Exceptional, ...]
    matches: tuple[Match, ...]

    def to_json(self) -> str:
        """An object with the keys through, balances, fates, exceptions, matches."""
        return json.dumps(asdict(self), default=str, indent=1)


@dataclass(frozen=True, slots=True)
class Line:
    """`base` is given for the foreign side of a conversion; None: the base currency itself, or at the ECB's rate."""

    role: str
    currency: str
    amount: int
    base: int | None = None


@dataclass(frozen=True, slots=True)
class Closing:
    """An entity's month (its first day) that was closed at an instant, after the currency run for it."""

    entity: str
    month: date
    closed_at: datetime


def night_of(day: date) -> datetime:
    """When the records of a sync date are pulled: 05:30 UTC on the day after it."""
    return datetime(day.year, day.month, day.day, 5, 30, tzinfo=UTC) + timedelta(days=1)


@cache
def _euro_rate(day: date, base_currency: str) -> Decimal:
    return per_euro(day, base_currency)


def half_even(value: Decimal) -> int:
    return int(value.quantize(Decimal(1), ROUND_HALF_EVEN))


class Books:
    """Balances by (entity, role, currency) and by day, and fates by (connection, stream)."""

    def __init__(self, company: Company, closings: Iterable[Closing] = ()) -> None:
        self.base_currency = {name: info.base_currency for name, info in company.entities.items()}
        self.closings = sorted(closings, key=lambda closing: (closing.closed_at, closing.month, closing.entity))
        self.amounts: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self.bases: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self.postings: defaultdict[str, list[tuple[datetime, Posting]]] = defaultdict(list)
        self.fates: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.exceptions: list[Exceptional] = []
        self.matches: list[Match] = []
        self.records = 0

    def post(self, entity: str, day: date, lines: Iterable[Line]) -> None:
        """One entry, seen in the night of its own day. Raises ValueError when it doesn't balance in a currency."""
        self.follow(entity, day, [(day, list(lines))])

    def follow(self, entity: str, day: date, versions: Iterable[tuple[date, Sequence[Line]]]) -> None:
        """A record of `day` through the nights that saw it: (sync date, its lines then); no lines: nothing is posted.

        What changes is taken back and posted anew, each on its own day or on the first day of the first open month.
        """
        self.records += 1
        posted_on, posted = day, list[Posting]()
        for night, lines in versions:
            seen_at = night_of(night)
            wanted = self._entry(entity, day, lines) if lines else []
            if wanted == posted:
                continue
            if posted:
                self._add(entity, self._open_day(entity, posted_on, seen_at), seen_at, posted, -1)
                posted = []
            if wanted:
                posted_on, posted = self._open_day(entity, day, seen_at), wanted
                self._add(entity, posted_on, seen_at, posted, 1)

    def run_currencies(self) -> None:
        """Post each closed month's currency gains, from what was in the books when it was closed."""
        done: list[tuple[Closing, Posting]] = []
        for closing in self.closings:
            known = (line for seen_at, line in self.postings[closing.entity] if seen_at <= closing.closed_at)
            base_currency = self.base_currency[closing.entity]
            done += [(closing, line) for entry in currency_run(known, base_currency, closing.month) for line in entry]
        for closing, line in done:
            self._add(closing.entity, line.posted_on, closing.closed_at, [line], 1)

    def _open_day(self, entity: str, day: date, at: datetime) -> date:
        """`day`, or the first day of the first month after it that is open at that instant."""
        closed = {one.month for one in self.closings if one.entity == entity and one.closed_at <= at}
        while day.replace(day=1) in closed:
            day = month_end(day.replace(day=1)) + timedelta(days=1)
        return day

    def _entry(self, entity: str, day: date, lines: Iterable[Line]) -> list[Posting]:
        """The lines of one entry, one per role and currency, at the rates of `day`."""
        base_currency = self.base_currency[entity]
        amounts: defaultdict[tuple[str, str], int] = defaultdict(int)
        given: defaultdict[tuple[str, str], int] = defaultdict(int)
        converted: defaultdict[tuple[str, str], int] = defaultdict(int)
        for line in lines:
            key = (line.role, line.currency)
            amounts[key] += line.amount
            if line.base is not None:
                given[key] += line.base
            else:
                converted[key] += line.amount
        per_currency: Counter[str] = Counter()
        missing = 0
        made = []
        for (role, currency), amount in sorted(amounts.items()):
            per_currency[currency] += amount
            base = given[role, currency] + self._base(day, currency, converted[role, currency], base_currency)
            if amount or base:
                made.append(Posting(day, role, currency, amount, base))
            missing -= base
        if any(per_currency.values()):
            raise ValueError(f"an entry of {entity} on {day} misses {dict(per_currency)}: {dict(amounts)}")
        if missing:
            foreign = next(currency for currency in per_currency if currency != base_currency)
            made.append(Posting(day, "fx_rounding", foreign, 0, missing))
        return made

    def _base(self, day: date, currency: str, amount: int, base_currency: str) -> int:
        if currency == base_currency or amount == 0:
            return amount
        if currency != "EUR":
            raise ValueError(f"no rate for {currency}: only EUR stands in the books without a conversion")
        return half_even(amount * _euro_rate(day, base_currency))  # both have two digits

    def _add(self, entity: str, posted_on: date, seen_at: datetime, lines: Iterable[Posting], sign: int) -> None:
        for line in lines:
            amount, base = sign * line.amount, sign * line.base
            self.amounts[entity, line.role, line.currency] += amount
            self.bases[entity, line.role, line.currency] += base
            posting = Posting(posted_on, line.role, line.currency, amount, base, self.records)
            self.postings[entity].append((seen_at, posting))

    def fate(self, connection: str, stream: str, source_id: str, fate: str, reason: str = "") -> None:
        self.fates[connection, stream][fate] += 1
        if fate in ("ignored", "quarantined"):
            self.exceptions.append(Exceptional(connection, stream, source_id, fate, reason))

    def daily(self) -> dict[tuple[str, str, str, date], tuple[int, int]]:
        """(amount, base) by entity, role, currency and day of posting, where either isn't zero."""
        found: defaultdict[tuple[str, str, str, date], tuple[int, int]] = defaultdict(lambda: (0, 0))
        for entity, postings in self.postings.items():
            for _, line in postings:
                key = (entity, line.role, line.currency, line.posted_on)
                found[key] = (found[key][0] + line.amount, found[key][1] + line.base)
        return {key: sums for key, sums in found.items() if any(sums)}

    def truth(self, through: date) -> Truth:
        balances = tuple(
            Balance(*key, amount, self.bases[key])
            for key, amount in sorted(self.amounts.items())
            if amount or self.bases[key]
        )
        fates: dict[str, dict[str, dict[str, int]]] = {}
        for (connection, stream), counted in sorted(self.fates.items()):
            fates.setdefault(connection, {})[stream] = dict(sorted(counted.items()))
        exceptions = sorted(self.exceptions, key=lambda row: (row.connection, row.stream, row.source_id))
        return Truth(through, balances, fates, tuple(exceptions), tuple(self.matches))


def truth(company: Company, through: date, closings: Iterable[Closing] = ()) -> Truth:
    """The company's books and fates: all events with a local date up to `through`, with states as of that day's end.

    `closings`: the months that were closed; what was seen later is posted after them, and each has its currency run.
    """
    return walk(company, through, closings).truth(through)


def walk(
    company: Company,
    through: date,
    closings: Iterable[Closing] = (),
    connections: Collection[str] | None = None,
) -> Books:
    """The same as books, which also know the days of posting; `connections`: only what comes from these."""
    books = Books(company, closings)
    for connection, info in company.connections.items():
        if connections is not None and connection not in connections:
            continue
        _, end = day_bounds(company.zone(connection), through)
        days = list(_days(company.start, through))
        if info.system == "shopify":
            _walk_orders(books, company, connection, days, end)
        if info.system == "stripe" or connection == "shopify_uk":
            _walk_processor(books, company, connection, days, end)
        for account in company.bank_accounts:
            if account.connection == connection:
                _walk_bank(books, company, account, days, end)
        if info.system == "delimited_file":
            for day in days:
                for receipt in company.stall_receipts(day):
                    books.fate(connection, "records", receipt.receipt_no, "posted")
                    books.post(info.entity, day, receipt_lines(receipt, info.currency))
    books.run_currencies()
    return books


def _nights(zone: str, instants: Iterable[datetime | None], end: datetime) -> Iterator[tuple[date, datetime]]:
    """The local days on which something happened before `end`, each with the instant at which it ends."""
    for day in sorted({local_day(zone, at) for at in instants if at is not None and at < end}):
        yield day, day_bounds(zone, day)[1]


def _days(first: date, last: date) -> Iterator[date]:
    day = first
    while day <= last:
        yield day
        day += timedelta(days=1)


# Orders


def _walk_orders(books: Books, company: Company, shop: str, days: list[date], end: datetime) -> None:
    entity = company.connections[shop].entity
    for day in days:
        for order in company.orders(shop, day):
            fate, reason = order_fate(order, end)
            books.fate(shop, "orders", str(order.order_id), fate, reason)
            zone = company.zone(shop)
            states = [
                (night, sale_lines(order, until) if order_fate(order, until)[0] == "posted" else [])
                for night, until in _nights(zone, changes(order), end)
            ]
            books.follow(entity, day, states)
            if fate != "posted":
                continue
            for refund in order.refunds:
                if refund.at < end:
                    books.post(entity, local_day(zone, refund.at), refund_lines(order, refund))


def order_fate(order: Order, end: datetime) -> tuple[str, str]:
    """posted, ignored or quarantined, and why, as the order stood at `end`."""
    tenders = [tender for tender in order.tenders if tender.at < end and tender.status == "SUCCESS"]
    if order.overrides:
        return "quarantined", "malformed amount"
    if order.is_test:
        return "ignored", "test order"
    kinds = {tender.kind for tender in tenders}
    if kinds & {"SALE", "CAPTURE"}:
        return "posted", ""
    if "VOID" in kinds:
        return "ignored", "voided"
    return "ignored", "authorised only" if "AUTHORIZATION" in kinds else "not captured"


def sale_lines(order: Order, end: datetime) -> list[Line]:
    """The order as it stood at `end`, in one entry."""
    shop = order.shop_currency
    bought = [line for line in order.lines if line.added_at is None or line.added_at < end]
    paid = [t for t in order.tenders if t.at < end and t.kind in ("SALE", "CAPTURE") and t.status == "SUCCESS"]
    lines = [entry for tender in paid for entry in _tender_lines(tender, 1)]
    for line in bought:
        lines += _bought_lines(order, line)
    if order.tip:
        lines.append(Line("tips_payable", shop, -order.tip.shop))
    unpaid = -sum(line.amount for line in lines if line.currency == shop)
    if unpaid:
        lines.append(Line("accounts_receivable", shop, unpaid))
    return lines


def _bought_lines(order: Order, line: OrderLine) -> list[Line]:
    shop = order.shop_currency
    tax = sum(part.amount.shop for part in line.taxes)
    gross, discount = line.gross.shop, line.discount.shop
    if order.is_tax_included:
        net_discount = discount
        if gross - discount > 0:
            net_discount -= half_even(Decimal(discount * tax) / (gross - discount))
        # What is left of the price when the tax on the rest, and the tax inside the discount, are taken out.
        gross, discount = gross - tax - (discount - net_discount), net_discount
    role = {"goods": "sales", "gift_card": "gift_card_liability", "shipping": "shipping_income"}[line.kind]
    lines = [Line(role, shop, -gross)]
    lines += [Line(f"sales_tax_payable:{part.jurisdiction}", shop, -part.amount.shop) for part in line.taxes]
    if discount:
        lines.append(Line("sales_discounts", shop, discount))
    return lines


def _tender_lines(tender: Tender, sign: int) -> list[Line]:
    """Debits for what was paid (`sign` 1), credits for what was paid back (-1)."""
    money = tender.amount
    role = TENDER_ROLES.get(tender.gateway, f"order_clearing:{tender.gateway}")
    shop = sign * money.shop
    if tender.gateway not in THIRD_PARTY_GATEWAYS or money.presentment_currency == money.shop_currency:
        return [Line(role, money.shop_currency, shop)]
    seen = sign * money.presentment
    return [
        Line("currency_trading", money.shop_currency, shop),
        Line("currency_trading", money.presentment_currency, -seen, -shop),
        Line(role, money.presentment_currency, seen, shop),
    ]


def refund_lines(order: Order, refund: Refund) -> list[Line]:
    """One refund, in one entry."""
    shop = order.shop_currency
    jurisdiction = next((tax.jurisdiction for line in order.lines for tax in line.taxes), "")
    lines = [entry for tender in refund.tenders for entry in _tender_lines(tender, -1)]
    tax = 0
    for returned in refund.lines:
        inside = returned.tax.shop if order.is_tax_included else 0
        role = "gift_card_liability" if returned.kind == "gift_card" else "sales_returns"
        lines.append(Line(role, shop, returned.subtotal.shop - inside))
        tax += returned.tax.shop
    if refund.shipping:
        shipping_tax = refund.shipping_tax.shop if refund.shipping_tax else 0
        inside = shipping_tax if order.is_tax_included else 0
        lines.append(Line("shipping_income", shop, refund.shipping.shop - inside))
        tax += shipping_tax
    if refund.adjustment:
        lines.append(Line("sales_returns", shop, refund.adjustment.shop))
    if tax:
        lines.append(Line(f"sales_tax_payable:{jurisdiction}", shop, tax))
    return lines


# Processors


def _walk_processor(books: Books, company: Company, connection: str, days: list[date], end: datetime) -> None:
    entity = company.connections[connection].entity
    has_events = company.connections[connection].system == "stripe"
    for day in days:
        for txn in company.processor_transactions(connection, day):
            books.fate(connection, "balance_transactions", txn.txn_id, "posted")
            books.post(entity, day, transaction_lines(txn))
        for payout in company.payouts(connection, day):
            books.fate(connection, "payouts", payout.payout_id, "reference")
            moved = payout.failed_at or payout.paid_at
            if has_events and moved is not None and moved < end:
                books.fate(connection, "events", payout.payout_id, "reference")
                if payout.failed_at is None:
                    books.fate(connection, "payout_members", payout.payout_id, "reference")
        for dispute in company.disputes(connection, day):
            fate, reason = dispute_fate(dispute, end)
            if has_events and reason != "undecided":  # Stripe tells the day of a decision in an event only
                books.fate(connection, "events", dispute.dispute_id, fate, reason)
            if has_events and fate == "posted":
                books.fate(
                    connection, "disputes", dispute.dispute_id, "ignored", "lost; booked from the event that dates it"
                )
            else:
                books.fate(connection, "disputes", dispute.dispute_id, fate, reason)
            if fate == "posted":
                amount, currency = dispute.settled_amount, dispute.settled_currency
                lost = [Line("chargeback_loss", currency, amount), Line("dispute_receivable", currency, -amount)]
                books.post(entity, local_day(company.zone(connection), dispute.decided_at or end), lost)


def dispute_fate(dispute: Dispute, end: datetime) -> tuple[str, str]:
    if dispute.decided_at is None or dispute.decided_at >= end:
        return "ignored", "undecided"
    return ("posted", "") if dispute.outcome == "lost" else ("ignored", "settled by balance transaction")


def processor_of(connection: str) -> str:
    return "stripe" if connection.startswith("stripe_") else "shopify_payments"


def transaction_lines(txn: ProcessorTransaction) -> list[Line]:
    """One balance transaction, in one entry; the fee is its own pair of lines."""
    name = processor_of(txn.connection)
    balance = f"processor_balance:{name}"
    lines = [Line(balance, txn.currency, txn.amount)]
    if txn.kind in ("charge", "refund"):
        against = f"order_clearing:{name}" if txn.order_id is not None else "unidentified_receipts"
        lines += _against(txn, against)
    elif txn.kind in ("dispute", "dispute_reversal"):
        lines.append(Line("dispute_receivable", txn.currency, -txn.amount))
    elif txn.kind in ("payout", "payout_failure"):
        lines.append(Line("payout_in_transit", txn.currency, -txn.amount))
    else:
        raise ValueError(f"{txn.txn_id} is of an unknown kind: {txn.kind}")
    if txn.fee:
        expense = "chargeback_fees" if txn.kind == "dispute" else "processing_fees"
        lines += [Line(expense, txn.currency, txn.fee), Line(balance, txn.currency, -txn.fee)]
    return lines


def _against(txn: ProcessorTransaction, role: str) -> list[Line]:
    """The other side of a charge (of a refund with the signs turned), in the currency that the customer paid in."""
    if txn.source_currency == txn.currency:
        return [Line(role, txn.currency, -txn.amount)]
    source = txn.source_amount if txn.amount >= 0 else -txn.source_amount
    return [
        Line("currency_trading", txn.currency, -txn.amount),
        Line("currency_trading", txn.source_currency, source, txn.amount),
        Line(role, txn.source_currency, -source, -txn.amount),
    ]


# Banks and the stall


def _walk_bank(books: Books, company: Company, account: BankAccount, days: list[date], end: datetime) -> None:
    connection = account.connection
    entity = company.connections[connection].entity
    payout_connections = {
        payout.payout_id: processor
        for processor in ("stripe_us", "stripe_uk", "shopify_uk")
        if company.connections[processor].entity == entity
        for day in days
        for payout in company.payouts(processor, day)
    }
    if account.iban is None:
        books.fate(connection, "accounts", account.account_id, "reference")
    for day in days:
        arrives = company.statement_arrives(day) if account.iban is not None else day
        if arrives > days[-1]:
            continue
        lines = company.bank_lines(connection, account.account_id, day)
        if account.iban is not None:
            statement = f"{account.iban}-{day:%Y%m%d}"
            books.fate(connection, "statements", statement, "posted" if lines else "reference")
        for line in lines:
            fate, reason = line_fate(line, end)
            if account.iban is None:
                books.fate(connection, "transactions", line.line_id, fate, reason)
            states = [
                (max(night, arrives), bank_entry(line, until) if line_fate(line, until)[0] == "posted" else [])
                for night, until in _nights(company.zone(connection), (line.at, line.modified_at, line.removed_at), end)
            ]
            books.follow(entity, day, states)
            if fate == "posted" and line.payout_id:
                source = payout_connections[line.payout_id]
                books.matches.append(Match(source, line.payout_id, connection, line.line_id))


def line_fate(line: BankLine, end: datetime) -> tuple[str, str]:
    """posted, ignored or quarantined, and why, as the line stood at `end`."""
    if line.wire_amount is not None:
        return "quarantined", "too many decimals"
    if line.wire_currency is not None:
        return "quarantined", "unknown currency"
    if line.removed_at is not None and line.removed_at < end:
        return "ignored", "removed"
    return ("ignored", "pending") if line.is_pending else ("posted", "")


def bank_entry(line: BankLine, end: datetime) -> list[Line]:
    is_modified = line.modified_at is not None and line.modified_at < end
    role = line.modified_role if is_modified and line.modified_role else line.role
    return [
        Line(f"bank:{line.account_id}", line.currency, line.amount),
        Line(role, line.currency, -line.amount),
    ]


def receipt_lines(receipt: StallReceipt, currency: str) -> list[Line]:
    amount = receipt.quantity * receipt.unit_price
    return [Line("order_clearing:cash", currency, amount), Line("sales", currency, -amount)]
