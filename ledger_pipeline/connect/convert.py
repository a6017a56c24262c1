"""Named converters: whole columns from the wire's types to canonical ones. A value that doesn't fit is reported by row, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.connect.mapping import Column, Converter, Report
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


def constant(value: str | int | bool, kind: pa.DataType | None = None) -> Converter:
    """The same value for every row; takes no path."""

    def run(columns: Sequence[Column], report: Report) -> pa.Array:
        return pa.array([value] * len(columns[0]), kind)

    return Converter(f"always {value}", (), run, "A constant.")


def lookup(
    name: str, table: dict[str, str], *, wire: str = "str", other: str | None = None, doc: str = ""
) -> Converter:
    """Words of the source → words of ours; an unknown word is an error that names the known ones, unless `other` is given."""

    def run(columns: Sequence[Column], report: Report) -> pa.Array:
        out: list[str | None] = []
        for row, value in enumerate(columns[0]):
            found = table.get(value, other) if value is not None else None
            if found is None and value is not None:
                report.error(row, f"unknown value {value!r}; known are {', '.join(sorted(table))}")
            out.append(found)
        return pa.array(out, pa.string())

    return Converter(name, (wire,), run, doc or "; ".join(f"{k} → {v}" for k, v in table.items()))


def _text(columns: Sequence[Column], report: Report) -> pa.Array:
    try:
        found = pa.array(columns[0], pa.string())
    except pa.ArrowTypeError:
        found = pa.array([v if v is None or isinstance(v, str) else str(v) for v in columns[0]], pa.string())
    return pc.if_else(pc.equal(found, ""), pa.scalar(None, pa.string()), found)


def _upper(columns: Sequence[Column], report: Report) -> pa.Array:
    codes = {value: value.upper() if value else None for value in set(columns[0])}
    unknown = {value for value, code in codes.items() if code is not None and code not in DIGITS}
    if unknown:
        for row, value in enumerate(columns[0]):
            if value in unknown:
                report.error(row, f"unknown currency {value!r} (not an active ISO 4217 code)")
    return pa.array([codes[value] for value in columns[0]], pa.string())


def _ints(columns: Sequence[Column], report: Report) -> pa.Array:
    return pa.array(columns[0], pa.int64())


def _bools(columns: Sequence[Column], report: Report) -> pa.Array:
    return pa.array(columns[0], pa.bool_())


def _iso_times(columns: Sequence[Column], report: Report) -> pa.Array:
    texts = pa.array(columns[0], pa.string())
    try:
        return texts.cast(UTC_TIME)
    except pa.ArrowInvalid:
        return pa.array([_iso_time(v, row, report) for row, v in enumerate(columns[0])], UTC_TIME)


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


def _unix_times(columns: Sequence[Column], report: Report) -> pa.Array:
    return pa.array(columns[0], pa.int64()).cast(pa.timestamp("s", "UTC")).cast(UTC_TIME)


def _unix_dates(columns: Sequence[Column], report: Report) -> pa.Array:
    return pa.array(columns[0], pa.int64()).cast(pa.timestamp("s")).cast(pa.date32())


def _iso_dates(columns: Sequence[Column], report: Report) -> pa.Array:
    out: list[date | None] = []
    for row, value in enumerate(columns[0]):
        try:
            out.append(None if value is None else date.fromisoformat(value))
        except ValueError:
            report.error(row, f"{value!r} is no date (YYYY-MM-DD)")
            out.append(None)
    return pa.array(out, pa.date32())


def minor(columns: Sequence[Column], report: Report) -> tuple[Int64s, np.ndarray[Any, Any]]:
    """(amounts, is_valid) of a column of major-unit amounts and one of currencies; errors go to the report, argument 0."""
    values, is_valid, errors = column_to_minor(columns[0], columns[1])
    for row, message in errors.items():
        report.error(row, message)
    return values, is_valid


def _minor(columns: Sequence[Column], report: Report) -> pa.Array:
    values, is_valid = minor(columns, report)
    return pa.array(values, pa.int64(), mask=~is_valid)


def _minor_already(columns: Sequence[Column], report: Report) -> pa.Array:
    return pa.array(columns[0], pa.int64())


text = Converter("text", ("str",), _text, "As it is; empty text is absent.")
text_of_number = Converter("text of an id", ("scalar",), _text, "A number or text, as text.")
currency = Converter("currency", ("str",), _upper, "ISO 4217, upper case; a code that isn't listed is an error.")
integer = Converter("integer", ("int",), _ints, "Whole number.")
boolean = Converter("boolean", ("bool",), _bools, "True or false.")
time_iso = Converter("ISO 8601 time", ("str",), _iso_times, "With its zone; kept in UTC.")
time_unix = Converter("Unix seconds", ("int",), _unix_times, "Seconds since 1970 in UTC.")
date_unix = Converter("Unix seconds to date", ("int",), _unix_dates, "The UTC day of Unix seconds.")
date_iso = Converter("ISO 8601 date", ("str",), _iso_dates, "YYYY-MM-DD.")
minor_units = Converter("minor units", ("int",), _minor_already, "An integer in the currency's minor unit, as it is.")
decimal_text_to_minor = Converter(
    "decimal text to minor units", ("str", "str"), _minor, "Exact; a digit more than the currency has is an error."
)
number_to_minor = Converter(
    "JSON number to minor units", ("number", "str"), _minor, "Read as a decimal, never as a float; exact or an error."
)
