"""Entries and lines as columns: a rule is applied to whole tables, lines are converted to base, and the balance is checked last.

Amounts are signed int64 in minor units, debit positive. An entry balances in every currency that it uses and in the entity's base.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.model.money import Int64s, digits_of, divide_half_even
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.model.rules.rule import Post, Rule, When

TRADING = "currency_trading"
ROUNDING = "fx_rounding"
INTERCOMPANY = "intercompany"

Rates = Callable[[str, str, date], Fraction]
"""(currency, base, day) → base units per one unit of currency, in major units; raises LookupError where it isn't known."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What a rule makes of a record table.

    `entries`: raw_id, record, source_id, rule, rule_version, occurred_on, currency, line_count, fingerprint (32 bytes).
    `lines`: entry (row in `entries`), line_no, role, currency, amount_minor, base_minor; sorted by entry, line_no.
    `ignored`: raw_id, source_id, reason. `rejected`: raw_id, source_id, reason — records that can't be posted as they are.
    """

    entries: pa.Table
    lines: pa.Table
    ignored: pa.Table
    rejected: pa.Table


@dataclass(frozen=True, slots=True)
class Share:
    """An entity's part of records that two entities book: the one that sold, and the one whose connection collected the money.

    `other` is, per row of the record, the entity on the other side; an empty text: this entity books the row whole. `is_collector`: which
    side this entity is on. Its part is balanced by `intercompany:{other}`.
    """

    other: npt.NDArray[np.object_]
    is_collector: bool


_IGNORED = pa.schema([("raw_id", pa.int64()), ("source_id", pa.string()), ("reason", pa.string())])


def post(
    rule: Rule,
    tables: Mapping[str, pa.Table],
    *,
    base: str,
    zone: str,
    rates: Rates,
    has_account: Callable[[str], bool] = lambda role: True,
    share: Share | None = None,
) -> Journal:
    """Apply a rule to a record's table and its parts'; nothing is read or written. `share` says what of it this entity books (default: all).

    A row whose lines don't balance, that has no date, whose rate is unknown or whose role has no account is rejected by name;
    the others go on.
    """
    head = tables[rule.record]
    reasons = _ignore_reasons(rule, head)
    occurred_on = local_dates(head, rule.record, zone)
    is_undated = np.asarray(occurred_on.is_null().to_numpy(zero_copy_only=False), np.bool_) & (reasons == "")
    lines = _raw_lines(rule, tables, np.flatnonzero((reasons == "") & ~is_undated), share)
    lines = _merge(lines)
    lines, rejected = _convert(lines, head, occurred_on, base, rates)
    rejected |= {int(e): f"{RECORDS[rule.record].date_field} is absent" for e in np.flatnonzero(is_undated)}
    rejected |= _without_account(lines, has_account)
    rejected |= {int(e): reason for e, reason in _unbalanced(lines).items() if int(e) not in rejected}
    has_lines = np.zeros(len(head), np.bool_)
    has_lines[lines.entry] = True
    for position in np.flatnonzero((reasons == "") & ~has_lines).tolist():
        if position not in rejected:
            reasons[position] = "zero amount"
    return _assemble(rule, head, occurred_on, lines, reasons, rejected)


@dataclass(slots=True)
class _Lines:
    """Parallel columns; `basis` is the amount in the entry's own currency from which the base amount is computed."""

    entry: Int64s
    role: npt.NDArray[np.object_]
    currency: npt.NDArray[np.object_]
    amount: Int64s
    basis: Int64s
    base: Int64s

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> _Lines:
        return _Lines(*(getattr(self, name)[index] for name in self.__slots__))


def _ignore_reasons(rule: Rule, head: pa.Table) -> npt.NDArray[np.object_]:
    reasons = np.full(len(head), "", object)
    for ignore in rule.ignores:
        hit = _matches(head, ignore.when) & (reasons == "")
        reasons[hit] = ignore.reason
    return reasons


def _matches(table: pa.Table, when: When | None) -> npt.NDArray[np.bool_]:
    if when is None:
        return np.ones(len(table), np.bool_)
    mask = pc.fill_null(pc.is_in(table[when.column], value_set=pa.array(when.values)), False)
    return np.asarray(mask.to_numpy(), np.bool_)


