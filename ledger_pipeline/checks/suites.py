"""What must hold for staged rows before they may be posted; a row that fails is named by the payload that it came from."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.model.money import DIGITS
from ledger_pipeline.model.records import RECORDS, Record, Total

EARLIEST = datetime(2000, 1, 1)  # noqa: DTZ001 - compared as a day


@dataclass(frozen=True, slots=True)
class Outcome:
    """One expectation over one record's rows. `failing` are raw_ids; a batch-level expectation that failed has none."""

    record: str
    name: str
    doc: str
    is_met: bool
    rows: int
    failing: tuple[int, ...] = ()
    examples: tuple[str, ...] = ()
    is_batch_level: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """An expectation of ours together with Great Expectations' form of it."""

    name: str
    doc: str
    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)


def expectations_of(record: Record) -> list[Expected]:
    """The suite of a record, as data: it is executed by Great Expectations and printed in the documentation."""
    required = ", ".join(c.name for c in record.columns if c.is_required)
    found = [
        Expected("required fields are present", f"{required}.", "in_set", {"column": "missing", "value_set": [""]})
    ]
    for column in record.columns:
        if column.one_of:
            found.append(
                Expected(
                    f"{column.name} is known",
                    column.doc,
                    "in_set",
                    {"column": column.name, "value_set": list(column.one_of)},
                )
            )
        if column.kind == "currency":
            found.append(
                Expected(
                    f"{column.name} is an ISO 4217 code",
                    column.doc,
                    "in_set",
                    {"column": column.name, "value_set": sorted(DIGITS)},
                )
            )
        if column.minimum is not None:
            found.append(
                Expected(
                    f"{column.name} is at least {column.minimum}",
                    column.doc,
                    "between",
                    {"column": column.name, "min_value": column.minimum},
                )
            )
    for total in record.totals:
        found.append(
            Expected(
                f"{total.equals} is the sum of its parts ({total.doc})",
                total.doc,
                "equal",
                {"column_A": total.equals, "column_B": total.name},
            )
        )
    if record.parent:
        found.append(
            Expected(
                f"its {record.parent} exists",
                "A part belongs to a staged record.",
                "in_set",
                {"column": "has_parent", "value_set": [True]},
            )
        )
    else:
        found.append(
            Expected("source_id is unique", "One row per record in a sync date.", "unique", {"column": "source_id"})
        )
    if record.date_field:
        found.append(
            Expected(
                f"{record.date_field} lies inside the window",
                "Not after the sync date and the pull (two days of grace for the bank's dates), not before 2000.",
                "in_set",
                {"column": "is_in_window", "value_set": [True]},
            )
        )
    return found


@cache
def _library() -> tuple[Any, Any, Any]:
    """(great_expectations, its expectations, a batch definition over any data frame), made once per process."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx
    from great_expectations import expectations as gxe
    from great_expectations.data_context.types.base import ProgressBarsConfig

    _remember_configurations()
    _leave_out_fingerprints()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("staging")
    return gx, gxe, source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("day")


_configurations: dict[int, tuple[Any, Any]] = {}
"""By the id of an expectation: itself (so that the id stays its own) and its configuration; emptied after each validation."""


def _remember_configurations() -> None:
    """Great Expectations builds an expectation's configuration anew at every look, about a thousand times a validation.

    An expectation is frozen while it is validated, so one look is enough: the others were nearly half of a check's time.
    """
    from great_expectations.expectations.expectation import Expectation

    build = vars(Expectation)["configuration"].fget

    def configuration(self: Any) -> Any:
        known = _configurations.get(id(self))
        if known is None:
            known = _configurations[id(self)] = (self, build(self))
        return known[1]

    type.__setattr__(Expectation, "configuration", property(configuration))


def _leave_out_fingerprints() -> None:
    """Great Expectations hashes a data frame each time it is handed over, twice a validation; nobody looks at that hash.

    What was checked is told by the gate's own fingerprint, over the staged bytes.
    """
    from great_expectations.execution_engine import pandas_execution_engine

    pandas_execution_engine.hash_pandas_dataframe = lambda df: ""


@cache
def _suite(name: str) -> Any:
    gx, gxe, _ = _library()
    kinds = {
        "in_set": gxe.ExpectColumnValuesToBeInSet,
        "between": gxe.ExpectColumnValuesToBeBetween,
        "unique": gxe.ExpectColumnValuesToBeUnique,
        "equal": gxe.ExpectColumnPairValuesToBeEqual,
    }
    suite = gx.ExpectationSuite(name=name)
    for expected in expectations_of(RECORDS[name]):
        suite.add_expectation(
            kinds[expected.kind](**expected.arguments, meta={"name": expected.name, "doc": expected.doc})
        )
    return suite


def warm_up() -> None:
    """Import the library now, for instance while something else waits on the network."""
    _library()


def check(record: Record, tables: Mapping[str, pa.Table], *, window_end: datetime) -> list[Outcome]:
    """Run a record's suite over its staged rows; no rows, nothing to fail."""
    table = tables[record.name]
    wanted = expectations_of(record)
    if not table.num_rows:
        return [Outcome(record.name, e.name, e.doc, True, 0) for e in wanted]
    frame = _frame(prepare(record, tables, window_end=window_end))
    _, _, batch_definition = _library()
    batch = batch_definition.get_batch(batch_parameters={"dataframe": frame})
    try:
        results = batch.validate(
            _suite(record.name),
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["raw_id"]},
        )
    finally:
        _configurations.clear()
    return [_outcome(record, frame, result) for result in results.results]


