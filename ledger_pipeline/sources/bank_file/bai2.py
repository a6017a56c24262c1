"""BAI2, read by hand so that every fault names its line (Cash Management Balance Reporting Specifications Version 2).

Records: 01 file, 02 group, 03 account and its balances, 16 detail, 88 continuation, 49/98/99 trailers with control
totals and counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from ledger_pipeline.model.money import DIGITS
from ledger_pipeline.sources.bank_file.mt940 import decoded
from ledger_pipeline.sources.bank_file.statement import Balance, Line, Statement, Unreadable

OPENING, CLOSING = "010", "015"
_FUNDS = {"0", "1", "2", "V", "S", "D", "Z", ""}


@dataclass(slots=True)
class Record:
    """A logical record: `line` is where it starts, `count` its physical lines, `words` the text of a detail's 88s."""

    line: int
    code: str
    fields: list[str]
    count: int = 1
    words: list[str] = field(default_factory=list)


def _records(content: bytes) -> Iterator[Record]:
    """Logical records; a `/` ends the fields of a physical line, and text may go on in 88 records."""
    current: Record | None = None
    for number, raw in enumerate(decoded(content).split("\n"), start=1):
        text = raw.strip()
        if not text:
            continue
        code, _, rest = text.partition(",")
        if code == "88":
            if current is None:
                raise Unreadable(f"line {number}: a continuation (88) continues nothing")
            current.count += 1
            if current.code == "16":
                current.words.append(rest.rstrip("/").strip())
            else:
                current.fields = [*_unfinished(current.fields), *rest.rstrip("/").split(",")]
            continue
        if current is not None:
            yield current
        current = Record(number, code, rest.rstrip("/").split(","))
    if current is not None:
        yield current


def _unfinished(fields: list[str]) -> list[str]:
    """A line that ended with `,/` announced one more, empty field, which the continuation fills."""
    return fields[:-1] if fields and fields[-1] == "" and len(fields) % 4 == 3 else fields


@dataclass(slots=True)
class _Account:
    statement: Statement
    line: int
    total: int = 0
    records: int = 0


def read(content: bytes) -> Iterator[Statement]:
    """One statement per account (03 … 49). Raises Unreadable where the frame is broken; accounts keep their faults."""
    records = list(_records(content))
    if not records or records[0].code != "01":
        raise Unreadable("line 1: it does not start with a file header (01)")
    yield from _walk(records)


def _walk(records: list[Record]) -> list[Statement]:
    found: list[Statement] = []
    group: Record | None = None
    account: _Account | None = None
    group_total = file_total = group_off = file_off = group_records = file_records = groups = accounts = 0
    for record in records:
        file_records += record.count
        group_records += record.count
        if account is not None and record.code != "49" and record.code != "16":
            raise Unreadable(f"line {record.line}: an account's trailer (49) is missing before record {record.code}")
        if record.code == "02":
            group, group_total, group_off, group_records, accounts = record, 0, 0, record.count, 0
            groups += 1
        elif record.code == "03":
            if group is None:
                raise Unreadable(f"line {record.line}: an account (03) outside a group (02)")
            account = _account(record, group)
            found.append(account.statement)
            accounts += 1
        elif record.code == "16":
            if account is None:
                raise Unreadable(f"line {record.line}: a detail (16) outside an account (03)")
            _detail(record, account, group)
        elif record.code == "49":
            if account is None:
                raise Unreadable(f"line {record.line}: an account's trailer (49) without its account (03)")
            stated = _close(record, account)
            group_total += stated
            group_off += account.total - stated
            account = None
        elif record.code == "98":
            _frame(record, "group", (group_total, group_total + group_off), accounts, group_records)
            file_total += group_total
            file_off += group_off
            group = None
        elif record.code == "99":
            _frame(record, "file", (file_total, file_total + file_off), groups, file_records)
            return found
        elif record.code != "01":
            raise Unreadable(
                f"line {record.line}: unknown record {record.code!r}; known are 01, 02, 03, 16, 49, 88, 98, 99"
            )
    raise Unreadable(f"line {records[-1].line}: the file's trailer (99) is missing, so it may be cut off")


def _frame(record: Record, what: str, totals: tuple[int, int], members: int, records: int) -> None:
    """Trailers 98 and 99: control total, number of accounts or groups, number of physical records.

    `totals`: what the trailers inside state, and what their amounts make; where these differ the account is refused,
    not the file.
    """
    stated = [_whole(text, record.line, "control figure") for text in [*record.fields, "", ""][:3]]
    checks = (("control total", totals), ("number of members", (members,)), ("number of records", (records,)))
    for (name, figures), says in zip(checks, stated, strict=True):
        if says is not None and says not in figures:
            raise Unreadable(f"line {record.line}: the {what}'s {name} is {says}, what stands in it makes {figures[0]}")


def _whole(text: str, line: int, what: str) -> int | None:
    if not text.strip():
        return None
    digits = text.strip().removeprefix("+").removeprefix("-")
    if not digits.isdigit() or not digits.isascii() or len(digits) > 18:
        raise Unreadable(f"line {line}: {text[:40]!r} is no {what}")
    return int(text)


