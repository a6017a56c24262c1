"""Matches that are kept: what the engine finds is appended, what people decide is appended, a run with nothing new writes nothing.

A member belongs to one match at a time; the database enforces it (`recon.used`). A match keeps its members through late edits of them:
what they then don't sum to is its remainder. It is dissolved only when one of its members left the account altogether.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from ledger_pipeline.model.accounts import CLEARING_ROLES, DUE_ROLES
from ledger_pipeline.reconcile import clearing, engine
from ledger_pipeline.reconcile.clearing import Clearing, Standing
from ledger_pipeline.reconcile.engine import Group, Join, Match, Policy
from ledger_pipeline.store import frames
from ledger_pipeline.store.database import Connection, lock

State = Literal["matched", "suggested"]
ENGINE = "engine"


class DecisionRefused(Exception):
    """A decision on a match that doesn't allow it; says why."""


@dataclass(slots=True)
class Ran:
    """What a run appended; all zero when there was nothing new. `open` are members of clearing accounts that no match uses.

    `placed` are bank lines whose entries were moved to where their match, or the end of one, says that they belong.
    """

    entity: str
    matched: int = 0
    suggested: int = 0
    joined: int = 0
    dissolved: int = 0
    open: int = 0
    placed: int = 0

    @property
    def is_new(self) -> bool:
        """True when something was written."""
        return bool(self.matched or self.suggested or self.joined or self.dissolved or self.placed)


@dataclass(frozen=True, slots=True)
class MatchMember:
    """A member as it joined; amounts in minor units, debit positive. `reason` is why it joined later than the others."""

    connection: str
    record: str
    source_id: str
    amount_minor: int
    reason: str = ""

    @property
    def id(self) -> str:
        """As `Standing.id`."""
        return f"{self.connection}/{self.record}/{self.source_id}"


@dataclass(frozen=True, slots=True)
class Kept:
    """A live match, or a suggestion that waits for a person. `score` runs from 0 to 1000, `decided_by` is a person or the engine."""

    match_id: int
    entity: str
    role: str
    currency: str
    kind: engine.Kind
    score: int
    reasons: Sequence[str]
    state: State
    decided_by: str
    made_at: datetime
    members: tuple[MatchMember, ...] = ()


# running -------------------------------------------------------------------------------------------------------------------

Wanted = tuple[tuple[str, str], Match]
"""A match, and the account (role, currency) that it is on."""


def run(connection: Connection, entity: str, policy: Policy, run_id: str, at: datetime) -> Ran:
    """Match what stands on an entity's accounts, in the caller's transaction; one run at a time per entity.

    First what stands on one account; then bank lines that no rule knows with what is due and still open; then the rest of these lines with
    each other, as transfers between own accounts. `placing.apply` then moves the lines to where their matches say that they belong.
    """
    lock(connection, "reconcile", entity)
    work = _Run(connection, entity, policy, run_id, at, Ran(entity))
    gone = clearing.gone(connection, entity)
    for match_id, what in gone.items():
        work.end(match_id, f"{what} is not on the account any more")
    work.books = clearing.read(connection, entity, roles=clearing.MATCHED_ROLES)
    work.rejected = _rejected(connection, entity)
    work.standing = {(*one.account, one.id): one for one in work.books.free}
    work.match_accounts()
    work.place_lines()
    _keep(work)
    return work.ran


