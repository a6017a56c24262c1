"""Routes: the first that fits, prefixes, several fields at once, and what is wrong with one."""

from __future__ import annotations

import pytest

from ledger_pipeline.model.routing import Route, entities_by_payload, mistake
from ledger_pipeline_tests.fakes import row, tables

SALES = tables(
    sale=[
        row("sale", 1, "a", total_minor=1, jurisdiction="GB", channel="web"),
        row("sale", 2, "b", total_minor=1, jurisdiction="US-NY", channel="pos"),
        row("sale", 3, "c", total_minor=1, jurisdiction="US-CA", channel="web"),
        row("sale", 4, "d", total_minor=1),
    ]
)


def route(entity: str, **when: tuple[str, ...]) -> Route:
    return Route(entity, "sale", tuple(when.items()))


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ([route("uk", jurisdiction=("GB", "IE"))], {1: "uk"}),
        ([route("us", jurisdiction=("US-*",))], {2: "us", 3: "us"}),
        ([route("us", jurisdiction=("US-*",), channel=("web",))], {3: "us"}),
        ([route("first", jurisdiction=("US-NY",)), route("us", jurisdiction=("US-*",))], {2: "first", 3: "us"}),
        ([route("us", jurisdiction=("US-*",)), route("last", jurisdiction=("US-NY",))], {2: "us", 3: "us"}),
        ([route("all", jurisdiction=("*",))], {1: "all", 2: "all", 3: "all"}),
        ([], {}),
    ],
)
def test_the_first_route_that_fits_takes_the_payload(routes: list[Route], expected: dict[int, str]) -> None:
    assert entities_by_payload(SALES, routes) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Route("uk", "order", (("channel", ("web",)),)), "unknown record 'order'; known are sale, refund"),
        (Route("uk", "sale_line", (("sku", ("x",)),)), "unknown record 'sale_line'"),
        (
            Route("uk", "sale", (("country", ("GB",)),)),
            "sale has no text field 'country'; it has source_id, order_number",
        ),
        (Route("uk", "sale", (("total_minor", ("1",)),)), "sale has no text field 'total_minor'"),
    ],
)
def test_a_route_that_can_never_fit_is_a_mistake(given: Route, said: str) -> None:
    assert (mistake(given) or "").startswith(said)


def test_a_sound_route_is_none() -> None:
    assert mistake(route("uk", jurisdiction=("GB",))) is None
