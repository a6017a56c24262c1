"""OFX 1 (SGML) and 2 (XML), read into a tree by ofxtools (Open Financial Exchange 2.2, section 11: banking).

The tree is read, not ofxtools' typed models: these turn dates into UTC, which moves bookings to other days, and refuse
what banks really send.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from ledger_pipeline.sources.bank_file.statement import Balance, Line, Statement, Unreadable, date_of, decimal_of

_STATEMENTS = ("STMTRS", "CCSTMTRS")
_OK = "0"


def read(content: bytes) -> Iterator[Statement]:
    """The bank and card statements of a file. Raises Unreadable where there is none, with the bank's own error."""
    if b"<!DOCTYPE" in content.upper() or b"<!ENTITY" in content.upper():
        raise Unreadable("line 1: it has a document type declaration, which no statement needs")
    root = _tree(content)
    found = [element for element in root.iter() if element.tag in _STATEMENTS]
    if not found:
        raise Unreadable(f"line 1: there is no bank or card statement in it{_said(root)}")
    places = dict(zip(root.iter("STMTTRN"), _places(content), strict=False))
    for element in found:
        statement = Statement(_place(content, element), can_tie=False)
        try:
            _fill(statement, element, places)
        except Unreadable as error:
            statement.fault = str(error)
        yield statement


def _tree(content: bytes) -> Any:
    # Here because it is a seventh of the time in which Dagster loads the definitions.
    from ofxtools.header import OFXHeaderError
    from ofxtools.Parser import OFXTree

    tree = OFXTree()
    try:
        return tree.parse(io.BytesIO(content.lstrip()))
    except (OFXHeaderError, ParseError, ValueError, LookupError, RecursionError, AttributeError) as error:
        raise Unreadable(f"line 1: not OFX ({type(error).__name__})") from None  # the text quotes the file


def _said(root: Element) -> str:
    """The statuses that are errors, and the kinds of statement that aren't read."""
    notes = []
    for status in root.iter("STATUS"):
        if _text(status, "CODE") not in ("", _OK):
            notes.append(
                f"status {_text(status, 'CODE')} {_text(status, 'SEVERITY')} {_text(status, 'MESSAGE')}".strip()
            )
    notes += [f"{e.tag} is not read" for e in root.iter() if e.tag in ("INVSTMTRS", "ACCTINFORS")]
    return "".join(f"; {note}" for note in dict.fromkeys(notes))


def _place(content: bytes, element: Element) -> int:
    account = element.findtext(".//ACCTID") or ""
    at = content.find(account.encode("latin-1", errors="replace")) if account else -1
    return content.count(b"\n", 0, at) + 1 if at >= 0 else 1


def _places(content: bytes) -> list[int]:
    """The line of each STMTTRN, in the order in which they stand."""
    places, line, before = [], 1, 0
    for match in re.finditer(rb"<STMTTRN>", content, re.IGNORECASE):
        line += content.count(b"\n", before, match.start())
        before = match.start()
        places.append(line)
    return places


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _day(text: str, place: int) -> str:
    """YYYYMMDD, whatever follows: the calendar day that the bank wrote, not the one that it is in UTC."""
    if not text[:8].isdigit() or len(text) < 8:
        raise Unreadable(f"line {place}: {text[:40]!r} is no date")
    return date_of(f"{text[:4]}-{text[4:6]}-{text[6:8]}", place)


def _fill(statement: Statement, element: Element, places: Mapping[Element, int]) -> None:
    source = "BANKACCTFROM" if element.tag == "STMTRS" else "CCACCTFROM"
    statement.account = _text(element, f"{source}/ACCTID")
    statement.currency = _text(element, "CURDEF")
    if not statement.currency:
        raise Unreadable(f"line {statement.place}: it states no currency (CURDEF)")
    first, last = _text(element, "BANKTRANLIST/DTSTART"), _text(element, "BANKTRANLIST/DTEND")
    if first and last:
        statement.period = (_day(first, statement.place), _day(last, statement.place))
    amount, day = _text(element, "LEDGERBAL/BALAMT"), _text(element, "LEDGERBAL/DTASOF")
    if amount:
        on = _day(day, statement.place) if day else None
        statement.closing = Balance(decimal_of(_point(amount), statement.place), statement.currency, on)
    statement.lines = [
        _line(found, statement, places.get(found, statement.place))
        for found in element.iterfind("BANKTRANLIST/STMTTRN")
    ]


def _point(text: str) -> str:
    """OFX allows a comma as the decimal mark and no separator of thousands (section 3.2.9.1)."""
    return text.replace(",", ".") if text.count(",") == 1 and "." not in text else text


def _line(element: Element, statement: Statement, place: int) -> Line:
    """NAME and MEMO are the bank's words; CURRENCY inside a line says that the amount is in another currency."""
    words = [" ".join(_text(element, tag).split()) for tag in ("NAME", "MEMO")]
    if words[0] and words[1].startswith(words[0]):
        words = words[1:]
    return Line(
        place=place,
        booked_on=_day(_text(element, "DTPOSTED"), place),
        amount=decimal_of(_point(_text(element, "TRNAMT")), place),
        currency=_text(element, "CURRENCY/CURSYM") or statement.currency,
        description=" ".join(dict.fromkeys(word for word in words if word)),
        reference=_reference(element),
        bank_id=_text(element, "FITID") or None,
    )


def _reference(element: Element) -> str | None:
    """The cheque's number, where it is one and not zeros, else the bank's reference."""
    cheque = _text(element, "CHECKNUM")
    return (cheque if cheque.strip("0") else "") or _text(element, "REFNUM") or None