def _frame(prepared: pa.Table) -> Any:
    """A pandas frame on Arrow's columns, except integers without nulls: on NumPy's Great Expectations compares a column at once."""
    import pandas as pd

    is_plain = {
        n: pa.types.is_integer(c.type) and not c.null_count
        for n, c in zip(prepared.column_names, prepared.columns, strict=True)
    }
    frame = prepared.to_pandas(types_mapper=pd.ArrowDtype)
    return frame.assign(**{name: prepared[name].to_numpy() for name, plain in is_plain.items() if plain})


def merged(parts: Sequence[list[Outcome]]) -> list[Outcome]:
    """The outcomes of several groups of payloads as if they had been one."""
    return [
        replace(
            same[0],
            is_met=all(o.is_met for o in same),
            rows=sum(o.rows for o in same),
            failing=tuple(sorted({raw_id for o in same for raw_id in o.failing})),
            examples=tuple(example for o in same for example in o.examples)[:5],
        )
        for same in zip(*parts, strict=True)
    ]


def prepare(record: Record, tables: Mapping[str, pa.Table], *, window_end: datetime) -> pa.Table:
    """The record's rows with what its totals, references and dates are compared with; repeats of the same record stand once."""
    table = tables[record.name]
    columns = {n: table[n] for n in _wanted_columns(record)}
    columns["missing"] = _missing(record, table)
    if record.date_field:
        columns["is_in_window"] = _is_in_window(table[record.date_field], window_end)
    for total in record.totals:
        columns[total.name] = _sum_of(total, record, tables)
    if record.parent:
        columns["has_parent"] = pc.is_in(_keys(table), value_set=_keys(tables[record.parent]))
    prepared = pa.table(columns)
    return prepared if record.parent else _without_repeats(prepared, table)


def _wanted_columns(record: Record) -> list[str]:
    """The columns that an expectation looks at, with the ids."""
    named = [c.name for c in record.columns if c.one_of or c.kind == "currency" or c.minimum is not None]
    return list(dict.fromkeys(["raw_id", "source_id", *named, *(t.equals for t in record.totals)]))


def _missing(record: Record, table: pa.Table) -> pa.Array:
    """The names of a row's absent required fields, one expectation for all of them: each of its own costs as much as all the others."""
    absent = [name for name in (c.name for c in record.columns if c.is_required) if table[name].null_count]
    if not absent:
        return pa.array([""] * table.num_rows, pa.string())
    flags = [pc.if_else(pc.is_null(table[name].combine_chunks()), name, "") for name in absent]
    return pc.utf8_trim(pc.binary_join_element_wise(*flags, " "), characters=" ")


def _without_repeats(prepared: pa.Table, table: pa.Table) -> pa.Table:
    """The same record delivered by two payloads (a statement in two files) is no duplicate unless it says something else."""
    ids = table["source_id"].combine_chunks()
    if pc.count_distinct(ids).as_py() == len(ids):
        return prepared
    seen: set[tuple[Any, ...]] = set()
    keep = []
    for row, values in enumerate(
        zip(*(table[n].to_pylist() for n in table.column_names if n != "raw_id"), strict=True)
    ):
        if values not in seen:
            seen.add(values)
            keep.append(row)
    return prepared.take(pa.array(keep))


def _keys(table: pa.Table) -> pa.Array:
    """A record's identity within the day: its payload and its id."""
    raw_ids, ids = table["raw_id"].combine_chunks(), table["source_id"].combine_chunks()
    return pc.binary_join_element_wise(pc.cast(raw_ids, pa.string()), ids, "\x1f")


def _is_in_window(column: pa.ChunkedArray, window_end: datetime) -> pa.ChunkedArray:
    days = pc.cast(column, pa.date32()) if not pa.types.is_date(column.type) else column
    latest = pa.scalar((window_end + timedelta(days=2)).date(), pa.date32())
    return pc.fill_null(
        pc.and_(pc.less_equal(days, latest), pc.greater_equal(days, pa.scalar(EARLIEST.date(), pa.date32()))), True
    )


def _sum_of(declared: Total, record: Record, tables: Mapping[str, pa.Table]) -> pa.Array:
    head = tables[record.name]
    total = np.zeros(head.num_rows, np.int64)
    keys: pa.Array | None = None
    for name, column, sign in declared.terms:
        part = _of_role(tables[name], declared.role) if declared.role and name != record.name else tables[name]
        values = sign * np.asarray(pc.fill_null(part[column], 0).to_numpy(), np.int64)
        if name == record.name:
            total += values
            continue
        keys = _keys(head) if keys is None else keys
        at = pc.index_in(_keys(part), value_set=keys)
        is_hit = np.asarray(at.is_valid().to_numpy(zero_copy_only=False), np.bool_)
        np.add.at(total, np.asarray(pc.fill_null(at, 0).to_numpy(), np.int64)[is_hit], values[is_hit])
    return pa.array(total)


def _of_role(part: pa.Table, role: str) -> pa.Table:
    """The rows of a role, whatever its parameter."""
    return part.filter(pc.or_(pc.equal(part["role"], role), pc.starts_with(part["role"], f"{role}:")))


def _outcome(record: Record, frame: Any, result: Any) -> Outcome:
    """One result of Great Expectations, in our words."""
    meta = result.expectation_config.meta or {}
    if result.exception_info and result.exception_info.get("raised_exception"):
        raise RuntimeError(f"{record.name}: {meta.get('name')}: {result.exception_info.get('exception_message')}")
    found = result.result.get("unexpected_index_list") or []
    failing = tuple(sorted({int(row["raw_id"]) for row in found}))
    values = result.result.get("partial_unexpected_list") or []
    return Outcome(
        record.name,
        meta["name"],
        meta["doc"],
        bool(result.success),
        len(frame),
        failing,
        tuple(str(v) for v in values[:5]),
    )