def local_dates(table: pa.Table, record: str, zone: str) -> pa.Array:
    """The calendar day of each row: a date column as it is, a timestamp as seen in the entity's zone."""
    name = RECORDS[record].date_field
    column = table[name].combine_chunks()
    if pa.types.is_date(column.type):
        return column
    return pc.cast(pc.local_timestamp(pc.cast(column, pa.timestamp("us", zone))), pa.date32())


def _raw_lines(
    rule: Rule, tables: Mapping[str, pa.Table], wanted: npt.NDArray[np.int64], share: Share | None
) -> _Lines:
    head = tables[rule.record]
    keep = np.zeros(len(head), np.bool_)
    keep[wanted] = True
    positions = {rule.record: np.arange(len(head))}
    for part in rule.parts:
        positions[part] = _parent_positions(head, tables[part])
    pieces = []
    for spec in rule.posts:
        table, entry = tables[spec.each or rule.record], positions[spec.each or rule.record]
        mask = keep[entry] & (entry >= 0) if len(entry) else np.zeros(0, np.bool_)
        if spec.when is not None:
            mask &= _matches(table, spec.when) if spec.each is None else _matches(head, spec.when)[entry]
        if share is not None and share.is_collector != spec.is_collected and len(entry):
            mask &= (share.other == "")[entry]
        pieces += _post_lines(spec, table, entry, np.flatnonzero(mask))
    if share is not None:
        pieces += [_between(piece, share) for piece in pieces]
    return _Lines(*(np.concatenate([getattr(p, name) for p in pieces]) for name in _Lines.__slots__))


def _between(lines: _Lines, share: Share) -> _Lines:
    """What one side of a shared record owes the other for these lines; merged it is one line per entry and currency."""
    other = share.other[lines.entry]
    owed = lines.take(other != "")
    role = np.array([f"{INTERCOMPANY}:{name}" for name in other[other != ""]], object)
    return _Lines(owed.entry, role, owed.currency, -owed.amount, -owed.basis, owed.base)


def _parent_positions(head: pa.Table, part: pa.Table) -> npt.NDArray[np.int64]:
    """Row of each part's parent by (raw_id, source_id); −1 where there is none."""
    if not len(part):
        return np.zeros(0, np.int64)
    keys = pc.binary_join_element_wise(pc.cast(head["raw_id"], pa.string()), head["source_id"], "\x1f").combine_chunks()
    wanted = pc.binary_join_element_wise(
        pc.cast(part["raw_id"], pa.string()), part["source_id"], "\x1f"
    ).combine_chunks()
    return np.asarray(pc.fill_null(pc.index_in(wanted, value_set=keys), -1).to_numpy(), np.int64)


def _post_lines(spec: Post, table: pa.Table, entry: npt.NDArray[np.int64], rows: npt.NDArray[np.intp]) -> list[_Lines]:
    sign = 1 if spec.side == "debit" else -1
    amount = sign * _ints(table, spec.amount)[rows]
    currency = _objects(table, "currency")[rows]
    role = _roles(spec.role, table)[rows]
    plain = _Lines(entry[rows], role, currency, amount, amount, np.zeros_like(amount))
    if not spec.is_settled:
        return [plain]
    settled_currency = _objects(table, "settled_currency")[rows]
    is_foreign = settled_currency != currency
    if not is_foreign.any():
        return [plain]
    other = plain.take(is_foreign)
    settled = sign * _ints(table, spec.settled_amount)[rows][is_foreign]
    foreign = settled_currency[is_foreign]
    trading = np.full(len(settled), TRADING, object)
    zero = np.zeros_like(settled)
    return [
        plain.take(~is_foreign),
        _Lines(other.entry, trading, other.currency, other.amount, other.amount, zero),
        _Lines(other.entry, trading, foreign, -settled, -other.amount, zero),
        _Lines(other.entry, other.role, foreign, settled, other.amount, zero),
    ]


def _ints(table: pa.Table, name: str) -> Int64s:
    return np.asarray(pc.fill_null(table[name], 0).to_numpy(), np.int64)


def _objects(table: pa.Table, name: str) -> npt.NDArray[np.object_]:
    """A text column as Python strings, each distinct value once (comparison by identity is then cheap)."""
    encoded = table[name].combine_chunks().dictionary_encode()
    values = np.array([*encoded.dictionary.to_pylist(), None], object)
    codes = np.asarray(pc.fill_null(encoded.indices, len(values) - 1).to_numpy(zero_copy_only=False), np.int64)
    return values[codes]


