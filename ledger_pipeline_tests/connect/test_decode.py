"""Both ways from payloads to columns are one: what Arrow reads is what msgspec reads, and a payload that doesn't fit is named as msgspec does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger_pipeline.connect.decode import Decoded, Decoder, MappingError, Node, as_list, leaf, read

PATHS = {
    "id": "scalar",
    "name?": "str",
    "n?": "int",
    "big": "int",
    "flag?": "bool",
    "rate?": "number",
    "home?.country": "str",
    "home?.deep?.n?": "int",
    "lines[].price": "str",
    "lines[].taxes?[].rate?": "number",
    "lines[].taxes?[].name": "str",
    "shop?.more?[].id?": "str",
}


def decoder(paths: dict[str, str] = PATHS) -> Decoder:
    root = Node()
    for path, wire in paths.items():
        root.add(path, wire)
    return Decoder(root)


DECODER = decoder()


def by_objects(one: Decoder, payloads: list[bytes | str]) -> Decoded:
    """The exact way alone, as it is gone when Arrow reads nothing."""
    exact = Decoder(one.root)
    exact._options = None
    return exact.read(payloads)


def agree(payloads: list[bytes | str], one: Decoder = DECODER) -> Decoded:
    """Reads both ways, demands that they are equal, and returns what was read."""
    made, exact = one.read(payloads), by_objects(one, payloads)
    made.rows.validate(full=True)
    assert made.faults == exact.faults
    assert made.kept.tolist() == exact.kept.tolist()
    assert made.rows.type == exact.rows.type
    assert made.rows.equals(exact.rows)
    assert made.rows.to_pylist() == exact.rows.to_pylist()
    return made


# what may be in a payload ---------------------------------------------------------------------------------------------

_ODD_TEXTS = ["", "\0", "é", "😀", "\u2028", 'a"rate":1', '\\"rate":2,', "}\n{", "NULL", "1.0", "{}", "\ufeff"]
texts = st.sampled_from(_ODD_TEXTS) | st.text(max_size=4)
_NUMBERS = ["0", "-0", "0.0", "-0.10", "1.0", "1e3", "1E-3", "0.1e2", "12345678901234567890.123456789012345678901234567890", "7", "2.50"]  # fmt: skip
_INTEGERS = [str(n) for n in (0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64, 10**30)] + ["-0"]


class Written(str):
    """JSON as it is to stand in the payload."""


numbers = st.sampled_from(_NUMBERS + _INTEGERS).map(Written)
right = {
    "str": texts,
    "int": st.sampled_from([*_INTEGERS[:6], "-0"]).map(Written),
    "bool": st.booleans(),
    "number": st.sampled_from(_NUMBERS).map(Written) | st.sampled_from(["1.50", "0"]),
    "scalar": texts | st.sampled_from(_INTEGERS).map(Written),
}
wrong = st.one_of(
    st.none(), st.booleans(), texts, numbers, st.sampled_from(["[]", "{}", "[null]", "[{}]", '{"rate":1}']).map(Written),
    st.sampled_from(['"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"', '"\\u0072ate"', "tru", "01", "+1", ".5", "1.", "0x1", '"a\tb"', "'a'", "[1,]", '{"a":1,}', '"\\x"', "1 2", '{"a":1', '"open']).map(Written),
)  # fmt: skip


def fitting(draw: Any, node: Node) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for edge in node.children.values():
        if edge.is_optional and draw(st.booleans()):
            if draw(st.booleans()):
                found[edge.key] = None
        elif edge.node is None:
            found[edge.key] = draw(right[edge.wire or "str"])
        elif edge.is_list:
            found[edge.key] = [fitting(draw, edge.node) for _ in range(draw(st.integers(0, 2)))]
        else:
            found[edge.key] = fitting(draw, edge.node)
    return found


def places(value: Any) -> list[tuple[Any, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, one in inner for place in [(value, key), *places(one)]]


def written(value: Any, keys: dict[str, str]) -> str:
    """As JSON; `keys` may write a key otherwise."""
    if isinstance(value, Written):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{keys.get(k, json.dumps(k))}:{written(v, keys)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(one, keys) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)


@st.composite
def payload(draw: Any, *, faulty: bool = True) -> bytes:
    made = fitting(draw, DECODER.root)
    made |= draw(
        st.dictionaries(st.sampled_from(["x", "y", 'a"rate']), wrong if faulty else texts | numbers, max_size=1)
    )
    if faulty and draw(st.booleans()):
        holder, key = draw(st.sampled_from(places(made)))
        if draw(st.booleans()) and isinstance(holder, dict):
            del holder[key]
        else:
            holder[key] = draw(wrong)
    text = written(made, {"rate": draw(st.sampled_from(['"rate"', '"\\u0072ate"', '"rate" ', '"rate"\n']))})
    if faulty:
        text = draw(st.sampled_from(_FRAMES)).replace("@", text)
    return text.encode(errors="surrogatepass")


_FRAMES = ["@"] * 12 + [" @", "@ ", "@\n", "\ufeff@", "@@", "@ @", "[@]", "@}", "@x", "@,", "", " ", "null", "1", '{"id":', "1}", '{"id":"a\n@', "{@}", '{"home":@,@}', "@\n@"]  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(st.lists(payload(), max_size=6))
@example([b'{"id":', b'1,"big":1,"lines":[]}', b'{"id":"1","big":1,"lines":[]}{"id":"1","big":1,"lines":[]}'])
@example(
    [b'{"id":"1","big":1,"lines":[],"name":"a', b'b"}', b'{"id":"1","big":1,"lines":[]} {"id":"1","big":1,"lines":[]}']
)
@example([b'{"id":"1","id":"2","big":1,"lines":[]}', b'{"id":"1","x":1,"x":2,"big":1,"lines":[]}'])
@example([b'{"id":"1","big":1,"lines":[],"x":"\xff"}', b'{"id":"1","big":1,"lines":[],"name":"\xff"}'])
@example([b'{"id":"1","big":1,"lines":[]}\0}', b'{"id":"1","big":1,"lines":[],"x":"\0"}'])
@example([b'\xef\xbb\xbf{"id":"1","big":1,"lines":[]}'])
@example([b'{"id":"1","big":1,"lines":[],"rate":"x"}', b'{"id":"1","big":1,"lines":[],"rate":"1_0"}'])
@example([b'{"id":"1","big":1,"lines":[],"rate":"1e3"}', b'{"id":"1","big":1,"lines":[],"rate":-0}'])
def test_both_ways_read_the_same_and_refuse_the_same(payloads: list[bytes | str]) -> None:
    agree(payloads)


@settings(max_examples=100, deadline=None)
@given(st.lists(payload(faulty=False), min_size=1, max_size=5))
def test_what_fits_reads_the_same_both_ways(payloads: list[bytes | str]) -> None:
    assert agree(payloads).faults == []


# how they are read ----------------------------------------------------------------------------------------------------

GOOD = b'{"id":"a","big":1,"rate":0.0700,"lines":[{"price":"1","taxes":[{"rate":0.10,"name":"t"}]}]}'


def test_a_chunk_without_faults_is_read_by_arrow_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    one = decoder()
    monkeypatch.setattr(one, "_objects", None)
    made = one.read([GOOD, GOOD.decode()])
    assert made.has_beside
    assert made.rows[0].as_py()["rate"] == "0.0700"
    assert made.rows[1].as_py()["lines"][0]["taxes"][0]["rate"] == "0.10"


def test_faulty_payloads_are_named_and_the_others_are_read_by_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    one = decoder()
    monkeypatch.setattr(one.root, "column", None)
    made = one.read([GOOD, b"{}", b"no", GOOD])
    assert made.kept.tolist() == [0, 3]
    assert [fault[:2] for fault in made.faults] == [(1, "$"), (2, "$")]
    assert len(made.rows) == 2


def test_a_number_keeps_every_digit_and_its_last_zeros() -> None:
    one = decoder({"rate": "number"})
    said = ["0.070", "-0.0", "1", "12345678901234567890123456789012345678901234567890.10", "1e-7", "2.5E+3"]
    made = agree([f'{{"rate":{number}}}'.encode() for number in said], one)
    assert made.rows.field("rate").to_pylist() == [*said[:4], "0.0000001", "2500"]


def test_a_key_of_numbers_that_is_also_one_of_other_values_is_read_exactly() -> None:
    one = decoder({"rate": "number", "fee.rate": "str"})
    assert agree([b'{"rate":0.10,"fee":{"rate":"x"}}'], one).rows.to_pylist() == [
        {"rate": "0.10", "fee": {"rate": "x"}}
    ]


def test_an_integer_beyond_64_bits_is_a_fault_of_its_payload() -> None:
    one = decoder({"n": "int"})
    made = agree([b'{"n":9223372036854775807}', b'{"n":9223372036854775808}'], one)
    assert [(position, path) for position, path, _ in made.faults] == [(1, "$.n")]
    assert made.rows.to_pylist() == [{"n": 2**63 - 1}]


def test_what_is_read_beside_refuses_no_payload() -> None:
    root = Node()
    root.add("id", "str")
    root.add("money.code", "str", is_beside=True)
    one = Decoder(root)
    made = one.read([b'{"id":"a","money":{"code":"USD"}}', b'{"id":"b"}'])
    assert made.has_beside
    assert read(made.rows, root.add("money.code", "str", is_beside=True)[1]).to_pylist() == ["USD", None]
    odd = one.read([b'{"id":"a","money":{"code":7}}', b'{"id":"b","money":[]}'])
    assert (odd.faults, odd.has_beside, odd.rows.field("id").to_pylist()) == ([], False, ["a", "b"])


def test_an_absent_list_is_an_empty_one_and_an_absent_object_has_none() -> None:
    root = Node()
    _, steps = root.add("home?.lines?[].tags?[].name", "str")
    payloads = [
        '{"home":{"lines":[{"tags":[{"name":"a"},{"name":"b"}]},{}]}}',
        '{"home":{}}',
        "{}",
        '{"home":{"lines":[]}}',
    ]
    column = read(Decoder(root).read(payloads).rows, steps)
    assert column.to_pylist() == as_list(column, "str") == [[["a", "b"], []], [], None, []]
    assert leaf(as_list(column, "str"), "str").equals(column)


def test_a_trie_refuses_a_contradiction() -> None:
    root = Node()
    root.add("a[].b", "str")
    with pytest.raises(MappingError, match="a is a list in one path"):
        root.add("a.b", "str")


def test_nothing_to_read_is_read() -> None:
    assert np.array_equal(Decoder(Node()).read([b"{}", b"1"]).kept, [0])
    assert agree([]).rows.to_pylist() == []