@dataclass
class _Run:
    """A run under way: what stands, what was found, what it will append."""

    connection: Connection
    entity: str
    policy: Policy
    run_id: str
    at: datetime
    ran: Ran
    books: Clearing = field(init=False)
    rejected: dict[tuple[str, str], frozenset[frozenset[str]]] = field(init=False)
    standing: dict[tuple[str, str, str], Standing] = field(init=False)
    wanted: list[Wanted] = field(default_factory=list)
    used: set[tuple[str, str, str]] = field(default_factory=set)

    def end(self, match_id: int, why: str) -> None:
        _end(self.connection, match_id, "dissolved", ENGINE, why, self.run_id, self.at)
        self.ran.dissolved += 1

    def match_accounts(self) -> None:
        """Members of one account with each other."""
        by_account: dict[tuple[str, str], list[Standing]] = defaultdict(list)
        for one in self.books.free:
            by_account[one.account].append(one)
        for account, members in sorted(by_account.items()):
            found = engine.match(
                (one.as_member() for one in members),
                self.policy,
                groups=_groups(self.books, account),
                rejected=self.rejected.get(account, frozenset()),
            )
            for match in found.matches:
                self.add(account, match)
            for join in found.joins:
                self.join(account, join)
            if account[0].partition(":")[0] in CLEARING_ROLES:
                self.ran.open += len(found.open)

    def place_lines(self) -> None:
        """Bank lines that nobody knows: with what is due, then with each other. All accounts at once, so that a line is used once."""
        by_currency: dict[str, list[Standing]] = defaultdict(list)
        for line in clearing.unplaced(self.connection, self.entity):
            by_currency[line.currency].append(line)
        for currency, lines in sorted(by_currency.items()):
            left = self._place(currency, lines, self._due(currency))
            self._transfers(currency, left)

    def _due(self, currency: str) -> dict[str, Standing]:
        """What is open and due in a currency, by id; a record that is due on two accounts is left to people."""
        found: dict[str, list[Standing]] = defaultdict(list)
        for one in self.books.free:
            is_due = one.role in DUE_ROLES and one.side == "left" and one.currency == currency
            if is_due and (*one.account, one.id) not in self.used:
                found[one.id].append(one)
        return {id_: of[0] for id_, of in found.items() if len(of) == 1}

    def _place(self, currency: str, lines: Sequence[Standing], due: Mapping[str, Standing]) -> list[Standing]:
        """Lines that belong to what is due; returns the others."""
        accounts = [(role, currency) for role in DUE_ROLES]
        groups = {g.id: (account, g) for account in accounts for g in _groups(self.books, account)}
        found = engine.match(
            (*(one.as_member(one.role) for one in due.values()), *(line.as_member() for line in lines)),
            self.policy,
            groups=[group for _, group in groups.values()],
            rejected=frozenset[frozenset[str]]().union(*(self.rejected.get(a, frozenset()) for a in accounts)),
        )
        by_id = {line.id: line for line in lines}
        taken: set[str] = set()
        for one in found.matches:
            roles = {due[id_].role for id_ in one.members if id_ in due}
            if len(roles) != 1 or not any(id_ in by_id for id_ in one.members):
                continue  # lines among themselves, or due amounts among themselves: not what is asked here
            account = (roles.pop(), currency)
            taken |= self._stand(account, (by_id[id_] for id_ in one.members if id_ in by_id))
            self.add(account, one)
        for join in found.joins:
            account = groups[join.group][0]
            taken |= self._stand(account, (by_id[id_] for id_ in join.members if id_ in by_id))
            self.join(account, join)
        return [line for line in lines if line.id not in taken]

    def _transfers(self, currency: str, lines: Sequence[Standing]) -> None:
        """One to one between two own accounts; what only coincides in amount and day is a suggestion."""
        account = (clearing.TRANSFER_ROLE, currency)
        halves = [line.as_transfer() for line in lines]
        found = engine.match(
            (half.as_member() for half in halves), self.policy, rejected=self.rejected.get(account, frozenset())
        )
        by_id = {half.id: half for half in halves}
        for one in found.matches:
            if one.kind == "scored":
                self._stand(account, (by_id[id_] for id_ in one.members))
                self.add(account, one)

    def _stand(self, account: tuple[str, str], lines: Iterable[Standing]) -> set[str]:
        """Lines as they will stand on the account; their ids."""
        ids = set()
        for line in lines:
            self.standing[*account, line.id] = replace(line, role=account[0])
            ids.add(line.id)
        return ids

    def add(self, account: tuple[str, str], one: Match) -> None:
        self.wanted.append((account, one))
        self.used.update((*account, id_) for id_ in one.members)

    def join(self, account: tuple[str, str], join: Join) -> None:
        joining = [self.standing[*account, id_] for id_ in join.members]
        _join(self.connection, int(join.group), joining, "; ".join(join.reasons), self.run_id, self.at)
        self.ran.joined += len(joining)
        self.used.update((*account, id_) for id_ in join.members)


