"""CAMT.053 in any version: BankToCustomerStatement of ISO 20022 (https://www.iso20022.org/iso-20022-message-definitions).

Read with expat and local names only. A document type declaration is refused before anything of it is used, so there are
no entities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from xml.parsers import expat

from ledger_pipeline.sources.bank_file.statement import Balance, Line, Statement, Unreadable, date_of, decimal_of

_DEPTH = 64


@dataclass(slots=True)
class Element:
    """An XML element by its local name; `line` is where it starts in the file."""

    tag: str
    line: int
    namespace: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def all(self, path: str) -> list[Element]:
        """Elements under a path of local names (`NtryDtls/TxDtls`)."""
        found = [self]
        for name in path.split("/"):
            found = [child for element in found for child in element.children if child.tag == name]
        return found

    def first(self, *paths: str) -> Element | None:
        """The first element that one of the paths leads to, in the order of the paths."""
        return next((element for path in paths for element in self.all(path)), None)

    def text(self, *paths: str) -> str:
        """The text of the first path that has one, else empty."""
        return next((said for path in paths for e in self.all(path) if (said := "".join(e.pieces).strip())), "")


def _tree(content: bytes) -> Element:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    top = Element("", 0)
    stack = [top]

    def start(name: str, attributes: dict[str, str]) -> None:
        namespace, _, tag = name.rpartition(" ")
        if len(stack) > _DEPTH:
            raise Unreadable(f"line {parser.CurrentLineNumber}: elements nest deeper than {_DEPTH}")
        element = Element(tag, parser.CurrentLineNumber, namespace, attributes)
        stack[-1].children.append(element)
        stack.append(element)

    def doctype(*_: object) -> None:
        raise Unreadable(
            f"line {parser.CurrentLineNumber}: it has a document type declaration, which no statement needs"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = lambda text: stack[-1].pieces.append(text)
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise Unreadable(
            f"line {error.lineno}, column {error.offset + 1}: not XML: {expat.errors.messages[error.code]}"
        ) from None
    return top.children[0]


def read(content: bytes) -> Iterator[Statement]:
    """The statements of a file. Raises Unreadable where it is no CAMT.053; a statement that isn't right has a fault."""
    root = _tree(content)
    if root.tag != "Document" or "camt.053" not in root.namespace:
        kind = root.namespace.rpartition(":")[2] or root.tag
        raise Unreadable(f"line {root.line}: {kind} is no CAMT.053 statement")
    statements = root.all("BkToCstmrStmt/Stmt")
    if not statements:
        raise Unreadable(f"line {root.line}: there is no statement (Stmt) in it")
    for element in statements:
        statement = Statement(element.line)
        try:
            _fill(statement, element)
        except Unreadable as error:
            statement.fault = str(error)
        yield statement


def _fill(statement: Statement, element: Element) -> None:
    statement.statement_id = element.text("Id")
    statement.number = element.text("ElctrncSeqNb", "LglSeqNb")
    statement.created_at = element.text("CreDtTm") or None
    statement.account = element.text("Acct/Id/IBAN", "Acct/Id/Othr/Id", "Acct/Id/PrtryAcct/Id", "Acct/Id/BBAN").replace(
        " ", ""
    )
    balances = _balances(element)
    statement.opening = balances.get("OPBD") or balances.get("PRCD")
    statement.closing = balances.get("CLBD")
    known = statement.opening or statement.closing
    statement.currency = element.text("Acct/Ccy") or (known.currency if known else "")
    entries = element.all("Ntry")
    for entry in entries:
        line = _line(entry)
        if line is not None:
            statement.lines.append(line)
    stated = element.text("TxsSummry/TtlNtries/NbOfNtries")
    if stated and stated != str(len(entries)):
        raise Unreadable(f"it states {stated} entries and has {len(entries)}")


def _balances(element: Element) -> dict[str, Balance]:
    """The first balance of each type code."""
    found: dict[str, Balance] = {}
    for balance in element.all("Bal"):
        code = balance.text("Tp/CdOrPrtry/Cd")
        if code in ("OPBD", "PRCD", "CLBD") and code not in found:
            amount, currency = _amount(balance)
            day = balance.first("Dt/Dt", "Dt/DtTm")
            found[code] = Balance(amount, currency, date_of("".join(day.pieces), day.line) if day else None)
    return found


def _amount(element: Element) -> tuple[Decimal, str]:
    """(signed amount, currency): CdtDbtInd says the direction of the booking, also on a reversal (RvslInd)."""
    amount = element.first("Amt")
    if amount is None:
        raise Unreadable(f"line {element.line}: {element.tag} has no amount")
    value = decimal_of("".join(amount.pieces), amount.line)
    side = element.text("CdtDbtInd")
    if side not in ("CRDT", "DBIT") or value < 0:
        raise Unreadable(f"line {element.line}: {element.tag} is neither CRDT nor DBIT, or its amount is negative")
    return (value if side == "CRDT" else -value), amount.attributes.get("Ccy", "")


def _line(entry: Element) -> Line | None:
    """An entry; None for one that only informs (INFO) and moves nothing."""
    status = entry.text("Sts/Cd", "Sts/Prtry", "Sts")
    if status == "INFO":
        return None
    if status not in ("BOOK", "PDNG"):
        raise Unreadable(f"line {entry.line}: an entry's status is {status!r}; known are BOOK, PDNG, INFO")
    amount, currency = _amount(entry)
    value_day = entry.first("ValDt/Dt", "ValDt/DtTm")
    booked = entry.first("BookgDt/Dt", "BookgDt/DtTm") or value_day
    if booked is None:
        raise Unreadable(f"line {entry.line}: an entry has neither a booking nor a value date")
    return Line(
        place=entry.line,
        booked_on=date_of("".join(booked.pieces), booked.line),
        value_on=date_of("".join(value_day.pieces), value_day.line) if value_day else None,
        amount=amount,
        currency=currency,
        description=_description(entry),
        reference=_reference(entry),
        state="booked" if status == "BOOK" else "pending",
    )


def _description(entry: Element) -> str:
    """The bank's words, each once: the entry's own, then the remittance information, else the structured reference."""
    said = [entry.text("AddtlNtryInf")]
    for details in entry.all("NtryDtls/TxDtls"):
        said += ["".join(e.pieces) for e in details.all("RmtInf/Ustrd")]
        said.append(details.text("AddtlTxInf"))
    words = [" ".join(text.split()) for text in said]
    return " ".join(dict.fromkeys(w for w in words if w)) or entry.text("NtryDtls/TxDtls/RmtInf/Strd/CdtrRefInf/Ref")


def _reference(entry: Element) -> str | None:
    """The end-to-end or creditor reference of a single payment; a batch has many and therefore none."""
    details = entry.all("NtryDtls/TxDtls")
    if len(details) != 1:
        return None
    said = details[0].text("Refs/EndToEndId")
    return (said if said != "NOTPROVIDED" else "") or details[0].text("RmtInf/Strd/CdtrRefInf/Ref") or None
