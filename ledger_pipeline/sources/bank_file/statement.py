"""A bank statement as every format yields it, the check that it ties, and the JSON document that is landed for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from ledger_pipeline.connect.banking import line_id
from ledger_pipeline.model.money import DIGITS


class Unreadable(ValueError):
    """A file, statement or line that doesn't say what it must; the message names the place inside the file."""


@dataclass(frozen=True, slots=True)
class Line:
    """One booking. `place` is its line in the file; positive is money in; dates are YYYY-MM-DD in the bank's zone."""

    place: int
    booked_on: str
    amount: Decimal
    currency: str
    description: str
    value_on: str | None = None
    reference: str | None = None
    state: Literal["booked", "pending"] = "booked"
    bank_id: str | None = None
    """An id that the format promises to be unique within the account (OFX FITID), where it keeps that promise."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What the account holds; positive is the company's money."""

    amount: Decimal
    currency: str
    on: str | None


@dataclass(slots=True)
class Statement:
    """One account over one period. `place` is its first line in the file; `fault` says why it can't be used."""

    place: int
    account: str = ""
    statement_id: str = ""
    number: str = ""
    currency: str = ""
    created_at: str | None = None
    period: tuple[str, str] | None = None
    opening: Balance | None = None
    closing: Balance | None = None
    lines: list[Line] = field(default_factory=list)
    is_page: bool = False
    """It continues the statement before it in the file, as its next page."""
    can_tie: bool = True
    """False for formats that state no opening balance."""
    fault: str | None = None

    @property
    def name(self) -> str:
        """For messages: `statement 28/1 of account DE…`."""
        said = " ".join(dict.fromkeys(part for part in (self.statement_id, self.number) if part)) or "(unnamed)"
        return f"statement {said} of account {self.account or '(unnamed)'}"

    @property
    def net(self) -> Decimal:
        """The sum of the booked lines."""
        return sum((line.amount for line in self.lines if line.state == "booked"), Decimal(0))

    @property
    def first_day(self) -> str:
        """The first day that it speaks of."""
        dates = [self.period[0]] if self.period else [b.on for b in (self.opening,) if b and b.on]
        return min([d for d in dates if d] or [line.booked_on for line in self.lines] or [""])

    @property
    def last_day(self) -> str:
        """The last day that it speaks of."""
        dates = [self.period[1]] if self.period else [b.on for b in (self.closing,) if b and b.on]
        return max([d for d in dates if d] or [line.booked_on for line in self.lines] or [""])

    def follows(self, other: Statement) -> bool:
        """It begins where the other one ended, so that an equal line in both is two lines."""
        return (
            self.account == other.account
            and self.opening is not None
            and other.closing is not None
            and (self.opening.amount, self.opening.currency) == (other.closing.amount, other.closing.currency)
            and (self.is_page or other.net != 0 or self.name != other.name)
        )


def check(statement: Statement) -> str | None:
    """Why a statement must be refused as a whole, or None: no account, several currencies, or it doesn't tie."""
    if statement.fault:
        return (
            f"{statement.name}: {statement.fault}" if statement.account or statement.statement_id else statement.fault
        )
    if not statement.account:
        return f"{statement.name}: it names no account"
    if not statement.can_tie:
        return _foreign_line(statement)
    if statement.opening is None or statement.closing is None:
        stated = {"opening": statement.opening, "closing": statement.closing}
        missing = [kind for kind, balance in stated.items() if balance is None]
        return f"{statement.name}: no {' and no '.join(missing)} balance, so its lines can't be checked"
    return _foreign_line(statement) or _tie(statement, statement.opening, statement.closing)


def _foreign_line(statement: Statement) -> str | None:
    account = f"the account in {statement.currency or 'no currency'}"
    for kind, balance in (("opening", statement.opening), ("closing", statement.closing)):
        if balance and balance.currency != statement.currency:
            return f"{statement.name}: the {kind} balance is in {balance.currency}, {account}"
    for line in statement.lines:
        if line.currency != statement.currency:
            return f"{statement.name}, line {line.place}: it is in {line.currency}, {account}"
    return None


