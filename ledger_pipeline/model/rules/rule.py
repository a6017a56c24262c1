"""The words in which the accounting policy is written: a rule posts lines, or says why a record posts nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class When:
    """True for rows whose `column` holds one of `values`."""

    column: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.column} is {' or '.join(self.values)}"


@dataclass(frozen=True, slots=True)
class Post:
    """One line per row of the record, or of its part `each`.

    `role` may hold `{column}`. The amount's sign follows `side`; a negative amount therefore lands on the other side.
    `is_settled`: the account is kept in the row's `settled_currency`; where that differs from the record's currency the line is
    posted in it, and the difference of currencies passes through `currency_trading`, at the rate that the two amounts state.
    `is_collected`: it stays with the entity whose connection took the money when another entity books the record; what the two then owe
    each other stands on `intercompany:{entity}` in both books.
    """

    side: Literal["debit", "credit"]
    role: str
    amount: str
    each: str | None = None
    when: When | None = None
    is_settled: bool = False
    settled_amount: str = "settled_minor"
    is_collected: bool = False


@dataclass(frozen=True, slots=True)
class Ignore:
    """Rows that post nothing, and the reason that becomes their fate."""

    when: When
    reason: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What one canonical record becomes. The version is part of an entry's identity: raise it when the meaning changes."""

    name: str
    record: str
    version: int
    posts: tuple[Post, ...]
    ignores: tuple[Ignore, ...] = ()
    doc: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The part records whose rows the rule reads, each once."""
        return tuple(dict.fromkeys(post.each for post in self.posts if post.each))

    def describe(self) -> list[dict[str, str]]:
        """The rule as rows that a person reads."""
        return [
            {
                "side": "Dr" if post.side == "debit" else "Cr",
                "role": post.role,
                "amount": f"{post.each or self.record}.{post.amount}",
                "when": str(post.when or ""),
            }
            for post in self.posts
        ] + [
            {"side": "–", "role": ignore.reason, "amount": "nothing", "when": str(ignore.when)}
            for ignore in self.ignores
        ]