def _groups(books: Clearing, account: tuple[str, str]) -> list[Group]:
    """Matches on an account that don't come to zero."""
    return [
        Group(
            str(match_id),
            sum(one.amount_minor for one in members),
            account[1],
            tuple(sorted({key for one in members for key in one.keys})),
            tuple(sorted({reference for one in members for reference in one.references})),
        )
        for match_id, members in sorted(books.partial.items())
        if members[0].account == account
    ]


def _keep(work: _Run) -> None:
    """Append what isn't there; a suggestion that isn't made any more is dissolved."""
    connection, entity, wanted = work.connection, work.entity, work.wanted
    suggested = live(connection, entity, "suggested")
    asked = {(one.role, one.currency, frozenset(m.id for m in one.members)): one.match_id for one in suggested}
    still = {
        asked[key]
        for account, one in wanted
        if not one.is_automatic and (key := (*account, frozenset(one.members))) in asked
    }
    for match_id in sorted({one.match_id for one in suggested} - still):
        work.end(match_id, "it is not suggested any more")
    new = [
        (account, one) for account, one in wanted if one.is_automatic or (*account, frozenset(one.members)) not in asked
    ]
    ids = _next_ids(connection, len(new))
    _insert_matches(connection, entity, list(zip(ids, new, strict=True)), work.run_id, work.at)
    rows = [
        (match_id, one.connection, one.record, one.source_id, one.amount_minor, "", work.run_id, work.at)
        for match_id, (account, found) in zip(ids, new, strict=True)
        for one in (work.standing[*account, id_] for id_ in found.members)
    ]
    frames.insert_rows(connection, "recon", "member", _MEMBER, rows)
    work.ran.matched += sum(one.is_automatic for _, one in new)
    work.ran.suggested += sum(not one.is_automatic for _, one in new)


_MATCH = ("match_id", "entity", "role", "currency", "kind", "score", "reasons", "is_suggestion", "run_id", "made_at")
_MEMBER = ("match_id", "connection", "record", "source_id", "amount_minor", "reason", "run_id", "joined_at")


def _next_ids(connection: Connection, count: int) -> list[int]:
    rows = connection.execute(
        "SELECT nextval('recon.match_id_seq') FROM generate_series(1, %s)", (count,)
    )  # one statement for all
    return [row[0] for row in rows]


def _insert_matches(
    connection: Connection,
    entity: str,
    new: Sequence[tuple[int, tuple[tuple[str, str], Match]]],
    run_id: str,
    at: datetime,
) -> None:
    rows = [
        (id_, entity, *account, m.kind, m.score, list(m.reasons), not m.is_automatic, run_id, at)
        for id_, (account, m) in new
    ]
    frames.insert_rows(connection, "recon", "match", _MATCH, rows)


def _join(
    connection: Connection, match_id: int, members: Iterable[Standing], reason: str, run_id: str, at: datetime
) -> None:
    rows = [(match_id, m.connection, m.record, m.source_id, m.amount_minor, reason, run_id, at) for m in members]
    frames.insert_rows(connection, "recon", "member", _MEMBER, rows)


def _end(connection: Connection, match_id: int, event: str, by: str, reason: str, run_id: str, at: datetime) -> None:
    connection.execute(
        "INSERT INTO recon.event (match_id, event, by_whom, reason, run_id, happened_at) VALUES (%s, %s, %s, %s, %s, %s)",
        (match_id, event, by, reason, run_id, at),
    )


