"""What must hold for files by a declared map: nothing is lost or guessed, and what is wrong is named by line."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook
from pydantic import ValidationError

from ledger_pipeline.sandbox.company import Company
from ledger_pipeline.sandbox.files import write_files
from ledger_pipeline.sources.delimited_file.mapping import parse_moment
from ledger_pipeline.sources.delimited_file.options import Numbers, SaleMap, number
from ledger_pipeline.sources.delimited_file.spec import SOURCE

Pull = Callable[..., Any]
STALL_COLUMNS = {"quantity": "qty", "unit_price": "price", "gateway": "paid_by", "sku": "sku", "title": "title"}
HEAD = "no,at,sku,title,qty,price,paid_by\n"
AT = "05.10.2026 10:00"


def row(
    no: str = "1", qty: str = "1", price: str = "2.50", sku: str = "CAP", at: str = AT, paid_by: str = "cash"
) -> str:
    return f"{no},{at},{sku},Cap,{qty},{price},{paid_by}\n"


def test_rows_of_a_group_are_one_sale(pull_rows: Pull) -> None:
    pulled = pull_rows(HEAD + row("1", "2", "2.50") + row("2", "1", "1.00") + row("1", "3", "0.10", sku="PIN"))
    assert pulled.fates == ["posted", "posted"]
    assert [d["source_id"] for d in pulled.documents] == ["1", "2"]
    assert [[r["line"] for r in d["rows"]] for d in pulled.documents] == [[2, 4], [3]]
    assert pulled.entries[0] == [("order_clearing:cash", 530), ("sales", -530)]
    lines = [line for line in pulled.rows("sale_line") if line["source_id"] == "1"]
    said = [(line["sku"], line["quantity"], line["net_minor"], line["line_no"]) for line in lines]
    assert said == [("CAP", 2, 500, 1), ("PIN", 3, 30, 2)]


def test_the_control_figure_is_exact_and_counts_the_rows(pull_rows: Pull) -> None:
    pulled = pull_rows(HEAD + row("1", "3", "0.125") + row("1", "1", "0.125"))
    assert pulled.documents[0]["control"] == {"amount": "0.500", "currency": "GBP"}
    assert SOURCE.stream("records").identify(pulled.payloads[0]) == ("1", None, 2)


def test_a_unit_price_may_have_more_decimals_than_the_product(pull_rows: Pull) -> None:
    assert pull_rows(HEAD + row("1", "8", "0.125")).entries == [[("order_clearing:cash", 100), ("sales", -100)]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (row("1", "1", "1.00") + row("1", "1", "0.001"), "line 3: 1 × 0.001: 0.001 has more decimals than GBP has (2)"),
        (row("1", "1", "-1.00"), "line 2: the unit price -1.00 is negative"),
        (row("1", "-1", "1.00"), "line 2: the quantity -1 of a sale is negative"),
        (row("1", "x", "1.00"), "line 2: 'x' is no number"),
        (row("1", "1", "1e3"), "line 2: '1e3' is no number"),
        (row("1", "1", "NaN"), "line 2: 'NaN' is no number"),
        (row("1", "1_0", "1"), "line 2: '1_0' is no number"),
        (row("1", "1", ""), "line 2: '' is no number"),
        (row("1", at="2026-10-05 10:00"), "line 2: at: '2026-10-05 10:00' is no time as %d.%m.%Y %H:%M"),
        (
            row("1", at="28.03.2027 01:30"),
            "line 2: at: '28.03.2027 01:30' does not exist in Europe/London: the clocks skip it",
        ),
        (row("1", paid_by="cash") + row("1", paid_by="card"), "line 3: paid_by is 'card', in line 2 it is 'cash'"),
        (row("1", qty="1.5"), "the quantity 1.5 is not whole"),
        (row("1", paid_by=""), "gateway is required and absent"),
    ],
)
def test_a_group_that_cannot_be_booked_is_named(pull_rows: Pull, rows: str, message: str) -> None:
    pulled = pull_rows(HEAD + rows + row("9"))
    assert pulled.fates == ["quarantined", "posted"]
    assert pulled.reasons[0] == message


def test_a_ragged_row_quarantines_its_group_only(pull_rows: Pull) -> None:
    pulled = pull_rows(HEAD + row("1") + row("2") + "1,short\n" + row("3") + ",\n")
    assert pulled.fates == ["quarantined", "posted", "posted", "quarantined"]
    assert pulled.reasons[0] == "2026-10-05.csv, line 4, column 3: 2 columns where the header has 7"
    assert pulled.documents[0]["rows"][1] == {"line": 4, "cells": ["1", "short"]}
    assert [d["units"] for d in pulled.documents] == [2, 1, 1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"no,at,sku,title,qty,paid_by\n1,2\n",
            "line 1: there is no column 'price'; the columns are no, at, sku, title, qty, paid_by",
        ),
        (b"no,at,sku,title,qty,price,paid_by,qty\n", "line 1, column 8: 'qty' stands twice"),
        (b"", "line 1: the file is empty, it has no header"),
        (HEAD.encode() + b"1,caf\xe9,", "line 2, column 6: byte 0xE9 is no utf-8"),
        (HEAD.encode() + row().encode() + b'2,"open\n', "line 3: unexpected end of data"),
    ],
)
def test_a_malformed_file_is_refused_as_a_whole(pull_rows: Pull, content: bytes, message: str) -> None:
    pulled = pull_rows(content)
    assert pulled.fates == ["quarantined"]
    assert pulled.reasons == [f"2026-10-05.csv, {message}"]
    assert pulled.documents[0]["source_id"] == "file:2026-10-05.csv"


def test_quoted_line_breaks_do_not_shift_line_numbers(pull_rows: Pull) -> None:
    pulled = pull_rows(HEAD + f'1,{AT},CAP,"two\nlines",1,1.00,cash\n' + row("2", "x"))
    assert pulled.documents[0]["rows"][0]["columns"]["title"] == "two\nlines"
    assert pulled.reasons == ["", "line 4: 'x' is no number"]


def test_a_row_that_stands_twice_is_two_lines_and_is_counted(pull_rows: Pull) -> None:
    pulled = pull_rows(HEAD + row("1") + row("1") + row("2"))
    assert pulled.entries[0] == [("order_clearing:cash", 500), ("sales", -500)]
    assert pulled.request.notes == {"rows": 3, "repeated_rows": 1, "files": 1}


REFUNDS = {
    "refund_when": {"column": "no", "starts_with": "C"},
    "roles": {"POST": "shipping_income", "gift_*": "gift_card_liability"},
}


def test_refunds_and_roles_by_code(pull_rows: Pull) -> None:
    rows = row("1", "1", "5.00", "gift_20") + row("1", "1", "2.00", "POST") + row("1", "1", "1.00")
    rows += row("C2", "-1", "5.00", "POST") + row("C2", "-2", "1.00")
    pulled = pull_rows(HEAD + rows, change=REFUNDS)
    assert pulled.entries == [
        [("gift_card_liability", -500), ("order_clearing:cash", 800), ("sales", -100), ("shipping_income", -200)],
        [("order_clearing:cash", -700), ("sales_returns", 200), ("shipping_income", 500)],
    ]
    assert [(r["source_id"], r["order_id"], r["total_minor"]) for r in pulled.rows("refund")] == [("C2", "C2", 700)]
    assert [r["quantity"] for r in pulled.rows("refund_line")] == [1, 2]


def test_a_refund_that_brings_money_in_is_quarantined(pull_rows: Pull) -> None:
    pulled = pull_rows(HEAD + row("C1", "1", "2.00"), change=REFUNDS)
    assert pulled.reasons == ["line 2: a refund's rows add up to money that comes in (200 minor units of GBP)"]


def test_refunds_by_negative_quantity_must_be_unanimous(pull_rows: Pull) -> None:
    change = {"refund_when": {"column": "qty", "is_negative": True}}
    pulled = pull_rows(HEAD + row("1", "-1") + row("2", "1") + row("3", "1") + row("3", "-1"), change=change)
    assert pulled.fates == ["posted", "posted", "quarantined"]
    assert pulled.reasons[2] == "2026-10-05.csv, line 5: by qty some rows of 3 are a refund and others are not"


def test_declared_refusals_are_quarantined_with_their_reason(pull_rows: Pull) -> None:
    change = {"refuse_when": [{"column": "sku", "one_of": ["TEST", "DUMMY"], "reason": "no goods"}]}
    pulled = pull_rows(HEAD + row("1") + row("1", sku="TEST") + row("2"), change=change)
    assert pulled.reasons == ["2026-10-05.csv, line 3: no goods", ""]
    assert pulled.documents[0]["control"] == {"amount": "5.00", "currency": "GBP"}


@pytest.mark.parametrize("rows", [row("1", "3", "0.00"), row("1", "-3", "0.00")])
def test_nothing_for_nothing_is_ignored(pull_rows: Pull, rows: str) -> None:
    pulled = pull_rows(HEAD + rows)
    assert (pulled.fates, pulled.reasons) == (["ignored"], ["zero amount"])
    assert all(line["quantity"] >= 0 for line in pulled.rows("sale_line"))


def test_the_earliest_row_dates_the_sale_in_the_declared_zone(pull_rows: Pull) -> None:
    pulled = pull_rows(HEAD + row("1", at="05.07.2026 00:31") + row("1", at="05.07.2026 00:30"))
    assert [s["occurred_at"] for s in pulled.rows("sale")] == [datetime(2026, 7, 4, 23, 30, tzinfo=UTC)]
    assert pulled.days == [date(2026, 7, 5)]


def test_a_time_that_the_clocks_repeat_is_the_first() -> None:
    from zoneinfo import ZoneInfo

    assert parse_moment("2026-10-25 01:30", "iso", ZoneInfo("Europe/London")) == datetime(
        2026, 10, 25, 0, 30, tzinfo=UTC
    )


def test_a_currency_column_must_agree_and_be_known(pull_rows: Pull) -> None:
    head = HEAD.replace("paid_by", "paid_by,cur")
    rows = "".join(
        row(no).replace("cash\n", f"cash,{cur}\n")
        for no, cur in (("1", "GBP"), ("2", "GBP"), ("2", "EUR"), ("3", "XXQ"))
    )
    pulled = pull_rows(head + rows, change={"currency": "cur"})
    assert pulled.fates == ["posted", "quarantined", "quarantined"]
    assert pulled.reasons[1] == "2026-10-05.csv, line 4: cur is 'EUR' here and 'GBP' in line 3 of the same group"
    assert "unknown currency 'XXQ'" in pulled.reasons[2]


def test_tabs_semicolons_boms_and_decimal_commas(pull_rows: Pull) -> None:
    rows = (HEAD + row("1", "2", "1.234,50").replace("1.234,50", "1.234|50")).replace(",", ";").replace("|", ",")
    pulled = pull_rows("\ufeff" + rows, delimiter=";", change={"numbers": {"decimal": ",", "thousands": "."}})
    assert pulled.entries == [[("order_clearing:cash", 246_900), ("sales", -246_900)]]
    pulled = pull_rows((HEAD + row()).replace(",", "\t"), name="2026-10-05.tsv")
    assert pulled.fates == ["posted"]


def test_a_file_without_a_header_gets_its_names_from_the_options(pull_rows: Pull) -> None:
    pulled = pull_rows(row("1"), header=HEAD.strip().split(","))
    assert pulled.fates == ["posted"]
    assert pulled.documents[0]["rows"][0]["line"] == 1


def test_excel_cells_are_read_as_the_text_that_means_them(pull_rows: Pull) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(HEAD.strip().split(","))
    sheet.append([1, datetime(2026, 10, 5, 10, 0), "CAP", "Cap", 3, 2.55, "cash"])  # noqa: DTZ001 - Excel knows no zones
    sheet.append(["2", datetime(2026, 10, 5, 10, 1), "CAP", None, 1.0, "0.10", "cash"])  # noqa: DTZ001
    content = io.BytesIO()
    book.save(content)
    at = {"column": "at", "format": "%Y-%m-%d %H:%M:%S", "time_zone": "Europe/London"}
    columns = {**STALL_COLUMNS, "occurred_at": at}
    pulled = pull_rows(content.getvalue(), name="2026-10-05.xlsx", change={"columns": columns})
    assert [entry[0] for entry in pulled.entries] == [("order_clearing:cash", 765), ("order_clearing:cash", 10)]
    assert pulled.documents[0]["rows"][0]["columns"]["price"] == "2.55"
    assert pull_rows(b"PK\x03\x04 broken", name="2026-10-05.xlsx").fates == ["quarantined"]


def test_column_names_may_hold_the_characters_of_paths(pull_rows: Pull) -> None:
    change = {"columns": {"occurred_at": {"column": "at", "format": "%d.%m.%Y %H:%M", "time_zone": "Europe/London"},
                          "unit_price": "unit.price [£]?", "gateway": {"value": "shop"}}}  # fmt: skip
    pulled = pull_rows(f"no,at,unit.price [£]?\n1,{AT},2.50\n", change=change)
    assert pulled.entries == [[("order_clearing:shop", 250), ("sales", -250)]]


def test_the_same_rows_in_another_file_say_the_same(pull_rows: Pull) -> None:
    first = pull_rows(HEAD + row("1") + row("2"))
    again = pull_rows(HEAD + row("2") + row("1"), name="copy.csv")
    assert sorted(map(str, first.entries)) == sorted(map(str, again.entries))
    assert {d["source_id"] for d in first.documents} == {d["source_id"] for d in again.documents}


def test_a_record_in_two_files_of_a_day_is_read_once_or_refused(puller: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEAD + row("1") + row("2"))
    (tmp_path / "b.csv").write_text(HEAD + row("1") + row("2", "5") + row("3"))
    at = {"column": "at", "format": "%d.%m.%Y %H:%M", "time_zone": "Europe/London"}
    columns = {**STALL_COLUMNS, "occurred_at": at}
    options = {"record": "sale", "group_by": "no", "currency": {"value": "GBP"}, "columns": columns}
    pulled = puller(folder=tmp_path, pattern="*", map=options).pull()
    assert [d["source_id"] for d in pulled.documents] == ["1", "2", "2@b.csv", "3"]
    assert pulled.reasons == ["", "", "b.csv, line 3: 2 stands in a.csv too, with other rows", ""]
    assert pulled.request.repeated == 1


BANK = {
    "record": "bank_transaction",
    "account": {"value": "giro"},
    "currency": {"value": "EUR"},
    "numbers": {"decimal": ",", "thousands": "."},
    "columns": {
        "date": {"column": "Datum", "format": "%d.%m.%Y"},
        "amount": "Betrag",
        "description": "Text",
        "reference": "Ref",
    },
}


def bank(puller: Any, folder: Path, content: str, **change: Any) -> Any:
    (folder / "2026-10-05.csv").write_text(content)
    rules = [{"contains": "miete", "role": "rent"}]
    return puller(folder=folder, delimiter=";", map={**BANK, **change}, categorise=rules).pull(base="EUR")


def test_bank_lines_by_a_declared_map(puller: Any, tmp_path: Path) -> None:
    head, line = "Datum;Betrag;Text;Ref\n", "05.10.2026;-1.200,00;MIETE  OKTOBER;R1\n"
    pulled = bank(
        puller,
        tmp_path,
        head + line + line + "06.10.2026;3,00;ZINS;\n32.10.2026;1,00;X;\n06.10.2026;1,001;X;\n06.10.2026;1\n",
    )
    assert pulled.fates == ["posted"] * 3 + ["quarantined"] * 3
    assert pulled.entries[0] == [("bank:giro", -120_000), ("rent", 120_000)]
    rows = pulled.rows("bank_transaction")
    assert [(r["booked_on"], r["amount_minor"], r["description"], r["reference"]) for r in rows[1:]] == [
        (date(2026, 10, 5), -120_000, "MIETE OKTOBER", "R1"), (date(2026, 10, 6), 300, "ZINS", None)
    ]  # fmt: skip
    assert len({r["source_id"] for r in rows}) == 3
    assert pulled.reasons[3:] == [
        "2026-10-05.csv, line 5: '32.10.2026' is no date as %d.%m.%Y",
        "2026-10-05.csv, line 6: 1.001 has more decimals than EUR has (2)",
        "2026-10-05.csv, line 7, column 3: 2 columns where the header has 4",
    ]


def test_a_bank_that_states_money_out_as_positive(puller: Any, tmp_path: Path) -> None:
    pulled = bank(puller, tmp_path, "Datum;Betrag;Text;Ref\n05.10.2026;12,00;X;\n", sign="out_positive")
    assert pulled.entries == [[("bank:giro", -1200), ("uncategorised_expense", 1200)]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"currency": {"value": "GBX"}}, "'GBX' is no active ISO 4217 currency code"),
        ({"currency": {"value": "GBP", "column": "x"}}, "give either column or value"),
        ({"refund_when": {"column": "no"}}, "give exactly one of starts_with, equals, one_of, is_negative"),
        ({"numbers": {"decimal": ",", "thousands": ","}}, "decimal and thousands are the same mark"),
        ({"record": "order"}, "does not match any of the expected tags"),
        ({"colums": {}}, "Extra inputs are not permitted"),
        (
            {"record": "invoice", "columns": {"issued_on": "at", "amount": "price", "tax": "qty"}},
            "columns.tax needs columns.jurisdiction",
        ),
        ({"record": "pay_run", "columns": {"paid_on": "at", "amount": "price"}}, "Field required"),
        (
            {"columns": {"occurred_at": {"column": "at", "format": "%d"}, "unit_price": "p", "gateway": "g"}},
            "needs a time_zone",
        ),
        (
            {"columns": {"occurred_at": {"column": "at", "time_zone": "London"}, "unit_price": "p", "gateway": "g"}},
            "is no IANA time zone",
        ),
    ],
)
def test_a_mistake_in_the_map_is_named(pull_rows: Pull, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        pull_rows(HEAD, change=change)


@pytest.mark.parametrize(
    ("text", "decimal", "thousands", "value"),
    [
        ("1,234.5", ".", ",", "1234.5"),
        ("-1.234,5", ",", ".", "-1234.5"),
        ("1 000", ".", " ", "1000"),
        ("+7", ".", "", "7"),
        (".5", ".", "", "0.5"),
        ("5.", ".", "", "5"),
        (" 12 ", ".", "", "12"),
    ],
)
def test_numbers_are_read_as_the_file_writes_them(text: str, decimal: str, thousands: str, value: str) -> None:
    assert number(text, Numbers.model_validate({"decimal": decimal, "thousands": thousands})) == Decimal(value)


@pytest.mark.parametrize(
    ("text", "decimal", "thousands"),
    [
        ("1,5", ".", ""),
        ("1,5", ".", ","),
        ("12,34.5", ".", ","),
        ("1.5", ",", ""),
        ("--1", ".", ""),
        ("", ".", ""),
        (".", ".", ""),
        ("١", ".", ""),
        ("1.2.3", ".", ""),
        ("5-", ".", ""),
        ("1,23,456", ".", ","),
    ],
)
def test_what_is_no_number_is_an_error(text: str, decimal: str, thousands: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        number(text, Numbers.model_validate({"decimal": decimal, "thousands": thousands}))


def test_the_longest_beginning_decides_the_role() -> None:
    base = {
        "record": "sale",
        "group_by": "a",
        "currency": "c",
        "columns": {"occurred_at": "t", "unit_price": "p", "gateway": "g"},
    }
    options = SaleMap.model_validate(
        {**base, "roles": {"g*": "sales", "gift_*": "gift_card_liability", "gift_x": "tips_payable"}}
    )
    roles = [options.role_of(sku, is_refund=False) for sku in ("gift_1", "gift_x", "go", "z")]
    assert roles == ["gift_card_liability", "tips_payable", "sales", "sales"]
    assert options.role_of("z", is_refund=True) == "sales_returns"


LINES = st.lists(
    st.tuples(
        st.sampled_from("123456"),
        st.integers(0, 50),
        st.decimals(0, 999, places=2),
        st.text("ABC,\"\n;' é", max_size=8),
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES)
def test_whatever_is_written_every_row_has_a_fate_and_the_money_is_all_there(
    pull_rows: Pull, lines: list[tuple[str, int, Decimal, str]]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEAD.strip().split(","))
    for no, quantity, price, title in lines:
        writer.writerow((no, AT, "S", title, quantity, price, "cash"))
    pulled = pull_rows(text.getvalue())
    assert set(pulled.fates) <= {"posted", "ignored"}
    assert sum(d["units"] for d in pulled.documents) == len(lines)
    assert sorted(r["columns"]["title"] for d in pulled.documents for r in d["rows"]) == sorted(
        title for *_, title in lines
    )
    wanted = sum((quantity * price for _, quantity, price, _ in lines), Decimal(0))
    assert sum((Decimal(d["control"]["amount"]) for d in pulled.documents), Decimal(0)) == wanted
    assert sum(a for entry in pulled.entries for role, a in entry if role == "order_clearing:cash") == int(wanted * 100)
    assert all(sum(a for _, a in entry) == 0 for entry in pulled.entries)


def test_the_sandbox_companys_takings_are_posted_on_their_days(puller: Any, tmp_path: Path) -> None:
    company = Company()
    days = [company.start + timedelta(n) for n in range(7)]
    write_files(company, days[0], days[-1], tmp_path)
    columns = {
        "occurred_at": "sold_at", "quantity": "quantity", "unit_price": "unit_price", "gateway": "paid_by",
        "sku": "sku", "title": "description",
    }  # fmt: skip
    stall = puller(
        folder=tmp_path / "stall_uk",
        map={"record": "sale", "group_by": "receipt_no", "currency": {"value": "GBP"}, "columns": columns},
    )
    for day in days:
        pulled = stall.pull(day)
        receipts = company.stall_receipts(day)
        assert set(pulled.fates) == {"posted"}
        assert [d["source_id"] for d in pulled.documents] == [r.receipt_no for r in receipts]
        takings = [r.quantity * r.unit_price for r in receipts]
        assert pulled.entries == [[("order_clearing:cash", t), ("sales", -t)] for t in takings]
        assert set(pulled.days) == {day}


def test_the_pages_examples_of_documents_are_maps() -> None:
    page = (Path(__file__).parents[3] / "docs" / "delimited-files.md").read_text()
    blocks = [part.partition("```")[0] for part in page.split("```yaml\n")[1:]]
    (connections,) = [yaml.safe_load(block) for block in blocks if "record: invoice" in block]
    maps = [
        SOURCE.options.model_validate({key: value for key, value in one.items() if key not in ("entity", "source")})
        for one in connections.values()
    ]
    assert [options.map.record for options in maps] == ["invoice", "bill", "pay_run"]
