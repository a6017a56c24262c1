"""General ledger: every line of every account with its running balance, and the way back to the payload it comes from.

The lines are streamed by a server-side cursor, in the order of account, day and entry: memory doesn't grow with the ledger.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from ledger_pipeline.model.money import from_minor
from ledger_pipeline.reports.statements.movements import Movement, movements
from ledger_pipeline.reports.statements.statement import (
    Cell,
    Check,
    Column,
    Link,
    Row,
    Scope,
    Statement,
    Total,
    heading,
    periods,
    zero,
)
from ledger_pipeline.store.database import Connection

_CHUNK = 5_000


class DoesNotTie(Exception):
    """The lines of an account don't lead from its opening to its closing."""


def general_ledger(connection: Connection, scope: Scope) -> Statement:
    """Rows are read once, from the connection's transaction, best of one snapshot; reading them raises DoesNotTie where an
    account's lines don't add up to its balance."""
    accounts = {code: list(group) for code, group in groupby(movements(connection, scope), key=lambda m: m.account)}
    lines, unbalanced = _counts(connection, scope)
    base = scope.base_currency
    columns = (
        Column("Date", "date"),
        Column("Entry", "count"),
        Column("Record"),
        Column("Source id"),
        Column("Connection"),
        Column("Kind"),
        Column("Corrects", "count"),
        Column("Reversed by", "count"),
        Column("Role"),
        Column("Currency"),
        Column("Amount in currency", "money"),
        *(Column(f"{title} {base}", "money") for title in ("Debit", "Credit", "Balance")),
        Column("Occurred on", "date", is_detail=True),
        Column("Raw id", "count", is_detail=True),
        Column("Payload SHA-256", is_detail=True),
        Column("Mapping version", is_detail=True),
        Column("Rule", is_detail=True),
        Column("Batch", "count", is_detail=True),
        Column("Run", is_detail=True),
        Column("Shown by", is_detail=True),
    )
    everything = [m for group in accounts.values() for m in group]
    return Statement(
        "general_ledger",
        "General ledger",
        scope,
        columns,
        _rows(connection, scope, columns, accounts),
        (
            Check("every entry balances", unbalanced == 0, f"{unbalanced} entries"),
            zero("closings sum to zero", sum(m.closing_base for m in everything), base),
        ),
        periods(connection, scope),
        (
            Total("debits", sum(m.debit_base for m in everything), base),
            Total("credits", sum(m.credit_base for m in everything), base),
        ),
        notes=(
            "Debit, credit and balance are in base. A prior-period adjustment has a day of its own on which it occurred.",
        ),
        line_count=lines,
    )


