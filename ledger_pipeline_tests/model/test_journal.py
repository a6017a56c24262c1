"""Entries: the worked example, every rule for every kind and state, currencies, refusals, and balance for any input."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.model import journal
from ledger_pipeline.model.accounts import DEFAULT_CHART, Account, Chart
from ledger_pipeline.model.journal import Journal
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.model.rules import RULES
from ledger_pipeline_tests.fakes import DAY, row, table, tables

CHART = Chart(DEFAULT_CHART)
Lines = dict[tuple[str, str], tuple[int, int]]


def rates(currency: str, base: str, day: date) -> Fraction:
    known = {
        "USD": Fraction(1),
        "GBP": Fraction(13, 10),
        "EUR": Fraction("1.17235"),
        "JPY": Fraction("0.0066"),
        "KWD": Fraction("3.25"),
    }
    if currency not in known:
        raise LookupError(f"nobody quotes {currency}")
    return known[currency] / known[base]


def post(
    record: str, base: str = "USD", zone: str = "UTC", has_account: Callable[[str], bool] = CHART.has, **rows: Any
) -> Journal:
    return journal.post(RULES[record], tables(**rows), base=base, zone=zone, rates=rates, has_account=has_account)


def lines_of(made: Journal, entry: int = 0) -> Lines:
    """(role, currency) → (amount, base) of one entry."""
    return {
        (one["role"], one["currency"]): (one["amount_minor"], one["base_minor"])
        for one in made.lines.to_pylist()
        if one["entry"] == entry
    }


def usd(**amounts: int) -> Lines:
    return {(role.replace("__", ":"), "USD"): (amount, amount) for role, amount in amounts.items()}


def assert_balanced(made: Journal) -> None:
    sums: dict[Any, int] = defaultdict(int)
    for one in made.lines.to_pylist():
        sums[one["entry"], one["currency"]] += one["amount_minor"]
        sums[one["entry"], None] += one["base_minor"]
    assert not any(sums.values())


def refused(part: pa.Table) -> list[tuple[int, str]]:
    return [(one["raw_id"], one["reason"]) for one in part.to_pylist()]


def worked_example(**sale: Any) -> dict[str, Any]:
    """ACCOUNTING.md: 100.00 goods, 10.00 discount, 5.99 shipping, 8.50 tax, 20.00 by gift card, the rest by Stripe."""
    return {
        "sale": [row("sale", total_minor=10449, **sale)],
        "sale_line": [
            row("sale_line", net_minor=10000, discount_minor=1000),
            row("sale_line", net_minor=599, role="shipping_income"),
        ],
        "sale_tax": [row("sale_tax", amount_minor=850)],
        "sale_tender": [
            row("sale_tender", amount_minor=2000, gateway="gift_card", role="gift_card_liability"),
            row("sale_tender", amount_minor=8449),
        ],
    }


def test_the_worked_example_is_booked_to_the_cent() -> None:
    made = post("sale", **worked_example())
    assert lines_of(made) == {
        ("order_clearing:stripe", "USD"): (8449, 8449),
        ("gift_card_liability", "USD"): (2000, 2000),
        ("sales_discounts", "USD"): (1000, 1000),
        ("sales", "USD"): (-10000, -10000),
        ("shipping_income", "USD"): (-599, -599),
        ("sales_tax_payable:US-NY", "USD"): (-850, -850),
    }
    assert made.lines["line_no"].to_pylist() == [1, 2, 3, 4, 5, 6]
    entry = made.entries.to_pylist()[0]
    assert (entry["raw_id"], entry["record"], entry["source_id"], entry["rule"]) == (1, "sale", "s1", "sale")
    assert (entry["rule_version"], entry["occurred_on"], entry["currency"], entry["line_count"]) == (1, DAY, "USD", 6)


STRIPE = "processor_balance__stripe"
PROCESSOR_CASES: list[tuple[str, int, int, Lines]] = [
    ("charge", 8449, 275, usd(order_clearing__stripe=-8449, processing_fees=275, **{STRIPE: 8174})),
    ("refund", -2000, 0, usd(order_clearing__stripe=2000, **{STRIPE: -2000})),
    ("refund", -2000, -58, usd(order_clearing__stripe=2000, processing_fees=-58, **{STRIPE: -1942})),
    ("refund_failure", 2000, 0, usd(order_clearing__stripe=-2000, **{STRIPE: 2000})),
    ("dispute", -5000, 1500, usd(dispute_receivable=5000, chargeback_fees=1500, **{STRIPE: -6500})),
    ("dispute_reversal", 5000, 0, usd(dispute_receivable=-5000, **{STRIPE: 5000})),
    ("dispute_reversal", 5000, -1500, usd(dispute_receivable=-5000, chargeback_fees=-1500, **{STRIPE: 6500})),
    ("payout", -6174, 0, usd(payout_in_transit=6174, **{STRIPE: -6174})),
    ("payout", 300, 0, usd(payout_in_transit=-300, **{STRIPE: 300})),
    ("payout_failure", 6174, 25, usd(payout_in_transit=-6174, processing_fees=25, **{STRIPE: 6149})),
    ("fee", -499, 0, usd(processing_fees=499, **{STRIPE: -499})),
    ("reserve", -1000, 0, usd(processor_reserve__stripe=1000, **{STRIPE: -1000})),
]


@pytest.mark.parametrize(("kind", "amount", "fee", "lines"), PROCESSOR_CASES)
def test_a_movement_at_the_processor_is_booked_by_its_kind(kind: str, amount: int, fee: int, lines: Lines) -> None:
    made = post(
        "processor_transaction",
        processor_transaction=[row("processor_transaction", kind=kind, amount_minor=amount, fee_minor=fee)],
    )
    assert lines_of(made) == lines


def test_every_kind_of_movement_is_either_booked_or_ignored() -> None:
    kinds = RECORDS["processor_transaction"].field("kind").one_of
    assert {case[0] for case in PROCESSOR_CASES} | {"test"} == set(kinds)


IGNORED = [
    ("sale", "state", "test", "test order"),
    ("sale", "state", "authorised_only", "authorised only"),
    ("sale", "state", "voided", "voided"),
    ("sale", "state", "not_captured", "not captured"),
    ("refund", "state", "test", "test order"),
    ("refund", "state", "pending", "refund pending"),
    ("refund", "state", "sale_not_posted", "its sale is not posted"),
    ("processor_transaction", "kind", "test", "test transaction"),
    ("dispute", "state", "open", "undecided"),
    ("dispute", "state", "won", "settled by balance transaction"),
    ("dispute", "state", "lost_undated", "lost; booked from the event that dates it"),
    ("bank_transaction", "state", "pending", "pending"),
    ("bank_transaction", "state", "removed", "removed"),
    *((record, "state", state, state) for record in ("invoice", "bill", "pay_run") for state in ("draft", "void")),
]


@pytest.mark.parametrize(("record", "column", "value", "reason"), IGNORED)
def test_what_is_not_posted_says_why(record: str, column: str, value: str, reason: str) -> None:
    amounts = {"pay_run": "net_minor", "bank_transaction": "amount_minor", "dispute": "amount_minor"}
    amount = "amount_minor" if record == "processor_transaction" else amounts.get(record, "total_minor")
    made = post(record, **{record: [row(record, **{amount: 700, column: value})]})
    assert refused(made.ignored) == [(1, reason)]
    assert made.entries.num_rows == made.lines.num_rows == made.rejected.num_rows == 0


def test_every_state_that_has_no_entry_has_a_reason() -> None:
    posted = {"sale": {"captured"}, "refund": {"refunded"}, "dispute": {"lost"}, "bank_transaction": {"booked"}}
    posted |= {record: {"posted"} for record in ("invoice", "bill", "pay_run")}
    for record, states in posted.items():
        told = {value for name, _, value, _ in IGNORED if name == record}
        assert told | states == set(RECORDS[record].field("state").one_of)


def test_an_ignored_order_with_parts_posts_none_of_them() -> None:
    made = post("sale", **worked_example(state="authorised_only"))
    assert made.lines.num_rows == 0
    assert refused(made.ignored) == [(1, "authorised only")]


OTHER_CASES: list[tuple[str, dict[str, Any], Lines]] = [
    (
        "sale",  # what no tender covers is still owed
        {
            "sale": [row("sale", total_minor=1000, unpaid_minor=400)],
            "sale_line": [row("sale_line", net_minor=1000)],
            "sale_tender": [row("sale_tender", amount_minor=600)],
        },
        usd(order_clearing__stripe=600, accounts_receivable=400, sales=-1000),
    ),
    (
        "sale",  # gift cards sold, tips, and tax that the marketplace remits
        {
            "sale": [row("sale", total_minor=5880)],
            "sale_line": [
                row("sale_line", net_minor=5000, role="gift_card_liability"),
                row("sale_line", net_minor=800, role="tips_payable"),
            ],
            "sale_tax": [row("sale_tax", amount_minor=80, is_marketplace_liable=True, role="marketplace_tax_clearing")],
            "sale_tender": [row("sale_tender", amount_minor=5880, role="store_credit_liability")],
        },
        usd(store_credit_liability=5880, gift_card_liability=-5000, tips_payable=-800, marketplace_tax_clearing=-80),
    ),
    (
        "refund",
        {
            "refund": [row("refund", total_minor=1650)],
            "refund_line": [
                row("refund_line", amount_minor=1000),
                row("refund_line", amount_minor=500, role="shipping_income"),
            ],
            "refund_tax": [row("refund_tax", amount_minor=150)],
            "refund_tender": [
                row("refund_tender", amount_minor=1000),
                row("refund_tender", amount_minor=650, role="gift_card_liability"),
            ],
        },
        {
            ("sales_returns", "USD"): (1000, 1000),
            ("shipping_income", "USD"): (500, 500),
            ("sales_tax_payable:US-NY", "USD"): (150, 150),
            ("order_clearing:stripe", "USD"): (-1000, -1000),
            ("gift_card_liability", "USD"): (-650, -650),
        },
    ),
    ("dispute", {"dispute": [row("dispute", amount_minor=5000)]}, usd(chargeback_loss=5000, dispute_receivable=-5000)),
    (
        "bank_transaction",
        {"bank_transaction": [row("bank_transaction", amount_minor=900)]},
        usd(bank__a1=900, payout_in_transit=-900),
    ),
    (
        "bank_transaction",
        {"bank_transaction": [row("bank_transaction", amount_minor=-900, role="rent")]},
        usd(rent=900, bank__a1=-900),
    ),
    (
        "invoice",  # half of it is a service still to be given
        {
            "invoice": [row("invoice", total_minor=11900)],
            "invoice_line": [
                row("invoice_line", net_minor=5000),
                row("invoice_line", net_minor=5000, role="deferred_revenue"),
            ],
            "invoice_tax": [row("invoice_tax", amount_minor=1900, role="sales_tax_payable:DE")],
        },
        usd(accounts_receivable=11900, sales=-5000, deferred_revenue=-5000)
        | {("sales_tax_payable:DE", "USD"): (-1900, -1900)},
    ),
    (
        "invoice",  # a credit note
        {"invoice": [row("invoice", total_minor=-700)], "invoice_line": [row("invoice_line", net_minor=-700)]},
        usd(accounts_receivable=-700, sales=700),
    ),
    (
        "bill",
        {
            "bill": [row("bill", total_minor=11900)],
            "bill_line": [
                row("bill_line", net_minor=4000),
                row("bill_line", net_minor=6000, role="goods_received_not_invoiced"),
            ],
            "bill_tax": [row("bill_tax", amount_minor=1900)],
        },
        usd(rent=4000, goods_received_not_invoiced=6000, input_tax=1900, accounts_payable=-11900),
    ),
    (
        "pay_run",
        {
            "pay_run": [row("pay_run", gross_minor=5000, net_minor=3500)],
            "pay_run_line": [
                row("pay_run_line", amount_minor=amount, role=role)
                for role, amount in (
                    ("wages", 3000),
                    ("wages", 2000),
                    ("wages_payable", -3500),
                    ("payroll_tax_withheld", -1500),
                    ("employer_payroll_tax", 900),
                    ("employer_payroll_tax_payable", -900),
                )
            ],
        },
        usd(
            wages=5000,
            wages_payable=-3500,
            payroll_tax_withheld=-1500,
            employer_payroll_tax=900,
            employer_payroll_tax_payable=-900,
        ),
    ),
]


@pytest.mark.parametrize(("record", "rows", "lines"), OTHER_CASES)
def test_a_record_is_booked_as_the_policy_says(record: str, rows: dict[str, Any], lines: Lines) -> None:
    made = post(record, **rows)
    assert lines_of(made) == lines
    assert made.rejected.num_rows == made.ignored.num_rows == 0


def test_a_foreign_sale_carries_its_own_currency_and_the_base_amount() -> None:
    made = post("bank_transaction", base="GBP", bank_transaction=[row("bank_transaction", amount_minor=1300)])
    assert lines_of(made) == {("bank:a1", "USD"): (1300, 1000), ("payout_in_transit", "USD"): (-1300, -1000)}


@pytest.mark.parametrize(("currency", "amount", "base"), [("JPY", 10000, 6600), ("KWD", 1000, 325), ("USD", 5, 5)])
def test_base_amounts_heed_the_digits_of_both_currencies(currency: str, amount: int, base: int) -> None:
    made = post("bank_transaction", bank_transaction=[row("bank_transaction", amount_minor=amount, currency=currency)])
    assert lines_of(made)["bank:a1", currency] == (amount, base)


def test_a_tender_in_another_currency_passes_through_currency_trading() -> None:
    made = post(
        "sale",
        sale=[row("sale", total_minor=10000)],
        sale_line=[row("sale_line", net_minor=10000)],
        sale_tender=[row("sale_tender", amount_minor=10000, settled_minor=8500, settled_currency="EUR")],
    )
    assert lines_of(made) == {
        ("sales", "USD"): (-10000, -10000),
        ("currency_trading", "USD"): (10000, 10000),
        ("currency_trading", "EUR"): (-8500, -10000),
        ("order_clearing:stripe", "EUR"): (8500, 10000),
    }


def test_a_processor_that_converted_clears_the_order_in_the_customers_currency() -> None:
    made = post(
        "processor_transaction",
        processor_transaction=[
            row("processor_transaction", amount_minor=10000, fee_minor=300, settled_minor=8500, settled_currency="EUR")
        ],
    )
    assert lines_of(made) == {
        ("processor_balance:stripe", "USD"): (9700, 9700),
        ("processing_fees", "USD"): (300, 300),
        ("currency_trading", "USD"): (-10000, -10000),
        ("currency_trading", "EUR"): (8500, 10000),
        ("order_clearing:stripe", "EUR"): (-8500, -10000),
    }


def test_what_the_rounded_lines_miss_goes_to_fx_rounding_in_the_entry() -> None:
    made = post(
        "sale",
        sale=[row("sale", total_minor=3, currency="EUR")],
        sale_line=[
            row("sale_line", net_minor=1, currency="EUR", role=role)
            for role in ("sales", "shipping_income", "tips_payable")
        ],
        sale_tender=[row("sale_tender", amount_minor=3, currency="EUR", settled_currency="EUR")],
    )
    lines = lines_of(made)  # 3 × 1.17235 = 3.51705 → 4, and three times 1.17235 → 1
    assert lines["order_clearing:stripe", "EUR"] == (3, 4)
    assert lines["sales", "EUR"] == (-1, -1)
    assert lines["fx_rounding", "EUR"] == (0, -1)
    assert_balanced(made)


def test_an_unknown_rate_rejects_only_its_record() -> None:
    rows = [
        row("bank_transaction", n, f"s{n}", amount_minor=100, currency=c)
        for n, c in enumerate(["USD", "NGN", "EUR"], 1)
    ]
    made = post("bank_transaction", bank_transaction=rows)
    assert refused(made.rejected) == [(2, "no rate: nobody quotes NGN")]
    assert made.entries["source_id"].to_pylist() == ["s1", "s3"]
    assert set(made.lines["entry"].to_pylist()) == {0, 1}


def test_a_role_without_an_account_rejects_only_its_record() -> None:
    rows = [
        row("bank_transaction", n, f"s{n}", amount_minor=100, role=r)
        for n, r in enumerate(["rent", "yacht:blue", "meals"], 1)
    ]
    made = post("bank_transaction", bank_transaction=rows)
    assert refused(made.rejected) == [(2, "no account for role 'yacht:blue'")]
    assert made.entries["source_id"].to_pylist() == ["s1", "s3"]


def test_an_unbalanced_record_is_rejected_by_its_figure() -> None:
    rows = worked_example()
    rows["sale"].append(row("sale", 2, "s2", total_minor=100))
    rows["sale_line"].append(row("sale_line", 2, "s2", net_minor=100))
    rows["sale_tender"].append(row("sale_tender", 2, "s2", amount_minor=99))
    made = post("sale", **rows)
    assert refused(made.rejected) == [(2, "unbalanced by -1 USD minor units")]
    assert made.entries["source_id"].to_pylist() == ["s1"]


def test_a_loss_without_its_date_is_rejected_by_name() -> None:
    made = post(
        "dispute",
        dispute=[row("dispute", amount_minor=100, decided_at=None), row("dispute", 2, "s2", amount_minor=100)],
    )
    assert refused(made.rejected) == [(1, "decided_at is absent")]
    assert made.entries["source_id"].to_pylist() == ["s2"]


def test_a_record_of_nothing_is_ignored_as_zero() -> None:
    made = post(
        "bank_transaction",
        bank_transaction=[row("bank_transaction", amount_minor=0), row("bank_transaction", 2, "s2", amount_minor=1)],
    )
    assert refused(made.ignored) == [(1, "zero amount")]
    assert made.entries["source_id"].to_pylist() == ["s2"]
    free = post("sale", sale=[row("sale", total_minor=0)], sale_line=[row("sale_line", net_minor=0)])
    assert refused(free.ignored) == [(1, "zero amount")]


def test_lines_of_one_role_and_currency_become_one() -> None:
    made = post(
        "sale",
        sale=[row("sale", total_minor=300)],
        sale_line=[row("sale_line", net_minor=100), row("sale_line", net_minor=200)],
        sale_tender=[row("sale_tender", amount_minor=300)],
    )
    assert lines_of(made) == usd(order_clearing__stripe=300, sales=-300)
    assert made.lines.num_rows == 2


def test_a_parts_row_belongs_to_the_record_of_its_own_payload() -> None:
    """The same id in two payloads (an edited order): each version has its own parts."""
    made = post(
        "sale",
        sale=[row("sale", 1, "o", total_minor=100), row("sale", 2, "o", total_minor=300)],
        sale_line=[
            row("sale_line", 2, "o", net_minor=300),
            row("sale_line", 1, "o", net_minor=100),
            row("sale_line", 3, "o", net_minor=7),
        ],
        sale_tender=[row("sale_tender", 1, "o", amount_minor=100), row("sale_tender", 2, "o", amount_minor=300)],
    )
    assert lines_of(made, 0) == usd(order_clearing__stripe=100, sales=-100)
    assert lines_of(made, 1) == usd(order_clearing__stripe=300, sales=-300)


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        ("America/New_York", datetime(2026, 10, 6, 3, 59, tzinfo=UTC), date(2026, 10, 5)),
        ("America/New_York", datetime(2026, 10, 6, 4, 0, tzinfo=UTC), date(2026, 10, 6)),
        ("America/New_York", datetime(2026, 11, 1, 4, 30, tzinfo=UTC), date(2026, 11, 1)),
        ("Europe/London", datetime(2026, 10, 5, 23, 30, tzinfo=UTC), date(2026, 10, 6)),
        ("Europe/London", datetime(2026, 10, 26, 23, 30, tzinfo=UTC), date(2026, 10, 26)),
        ("Pacific/Kiritimati", datetime(2026, 10, 5, 10, 0, tzinfo=UTC), date(2026, 10, 6)),
    ],
)
def test_a_day_is_the_entitys_own(zone: str, moment: datetime, day: date) -> None:
    made = post(
        "processor_transaction",
        zone=zone,
        processor_transaction=[row("processor_transaction", amount_minor=1, occurred_at=moment)],
    )
    assert made.entries["occurred_on"].to_pylist() == [day]


def test_a_rate_is_that_of_the_entitys_own_day() -> None:
    asked = []

    def spy(currency: str, base: str, day: date) -> Fraction:
        asked.append((currency, base, day))
        return Fraction(1)

    moment = datetime(2026, 10, 6, 3, 0, tzinfo=UTC)
    rows = tables(
        processor_transaction=[
            row("processor_transaction", amount_minor=1, currency="EUR", settled_currency="EUR", occurred_at=moment)
        ]
    )
    journal.post(RULES["processor_transaction"], rows, base="USD", zone="America/New_York", rates=spy)
    assert asked == [("EUR", "USD", date(2026, 10, 5))]


def test_no_rows_make_an_empty_journal() -> None:
    for record in RULES:
        made = post(record)
        assert (made.entries.num_rows, made.lines.num_rows, made.ignored.num_rows, made.rejected.num_rows) == (
            0,
            0,
            0,
            0,
        )


def test_a_rule_is_printed_as_a_person_reads_it() -> None:
    described = RULES["dispute"].describe()
    assert described[0] == {"side": "Dr", "role": "chargeback_loss", "amount": "dispute.amount_minor", "when": ""}
    assert {"side": "–", "role": "undecided", "amount": "nothing", "when": "state is open"} in described
    assert RULES["processor_transaction"].describe()[1]["when"] == "kind is charge or refund or refund_failure"


def test_every_role_of_the_policy_has_an_account_of_the_default_chart() -> None:
    named = {post.role for rule in RULES.values() for post in rule.posts if not post.role.startswith("{")}
    for role in named | {journal.TRADING, journal.ROUNDING}:
        assert CHART.has(role.replace("{processor}", "x")), role
    with pytest.raises(KeyError):
        CHART.account_of("yacht")


def test_an_exact_role_wins_over_the_bare_one_and_a_later_account_over_an_earlier() -> None:
    chart = Chart(
        [
            *DEFAULT_CHART,
            Account("1010", "Checking", "asset", ("bank:a1",)),
            Account("4010", "Sales", "income", ("sales",)),
        ]
    )
    assert (chart.account_of("bank:a1"), chart.account_of("bank:a2"), chart.account_of("sales")) == (
        "1010",
        "1000",
        "4010",
    )


# any input --------------------------------------------------------------------------------------------------------

CURRENCY = st.sampled_from(["USD", "GBP", "EUR", "JPY", "KWD"])
AMOUNT = st.integers(-(10**9), 10**9)
MOMENT = st.integers(0, 364 * 86_400).map(lambda n: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n))
ROLE = st.sampled_from(["sales", "shipping_income", "gift_card_liability", "tips_payable"])


@st.composite
def sales(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """Orders whose tenders are the sum of their lines and taxes, in any currency, some settled in another."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(draw(st.integers(0, 6))):
        key, currency = (number + 1, f"s{number}"), draw(CURRENCY)
        state = draw(st.sampled_from(["captured", "captured", "captured", "voided"]))
        total = 0
        for net, discount, role in draw(st.lists(st.tuples(AMOUNT, st.integers(0, 10**6), ROLE), max_size=4)):
            rows["sale_line"].append(
                row("sale_line", *key, net_minor=net, discount_minor=discount, role=role, currency=currency)
            )
            total += net - discount
        for tax in draw(st.lists(AMOUNT, max_size=2)):
            rows["sale_tax"].append(row("sale_tax", *key, amount_minor=tax, currency=currency))
            total += tax
        first = draw(AMOUNT)
        for amount in (first, total - first):
            settled_currency = draw(CURRENCY)
            settled = amount if settled_currency == currency else draw(AMOUNT)
            rows["sale_tender"].append(
                row(
                    "sale_tender",
                    *key,
                    amount_minor=amount,
                    currency=currency,
                    settled_minor=settled,
                    settled_currency=settled_currency,
                )
            )
        rows["sale"].append(
            row("sale", *key, total_minor=total, currency=currency, state=state, occurred_at=draw(MOMENT))
        )
    return rows


