"""The whole ledger as a beancount or hledger journal: accounts, commodities, prices, entries with their corrections linked, and where each came from.

Each line keeps its own currency and carries its base amount as total price (`@@`), which is what both tools balance an entry by. A line of
nothing but base (fx_rounding) is written in the base currency. Where amount and base have opposite signs, which no price can say, two
postings make up the line: one unit more at no price, and that unit less at the base amount; the sum of the units is the line's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Any, Literal

from ledger_pipeline.model.journal import Rates
from ledger_pipeline.model.money import digits_of, from_minor
from ledger_pipeline.store.database import Connection

Format = Literal["beancount", "hledger"]
FORMATS: tuple[Format, ...] = ("beancount", "hledger")

_ROOTS = {
    "asset": "Assets",
    "liability": "Liabilities",
    "equity": "Equity",
    "income": "Income",
    "expense": "Expenses",
}
_TYPES = {"asset": "A", "liability": "L", "equity": "E", "income": "R", "expense": "X"}


@dataclass(frozen=True, slots=True)
class _Account:
    entity: str
    code: str
    name: str
    type: str
    label: str


@dataclass(frozen=True, slots=True)
class _Line:
    account: str
    role: str
    currency: str
    amount_minor: int
    base_minor: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry as it is written; `metadata` are names (of letters and `-`) and values in their order."""

    entry_id: int
    corrects: int | None
    posted_on: date
    payee: str
    narration: str
    base: str
    metadata: tuple[tuple[str, str], ...]
    lines: tuple[_Line, ...]


def journal(
    connection: Connection,
    form: Format,
    bases: Mapping[str, str],
    *,
    entity: str | None = None,
    rates: Rates | None = None,
    chunk: int = 5_000,
) -> Iterator[str]:
    """The journal in pieces of text, prices, then entries in the order of posting date and id, read by a cursor.

    `bases` are the base currencies by entity; raises KeyError for an entity in the books that it lacks. `rates` give a price of every day and
    currency that is posted in, where one is known. The connection is in a transaction, best of one snapshot.
    """
    accounts = _accounts(connection, entity)
    labels = {(a.entity, a.code): a.label for a in accounts}
    first, currencies = _extent(connection, entity)
    used = {bases[a.entity] for a in accounts}
    write = _beancount if form == "beancount" else _hledger
    yield from (_beancount_head if form == "beancount" else _hledger_head)(
        accounts, sorted(used), currencies | used, first
    )
    if rates is not None:
        yield from _prices(connection, form, bases, entity, rates)
    for entry in _entries(connection, labels, bases, entity, chunk):
        yield write(entry)


def _accounts(connection: Connection, entity: str | None) -> list[_Account]:
    """All accounts with the names that they have in the journal, each its own: `Assets:Acme:1000-Bank`."""
    rows = connection.execute(
        "SELECT entity, code, name, type FROM ledger.account WHERE %(e)s::text IS NULL OR entity = %(e)s ORDER BY entity, code",
        {"e": entity},
    )
    taken: set[str] = set()
    made = []
    for of, code, name, type_ in rows:
        label = start = f"{_ROOTS[type_]}:{_part(of)}:{_part(f'{code} {name}')}"
        number = 1
        while label in taken:
            number += 1
            label = f"{start}-{number}"
        taken.add(label)
        made.append(_Account(of, code, name, type_, label))
    return made


