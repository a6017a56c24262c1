"""What a source's payloads say of their control total is the same from a plan's columns as from each payload on its own."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.connect import convert
from ledger_pipeline.connect.mapping import Field, Mapping, Settings
from ledger_pipeline.connect.source import Options, Source, Stream

_AMOUNTS = ["1.00", "0", "-3.5", "01", "1e3", "", "x", " 1", "NaN", 7, -1, 1.5, None, True, [], {}]
_CODES = ["USD", "usd", "JPY", "XXX", "", 7, None, {}]


def source(control: tuple[str, str], wire: str, unit: Literal["major", "minor"]) -> Source:
    """Maps the amount as the wire has it, where `wire` says so."""
    fields = [Field("source_id", ("id",), convert.text), Field("kind", (), convert.constant("customer"))]
    if wire:
        name = f"{control[0]}?"
        fields.append(
            Field("country", (name,), convert.text if wire == "str" else convert.distinct("n", "", ("int",), str))
        )
    stream = Stream("people", lambda request: iter(()), control=control, control_unit=unit)
    return Source("s", "S", (stream,), (Mapping("party", "people", tuple(fields)),), Options)


SOURCES = [
    source(("amount", "code"), "str", "major"),
    source(("amount", "code"), "int", "minor"),
    source(("money.amount", "money.code"), "", "major"),
]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(SOURCES),
    st.lists(st.tuples(st.sampled_from(_AMOUNTS), st.sampled_from(_CODES), st.booleans()), max_size=5),
)
def test_it_is_what_each_payload_says(one: Source, said: list[tuple[Any, Any, bool]]) -> None:
    payloads = []
    for amount, code, has_id in said:
        money = {"amount": amount, "code": code}
        payloads.append(json.dumps(({"id": "a"} if has_id else {}) | money | {"money": money}))
    agree(one, payloads)


@pytest.mark.parametrize("one", SOURCES)
def test_plain_figures_come_from_the_columns(one: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    amount: Any = 7 if one.streams[0].control_unit == "minor" else "7.10"
    money = {"amount": amount, "code": "USD"}
    payloads = [json.dumps({"id": "a", **money, "money": money})] * 2
    monkeypatch.setattr(Stream, "told", None)
    mapped = one.plans()["people"].run(payloads, [1, 2], Settings("c"))
    amounts, codes, gone = one.streams[0].told_of(payloads, mapped.beside)
    assert amounts.to_pylist() == ["0.07" if amount == 7 else "7.10"] * 2
    assert (codes.to_pylist(), gone.to_pylist()) == (["USD"] * 2, [False] * 2)


def agree(one: Source, payloads: list[str]) -> None:
    stream = one.streams[0]
    mapped = one.plans()["people"].run(payloads, list(range(len(payloads))), Settings("c"))
    columns = [column.to_pylist() for column in stream.told_of(payloads, mapped.beside)]
    assert list(zip(*columns, strict=True)) == [stream.told(payload) for payload in payloads]