@st.composite
def refunds(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """Refunds in any currency."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(draw(st.integers(0, 5))):
        key, currency = (number + 1, f"r{number}"), draw(CURRENCY)
        line, tax = draw(AMOUNT), draw(AMOUNT)
        rows["refund"].append(row("refund", *key, total_minor=line + tax, currency=currency, occurred_at=draw(MOMENT)))
        rows["refund_line"].append(row("refund_line", *key, amount_minor=line, currency=currency, role=draw(ROLE)))
        rows["refund_tax"].append(row("refund_tax", *key, amount_minor=tax, currency=currency))
        settled = draw(CURRENCY)
        rows["refund_tender"].append(
            row(
                *("refund_tender", *key),
                amount_minor=line + tax,
                currency=currency,
                settled_minor=line + tax if settled == currency else draw(AMOUNT),
                settled_currency=settled,
            )
        )
    return rows


@st.composite
def movements(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """Balance transactions of every kind, in any currency, some converted by the processor."""
    rows = []
    for number in range(draw(st.integers(0, 8))):
        currency, settled, amount = draw(CURRENCY), draw(CURRENCY), draw(AMOUNT)
        rows.append(
            row(
                *("processor_transaction", number + 1, f"t{number}"),
                kind=draw(st.sampled_from(RECORDS["processor_transaction"].field("kind").one_of)),
                amount_minor=amount,
                fee_minor=draw(AMOUNT),
                currency=currency,
                settled_currency=settled,
                settled_minor=amount if settled == currency else draw(AMOUNT),
                occurred_at=draw(MOMENT),
            )
        )
    return {"processor_transaction": rows}


ANY = st.one_of(
    st.tuples(st.just("sale"), sales()),
    st.tuples(st.just("refund"), refunds()),
    st.tuples(st.just("processor_transaction"), movements()),
)


def prints(made: Journal) -> dict[str, bytes]:
    return dict(zip(made.entries["source_id"].to_pylist(), made.entries["fingerprint"].to_pylist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(ANY, st.sampled_from(["USD", "GBP"]))
def test_whatever_is_posted_balances_and_every_row_has_one_outcome(case: tuple[str, dict[str, Any]], base: str) -> None:
    record, rows = case
    made = post(record, base=base, **rows)
    assert_balanced(made)
    outcomes = [one for part in (made.entries, made.ignored, made.rejected) for one in part["source_id"].to_pylist()]
    assert sorted(outcomes) == sorted(one["source_id"] for one in rows.get(record, []))
    assert made.rejected.num_rows == 0
    counted = defaultdict(int)
    for entry in made.lines["entry"].to_pylist():
        counted[entry] += 1
    assert [counted[n] for n in range(made.entries.num_rows)] == made.entries["line_count"].to_pylist()


@settings(max_examples=40, deadline=None)
@given(ANY, st.randoms(use_true_random=False))
def test_fingerprints_depend_neither_on_order_nor_on_chunks(
    case: tuple[str, dict[str, Any]], chance: random.Random
) -> None:
    record, rows = case
    whole = prints(post(record, **rows))
    shuffled = {name: chance.sample(list(part), len(part)) for name, part in rows.items()}
    assert prints(post(record, **shuffled)) == whole
    one_by_one: dict[str, bytes] = {}
    for head in rows.get(record, []):
        own = {name: [r for r in part if r["source_id"] == head["source_id"]] for name, part in rows.items()}
        one_by_one |= prints(post(record, **own))
    assert one_by_one == whole
    chunked = {n: pa.concat_tables([t.slice(0, 2), t.slice(2)]) for n, t in tables(**rows).items()}
    again = journal.post(RULES[record], chunked, base="USD", zone="UTC", rates=rates, has_account=CHART.has)
    assert prints(again) == whole


@pytest.mark.parametrize(
    "change", [{"amount_minor": 901}, {"role": "rent"}, {"booked_on": date(2026, 10, 6)}, {"currency": "EUR"}]
)
def test_a_fingerprint_changes_with_what_is_booked(change: dict[str, Any]) -> None:
    before = post("bank_transaction", bank_transaction=[row("bank_transaction", amount_minor=900)])
    after = post("bank_transaction", bank_transaction=[row("bank_transaction", **({"amount_minor": 900} | change))])
    same = post(
        "bank_transaction", bank_transaction=[row("bank_transaction", amount_minor=900, description="other words")]
    )
    assert prints(before) == prints(same) != prints(after)


def test_tables_by_hand_have_the_canonical_columns() -> None:
    assert table("sale_line", row("sale_line", net_minor=1), row("sale_line", net_minor=2))["line_no"].to_pylist() == [
        1,
        2,
    ]
