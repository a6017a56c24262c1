"""What took each bank line: a match, the first categorisation rule that fits, or nothing. Counts for people who write rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from ledger_pipeline.model.categories import first_fitting
from ledger_pipeline.store.database import Connection

By = Literal["match", "rule", "nothing"]


@dataclass(frozen=True, slots=True)
class Taken:
    """Booked lines of a connection in a currency, by what says what they are. `number` is the rule's place from 1; 0 for no rule.

    `in_minor` and `out_minor` are minor units, both positive. A rule that took nothing has no currency.
    """

    connection: str
    by: By
    number: int
    contains: str
    role: str
    currency: str
    lines: int
    in_minor: int
    out_minor: int


_LINES = """
    SELECT DISTINCT ON (t.source_id) t.description, t.amount_minor, t.currency, u.role,
           (SELECT l.role FROM ledger.live_entry e JOIN ledger.line l USING (entry_id)
             WHERE (e.connection, e.record, e.source_id) = (t.connection, 'bank_transaction', t.source_id) AND l.role NOT LIKE 'bank:%%'
             LIMIT 1)
      FROM staging.bank_transaction t
      LEFT JOIN recon.used u ON (u.connection, u.record, u.source_id) = (t.connection, 'bank_transaction', t.source_id)
     WHERE t.connection = %(name)s AND t.booked_on BETWEEN %(first)s AND %(last)s AND t.state = 'booked'
     ORDER BY t.source_id, t.sync_date DESC, t.raw_id DESC
"""


def counts(
    connection: Connection, name: str, rules: Sequence[Mapping[str, Any]], first: date, last: date
) -> list[Taken]:
    """The lines that a connection's bank booked in a range of days, by today's rules: matches first, then rules in order, then the rest.

    A rule keeps a line that is matched on the rule's own role (a payout that the bank names). Where a rule was changed since a line was
    posted, the line is counted for the rule and still stands where it was posted, until a replay.
    """
    sums: dict[tuple[By, int, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for description, amount, currency, matched, posted in connection.execute(
        _LINES, {"name": name, "first": first, "last": last}
    ):
        at = first_fitting(description, amount > 0, rules)
        rule = None if at is None else rules[at]
        key: tuple[By, int, str, str, str]
        if matched and (rule is None or rule["role"] != matched):
            key = "match", 0, "", matched, currency
        elif at is not None and rule is not None:
            key = "rule", at + 1, str(rule["contains"]), str(rule["role"]), currency
        else:
            key = "nothing", 0, "", posted or "", currency
        found = sums[key]
        found[0] += 1
        found[1] += max(amount, 0)
        found[2] += max(-amount, 0)
    taking = {key[1] for key in sums if key[0] == "rule"}
    for number, rule in enumerate(rules, 1):
        if number not in taking:
            sums["rule", number, str(rule["contains"]), str(rule["role"]), ""] = [0, 0, 0]
    order = {"match": 0, "rule": 1, "nothing": 2}
    return [
        Taken(name, *key, *found)
        for key, found in sorted(sums.items(), key=lambda item: (order[item[0][0]], *item[0][1:]))
    ]
