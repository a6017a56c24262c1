"""`revalue` books the month's end; `rates refresh` reads a file in the ECB's form over HTTP and never changes a rate that is known."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.connect.errors import BadPayload
from ledger_pipeline.connect.fx import fetch, history_ends, is_business_day
from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.commands.desk import Desk
from ledger_pipeline_tests.connect.conftest import Answer
from ledger_pipeline_tests.connect.conftest import serve as serve
from ledger_pipeline_tests.orchestration.months import NOW, company, deliver

MONTH = ("--entity", "acme", "--month", "2024-09", "--by", "Ann")


class Pounds(Desk):
    """The commands on a company with one line in dollars, its books being in pounds."""

    catches = True

    def __init__(self, folder: Path, database: Database, rates: str = "") -> None:
        super().__init__(company(folder, database))
        text = self.config.read_text().replace("currency: {{ value: GBP }}", "").replace("value: GBP", "value: USD")
        self.config.write_text(f"rates: {{ url: {rates} }}\n{text}" if rates else text)
        self.folder = folder

    def book(self, day: date, amount: str) -> steps.Day:
        deliver(self.folder, day, f"{day},{amount},deposit")
        runtime = Runtime.from_file(self.config)
        runtime.clock = lambda: NOW.replace(year=2027)
        return steps.run_day(runtime, "bank", day, "test")


def test_the_months_end_is_booked_once(tmp_path: Path, database: Database) -> None:
    desk = Pounds(tmp_path, database)
    desk.book(date(2024, 9, 28), "100000.00")
    said = desk("revalue", *MONTH)
    assert said.exit_code == 0
    assert said.output.startswith("acme 2024-09: 2 new entries, 0 corrected, 0 stood\nrealised 0.00 GBP, unrealised ")
    again = desk.json("revalue", *MONTH)
    assert (again["posted"]["originals"], again["posted"]["unchanged"], again["not_revalued"]) == (0, 2, [])
    assert desk("revalue", *MONTH, "--entity", "nobody").exit_code == 1
    assert desk("revalue", "--entity", "acme", "--month", "September", "--by", "Ann").exit_code == 2


def after(last: date) -> date:
    day = date.fromordinal(last.toordinal() + 1)
    while not is_business_day(day):
        day = date.fromordinal(day.toordinal() + 1)
    return day


def ecb(*rows: str, head: str = "Date,USD,JPY,GBP,XYZ,") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("eurofxref-hist.csv"), "\n".join([head, *rows]) + "\n")
    return buffer.getvalue()


def test_newer_rates_are_fetched_and_known_ones_stay(
    tmp_path: Path, database: Database, serve: Callable[..., Any]
) -> None:
    day = after(history_ends())
    first = ecb(f"{day},1.25,N/A,0.5,9,", f"{history_ends()},7,7,7,7,")
    server = serve([Answer(body=first), Answer(body=ecb(f"{day},1.30,170.5,0.5,9,"))])
    desk = Pounds(tmp_path, database, f"{server.url}/eurofxref-hist.zip")
    assert desk.json("rates", "refresh") == {"new": 2, "differing": []}
    changed = desk.json("rates", "refresh", code=1)
    assert (changed["new"], len(changed["differing"])) == (1, 1)
    assert changed["differing"][0] == f"USD on {day}: 1.25 is kept, the source now says 1.30"
    runtime = Runtime.from_file(desk.config)
    with runtime.database.connect("reader") as connection:
        assert runtime.rates(connection)("GBP", "USD", day) == 5 / 2
        assert runtime.rates(connection)("EUR", "USD", history_ends()) != 7


def test_a_night_fetches_what_it_needs(tmp_path: Path, database: Database, serve: Callable[..., Any]) -> None:
    day = after(history_ends())
    server = serve([Answer(body=ecb(f"{day},1.25,170,0.5,9,"))])
    desk = Pounds(tmp_path, database, f"{server.url}/rates.zip")
    done = desk.book(day, "10.00")
    assert done.posted is not None
    assert dict(done.posted.fates) == {"posted": 1}
    assert len(server.got) == 1


def test_without_its_rate_a_record_waits_by_name(tmp_path: Path, database: Database, serve: Callable[..., Any]) -> None:
    day = after(history_ends())
    server = serve([Answer(status=404, body=b"gone")])
    desk = Pounds(tmp_path, database, f"{server.url}/rates.zip")
    done = desk.book(day, "10.00")
    assert done.posted is not None
    assert dict(done.posted.fates) == {"quarantined": 1}
    with Runtime.from_file(desk.config).database.connect("reader") as connection:
        ((reason,),) = connection.execute("SELECT reason FROM ops.quarantine").fetchall()
    assert reason.startswith("no rate: no ECB rate for GBP")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>maintenance</html>", id="a page"),
        pytest.param(b"PK\x03\x04 broken", id="a broken archive"),
        pytest.param(ecb("2027-01-04,-1,1,1,1,"), id="a rate below zero"),
        pytest.param(ecb("2027-01-04,NaN,1,1,1,"), id="a rate that is no number"),
        pytest.param(ecb("someday,1,1,1,1,"), id="a day that is no date"),
        pytest.param(ecb(head="Day,USD"), id="another first column"),
    ],
)
def test_what_is_no_rate_file_is_refused(serve: Callable[..., Any], body: bytes) -> None:
    server = serve([Answer(body=body)])
    with pytest.raises(BadPayload, match=r"not in the form of the ECB's eurofxref-hist\.zip"):
        fetch(f"{server.url}/x.zip")


def test_rates_without_a_url_are_a_mistake_in_the_configuration(tmp_path: Path, database: Database) -> None:
    said = Pounds(tmp_path, database)("rates", "refresh")
    assert said.exit_code == 1