def _rejected(connection: Connection, entity: str) -> dict[tuple[str, str], frozenset[frozenset[str]]]:
    """By account, the sets of members that a person said don't belong together."""
    found: dict[tuple[str, str], set[frozenset[str]]] = defaultdict(set)
    rows = connection.execute(
        "SELECT m.role, m.currency, array_agg(format('%%s/%%s/%%s', i.connection, i.record, i.source_id)) "
        "FROM recon.match m JOIN recon.event e USING (match_id) JOIN recon.member i USING (match_id) "
        "WHERE m.entity = %s AND e.event = 'rejected' GROUP BY m.match_id, 1, 2",
        (entity,),
    )
    for role, currency, members in rows:
        found[role, currency].add(frozenset(members))
    return {account: frozenset(sets) for account, sets in found.items()}


# reading and deciding ------------------------------------------------------------------------------------------------------


def live(
    connection: Connection,
    entity: str | None = None,
    state: State | None = None,
    match_ids: Sequence[int] | None = None,
) -> list[Kept]:
    """Matches and suggestions that stand, in the order in which they were made."""
    rows = connection.execute(
        "SELECT match_id, entity, role, currency, kind, score, reasons, state, decided_by, made_at FROM recon.live_match "
        "WHERE (%(entity)s::text IS NULL OR entity = %(entity)s) AND (%(state)s::text IS NULL OR state = %(state)s) "
        "AND (%(ids)s::bigint[] IS NULL OR match_id = ANY(%(ids)s)) ORDER BY match_id",
        {"entity": entity, "state": state, "ids": None if match_ids is None else list(match_ids)},
    ).fetchall()
    members: dict[int, list[MatchMember]] = defaultdict(list)
    for match_id, *member in connection.execute(
        "SELECT match_id, connection, record, source_id, amount_minor, reason FROM recon.member WHERE match_id = ANY(%s) ORDER BY 1, 2, 3, 4",
        ([row[0] for row in rows],),
    ):
        members[match_id].append(MatchMember(*member))
    return [replace(Kept(*row), members=tuple(members[row[0]])) for row in rows]


def accept(connection: Connection, match_id: int, by: str, reason: str, run_id: str, at: datetime) -> Kept:
    """A suggestion counts from now on. Raises DecisionRefused when it isn't open, or a member is used elsewhere by now."""
    one = _decidable(connection, match_id)
    if one.state != "suggested":
        raise DecisionRefused(f"match {match_id} counts already; it was decided by {one.decided_by}")
    taken = connection.execute(
        "SELECT format('%%s %%s', u.record, u.source_id), u.match_id FROM recon.used u JOIN recon.member m USING (connection, record, source_id) "
        "WHERE m.match_id = %s AND (u.entity, u.role, u.currency) = (%s, %s, %s) ORDER BY 1 LIMIT 1",
        (match_id, one.entity, one.role, one.currency),
    ).fetchone()
    if taken:
        raise DecisionRefused(f"{taken[0]} is in match {taken[1]} by now")
    _end(connection, match_id, "accepted", by, reason, run_id, at)
    return live(connection, match_ids=[match_id])[0]


def reject(connection: Connection, match_id: int, by: str, reason: str, run_id: str, at: datetime) -> Kept:
    """These members don't belong together, and never will: a suggestion, or a match that is undone. Raises DecisionRefused."""
    one = _decidable(connection, match_id)
    _end(connection, match_id, "rejected", by, reason, run_id, at)
    return one


def _decidable(connection: Connection, match_id: int) -> Kept:
    row = connection.execute("SELECT entity FROM recon.match WHERE match_id = %s", (match_id,)).fetchone()
    if row is None:
        raise DecisionRefused(f"there is no match {match_id}; `ledger-pipeline reconcile suggestions` lists ids")
    lock(connection, "reconcile", row[0])
    found = live(connection, match_ids=[match_id])
    if not found:
        raise DecisionRefused(f"match {match_id} was rejected or dissolved")
    return found[0]


def history(connection: Connection, match_id: int) -> list[tuple[str, str, str, Any]]:
    """(event, by whom, reason, when) of a match, in order."""
    return connection.execute(
        "SELECT event, by_whom, reason, happened_at FROM recon.event WHERE match_id = %s ORDER BY event_id", (match_id,)
    ).fetchall()