_COLUMN = re.compile(r"\{(\w+)\}")


def _roles(template: str, table: pa.Table) -> npt.NDArray[np.object_]:
    names = _COLUMN.findall(template)
    if not names:
        return np.full(len(table), template, object)
    if len(names) > 1:
        raise ValueError(f"role {template!r} may name one column")
    encoded = table[names[0]].combine_chunks().dictionary_encode()
    values = [_COLUMN.sub(str(v), template) for v in encoded.dictionary.to_pylist()] + [
        _COLUMN.sub("unknown", template)
    ]
    codes = np.asarray(pc.fill_null(encoded.indices, len(values) - 1).to_numpy(zero_copy_only=False), np.int64)
    return np.array(values, object)[codes]


def _codes(values: npt.NDArray[np.object_]) -> tuple[Int64s, list[str]]:
    encoded = pa.array(values, pa.string()).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return rank[np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)], [names[i] for i in order]


def _merge(lines: _Lines) -> _Lines:
    """Lines of one entry with the same role and currency become one; lines of nothing go; sorted by entry, role, currency."""
    if not len(lines.entry):
        return lines
    roles, role_names = _codes(lines.role)
    currencies, currency_names = _codes(lines.currency)
    key = (lines.entry * len(role_names) + roles) * len(currency_names) + currencies
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    amount = np.add.reduceat(lines.amount[order], first)
    basis = np.add.reduceat(lines.basis[order], first)
    merged = _Lines(
        lines.entry[order][first],
        np.array(role_names, object)[roles[order][first]],
        np.array(currency_names, object)[currencies[order][first]],
        amount,
        basis,
        np.zeros_like(amount),
    )
    return merged.take((amount != 0) | (basis != 0))


def _convert(
    lines: _Lines, head: pa.Table, occurred_on: pa.Array, base: str, rates: Rates
) -> tuple[_Lines, dict[int, str]]:
    """Base amounts; what rounding misses goes to fx_rounding within the same entry."""
    rejected: dict[int, str] = {}
    if not len(lines.entry):
        return lines, rejected
    currency = _objects(head, "currency")[lines.entry]
    lines.base = lines.basis.copy()
    foreign = np.flatnonzero(currency != base)
    if not len(foreign):
        return lines, rejected
    days = occurred_on.to_pylist()
    known: dict[tuple[str, date], Fraction | str] = {}
    for row in foreign.tolist():
        entry = int(lines.entry[row])
        key = (currency[row], days[entry])
        if key not in known:
            known[key] = _rate(rates, key[0], base, key[1])
        rate = known[key]
        if isinstance(rate, str):
            rejected[entry] = rate
            continue
        lines.base[row] = divide_half_even(int(lines.basis[row]) * rate.numerator, rate.denominator)
    missing = np.zeros(len(head), np.int64)
    np.add.at(missing, lines.entry, lines.base)
    for entry in rejected:
        missing[entry] = 0
    where = np.flatnonzero(missing)
    if not len(where):
        return lines, rejected
    entry_currency = _objects(head, "currency")
    extra = _Lines(
        where,
        np.full(len(where), ROUNDING, object),
        entry_currency[where],
        np.zeros(len(where), np.int64),
        np.zeros(len(where), np.int64),
        -missing[where],
    )
    joined = _Lines(*(np.concatenate([getattr(lines, n), getattr(extra, n)]) for n in _Lines.__slots__))
    return joined.take(np.argsort(joined.entry, kind="stable")), rejected


def _rate(rates: Rates, currency: str, base: str, day: date) -> Fraction | str:
    """Minor base units per minor unit of the currency, or why it isn't known."""
    try:
        rate = rates(currency, base, day)
    except LookupError as error:
        return f"no rate: {error.args[0] if error.args else error}"
    shift = digits_of(base) - digits_of(currency)
    return rate * Fraction(10) ** shift


def _without_account(lines: _Lines, has_account: Callable[[str], bool]) -> dict[int, str]:
    if not len(lines.entry):
        return {}
    roles, names = _codes(lines.role)
    missing = [code for code, name in enumerate(names) if not has_account(name)]
    hits = np.flatnonzero(np.isin(roles, missing))
    return {int(lines.entry[row]): f"no account for role {lines.role[row]!r}" for row in hits}


