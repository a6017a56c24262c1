"""MT940, read by the mt-940 library one statement at a time (SWIFT Standards, category 9: Customer Statement Message).

The library yields what tags say; where a statement begins, which of its tags are missing and on which line a booking
stands is found here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ledger_pipeline.sources.bank_file.statement import Balance, Line, Statement, Unreadable

_START = re.compile(r"(?m)^(?=:20:)")
_BOOKING = re.compile(r"(?m)^:61:")
_PAGED = "intermediate_opening_balance"


def decoded(content: bytes) -> str:
    """UTF-8 where it is, else Windows-1252 with its five unused bytes kept, as older banking software writes."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="surrogateescape").encode("utf-8", errors="replace").decode()
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read(content: bytes) -> Iterator[Statement]:
    """The statements of a file. Raises Unreadable where there is none; a statement that isn't right has a fault."""
    text = decoded(content)
    starts = [match.start() for match in _START.finditer(text)]
    if not starts:
        raise Unreadable("line 1: there is no statement (:20:) in it")
    early = _BOOKING.search(text, 0, starts[0])
    if early:
        line = text.count("\n", 0, early.start()) + 1
        raise Unreadable(f"line {line}: a booking (:61:) stands before the first statement (:20:)")
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        statement = Statement(text.count("\n", 0, start) + 1)
        try:
            _fill(statement, text[start:end])
        except Unreadable as error:
            statement.fault = str(error)
        yield statement


def _fill(statement: Statement, block: str) -> None:
    import mt940 as library  # here, since it compiles its expressions when it is imported
    from mt940.models import Transactions

    places = [statement.place + block.count("\n", 0, match.start()) for match in _BOOKING.finditer(block)]
    parsed = Transactions(options=library.Options.all())
    try:
        parsed.parse(block)
    except (ValueError, RuntimeError, ArithmeticError, KeyError, TypeError) as error:
        raise Unreadable(f"line {statement.place}: {_short(error)}") from None
    data = parsed.data
    statement.account = (data.get("account_identification") or "").strip()
    statement.statement_id = (data.get("transaction_reference") or "").strip()
    number, page = data.get("statement_number"), data.get("sequence_number")
    statement.number = "/".join(part for part in (number, page) if part)
    statement.is_page = _PAGED in data
    statement.opening = _balance(data.get("final_opening_balance") or data.get(_PAGED))
    statement.closing = _balance(data.get("final_closing_balance") or data.get("intermediate_closing_balance"))
    known = statement.opening or statement.closing
    statement.currency = known.currency if known else ""
    bookings = [t.data for t in parsed.transactions if "amount" in t.data]
    if len(bookings) != len(places):
        raise Unreadable(
            f"line {statement.place}: {len(places)} bookings (:61:) stand in it, {len(bookings)} could be read"
        )
    statement.lines = [
        _line(booking, place, statement.currency) for booking, place in zip(bookings, places, strict=True)
    ]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _balance(found: Any) -> Balance | None:
    if found is None or found.amount is None:
        return None
    return Balance(found.amount.amount, found.amount.currency or "", found.date.isoformat() if found.date else None)


def _line(data: dict[str, Any], place: int, currency: str) -> Line:
    """The date of :61: is the value date; its entry date, where there is one, is when it was booked."""
    amount, value_on = data["amount"], data.get("date")
    booked = data.get("guessed_entry_date") or data.get("entry_date") or value_on
    if booked is None or value_on is None:
        raise Unreadable(f"line {place}: a booking has no date")
    said = (data.get(key) for key in ("posting_text", "purpose", "transaction_details", "extra_details"))
    words = [" ".join(text.split()) for text in said if isinstance(text, str)]
    reference = (data.get("end_to_end_reference") or data.get("customer_reference") or "").strip()
    return Line(
        place=place,
        booked_on=booked.isoformat(),
        value_on=value_on.isoformat(),
        amount=amount.amount,
        currency=currency or amount.currency or "",
        description=" ".join(dict.fromkeys(word for word in words if word)),
        reference=reference if reference not in ("", "NONREF", "NOTPROVIDED") else None,
    )
