"""Charts are well-formed SVG whose marks stand where the values say."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from decimal import Decimal

import pytest

from ledger_pipeline.reports import charts

SVG = "{http://www.w3.org/2000/svg}"


def parts(svg: str, tag: str) -> list[dict[str, str]]:
    return [dict(node.attrib) for node in ET.fromstring(svg).iter(SVG + tag)]  # noqa: S314 - our own text


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter(SVG + "text")]  # noqa: S314


def test_bars_reach_from_zero_to_their_value_below_it_for_a_loss() -> None:
    svg = charts.bar_chart(
        ["May", "June"], {"profit": [Decimal("100.00"), Decimal("-50.00")]}, title="Profit", height=262
    )
    gain, loss = parts(svg, "rect")[1:]
    zero = next(line["y1"] for line in parts(svg, "line") if line["stroke"] == "#888")
    assert Decimal(gain["y"]) + Decimal(gain["height"]) == Decimal(zero) == Decimal(loss["y"])
    assert Decimal(gain["height"]) == 2 * Decimal(loss["height"])
    assert texts(svg) == ["Profit", "-50", "0", "50", "100", "May", "June"]


def test_a_line_has_gaps_where_there_is_no_value() -> None:
    svg = charts.line_chart(list("abcd"), {"cash": [1, 2, None, 4]}, title="Cash", unit="USD")
    (line,) = parts(svg, "polyline")
    assert len(line["points"].split()) == 2
    assert len(parts(svg, "circle")) == 1
    assert texts(svg)[0] == "Cash (USD)"


def test_several_series_have_a_legend_and_colours_of_their_own() -> None:
    svg = charts.line_chart(["a", "b"], {"in": [1, 2], "out": [3, 4]}, title="Flows")
    assert {line["stroke"] for line in parts(svg, "polyline")} == set(charts.COLOURS[:2])
    assert {"in", "out"} <= set(texts(svg))


def test_labels_that_would_overlap_are_left_out() -> None:
    days = [f"2026-10-{n:02d}" for n in range(1, 32)]
    shown = [t for t in texts(charts.line_chart(days, {"x": list(range(31))}, title="t")) if t.startswith("2026")]
    assert 5 <= len(shown) <= 11
    assert shown[0] == "2026-10-01"


@pytest.mark.parametrize("values", [[], [None], [None, None]])
def test_a_chart_without_values_says_so(values: list[None]) -> None:
    svg = charts.bar_chart(["a", "b"][: len(values)], {"x": values}, title="Nothing")
    assert "no values" in texts(svg)


def test_values_that_are_all_zero_are_drawn() -> None:
    assert "0" in texts(charts.line_chart(["a", "b"], {"x": [0, Decimal("0.00")]}, title="t"))


def test_names_are_escaped_and_the_uri_holds_the_whole_chart() -> None:
    svg = charts.line_chart(["<a>"], {"<b>": [1], "&": [2]}, title='"x" <script>')
    assert "<script>" not in svg
    assert {"<a>", "<b>", "&"} <= set(texts(svg))
    head, _, body = charts.data_uri(svg).partition(",")
    assert head == "data:image/svg+xml;base64"
    assert base64.b64decode(body).decode() == svg


def test_a_series_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="series 'x' has 1 values for 2 labels"):
        charts.bar_chart(["a", "b"], {"x": [1]}, title="t")