def _unbalanced(lines: _Lines) -> dict[int, str]:
    """The check that nothing skips: entries that don't sum to zero in each currency and in base."""
    if not len(lines.entry):
        return {}
    currencies, names = _codes(lines.currency)
    key = lines.entry * len(names) + currencies
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    sums = np.add.reduceat(lines.amount[order], first)
    bad = {
        int(key[first[i]])
        // len(names): f"unbalanced by {sums[i]} {names[int(key[first[i]]) % len(names)]} minor units"
        for i in np.flatnonzero(sums)
    }
    base = np.zeros(int(lines.entry.max()) + 1, np.int64)
    np.add.at(base, lines.entry, lines.base)
    return bad | {
        int(e): f"unbalanced by {base[e]} minor units in base" for e in np.flatnonzero(base) if int(e) not in bad
    }


def _assemble(
    rule: Rule,
    head: pa.Table,
    occurred_on: pa.Array,
    lines: _Lines,
    reasons: npt.NDArray[np.object_],
    rejected: dict[int, str],
) -> Journal:
    good = np.zeros(len(head), np.bool_)
    good[lines.entry] = True
    good[list(rejected)] = False
    lines = lines.take(good[lines.entry]) if len(lines.entry) else lines
    kept = np.flatnonzero(good)
    renumber = np.full(len(head), -1, np.int64)
    renumber[kept] = np.arange(len(kept))
    counts = np.bincount(renumber[lines.entry], minlength=len(kept)) if len(kept) else np.zeros(0, np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(kept) else np.zeros(0, np.int64)
    line_table = pa.table(
        {
            "entry": pa.array(renumber[lines.entry], pa.int64()),
            "line_no": pa.array(np.arange(len(lines.entry)) - np.repeat(starts, counts) + 1, pa.int64()),
            "role": pa.array(lines.role, pa.string()),
            "currency": pa.array(lines.currency, pa.string()),
            "amount_minor": pa.array(lines.amount, pa.int64()),
            "base_minor": pa.array(lines.base, pa.int64()),
        }
    )
    picked = head.take(pa.array(kept))
    days = occurred_on.take(pa.array(kept))
    entries = pa.table(
        {
            "raw_id": picked["raw_id"],
            "record": pa.array([rule.record] * len(kept), pa.string()),
            "source_id": picked["source_id"],
            "rule": pa.array([rule.name] * len(kept), pa.string()),
            "rule_version": pa.array(np.full(len(kept), rule.version, np.int64)),
            "occurred_on": days,
            "currency": picked["currency"],
            "line_count": pa.array(counts, pa.int64()),
            "fingerprint": fingerprints(days, line_table, counts),
        }
    )
    skipped = np.flatnonzero(reasons != "")
    skipped_rows = head.take(pa.array(skipped))
    bad = sorted(rejected)
    bad_rows = head.take(pa.array(bad, pa.int64()))
    return Journal(
        entries,
        line_table,
        pa.table(
            [skipped_rows["raw_id"], skipped_rows["source_id"], pa.array(reasons[skipped], pa.string())],
            schema=_IGNORED,
        ),
        pa.table(
            [bad_rows["raw_id"], bad_rows["source_id"], pa.array([rejected[b] for b in bad], pa.string())],
            schema=_IGNORED,
        ),
    )


def fingerprints(days: pa.Array, lines: pa.Table, counts: npt.NDArray[np.int64]) -> pa.Array:
    """SHA-256 of each entry's day and lines (`role␟currency␟amount␟base`, one a line), which is what makes two postings equal."""
    texts = pc.binary_join_element_wise(
        lines["role"],
        lines["currency"],
        pc.cast(lines["amount_minor"], pa.string()),
        pc.cast(lines["base_minor"], pa.string()),
        "\x1f",
    ).combine_chunks()
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, texts), "\n").to_pylist()
    heads = pc.cast(days, pa.string()).to_pylist()
    sha256 = hashlib.sha256
    return pa.array([sha256(f"{d}\n{t}".encode()).digest() for d, t in zip(heads, joined, strict=True)], pa.binary(32))