def _tie(statement: Statement, opening: Balance, closing: Balance) -> str | None:
    expected = opening.amount + statement.net
    if expected == closing.amount:
        return None
    count = sum(line.state == "booked" for line in statement.lines)

    def said(amount: Decimal) -> str:
        return money_text(amount, statement.currency)

    return (
        f"{statement.name}: opening {said(opening.amount)} and {count} lines of {said(statement.net)} make "
        f"{said(expected)} {statement.currency}, but the stated closing balance is {said(closing.amount)}"
    )


def money_text(amount: Decimal, currency: str) -> str:
    """Exact decimal text in one form per value: the currency's digits, more only where they are not zero."""
    digits = DIGITS.get(currency, 2)
    exponent = amount.as_tuple().exponent
    plain = format(amount if isinstance(exponent, int) and -exponent <= digits else amount.normalize(), "f")
    whole, _, decimals = plain.partition(".")
    text = f"{whole}.{decimals.ljust(digits, '0')}" if digits or decimals else whole
    return "0" + text[2:] if text.startswith("-0") and not text.strip("-0.") else text


_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")


def decimal_of(text: str, place: int) -> Decimal:
    """Plain decimal text (no exponent, no NaN, no separator) of a sane length; raises Unreadable naming the line."""
    stripped = text.strip()
    if len(stripped) > 40 or not _NUMBER.fullmatch(stripped):
        raise Unreadable(f"line {place}: {stripped[:40]!r} is no amount")
    return Decimal(stripped)


def date_of(text: str, place: int) -> str:
    """The calendar day of an ISO 8601 date or time, as the bank says it; raises Unreadable naming the line."""
    try:
        return date.fromisoformat(text.strip()[:10]).isoformat()
    except ValueError:
        raise Unreadable(f"line {place}: {text.strip()[:40]!r} is no date") from None


def document(
    statement: Statement, file_sha256: str, file_name: str, accounts: Mapping[str, str], counted: Counter[str]
) -> dict[str, Any]:
    """The landed document, keys in this order. With a `fault` everything that could be read is kept beside it."""
    account = accounts.get(statement.account, statement.account)
    fault = check(statement)
    named = "/".join(part for part in dict.fromkeys((statement.statement_id, statement.number)) if part)
    source_id = (
        f"{account}:{named}:{statement.first_day}..{statement.last_day}"
        if account
        else f"{file_name}:{statement.place}"
    )
    found: dict[str, Any] = {
        "source_id": source_id,
        "account_id": account,
        "currency": statement.currency,
        "statement_id": statement.statement_id,
        "number": statement.number,
        "created_at": statement.created_at,
        "opening": _balance(statement.opening),
        "closing": _balance(statement.closing),
        "net": money_text(statement.net, statement.currency),
        "lines": _lines(statement, account, counted),
        "file": file_sha256,
        "place": statement.place,
    }
    if fault:
        refuse(found, f"{file_name}: {fault}")
    return found


def refuse(found: dict[str, Any], fault: str) -> None:
    """Mark a document. It gets an id of its own, so that a broken copy never takes the place of the good statement."""
    found["source_id"] = f"{found['source_id']}:refused:{found['file'][:12]}:{found['place']}"
    found["fault"] = fault


def _balance(balance: Balance | None) -> dict[str, Any] | None:
    if balance is None:
        return None
    return {"amount": money_text(balance.amount, balance.currency), "currency": balance.currency, "date": balance.on}


def _lines(statement: Statement, account: str, counted: Counter[str]) -> list[dict[str, Any]]:
    ids = Counter(line.bank_id for line in statement.lines if line.bank_id)
    found = []
    for line in statement.lines:
        amount = money_text(line.amount, line.currency)
        is_trusted = line.bank_id is not None and ids[line.bank_id] == 1
        identity = (
            f"{account}:{line.bank_id}"
            if is_trusted
            else line_id(account, line.booked_on, amount, line.currency, line.description, line.reference, counted)
        )
        found.append(
            {
                "line_id": identity,
                "booked_on": line.booked_on,
                "value_on": line.value_on,
                "amount": amount,
                "currency": line.currency,
                "description": line.description,
                "reference": line.reference,
                "state": line.state,
                "place": line.place,
            }
        )
    return found