def _account(record: Record, group: Record) -> _Account:
    fields = [*group.fields, "", "", "", "", "", ""]
    statement = Statement(record.line, account=record.fields[0].strip(), statement_id=fields[1].strip())
    statement.currency = (record.fields[1].strip() if len(record.fields) > 1 else "") or fields[5].strip() or "USD"
    account = _Account(statement, record.line, 0, record.count)
    try:
        day = _day(fields[3], group.line)
        statement.period = (day, day)
        for code, amount in _summaries(record, account):
            balance = Balance(_major(amount, statement.currency, record.line), statement.currency, day)
            if code == OPENING:
                statement.opening = balance
            elif code == CLOSING:
                statement.closing = balance
    except Unreadable as error:
        statement.fault = statement.fault or str(error)
    return account


def _summaries(record: Record, account: _Account) -> Iterator[tuple[str, int]]:
    """(type code, amount) of the balances and totals, each with an item count, a funds type and what that announces."""
    rest = record.fields[2:]
    while any(text.strip() for text in rest):
        code, amount_text, _, funds, *rest = [*rest, "", "", "", ""][: max(4, len(rest))]
        rest = rest[_availability(funds.strip(), rest, record.line) :]
        amount = _whole(amount_text, record.line, "amount")
        if code.strip() and not (code.strip().isdigit() and len(code.strip()) == 3):
            raise Unreadable(f"line {record.line}: {code[:20]!r} is no type code")
        if amount is not None:
            account.total += amount
            yield code.strip(), amount


def _availability(funds: str, rest: list[str], line: int) -> int:
    """How many fields a funds type brings: S three amounts, V a date and a time, D a count and as many pairs."""
    if funds not in _FUNDS:
        raise Unreadable(f"line {line}: {funds[:20]!r} is no funds type; known are 0, 1, 2, V, S, D, Z")
    if funds == "D":
        return 1 + 2 * (_whole(rest[0] if rest else "", line, "count") or 0)
    return {"S": 3, "V": 2}.get(funds, 0)


def _detail(record: Record, account: _Account, group: Record | None) -> None:
    statement = account.statement
    account.records += record.count
    try:
        code, amount_text, funds, *rest = [*record.fields, "", "", ""][: max(3, len(record.fields))]
        amount = _whole(amount_text, record.line, "amount") or 0
        account.total += amount
        skip = _availability(funds.strip(), rest, record.line)
        value_on = _day(rest[0], record.line) if funds.strip() == "V" and rest and rest[0].strip() else None
        _bank, customer, *text = [*rest[skip:], "", ""][: max(2, len(rest) - skip)]
        sign = _sign(code.strip(), record.line)
        if sign == 0 or statement.period is None:
            return
        statement.lines.append(
            Line(
                place=record.line,
                booked_on=statement.period[0],
                value_on=value_on,
                amount=sign * _major(amount, statement.currency, record.line),
                currency=statement.currency,
                description=" ".join(w for w in (",".join(text).strip(), *record.words) if w) or f"BAI {code.strip()}",
                reference=customer.strip() or None,
            )
        )
    except Unreadable as error:
        statement.fault = statement.fault or str(error)


def _sign(code: str, line: int) -> int:
    """Appendix A: 100–399 are credits, 400–699 debits, 7xx loans; 890 carries text and no money."""
    if code.isdigit() and len(code) == 3:
        if 100 <= int(code) <= 399:
            return 1
        if 400 <= int(code) <= 699:
            return -1
        if code == "890":
            return 0
    raise Unreadable(f"line {line}: type code {code[:20]!r} is neither a credit (100-399) nor a debit (400-699)")


def _close(record: Record, account: _Account) -> int:
    """The account's trailer; returns the control total that the group's must contain."""
    stated = _whole(record.fields[0], record.line, "control total")
    count = _whole(record.fields[1] if len(record.fields) > 1 else "", record.line, "count")
    records = account.records + record.count
    statement = account.statement
    if (stated or 0) != account.total:
        says = f"the account's control total is {stated or 0}, its amounts make {account.total}"
        statement.fault = statement.fault or f"line {record.line}: {says}"
    if count is not None and count != records:
        says = f"the account's number of records is {count}, it has {records}"
        statement.fault = statement.fault or f"line {record.line}: {says}"
    return stated or 0


def _major(amount: int, currency: str, line: int) -> Decimal:
    """Amounts have no decimal point; the currency says how many decimals are implied."""
    if currency not in DIGITS:
        raise Unreadable(f"line {line}: unknown currency {currency!r} (not an active ISO 4217 code)")
    return Decimal(amount).scaleb(-DIGITS[currency])


def _day(text: str, line: int) -> str:
    try:
        return datetime.strptime(text.strip(), "%y%m%d").date().isoformat()  # noqa: DTZ007 - a day
    except ValueError:
        raise Unreadable(f"line {line}: {text[:40]!r} is no date (YYMMDD)") from None
