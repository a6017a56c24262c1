"""The mapping engine: paths, lists, conditions, faults with their JSON path, contradictions, and the page that a person reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger_pipeline.connect import convert
from ledger_pipeline.connect.decode import extractor
from ledger_pipeline.connect.mapping import (
    Converter,
    Fault,
    Field,
    Mapped,
    Mapping,
    MappingError,
    Plan,
    Settings,
    Where,
    documents,
)

SETTINGS = Settings("shop", {"prefix": "x"})
CUSTOMER = Field("kind", (), convert.constant("customer"))


def text(target: str, *paths: str, doc: str = "") -> Field:
    return Field(target, paths, convert.text, doc)


def party(*fields: Field, **more: Any) -> Mapping:
    return Mapping("party", "people", (CUSTOMER, *fields), **more)


def run(mappings: Mapping | list[Mapping], *payloads: Any, raw_ids: list[int] | None = None) -> Mapped:
    plan = Plan(mappings if isinstance(mappings, list) else [mappings])
    texts = [payload if isinstance(payload, str | bytes) else json.dumps(payload) for payload in payloads]
    return plan.run(texts, raw_ids or list(range(1, len(texts) + 1)), SETTINGS)


def rows(made: Mapped, record: str, *columns: str) -> list[Any]:
    found = list(zip(*(made.tables[record][c].to_pylist() for c in columns), strict=True))
    return [one[0] if len(columns) == 1 else one for one in found]


def line(*fields: Field, each: str, **more: Any) -> Mapping:
    """Refund lines: few columns are required."""
    constants = (
        Field("role", (), convert.constant("sales_returns")),
        Field("currency", (), convert.constant("USD")),
    )
    return Mapping("refund_line", "people", (*constants, *fields), each=each, **more)


AMOUNT = Field("amount_minor", ("amount",), convert.minor_units)


# paths --------------------------------------------------------------------------------------------------------


def test_a_path_leads_through_objects() -> None:
    made = run(party(text("source_id", "who.key.id")), {"who": {"key": {"id": "p1", "other": []}}, "more": 1})
    assert rows(made, "party", "raw_id", "source_id", "kind", "country") == [(1, "p1", "customer", None)]
    assert made.faults == ()


@pytest.mark.parametrize(
    "who", [{}, {"home": None}, {"home": {}}, {"home": {"country": None}}, {"home": {"country": ""}}]
)
def test_what_may_be_absent_is_null(who: dict[str, Any]) -> None:
    made = run(party(text("source_id", "id"), text("country", "home?.country?")), {"id": "p", **who})
    assert rows(made, "party", "country") == [None]
    assert made.faults == ()


@pytest.mark.parametrize(
    ("who", "message", "path"),
    [
        ({}, "Object missing required field `home`", "$"),
        ({"home": {}}, "Object missing required field `country`", "$.home"),
        ({"home": {"country": 49}}, "Expected `str`, got `int`", "$.home.country"),
        ({"home": None}, "Expected `object`, got `null`", "$.home"),
        ({"home": []}, "Expected `object`, got `array`", "$.home"),
    ],
)
def test_what_must_be_there_is_a_fault_with_its_path(who: dict[str, Any], message: str, path: str) -> None:
    made = run(party(text("source_id", "id"), text("country", "home.country")), {"id": "p", **who})
    assert made.faults == (Fault(0, "party", path, message),)
    assert rows(made, "party", "source_id") == []


def test_one_mapping_may_demand_what_another_leaves_open() -> None:
    """A path is optional as soon as one mapping says so; the other then misses its required value."""
    made = run(
        [
            party(text("source_id", "id"), text("country", "home?.country?")),
            party(text("source_id", "home.country")),
        ],
        {"id": "p"},
    )
    assert made.faults == (Fault(0, "party", "$.home.country", "source_id is required and absent"),)


def test_a_scalar_may_be_text_or_number() -> None:
    mapping = party(Field("source_id", ("id",), convert.text_of_number))
    assert rows(run(mapping, {"id": 7}, {"id": "7"}), "party", "source_id") == ["7", "7"]
    assert run(mapping, {"id": 7.5}).faults[0].path == "$.id"


def test_what_is_no_json_is_a_fault() -> None:
    made = run(party(text("source_id", "id")), '{"id": "p1"}', '{"id": ', '{"id": "p3"}')
    assert rows(made, "party", "raw_id") == [1, 3]
    assert made.faults[0].position == 1
    assert (made.faults[0].path, made.faults[0].message[:9]) == ("$", "not JSON:")


# lists --------------------------------------------------------------------------------------------------------


def test_each_walks_a_list_and_numbers_the_parts_by_payload() -> None:
    made = run(
        line(text("source_id", "$.id"), text("line_id", "sku"), AMOUNT, each="lines[]"),
        {"id": "a", "lines": [{"sku": "x", "amount": 1}, {"sku": "y", "amount": 2}]},
        {"id": "b", "lines": []},
        {"id": "c", "lines": [{"sku": "z", "amount": 3}]},
    )
    assert rows(made, "refund_line", "raw_id", "source_id", "line_no", "line_id", "amount_minor") == [
        (1, "a", 1, "x", 1),
        (1, "a", 2, "y", 2),
        (3, "c", 1, "z", 3),
    ]


def test_lists_in_lists_see_the_root_and_one_level_up() -> None:
    made = run(
        line(text("source_id", "^.id"), text("line_id", "$.shop.id"), AMOUNT, each="refunds[].items.nodes[]"),
        {"shop": {"id": "s"}, "refunds": [{"id": "r1", "items": {"nodes": [{"amount": 1}, {"amount": 2}]}}]},
        {
            "shop": {"id": "t"},
            "refunds": [{"id": "r2", "items": {"nodes": []}}, {"id": "r3", "items": {"nodes": [{"amount": 3}]}}],
        },
    )
    assert rows(made, "refund_line", "source_id", "line_id", "amount_minor") == [
        ("r1", "s", 1),
        ("r1", "s", 2),
        ("r3", "t", 3),
    ]


@pytest.mark.parametrize("payload", [{}, {"lines": None}])
def test_a_list_that_may_be_absent_has_no_rows(payload: dict[str, Any]) -> None:
    made = run(line(text("source_id", "$.id"), AMOUNT, each="lines?[]"), {"id": "a", **payload})
    assert made.tables["refund_line"].num_rows == 0
    assert made.faults == ()


def test_a_list_that_must_be_there_is_a_fault_without_it() -> None:
    made = run(line(text("source_id", "$.id"), AMOUNT, each="lines[]"), {"id": "a"})
    assert made.faults == (Fault(0, "refund_line", "$", "Object missing required field `lines`"),)


def test_a_fault_in_a_list_names_its_element() -> None:
    made = run(
        line(text("source_id", "$.id"), AMOUNT, each="lines[]"), {"id": "a", "lines": [{"amount": 1}, {"amount": "2"}]}
    )
    assert made.faults == (Fault(0, "refund_line", "$.lines[1].amount", "Expected `int`, got `str`"),)


def test_a_field_may_gather_a_list() -> None:
    joined = Converter(
        "joined", ("str",), lambda columns, report: convert.text.run([["+".join(v) for v in columns[0]]], report), ""
    )
    made = run(party(Field("source_id", ("tags[].name",), joined)), {"tags": [{"name": "a"}, {"name": "b"}]})
    assert rows(made, "party", "source_id") == ["a+b"]


def test_rows_of_several_mappings_stand_in_payload_order_with_one_numbering() -> None:
    made = run(
        [
            line(text("source_id", "$.id"), AMOUNT, each="lines[]"),
            line(text("source_id", "id"), Field("amount_minor", ("shipping",), convert.minor_units), each=""),
        ],
        {"id": "a", "shipping": 9, "lines": [{"amount": 1}]},
        {"id": "b", "shipping": 8, "lines": [{"amount": 2}, {"amount": 3}]},
    )
    assert rows(made, "refund_line", "source_id", "line_no", "amount_minor") == [
        ("a", 1, 1),
        ("a", 2, 9),
        ("b", 1, 2),
        ("b", 2, 3),
        ("b", 3, 8),
    ]


# conditions ---------------------------------------------------------------------------------------------------


def test_where_keeps_the_rows_that_it_names() -> None:
    where = Where(("active",), convert.boolean)
    made = run(
        line(text("source_id", "$.id"), AMOUNT, each="lines[]", where=where),
        {"id": "a", "lines": [{"amount": n, "active": n % 2 == 0} for n in range(5)]},
    )
    assert rows(made, "refund_line", "line_no", "amount_minor") == [(1, 0), (2, 2), (3, 4)]


def test_rows_that_where_leaves_out_have_no_faults() -> None:
    where = Where(("active",), convert.boolean)
    mapping = party(Field("source_id", ("id?",), convert.text), where=where)
    made = run(mapping, {"active": False}, {"active": True, "id": "p"}, {"active": True})
    assert rows(made, "party", "raw_id") == [2]
    assert made.faults == (Fault(2, "party", "$.id", "source_id is required and absent"),)


# faults -------------------------------------------------------------------------------------------------------


def test_a_required_value_that_is_absent_is_a_fault() -> None:
    made = run(party(text("source_id", "id?")), {"id": None}, {"id": ""}, {"id": "p"})
    assert [fault.message for fault in made.faults] == ["source_id is required and absent"] * 2
    assert rows(made, "party", "source_id") == ["p"]


def test_a_converters_error_has_the_path_of_its_argument() -> None:
    amount = Field("amount_minor", ("price", "$.money.code"), convert.decimal_text_to_minor)
    made = run(
        line(text("source_id", "$.id"), amount, each="lines[]"),
        {"id": "a", "money": {"code": "USD"}, "lines": [{"price": "1.00"}, {"price": "1.001"}]},
    )
    assert made.faults == (Fault(0, "refund_line", "$.lines[].price", "1.001 has more decimals than USD has (2)"),)


def test_a_faulty_payload_contributes_to_no_table() -> None:
    mappings = [
        party(text("source_id", "id")),
        line(text("source_id", "$.id"), AMOUNT, each="lines[]"),
        line(text("source_id", "$.id"), Field("amount_minor", ("n?",), convert.minor_units), each="more[]"),
    ]
    good = {"lines": [{"amount": 1}], "more": [{"n": 2}]}
    made = run(
        mappings,
        {"id": "a", **good},
        {"id": "b", **good, "more": [{"n": 1}, {}]},
        {"id": "c", **good},
        raw_ids=[10, 20, 30],
    )
    assert rows(made, "party", "raw_id") == [10, 30]
    assert rows(made, "refund_line", "raw_id", "line_no", "amount_minor") == [
        (10, 1, 1),
        (10, 2, 2),
        (30, 1, 1),
        (30, 2, 2),
    ]
    assert made.faults == (Fault(1, "refund_line", "$.more[].n", "amount_minor is required and absent"),)


def test_a_payload_has_one_fault_and_its_position_counts_undecodable_ones() -> None:
    mappings = [party(text("source_id", "id?"), text("country", "c?")), party(text("source_id", "other?"))]
    made = run(mappings, "not json", {}, {"id": "p", "other": "q"})
    assert sorted(fault.position for fault in made.faults) == [0, 1]
    assert rows(made, "party", "raw_id") == [3, 3]


def test_a_zero_character_is_a_fault_and_holds_no_other_payload_up() -> None:
    """PostgreSQL's text can't hold it: the payload would stop the whole day."""
    made = run(party(text("source_id", "id"), text("country", "c")), {"id": "a", "c": "x\x00y"}, {"id": "b", "c": "z"})
    assert made.faults == (Fault(0, "party", "$.c", "a zero character (\\u0000) in text"),)
    assert rows(made, "party", "source_id") == ["b"]


def test_no_payloads_make_empty_tables_with_all_columns() -> None:
    made = run([party(text("source_id", "id")), line(text("source_id", "$.id"), AMOUNT, each="lines[]")])
    assert made.tables["party"].schema.names == ["raw_id", "source_id", "kind", "country"]
    assert made.tables["refund_line"].num_rows == 0


def test_a_converter_knows_the_connections_options() -> None:
    prefixed = Converter(
        "prefixed",
        ("str",),
        lambda columns, report: convert.text.run([[report.settings.options["prefix"] + v for v in columns[0]]], report),
        "",
    )
    assert rows(run(party(Field("source_id", ("id",), prefixed)), {"id": "1"}), "party", "source_id") == ["x1"]


# contradictions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mappings", "message"),
    [
        ([party()], "stream people → party: source_id required and not mapped"),
        (
            [party(text("source_id", "id"), text("source_id", "ref"))],
            "party.source_id is mapped twice in stream people",
        ),
        (
            [party(text("source_id", "id"), Field("country", ("id",), convert.integer))],
            "id: its JSON type contradicts another field's (str and int)",
        ),
        ([party(text("source_id", "id"), text("country", "id.country"))], "id.country: both a value and an object"),
        (
            [party(text("source_id", "a.b"), text("country", "a"))],
            "a: its JSON type contradicts another field's (None and str)",
        ),
        (
            [party(text("source_id", "id"), text("country", "home.c")), party(text("source_id", "c"), each="home[]")],
            "home[]: home is a list in one path and none in another",
        ),
        ([party(text("source_id", "id", "ref"))], "party.source_id: text takes 1 path(s)"),
        ([party(text("source_id", "id")), Mapping("party", "others", ())], "one plan reads one stream"),
    ],
)
def test_a_contradictory_declaration_is_refused(mappings: list[Mapping], message: str) -> None:
    with pytest.raises(MappingError) as error:
        Plan(mappings)
    assert str(error.value) == message


def test_an_unknown_target_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="record party has no field 'colour'; it has source_id, kind, country"):
        Plan([party(text("source_id", "id"), text("colour", "c"))])


# reading ------------------------------------------------------------------------------------------------------


def test_the_mapping_is_printed_as_a_person_reads_it() -> None:
    plan = Plan(
        [
            party(text("source_id", "who?.id", doc="Their number.")),
            line(text("source_id", "^.id"), text("line_id", "$.shop.id"), AMOUNT, each="refunds[].nodes[]"),
        ]
    )
    described = {one["target"]: one for one in plan.describe()}
    assert described["party.source_id"] == {
        "target": "party.source_id",
        "source": "who.id",
        "converter": "text",
        "meaning": "Their number.",
    }
    assert described["party.kind"]["source"] == "–"
    assert described["party.kind"]["converter"] == "always customer"
    assert described["party.kind"]["meaning"] == "What they are to us."
    assert described["refund_line.source_id"]["source"] == "refunds[].id"
    assert described["refund_line.line_id"]["source"] == "shop.id"
    assert described["refund_line.amount_minor"]["source"] == "refunds[].nodes[].amount"
    assert documents([party(text("source_id", "id"))])[0]["stream"] == "people"


def test_an_extractor_reads_scalars_and_never_raises() -> None:
    read = extractor("id", "shop.id", "n")
    assert read('{"id": "a", "shop": {"id": 7}, "n": 1.5}') == ("a", 7, 1.5)
    assert read('{"shop": null}') == (None, None, None)
    assert read("{}") == (None, None, None)
    assert read("[1]") == read("no") == read('{"id": []}') == (None, None, None)
