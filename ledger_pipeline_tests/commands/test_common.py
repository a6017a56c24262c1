"""Days and months as people write them on the command line."""

from __future__ import annotations

from datetime import date

import pytest
import typer

from ledger_pipeline.commands.common import a_day, a_month


@pytest.mark.parametrize(("text", "first"), [("2026-10", date(2026, 10, 1)), ("2024-02", date(2024, 2, 1))])
def test_a_month_is_written_as_year_and_month(text: str, first: date) -> None:
    assert a_month(text) == first


@pytest.mark.parametrize("text", ["2026-13", "2026", "2026-10-01", "Oct 2026", ""])
def test_other_texts_are_no_month(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no month; write YYYY-MM"):
        a_month(text)


def test_a_day_is_written_as_iso_says() -> None:
    assert a_day("2026-10-05") == date(2026, 10, 5)
    with pytest.raises(typer.BadParameter, match=r"'5\.10\.2026' is no date; write YYYY-MM-DD"):
        a_day("5.10.2026")
