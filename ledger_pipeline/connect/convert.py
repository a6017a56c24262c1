"""Named converters: whole columns from the wire's types to canonical ones. A value that doesn't fit is reported by row, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.connect.decode import as_list
from ledger_pipeline.connect.mapping import Column, Converter, Report, on_columns
from ledger_pipeline.model.money import DIGITS, Int64s, MoneyError, column_to_minor

UTC_TIME = pa.timestamp("us", "UTC")


def each(name: str, doc: str, wire: tuple[str, ...], function: Callable[..., Any], kind: pa.DataType) -> Converter:
    """A converter from a plain function of one row; a ValueError becomes that row's error."""

    def run(columns: Sequence[Column], report: Report) -> pa.Array:
        out: list[Any] = []
        for row, values in enumerate(zip(*columns, strict=True)):
            try:
                out.append(function(*values))
            except (ValueError, MoneyError) as error:
                report.error(row, str(error))
                out.append(None)
        return pa.array(out, kind)

    return Converter(name, wire, run, doc)


def distinct(
    name: str, doc: str, wire: tuple[str, ...], function: Callable[..., Any], kind: pa.DataType | None = None
) -> Converter:
    """As `each`, but each distinct row is computed once; for what has few different ones."""

    def run(columns: Sequence[pa.Array], report: Report) -> pa.Array:
        return computed_once(columns, wire, function, report, kind or pa.string())

    return on_columns(name, wire, run, doc)


def computed_once(
    columns: Sequence[pa.Array],
    wire: Sequence[str],
    function: Callable[..., Any],
    report: Report,
    kind: pa.DataType,
) -> pa.Array:
    """A plain function of a row's values over columns, once for each distinct row; a ValueError becomes the error of its rows."""
    rows, first = numbered(columns)
    given = [as_list(column.take(pa.array(first)), w) for column, w in zip(columns, wire, strict=True)]
    out: list[Any] = []
    for number, values in enumerate(zip(*given, strict=True)):
        try:
            out.append(function(*values))
        except (ValueError, MoneyError) as error:
            for row in np.flatnonzero(rows == number).tolist():
                report.error(row, str(error))
            out.append(None)
    return pa.array(out, kind).take(pa.array(rows))


def numbered(columns: Sequence[pa.Array]) -> tuple[Int64s, Int64s]:
    """(of each row the number of its distinct content, of each number the first row that has it)."""
    codes = np.zeros(len(columns[0]), np.int64)
    first = codes[:1]
    for column in columns:
        own, size = _codes(column)
        codes, first = _dense(codes * size + own)
    return codes, first


def _codes(column: pa.Array) -> tuple[Int64s, int]:
    """A number per distinct content, and one more than the largest."""
    if pa.types.is_list(column.type):
        return _list_codes(column)
    encoded = pc.dictionary_encode(column)
    return pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64) + 1, len(encoded.dictionary) + 1


def _list_codes(column: pa.ListArray) -> tuple[Int64s, int]:
    """Lists with the same elements in the same order have the same number: position by position, from the front."""
    own, size = _codes(column.flatten())
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy().astype(np.int64)
    starts = np.cumsum(np.maximum(lengths, 0)) - np.maximum(lengths, 0)
    codes, _ = _dense(lengths)
    for position in range(int(lengths.max(initial=0))):
        longer = lengths > position
        here = np.zeros(len(codes), np.int64)
        here[longer] = own[starts[longer] + position] + 1
        codes, _ = _dense(codes * (size + 1) + here)
    return codes, int(codes.max(initial=0)) + 1


def _dense(codes: Int64s) -> tuple[Int64s, Int64s]:
    """The same numbers without gaps, and the first row that has each."""
    _, first, dense = np.unique(codes, return_index=True, return_inverse=True)
    return dense.astype(np.int64), first.astype(np.int64)


def constant(value: str | int | bool, kind: pa.DataType | None = None) -> Converter:
    """The same value for every row; takes no path."""

    def run(columns: Sequence[pa.Array], report: Report) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), len(columns[0]))

    return on_columns(f"always {value}", (), run, "A constant.")