def _part(text: str) -> str:
    """A component of an account's name: letters, digits and `-`, the first one a capital or a digit."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "X"
    return plain[0].upper() + plain[1:]


def _extent(connection: Connection, entity: str | None) -> tuple[date, set[str]]:
    """The first day and all currencies of the books."""
    rows = connection.execute(
        "SELECT currency, min(posted_on) FROM ledger.line WHERE %(e)s::text IS NULL OR entity = %(e)s GROUP BY currency",
        {"e": entity},
    ).fetchall()
    return min((row[1] for row in rows), default=date(1970, 1, 1)), {row[0] for row in rows}


PRICE_DIGITS = 10
"""After the point: a price is for reading, every line carries its own base amount."""


def _prices(
    connection: Connection, form: Format, bases: Mapping[str, str], entity: str | None, rates: Rates
) -> Iterator[str]:
    """The reference rate of each day on which a currency is posted in, in the base currencies of those entities."""
    rows = connection.execute(
        "SELECT DISTINCT posted_on, currency, entity FROM ledger.line WHERE %(e)s::text IS NULL OR entity = %(e)s",
        {"e": entity},
    )
    wanted = sorted({(day, currency, bases[of]) for day, currency, of in rows if currency != bases[of]})
    for day, currency, base in wanted:
        try:
            rate = rates(currency, base, day)
        except LookupError:
            continue  # not every currency is quoted
        price = (Decimal(rate.numerator) / rate.denominator).quantize(Decimal(1).scaleb(-PRICE_DIGITS))
        yield (
            f"{day} price {currency} {price:f} {base}\n"
            if form == "beancount"
            else f"P {day} {currency} {price:f} {base}\n"
        )


_METADATA = ("entity", "connection", "record", "source_id", "kind", "version", "occurred_on", "rule", "raw_id")


def _entries(
    connection: Connection,
    labels: Mapping[tuple[str, str], str],
    bases: Mapping[str, str],
    entity: str | None,
    chunk: int,
) -> Iterator[_Entry]:
    with connection.cursor(name="export") as cursor:
        cursor.itersize = chunk
        cursor.execute(
            f"""
            SELECT e.entry_id, e.corrects_entry_id, e.posted_on, encode(e.content_hash, 'hex'), {", ".join(f"e.{n}" for n in _METADATA)},
                   l.account, l.role, l.currency, l.amount_minor, l.base_minor
              FROM ledger.entry e JOIN ledger.line l USING (entry_id)
             WHERE %(e)s::text IS NULL OR e.entity = %(e)s
             ORDER BY e.posted_on, e.entry_id, l.line_no
            """,
            {"e": entity},
        )
        for _, group in groupby(cursor, key=lambda row: row[0]):
            yield _entry(list(group), labels, bases)


def _entry(rows: list[tuple[Any, ...]], labels: Mapping[tuple[str, str], str], bases: Mapping[str, str]) -> _Entry:
    entry_id, corrects, posted_on, raw_hash, *values = rows[0][: 4 + len(_METADATA)]
    said = dict(zip(_METADATA, values, strict=True))
    lines = tuple(_Line(labels[said["entity"], row[-5]], *row[-4:]) for row in rows)
    metadata = (
        ("entry-id", str(entry_id)),
        *((name.replace("_", "-"), str(value)) for name, value in said.items()),
        ("raw-hash", raw_hash),
        *((("corrects", str(corrects)),) if corrects is not None else ()),
    )
    narration = f"{said['record']} {said['source_id']}" + ("" if said["kind"] == "original" else f" ({said['kind']})")
    return _Entry(entry_id, corrects, posted_on, said["connection"], narration, bases[said["entity"]], metadata, lines)


def _amounts(line: _Line, base: str) -> Iterator[str]:
    """What a line is written as: one amount, or two where no price could say its base amount."""
    amount, currency, in_base = line.amount_minor, line.currency, line.base_minor
    if amount == 0:
        yield _money(in_base, base)
    elif currency == base and amount == in_base:
        yield _money(amount, currency)
    elif in_base == 0 or (amount > 0) == (in_base > 0):
        yield f"{_money(amount, currency)} @@ {_money(abs(in_base), base)}"
    else:
        unit = 1 if in_base > 0 else -1
        yield f"{_money(amount - unit, currency)} @@ {_money(0, base)}"
        yield f"{_money(unit, currency)} @@ {_money(abs(in_base), base)}"


def _money(minor: int, currency: str) -> str:
    return f"{from_minor(minor, currency):f} {currency}"


# beancount -------------------------------------------------------------------------------------------------------------


def _beancount_head(accounts: list[_Account], bases: list[str], currencies: set[str], first: date) -> Iterator[str]:
    """The tolerance is far below every minor unit; it only takes up the division of a total price by its units."""
    yield 'option "title" "ledger_pipeline"\noption "inferred_tolerance_default" "*:0.0000001"\n'
    yield "".join(f'option "operating_currency" "{base}"\n' for base in bases) + "\n"
    yield "".join(f"{first} commodity {currency}\n" for currency in sorted(currencies)) + "\n"
    for account in accounts:
        yield f"{first} open {account.label}\n"
        for name, value in (("entity", account.entity), ("code", account.code), ("name", account.name)):
            yield f"  {name}: {_quoted(value)}\n"


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def _quoted(text: str) -> str:
    """A beancount string; control characters become U+FFFD."""
    plain = _CONTROL.sub("\ufffd", text).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + plain.replace("\n", "\\n").replace("\t", "\\t") + '"'


def _beancount(entry: _Entry) -> str:
    """An entry bears the link of its own id, and that of the entry it corrects."""
    links = f"^entry-{entry.entry_id}" + (f" ^entry-{entry.corrects}" if entry.corrects is not None else "")
    text = [f"\n{entry.posted_on} * {_quoted(entry.payee)} {_quoted(entry.narration)} {links}\n"]
    text += [f"  {name}: {_quoted(value)}\n" for name, value in entry.metadata]
    for line in entry.lines:
        for amount in _amounts(line, entry.base):
            text.append(f"  {line.account}  {amount}\n    role: {_quoted(line.role)}\n")
    return "".join(text)


# hledger ---------------------------------------------------------------------------------------------------------------


def _hledger_head(accounts: list[_Account], bases: list[str], currencies: set[str], first: date) -> Iterator[str]:
    yield f"; ledger_pipeline; base currencies: {' '.join(bases)}; from {first}\n\n"
    for currency in sorted(currencies):
        digits = digits_of(currency)
        yield f"commodity 1000.{'0' * digits} {currency}\n"
    yield "\n"
    for account in accounts:
        tags = (("entity", account.entity), ("code", account.code), ("name", account.name))
        yield f"account {account.label}  ; type:{_TYPES[account.type]}\n"
        yield "".join(f"    ; {name}:{_tag(value)}\n" for name, value in tags)


def _tag(text: str) -> str:
    """A tag's value ends at a comma or a line's end: these, control characters and `%` are written as `%2C` and so on."""
    return re.sub(r"[\x00-\x1f\x7f%,]", lambda found: f"%{ord(found[0]):02X}", text)


def _hledger(entry: _Entry) -> str:
    description = re.sub(r"[\x00-\x1f\x7f;|]", " ", f"{entry.payee} {entry.narration}")
    text = [f"\n{entry.posted_on} * ({entry.entry_id}) {description}\n"]
    text += [f"    ; {name}:{_tag(value)}\n" for name, value in entry.metadata]
    for line in entry.lines:
        text += [f"    {line.account}  {a}  ; role:{_tag(line.role)}\n" for a in _amounts(line, entry.base)]
    return "".join(text)