def _counts(connection: Connection, scope: Scope) -> tuple[int, int]:
    """Lines of the range, and entries of it that don't sum to zero in base."""
    row = connection.execute(
        """
        SELECT coalesce(sum(lines), 0)::bigint, count(*) FILTER (WHERE base <> 0)
          FROM (SELECT count(*) AS lines, sum(base_minor) AS base FROM ledger.line
                 WHERE entity = %(entity)s AND posted_on BETWEEN %(first)s AND %(last)s GROUP BY entry_id) entries
        """,
        scope.arguments,
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _rows(
    connection: Connection, scope: Scope, columns: Sequence[Column], accounts: dict[str, list[Movement]]
) -> Iterator[Row]:
    """Accounts in order; one without lines is there for its balance."""
    with connection.cursor(name="general_ledger") as cursor:
        cursor.itersize = _CHUNK
        cursor.execute(_LINES, scope.arguments)
        groups = groupby(cursor, key=lambda line: line[0])
        code, lines = next(groups, (None, ()))
        for account, own in accounts.items():
            if account == code:
                yield from _account(scope, columns, own, lines)
                code, lines = next(groups, (None, ()))
            else:
                yield from _account(scope, columns, own, ())
        if code is not None:
            raise DoesNotTie(f"account {code} has lines but no movement")


def _account(
    scope: Scope, columns: Sequence[Column], own: list[Movement], lines: Iterable[tuple[Any, ...]]
) -> Iterator[Row]:
    opening, closing = sum(m.opening_base for m in own), sum(m.closing_base for m in own)
    balance = opening
    is_headed = False
    for line in lines:
        if not is_headed:
            yield from _head(scope, columns, own[0], opening)
            is_headed = True
        balance += line[7]
        yield _line(scope, line, balance)
    if not is_headed and opening == closing == 0:
        return
    if not is_headed:
        yield from _head(scope, columns, own[0], opening)
    if balance != closing:
        raise DoesNotTie(
            f"account {own[0].account}: lines lead to {scope.money(balance)}, its balance is {scope.money(closing)}"
        )
    debits, credits_ = sum(m.debit_base for m in own), sum(m.credit_base for m in own)
    yield _plain(columns, f"Closing {own[0].account}", "total", debits=scope.money(debits), credits_=scope.money(credits_),
                 balance=scope.money(closing))  # fmt: skip


def _head(scope: Scope, columns: Sequence[Column], account: Movement, opening: int) -> Iterator[Row]:
    yield heading(f"{account.account} {account.name}", columns, 2)
    yield _plain(columns, "Opening", "line", balance=scope.money(opening))


def _plain(
    columns: Sequence[Column], text: str, style: str, debits: Cell = None, credits_: Cell = None, balance: Cell = None
) -> Row:
    cells: list[Cell] = [None] * len(columns)
    cells[2], cells[11], cells[12], cells[13] = text, debits, credits_, balance
    return Row(tuple(cells), "total" if style == "total" else "line")


_LINES = """
    SELECT l.account, l.posted_on, l.entry_id, l.line_no, l.role, l.currency, l.amount_minor, l.base_minor,
           e.record, e.source_id, e.connection, e.kind, e.corrects_entry_id, o.posted_on, r.entry_id, e.occurred_on,
           e.raw_id, encode(e.content_hash, 'hex'), e.mapping_version, e.rule, e.rule_version, b.batch_id, b.run_id
      FROM ledger.line l
      JOIN ledger.entry e USING (entry_id)
      JOIN ledger.batch b USING (batch_id)
      LEFT JOIN ledger.entry o ON o.entry_id = e.corrects_entry_id
      LEFT JOIN ledger.entry r ON r.corrects_entry_id = e.entry_id AND r.kind = 'reversal' AND r.posted_on <= %(last)s
     WHERE l.entity = %(entity)s AND l.posted_on BETWEEN %(first)s AND %(last)s
     ORDER BY l.account, l.posted_on, l.entry_id, l.line_no
"""


def _line(scope: Scope, line: tuple[Any, ...], balance: int) -> Row:
    (
        _,
        day,
        entry,
        line_no,
        role,
        currency,
        amount,
        base,
        record,
        source_id,
        connection,
        kind,
        corrects,
        corrected_on,
        *rest,
    ) = line
    reversed_by, occurred_on, raw_id, payload, mapping, rule, rule_version, batch, run = rest
    is_foreign = currency != scope.base_currency
    cells: tuple[Cell, ...] = (
        day,
        _link(entry),
        record,
        source_id,
        connection,
        kind,
        _link(corrects) if corrected_on is not None and scope.first <= corrected_on <= scope.last else corrects,
        _link(reversed_by),
        role,
        currency,
        from_minor(amount, currency) if is_foreign else None,
        scope.money(base) if base > 0 else None,
        scope.money(-base) if base < 0 else None,
        scope.money(balance),
        occurred_on,
        raw_id,
        payload,
        mapping,
        f"{rule} v{rule_version}",
        batch,
        run,
        shlex.join(["ledger-pipeline", "entries", "--source-id", source_id, "--connection", connection]),
    )
    return Row(cells, anchor=f"e{entry}-{line_no}")


def _link(entry: int | None) -> Link | None:
    """To an entry's first line."""
    return None if entry is None else Link(entry, f"e{entry}-1")