def lookup(
    name: str, table: dict[str, str], *, wire: str = "str", other: str | None = None, doc: str = ""
) -> Converter:
    """Words of the source → words of ours; an unknown word is an error that names the known ones, unless `other` is given."""

    def translate(value: Any) -> str | None:
        found = table.get(value, other) if value is not None else None
        if found is None and value is not None:
            raise ValueError(f"unknown value {value!r}; known are {', '.join(sorted(table))}")
        return found

    return distinct(name, doc or "; ".join(f"{k} → {v}" for k, v in table.items()), (wire,), translate)


def _text(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    is_empty = pc.equal(columns[0], "")
    return pc.if_else(is_empty, pa.scalar(None, pa.string()), columns[0]) if is_empty.true_count else columns[0]


def _upper(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    encoded = pc.dictionary_encode(columns[0])
    codes = pa.array([value.upper() or None for value in encoded.dictionary.to_pylist()], pa.string())
    unknown = [number for number, code in enumerate(codes.to_pylist()) if code is not None and code not in DIGITS]
    for number in unknown:
        message = f"unknown currency {encoded.dictionary[number].as_py()!r} (not an active ISO 4217 code)"
        for row in np.flatnonzero(pc.fill_null(pc.equal(encoded.indices, number), False)).tolist():
            report.error(row, message)
    return codes.take(encoded.indices)


def _as_it_is(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    return columns[0]


def _iso_times(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    try:
        return columns[0].cast(UTC_TIME)
    except pa.ArrowInvalid:
        return pa.array([_iso_time(v, row, report) for row, v in enumerate(columns[0].to_pylist())], UTC_TIME)


def _iso_time(value: str | None, row: int, report: Report) -> datetime | None:
    if value is None:
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        report.error(row, f"{value!r} is no ISO 8601 time")
        return None
    if parsed.tzinfo is None:
        report.error(row, f"{value!r} has no time zone")
        return None
    return parsed.astimezone(UTC)


def _unix_times(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    return columns[0].cast(pa.timestamp("s", "UTC")).cast(UTC_TIME)


def _unix_dates(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    return columns[0].cast(pa.timestamp("s")).cast(pa.date32())


def _iso_date(value: str | None) -> date | None:
    try:
        return None if value is None else date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is no date (YYYY-MM-DD)") from None


def minor(columns: Sequence[Column | pa.Array], report: Report) -> tuple[Int64s, np.ndarray[Any, Any]]:
    """(amounts, is_valid) of a column of major-unit amounts and one of currencies; errors go to the report, argument 0."""
    values, is_valid, errors = column_to_minor(columns[0], columns[1])
    for row, message in errors.items():
        report.error(row, message)
    return values, is_valid


def _minor(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    values, is_valid = minor(columns, report)
    return pa.array(values, pa.int64(), mask=None if is_valid.all() else ~is_valid)


text = on_columns("text", ("str",), _text, "As it is; empty text is absent.")
text_of_number = on_columns("text of an id", ("scalar",), _text, "A number or text, as text.")
currency = on_columns("currency", ("str",), _upper, "ISO 4217, upper case; a code that isn't listed is an error.")
integer = on_columns("integer", ("int",), _as_it_is, "Whole number.")
boolean = on_columns("boolean", ("bool",), _as_it_is, "True or false.")
time_iso = on_columns("ISO 8601 time", ("str",), _iso_times, "With its zone; kept in UTC.")
time_unix = on_columns("Unix seconds", ("int",), _unix_times, "Seconds since 1970 in UTC.")
date_unix = on_columns("Unix seconds to date", ("int",), _unix_dates, "The UTC day of Unix seconds.")
date_iso = distinct("ISO 8601 date", "YYYY-MM-DD.", ("str",), _iso_date, pa.date32())
minor_units = on_columns("minor units", ("int",), _as_it_is, "An integer in the currency's minor unit, as it is.")
decimal_text_to_minor = on_columns(
    "decimal text to minor units", ("str", "str"), _minor, "Exact; a digit more than the currency has is an error."
)
number_to_minor = on_columns(
    "JSON number to minor units", ("number", "str"), _minor, "Read as a decimal, never as a float; exact or an error."
)
