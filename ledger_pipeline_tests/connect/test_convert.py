"""Each converter: what it makes of the wire's values, and what it says of a value that doesn't fit."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ledger_pipeline.connect import banking, convert
from ledger_pipeline.connect.banking import Categorise, Rules
from ledger_pipeline.connect.mapping import Converter, Report, Settings
from ledger_pipeline.model.categories import categorise

MONDAY = datetime(2026, 10, 5, 12, tzinfo=UTC)
LOOKUP = convert.lookup("states", {"paid": "captured", "void": "voided"})


def run(converter: Converter, *columns: list[Any], **options: Any) -> tuple[list[Any], dict[int, tuple[int, str]]]:
    report = Report(Settings("c", options))
    return converter.run(columns, report).to_pylist(), report.errors


@pytest.mark.parametrize(
    ("converter", "columns", "values"),
    [
        (convert.text, [["a", "", None, " b "]], ["a", None, None, " b "]),
        (convert.text_of_number, [[7, "x", None]], ["7", "x", None]),
        (convert.currency, [["usd", "EUR", None, ""]], ["USD", "EUR", None, None]),
        (convert.integer, [[1, None, -(2**62)]], [1, None, -(2**62)]),
        (convert.boolean, [[True, False, None]], [True, False, None]),
        (convert.minor_units, [[8449, None]], [8449, None]),
        (
            convert.decimal_text_to_minor,
            [["84.49", "84", None, "1"], ["USD", "JPY", "USD", None]],
            [8449, 84, None, None],
        ),
        (convert.number_to_minor, [[Decimal("84.49"), Decimal("1.5E+1")], ["USD", "KWD"]], [8449, 15000]),
        (convert.time_iso, [["2026-10-05T14:00:00+02:00", "2026-10-05T12:00:00Z", None]], [MONDAY, MONDAY, None]),
        (convert.time_iso, [["2026-10-05T12:00:00.000001Z"]], [MONDAY.replace(microsecond=1)]),
        (convert.time_unix, [[1791201600, None]], [MONDAY, None]),
        (convert.date_unix, [[1791201600, None]], [date(2026, 10, 5), None]),
        (convert.date_iso, [["2026-10-05", None]], [date(2026, 10, 5), None]),
        (LOOKUP, [["paid", "void", None]], ["captured", "voided", None]),
        (convert.lookup("s", {"a": "b"}, other="rest"), [["a", "z", None]], ["b", "rest", None]),
        (convert.constant("x"), [[None, None]], ["x", "x"]),
        (convert.constant(0, pa.int64()), [[None]], [0]),
        (banking.number_to_minor_negated, [[Decimal("1.5"), Decimal("-2")], ["USD", None], [None, "EUR"]], [-150, 200]),
        (banking.official_currency, [["USD"], [None]], ["USD"]),
        (banking.bank_account_role, [["a1"]], ["bank:a1"]),
    ],
)
def test_values_that_fit(converter: Converter, columns: list[list[Any]], values: list[Any]) -> None:
    assert run(converter, *columns) == (values, {})


@pytest.mark.parametrize(
    ("converter", "columns", "message"),
    [
        (convert.currency, [["XBT"]], "unknown currency 'XBT' (not an active ISO 4217 code)"),
        (convert.decimal_text_to_minor, [["1.001"], ["USD"]], "1.001 has more decimals than USD has (2)"),
        (convert.decimal_text_to_minor, [["1,00"], ["USD"]], "'1,00' is not a decimal number"),
        (convert.decimal_text_to_minor, [["1"], ["QQQ"]], "unknown currency 'QQQ' (not an active ISO 4217 code)"),
        (convert.number_to_minor, [[Decimal("0.1")], ["JPY"]], "0.1 has more decimals than JPY has (0)"),
        (convert.time_iso, [["yesterday"]], "'yesterday' is no ISO 8601 time"),
        (convert.time_iso, [["2026-10-05T12:00:00"]], "'2026-10-05T12:00:00' has no time zone"),
        (convert.date_iso, [["05/10/2026"]], "'05/10/2026' is no date (YYYY-MM-DD)"),
        (convert.date_iso, [["2026-02-30"]], "'2026-02-30' is no date (YYYY-MM-DD)"),
        (LOOKUP, [["lost"]], "unknown value 'lost'; known are paid, void"),
        (banking.official_currency, [[None], ["BTC"]], "unknown currency 'BTC' (not an active ISO 4217 code)"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_of_its_row_alone(
    converter: Converter, columns: list[list[Any]], message: str
) -> None:
    good = {convert.currency: ["USD"], LOOKUP: ["paid"], convert.date_iso: ["2026-10-05"]}
    good |= {convert.time_iso: ["2026-10-05T12:00:00Z"], convert.number_to_minor: [Decimal(1), "USD"]}
    good |= {convert.decimal_text_to_minor: ["1", "USD"], banking.official_currency: ["USD", None]}
    around = [[value, *column, value] for column, value in zip(columns, good[converter], strict=True)]
    values, errors = run(converter, *around)
    assert {row: said for row, (_, said) in errors.items()} == {1: message}
    if converter is not convert.currency:
        assert values[1] is None
    assert None not in (values[0], values[2])


def test_the_first_error_of_a_row_is_kept() -> None:
    report = Report(Settings("c"))
    report.error(3, "first", 1)
    report.error(3, "second")
    assert report.errors == {3: (1, "first")}


RULES = [Categorise(contains=c, role=r, direction=d).model_dump() for c, r, d in [("Rent", "rent", "out"), ("RENT", "other_income", "both"), ("x", "meals", "in")]]  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize(
    ("description", "is_in", "role"),
    [
        ("MONTHLY RENT", False, "rent"),
        ("monthly rent", True, "other_income"),
        ("x", True, "meals"),
        ("x", False, "uncategorised_expense"),
        (None, True, "unidentified_receipts"),
    ],
)
def test_the_first_categorisation_rule_that_fits_decides(description: str | None, is_in: bool, role: str) -> None:
    assert categorise(description, is_in, RULES) == role


def test_a_rule_is_held_against_its_examples() -> None:
    check = TypeAdapter(Rules).validate_python
    rent = {"contains": "RENT", "role": "rent", "examples": ["RENT 214 WATER ST", "rental"]}
    assert len(check([rent, {"contains": "CURRENT", "role": "meals"}])) == 2
    with pytest.raises(
        ValidationError,
        match=r"rule 2 \('CURRENT'\): its example 'CURRENT CAFE' isn't its own: rule 1 \('RENT'\) takes it",
    ):
        check([rent, {"contains": "CURRENT", "role": "meals", "examples": ["CURRENT CAFE"]}])
    with pytest.raises(ValidationError, match="no rule takes it"):
        check([{"contains": "RENT", "role": "rent", "examples": ["LEASE"]}])


def test_the_sign_of_a_line_says_whether_money_came_in() -> None:
    columns = [["rent", "rent", None], [Decimal(5), Decimal(-5), None]]
    assert run(banking.role_of_line, *columns, categorise=RULES)[0] == ["other_income", "rent", None]
    assert run(banking.role_of_debit_line, *columns, categorise=RULES)[0] == ["rent", "other_income", None]


# columns --------------------------------------------------------------------------------------------------------------

_cells = st.none() | st.sampled_from(["", "a", "b", "ab"])
_lists = st.none() | st.lists(_cells, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_cells, _lists, st.none() | st.lists(_lists, max_size=2)), min_size=1, max_size=12))
def test_distinct_rows_are_told_apart_whatever_is_in_their_lists(rows: list[tuple[Any, ...]]) -> None:
    inner = pa.list_(pa.string())
    columns = [
        pa.array(c, t) for c, t in zip(zip(*rows, strict=True), (pa.string(), inner, pa.list_(inner)), strict=True)
    ]
    numbers, first = convert.numbered(columns)
    known: dict[str, int] = {}
    assert [known.setdefault(str(row), number) for row, number in zip(rows, numbers.tolist(), strict=True)] == list(
        numbers
    )
    assert sorted(known.values()) == list(range(len(first)))
    assert all(numbers[row] == number for number, row in enumerate(first))


def test_what_is_computed_once_has_its_error_in_every_row_that_says_it() -> None:
    asked: list[str | None] = []

    def checked(value: str | None, kinds: list[str]) -> str:
        asked.append(value)
        if value is None:
            raise ValueError(f"nothing of {'+'.join(kinds)}")
        return value + "".join(kinds)

    converter = convert.distinct("checked", "", ("str", "str"), checked)
    values, errors = run(converter, ["a", None, "a", None, "a"], [["x"], ["y"], ["x"], ["y"], []])
    assert values == ["ax", None, "ax", None, "a"]
    assert errors == {1: (0, "nothing of y"), 3: (0, "nothing of y")}
    assert len(asked) == 3
