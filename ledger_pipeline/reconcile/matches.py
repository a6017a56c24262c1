"""Matches that are kept: what the engine finds is appended, what people decide is appended, a run with nothing new writes nothing.

A member belongs to one match at a time; the database enforces it (`recon.used`). A match keeps its members through late edits of them:
what they then don't sum to is its remainder. It is dissolved only when one of its members left the account altogether.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from ledger_pipeline.reconcile import clearing, engine
from ledger_pipeline.reconcile.clearing import Clearing, Standing
from ledger_pipeline.reconcile.engine import Group, Match, Policy
from ledger_pipeline.store import frames
from ledger_pipeline.store.database import Connection, lock

State = Literal["matched", "suggested"]
ENGINE = "engine"


class DecisionRefused(Exception):
    """A decision on a match that doesn't allow it; says why."""


@dataclass(slots=True)
class Ran:
    """What a run appended; all zero when there was nothing new. `open` are members that no match uses."""

    entity: str
    matched: int = 0
    suggested: int = 0
    joined: int = 0
    dissolved: int = 0
    open: int = 0

    @property
    def is_new(self) -> bool:
        """True when something was written."""
        return bool(self.matched or self.suggested or self.joined or self.dissolved)


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


def run(connection: Connection, entity: str, policy: Policy, run_id: str, at: datetime) -> Ran:
    """Match what stands on an entity's clearing accounts, in the caller's transaction; one run at a time per entity."""
    lock(connection, "reconcile", entity)
    ran = Ran(entity)
    gone = clearing.gone(connection, entity)
    for match_id, what in gone.items():
        _end(connection, match_id, "dissolved", ENGINE, f"{what} is not on the account any more", run_id, at)
    ran.dissolved = len(gone)
    books = clearing.read(connection, entity)
    rejected = _rejected(connection, entity)
    suggested = {one.match_id: one for one in live(connection, entity, "suggested")}
    standing = {(*one.account, one.id): one for one in books.free}
    by_account: dict[tuple[str, str], list[Standing]] = defaultdict(list)
    for one in books.free:
        by_account[one.account].append(one)
    wanted: list[tuple[tuple[str, str], Match]] = []
    for account, members in sorted(by_account.items()):
        found = engine.match(
            (one.as_member() for one in members),
            policy,
            groups=_groups(books, account),
            rejected=rejected.get(account, frozenset()),
        )
        wanted += [(account, one) for one in found.matches]
        for join in found.joins:
            joining = [standing[(*account, id_)] for id_ in join.members]
            _join(connection, int(join.group), joining, "; ".join(join.reasons), run_id, at)
            ran.joined += len(join.members)
        ran.open += len(found.open)
    _keep(connection, entity, wanted, standing, suggested, ran, run_id, at)
    return ran


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


def _keep(
    connection: Connection,
    entity: str,
    wanted: Sequence[tuple[tuple[str, str], Match]],
    standing: dict[tuple[str, str, str], Standing],
    suggested: dict[int, Kept],
    ran: Ran,
    run_id: str,
    at: datetime,
) -> None:
    """Append what isn't there; a suggestion that isn't made any more is dissolved."""
    asked = {(one.role, one.currency, frozenset(m.id for m in one.members)): id_ for id_, one in suggested.items()}
    still = {
        asked[key]
        for account, one in wanted
        if not one.is_automatic and (key := (*account, frozenset(one.members))) in asked
    }
    for match_id in sorted(set(suggested) - still):
        _end(connection, match_id, "dissolved", ENGINE, "it is not suggested any more", run_id, at)
        ran.dissolved += 1
    new = [
        (account, one) for account, one in wanted if one.is_automatic or (*account, frozenset(one.members)) not in asked
    ]
    ids = _next_ids(connection, len(new))
    _insert_matches(connection, entity, list(zip(ids, new, strict=True)), run_id, at)
    rows = [
        (match_id, one.connection, one.record, one.source_id, one.amount_minor, "", run_id, at)
        for match_id, (account, found) in zip(ids, new, strict=True)
        for one in (standing[(*account, id_)] for id_ in found.members)
    ]
    frames.insert_rows(connection, "recon", "member", _MEMBER, rows)
    ran.matched += sum(one.is_automatic for _, one in new)
    ran.suggested += sum(not one.is_automatic for _, one in new)


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
