"""The matching engine: which members of two sides are about the same money. Pure, deterministic, the same for any order of its input.

Stages, each on what the one before left: exact keys, references inside free text, whole runs of a till's days, scored pairs, subsets.
A member is used once. Candidates are found by hash and by sorted amounts and days, never by comparing all with all.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from itertools import combinations, islice
from math import comb
from typing import Literal

from ledger_pipeline.reconcile.calendar import Calendar

Side = Literal["left", "right"]
Kind = Literal["exact", "reference", "scored", "subset"]
FULL_SCORE = 1000


@dataclass(frozen=True, slots=True)
class Member:
    """One side's amount. What belongs together has amounts that sum to zero in the currency.

    `day` is when the other side should show it. `keys` are exact (`order:123`); members whose keys of one kind all differ never match.
    `references` are the words by which the other side's `text` may name it. `counterparty` is who the other side's text should name.
    `batch` puts members into a till, whose days are paid in as wholes; such a member is in no pair and no other subset. Members of two
    pools never match, one without a pool fits any. Members of one bank `account` never match: money doesn't move within it.
    """

    id: str
    side: Side
    amount_minor: int
    currency: str
    day: date
    keys: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    text: str = ""
    counterparty: str = ""
    batch: str = ""
    pool: str = ""
    account: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """An earlier match that doesn't come to zero: what names it may still join. `amount_minor` is its remainder."""

    id: str
    amount_minor: int
    currency: str
    keys: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and thresholds; scores run from 0 to 1000.

    A match that scores at least `automatic` counts, one from `suggest` is for a person to decide. `tolerance_minor` is what a scored
    pair's amounts may differ by (a bank's fee). Pairs lie at most `window_days` calendar days apart. A member is compared with at most
    `candidates` others of its amount, the nearest first. Subsets have at most `group_size` members out of at most `subset_candidates`,
    and where more than `subset_steps` selections of a size could come to the amount, that size is left out. A till's run has at most
    `run_days` days.
    """

    automatic: int = 850
    suggest: int = 550
    margin: int = 50
    tolerance_minor: int = 0
    window_days: int = 14
    candidates: int = 50
    group_size: int = 6
    subset_candidates: int = 20
    subset_steps: int = 20_000
    run_days: int = 31
    calendar: Calendar = field(default_factory=Calendar)


@dataclass(frozen=True, slots=True)
class Match:
    """Members that belong together, sorted by id. `remainder_minor` is what their amounts sum to: 0 for a full match."""

    kind: Kind
    members: tuple[str, ...]
    remainder_minor: int
    score: int
    reasons: tuple[str, ...]
    is_automatic: bool


@dataclass(frozen=True, slots=True)
class Join:
    """Members that complete, or come closer to completing, an earlier match."""

    group: str
    members: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """Matches by their first member's id. A suggestion's members stand in `open`, too."""

    matches: tuple[Match, ...]
    joins: tuple[Join, ...]
    open: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A candidate of the scored stage."""

    score: int
    days: int
    left: str
    right: str
    reasons: tuple[str, ...]


def match(
    members: Iterable[Member],
    policy: Policy | None = None,
    *,
    groups: Iterable[Group] = (),
    rejected: Collection[frozenset[str]] = (),
) -> Result:
    """Match members with each other and with earlier groups. `rejected` are sets of members that a person said don't belong together.

    Raises ValueError when two members have the same id or one has the amount zero.
    """
    work = _Work(list(members), policy or Policy(), list(groups), frozenset(rejected))
    for stage in (_exact, _reference, _runs, _scored, _subsets):
        stage(work)
    taken = {id_ for m in work.matches if m.is_automatic for id_ in m.members} | {
        i for j in work.joins for i in j.members
    }
    return Result(
        tuple(sorted(work.matches, key=lambda m: m.members)),
        tuple(sorted(work.joins, key=lambda j: (j.group, j.members))),
        tuple(sorted(id_ for id_ in work.by_id if id_ not in taken)),
    )


@dataclass
class _Work:
    """What a run knows. `free` shrinks from stage to stage; a suggestion's members leave it, too, so that each is asked about once."""

    members: list[Member]
    policy: Policy
    groups: list[Group]
    rejected: frozenset[frozenset[str]]
    matches: list[Match] = field(default_factory=list)
    joins: list[Join] = field(default_factory=list)
    by_id: dict[str, Member] = field(init=False)
    free: dict[str, Member] = field(init=False)

    def __post_init__(self) -> None:
        ordered = sorted(self.members, key=lambda m: m.id)
        self.by_id = {m.id: m for m in ordered}
        if len(self.by_id) != len(ordered):
            raise ValueError("two members have the same id")
        if any(m.amount_minor == 0 for m in ordered):
            raise ValueError(f"member {next(m.id for m in ordered if not m.amount_minor)} has the amount zero")
        self.free = dict(self.by_id)

    @cached_property
    def names(self) -> Names:
        """Whom a text may name: every counterparty."""
        return Names(self.members)

    def add(self, kind: Kind, members: Iterable[Member], score: int, reasons: Iterable[str]) -> bool:
        """Use the members, unless a person rejected them together or they score too low; False then."""
        found = sorted(members, key=lambda m: m.id)
        ids = tuple(m.id for m in found)
        if score < self.policy.suggest or frozenset(ids) in self.rejected:
            return False
        remainder = sum(m.amount_minor for m in found)
        self.matches.append(Match(kind, ids, remainder, score, tuple(reasons), score >= self.policy.automatic))
        self._use(ids)
        return True

    def join(self, group: Group, members: Iterable[Member], reasons: Iterable[str]) -> None:
        ids = tuple(sorted(m.id for m in members))
        self.joins.append(Join(group.id, ids, tuple(reasons)))
        self._use(ids)

    def _use(self, ids: Iterable[str]) -> None:
        for id_ in ids:
            del self.free[id_]


class _Sets:
    """Union-find over hashable things."""

    def __init__(self) -> None:
        self._parent: dict[object, object] = {}

    def find(self, one: object) -> object:
        self._parent.setdefault(one, one)
        root = one
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[one] != root:
            self._parent[one], one = root, self._parent[one]
        return root

    def join(self, one: object, other: object) -> None:
        self._parent[self.find(one)] = self.find(other)


def _components(members: Iterable[Member], links: Callable[[Member], Iterable[object]]) -> list[list[Member]]:
    """Members that share links, directly or through others, per currency; in the order of their first ids. Unlinked ones stand alone."""
    sets, found = _Sets(), list(members)
    for m in found:
        for link in links(m):
            sets.join(("member", m.id), (m.currency, link))
    groups: dict[object, list[Member]] = defaultdict(list)
    for m in found:
        groups[sets.find(("member", m.id))].append(m)
    return list(groups.values())


def is_two_sided(members: Iterable[Member]) -> bool:
    """True when both sides say something."""
    return len({m.side for m in members}) == 2


# exact keys ----------------------------------------------------------------------------------------------------------------


def _exact(work: _Work) -> None:
    """A group of any size; one that doesn't come to zero first goes to an earlier match that it completes, or comes closer to completing."""
    by_key = {(g.currency, key): g for g in sorted(work.groups, key=lambda g: g.id) for key in g.keys}
    rest = {g.id: g.amount_minor for g in work.groups}
    for found in _components((m for m in work.free.values() if m.keys), lambda m: [(m.pool, key) for key in m.keys]):
        keys = sorted({key for m in found for key in m.keys})
        named = f"share {', '.join(keys[:3])}" + (f" and {len(keys) - 3} more keys" if len(keys) > 3 else "")
        total = sum(m.amount_minor for m in found)
        group = next((g for key in keys if (g := by_key.get((found[0].currency, key)))), None)
        if total and group is not None and rest[group.id]:
            work.join(group, found, (named,))
            rest[group.id] += total
        elif len(found) > 1 and not total:
            work.add("exact", found, FULL_SCORE, (named, "amounts sum to zero"))
        elif is_two_sided(found):
            work.add("exact", found, FULL_SCORE, (named, "amounts leave a remainder"))


# references ----------------------------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W_]+")
TAIL = 10
"""Banks cut long references; that many last characters of one still name it, where the amounts agree."""
_LEAST, _MOST_WORDS = 5, 100


def normal(reference: str) -> str:
    """A reference as it is compared: upper case letters and digits only."""
    return "".join(_WORD.findall(reference)).upper()


def words_of(text: str) -> frozenset[str]:
    """What a text may name: its words, and up to four in a row joined (`INV-1001` is INV1001); at least five characters, one a digit."""
    words = [word.upper() for word in _WORD.findall(text)][:_MOST_WORDS]
    joined = {"".join(words[n : n + size]) for n in range(len(words)) for size in (1, 2, 3, 4)}
    return frozenset(word for word in joined if len(word) >= _LEAST and any(c.isdigit() for c in word))


def _reference(work: _Work) -> None:
    """A text that names references of the other side. A cut reference counts only where it is one member's, and amounts agree."""
    whole, tails = _index(work.free.values())
    groups = {(g.currency, normal(r)): g for g in sorted(work.groups, key=lambda g: g.id) for r in g.references}
    links: dict[str, set[str]] = defaultdict(set)
    cut: set[str] = set()
    for m in list(work.free.values()):
        for word in sorted(words_of(m.text)):
            group = groups.get((m.currency, word))
            if group is not None and (group.amount_minor > 0) == (m.amount_minor < 0) and m.id in work.free:
                work.join(group, [m], (f"its text names {word}",))
                continue
            named = whole.get((m.currency, word)) or []
            if not named and len(tails.get((m.currency, word), [])) == 1:
                named = tails[m.currency, word]
                cut.update((m.id, named[0].id))
            for other in named:
                if other.side != m.side and m.id in work.free and not contradict(m, other):
                    links[m.id].add(f"{other.id}")
                    links[other.id].add(f"{other.id}")
    linked = [work.free[id_] for id_ in sorted(links) if id_ in work.free]
    for found in _components(linked, lambda m: links[m.id]):
        _add_referenced(work, found, any(m.id in cut for m in found))


def _index(
    members: Iterable[Member],
) -> tuple[dict[tuple[str, str], list[Member]], dict[tuple[str, str], list[Member]]]:
    """Members by (currency, reference), and by the reference's tail where it is longer than that."""
    whole: dict[tuple[str, str], list[Member]] = defaultdict(list)
    tails: dict[tuple[str, str], list[Member]] = defaultdict(list)
    for m in members:
        for reference in sorted({normal(r) for r in m.references}):
            if len(reference) >= _LEAST:
                whole[m.currency, reference].append(m)
            if len(reference) > TAIL:
                tails[m.currency, reference[-TAIL:]].append(m)
    return whole, tails


def _add_referenced(work: _Work, found: Sequence[Member], is_cut: bool) -> None:
    if not is_two_sided(found) or len({m.pool for m in found if m.pool}) > 1:
        return
    text = "the text names " + ", ".join(sorted({r for m in found for r in m.references})[:5])
    total = sum(m.amount_minor for m in found)
    if not total:
        work.add("reference", found, 980 if not is_cut else 950, (text, "amounts sum to zero"))
    elif not is_cut and _is_part_payment(found):
        work.add("reference", found, 900, (text, "part of the amount is paid"))
    else:
        work.add("reference", found, 700, (text, "amounts differ"))


def _is_part_payment(found: Sequence[Member]) -> bool:
    """The side that is named weighs more than the side that names it, and neither has both signs."""
    sums = {side: [m.amount_minor for m in found if m.side == side] for side in ("left", "right")}
    if any(min(amounts) < 0 < max(amounts) for amounts in sums.values()):
        return False
    left, right = sum(sums["left"]), sum(sums["right"])
    named = {m.side for m in found if m.references}
    if (left > 0) == (right > 0) or len(named) != 1:
        return False
    return abs(left) > abs(right) if named == {"left"} else abs(right) > abs(left)


# runs of a till ------------------------------------------------------------------------------------------------------------


def _runs(work: _Work) -> None:
    """A deposit is the takings of whole days in a row, none of them after it: the oldest open ones if they fit."""
    tills: dict[tuple[str, str, Side], dict[date, list[Member]]] = defaultdict(lambda: defaultdict(list))
    for m in work.free.values():
        if m.batch:
            tills[m.batch, m.currency, m.side][m.day].append(m)
    deposits = sorted((m for m in work.free.values() if not m.batch and not m.keys), key=lambda m: (m.day, m.id))
    for (batch, currency, side), takings in sorted(tills.items()):
        days = sorted(takings)
        for deposit in deposits:
            if deposit.id in work.free and deposit.currency == currency and deposit.side != side:
                _run_for(work, batch, deposit, takings, days)


def _run_for(work: _Work, batch: str, deposit: Member, takings: Mapping[date, list[Member]], days: list[date]) -> None:
    """`days` are the till's open days in order; those that the deposit takes leave it."""
    end = bisect_right(days, deposit.day)
    begin = max(0, end - work.policy.run_days)
    run = find_run([sum(m.amount_minor for m in takings[day]) for day in days[begin:end]], -deposit.amount_minor)
    if run is None:
        return
    chosen = days[begin + run[0] : begin + run[1]]
    is_oldest = begin + run[0] == 0
    reasons = [f"the takings of {batch} from {chosen[0]} to {chosen[-1]}: {len(chosen)} days, each whole"]
    reasons.append("the oldest days that were open" if is_oldest else "older days stay open")
    if work.add("subset", [deposit, *(m for d in chosen for m in takings[d])], 900 if is_oldest else 750, reasons):
        del days[begin + run[0] : begin + run[1]]


def find_run(amounts: Sequence[int], target: int) -> tuple[int, int] | None:
    """The first run of amounts in a row that sums to the target, as (begin, end): the earliest begin, then the shortest; None without one."""
    after: dict[int, list[int]] = defaultdict(list)
    total, before = 0, [0]
    for position, amount in enumerate(amounts):
        total += amount
        after[total].append(position + 1)
        before.append(total)
    for begin in range(len(amounts)):
        ends = after.get(before[begin] + target, [])
        at = bisect_right(ends, begin)
        if at < len(ends):
            return begin, ends[at]
    return None


# scored pairs --------------------------------------------------------------------------------------------------------------

_SCAN = 8
"""So many times the wanted candidates are looked at, the others contradict."""
_DAYS = (300, 260, 220, 140, 80, 40)
"""Points by business days apart; none beyond."""
_GENERIC = frozenset({"PAYMENTS", "PAYMENT", "TRANSFER", "LTD", "INC", "LLC", "GMBH", "BANK", "CO", "THE"})


def name_words(counterparty: str) -> frozenset[str]:
    """The words that tell a counterparty from others."""
    return frozenset(w.upper() for w in _WORD.findall(counterparty.replace("_", " "))) - _GENERIC


class Names:
    """The names that tell counterparties apart, and who is named in a text. Each counterparty and text is taken to pieces once."""

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._of: dict[str, frozenset[str]] = {}
        self._in: dict[str, frozenset[str]] = {}
        self._known = frozenset[str]().union(*(self.of(m.counterparty) for m in members))

    def of(self, counterparty: str) -> frozenset[str]:
        """The words of a counterparty's name."""
        if (found := self._of.get(counterparty)) is None:
            found = self._of[counterparty] = name_words(counterparty)
        return found

    def named_in(self, text: str) -> frozenset[str]:
        """The words of a text that are part of any counterparty's name."""
        if (found := self._in.get(text)) is None:
            found = self._in[text] = self._known.intersection(word.upper() for word in _WORD.findall(text))
        return found


def contradict(a: Member, b: Member) -> bool:
    """True when both have keys of one kind and none of these in common, stand in two pools, or on one bank account."""
    if (a.pool and b.pool and a.pool != b.pool) or (a.account and a.account == b.account):
        return True
    if not a.keys or not b.keys:
        return False
    kinds: dict[str, set[str]] = defaultdict(set)
    for key in a.keys:
        kinds[key.partition(":")[0]].add(key)
    theirs: dict[str, set[str]] = defaultdict(set)
    for key in b.keys:
        theirs[key.partition(":")[0]].add(key)
    return any(kind in theirs and not keys & theirs[kind] for kind, keys in kinds.items())


def score(left: Member, right: Member, policy: Policy, names: Names) -> Pair | None:
    """How likely two members are about the same money: equal amounts 500, nearness up to 300, the counterparty's name 200.

    None where they can't be: amounts apart, too many days apart, keys that differ, a text that names somebody else.
    """
    gap = abs(left.amount_minor + right.amount_minor)
    if gap > policy.tolerance_minor or abs((left.day - right.day).days) > policy.window_days or contradict(left, right):
        return None
    if (left.amount_minor > 0) == (right.amount_minor > 0):
        return None
    days = policy.calendar.between(left.day, right.day)
    reasons = ["amounts are equal" if not gap else f"amounts differ by {gap}, within the tolerance"]
    total = (500 if not gap else 400) + (_DAYS[days] if days < len(_DAYS) else 0)
    reasons.append("same business day" if not days else f"{days} business day{'s' if days > 1 else ''} apart")
    named = _naming(left, right, names) or _naming(right, left, names)
    if named:
        total += 200
        reasons.append(f"the text names {named}")
    elif _names_another(left, right, names) or _names_another(right, left, names):
        return None
    return Pair(total, days, left.id, right.id, tuple(reasons))


def _naming(named: Member, by: Member, names: Names) -> str:
    words = names.of(named.counterparty)
    return named.counterparty if words and words <= names.named_in(by.text) else ""


def _names_another(one: Member, by: Member, names: Names) -> bool:
    return bool(one.counterparty) and not names.named_in(by.text) <= names.of(one.counterparty)


def _scored(work: _Work) -> None:
    """One to one, the best score first; equal ones by distance and ids. What has an equally good other candidate is a suggestion."""
    found = sorted(_pairs(work), key=lambda p: (-p.score, p.days, p.left, p.right))
    best = _two_best(found)
    for pair in found:
        if pair.left not in work.free or pair.right not in work.free:
            continue
        is_ambiguous = any(
            other is not None and other.score > pair.score - work.policy.margin
            for id_ in (pair.left, pair.right)
            for other in (next((p for p in best[id_] if p is not pair), None),)
        )
        reasons, points = pair.reasons, pair.score
        if is_ambiguous:
            points = min(points, work.policy.automatic - 1)
            reasons = (*reasons, "another candidate fits as well")
        work.add("scored", (work.free[pair.left], work.free[pair.right]), points, reasons)


def _two_best(pairs: Iterable[Pair]) -> Mapping[str, list[Pair]]:
    """Each member's two best pairs."""
    best: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        for id_ in (pair.left, pair.right):
            if len(best[id_]) < 2:
                best[id_].append(pair)
    return best


def _pairs(work: _Work) -> Iterator[Pair]:
    """Candidates of each left member: by amount within the tolerance, then the nearest days first."""
    policy = work.policy
    buckets: dict[str, dict[int, list[Member]]] = defaultdict(lambda: defaultdict(list))
    loose = [m for m in work.free.values() if not m.batch]
    for m in sorted((m for m in loose if m.side == "right"), key=lambda m: (m.day, m.id)):
        buckets[m.currency][m.amount_minor].append(m)
    amounts = {currency: sorted(of) for currency, of in buckets.items()}
    for left in loose:
        if left.side != "left":
            continue
        known = amounts.get(left.currency, [])
        low = bisect_left(known, -left.amount_minor - policy.tolerance_minor)
        high = bisect_right(known, -left.amount_minor + policy.tolerance_minor)
        taken = 0
        for amount in known[low:high]:
            for right in _nearest(buckets[left.currency][amount], left.day, policy, policy.candidates * _SCAN):
                pair = score(left, right, policy, work.names)
                if pair is None or frozenset((left.id, right.id)) in work.rejected:
                    continue
                yield pair
                taken += 1
                if taken >= policy.candidates:
                    break


def _nearest(members: Sequence[Member], day: date, policy: Policy, most: int) -> Iterator[Member]:
    """From members in the order of their days: those within the window, nearest first, at most so many."""
    down = bisect_left(members, day, key=lambda m: m.day) - 1
    up, left = down + 1, most
    while left and (down >= 0 or up < len(members)):
        below = (day - members[down].day).days if down >= 0 else policy.window_days + 1
        above = (members[up].day - day).days if up < len(members) else policy.window_days + 1
        if min(below, above) > policy.window_days:
            return
        if above <= below:
            yield members[up]
            up += 1
        else:
            yield members[down]
            down -= 1
        left -= 1


# subsets -------------------------------------------------------------------------------------------------------------------

_Near = dict[tuple[str, frozenset[str]], list[tuple[int, int, Member]]]
"""By counterparty and the names in the text: (rank by nearness, size of the amount, member), the nearest first."""


def _subsets(work: _Work) -> None:
    """One against several of the other side that sum to it. Sums can coincide, so what only adds up is for a person to decide."""
    loose = [m for m in work.free.values() if not m.batch]
    days: dict[tuple[str, Side, bool], list[Member]] = defaultdict(list)
    for m in sorted(loose, key=lambda m: (m.day, m.id)):
        days[m.currency, m.side, m.amount_minor > 0].append(m)
    near: dict[tuple[str, Side, bool, date], _Near] = {}  # many have their day in common
    for one in sorted(loose, key=lambda m: (-abs(m.amount_minor), m.day, m.id)):
        if one.id not in work.free:
            continue
        other: Side = "right" if one.side == "left" else "left"
        kind = one.currency, other, one.amount_minor < 0
        if (*kind, one.day) not in near:
            near[*kind, one.day] = _near(work, days[kind], one.day)
        candidates = _candidates(work, one, near[*kind, one.day])
        solutions = subset_sums([abs(m.amount_minor) for m in candidates], abs(one.amount_minor), work.policy)
        for positions in solutions:
            chosen = [candidates[p] for p in positions]
            reasons = [f"{len(chosen)} amounts sum to it"]
            reasons += ["another selection fits as well"] if len(solutions) > 1 else []
            is_named = all(_naming(m, one, work.names) or _naming(one, m, work.names) for m in chosen)
            points = 600 + 100 * (len(solutions) == 1) + 50 * is_named
            if work.add("subset", [one, *chosen], min(points, work.policy.automatic - 1), reasons):
                break


def _near(work: _Work, members: Sequence[Member], day: date) -> _Near:
    """Members, given in the order of their days, that lie nearest to a day; used or not."""
    found: _Near = defaultdict(list)
    nearest = _nearest(members, day, work.policy, work.policy.subset_candidates * _SCAN)
    for rank, m in enumerate(nearest):
        found[m.counterparty, work.names.named_in(m.text)].append((rank, abs(m.amount_minor), m))
    return found


def _candidates(work: _Work, one: Member, near: _Near) -> list[Member]:
    """Of those near, the nearest first: what is smaller and speaks of nobody else; of one pool only, that of the nearest."""
    size, free, names = abs(one.amount_minor), work.free, work.names
    own, said = names.of(one.counterparty), names.named_in(one.text)
    ranked = sorted(
        (rank, m)
        for (counterparty, named), members in near.items()
        if (not counterparty or said <= names.of(counterparty)) and (not one.counterparty or named <= own)
        for rank, amount, m in members
        if amount < size and m.id in free
    )
    pool = one.pool
    found: list[Member] = []
    for _, m in ranked:
        if contradict(one, m):
            continue
        pool = pool or m.pool
        if m.pool in (pool, ""):
            found.append(m)
        if len(found) == work.policy.subset_candidates:
            break
    return found


def subset_sums(amounts: Sequence[int], target: int, policy: Policy) -> list[tuple[int, ...]]:
    """At most two selections of two or more positive amounts that sum to the target, fewest amounts first, then the earliest positions.

    A size is left out where more than `policy.subset_steps` selections of it could come to the target.
    """
    found: list[tuple[int, ...]] = []
    ordered = sorted(amounts)
    for size in range(2, policy.group_size + 1):
        least, most = _bounds(ordered, target, size)
        usable = [position for position, amount in enumerate(amounts) if least <= amount <= most]
        if size <= len(usable) and comb(len(usable), size) <= policy.subset_steps:
            chosen = _selections([amounts[position] for position in usable], target, size)
            found += (tuple(usable[n] for n in one) for one in islice(chosen, 2 - len(found)))
        if len(found) > 1:
            break
    return found


def _bounds(ordered: Sequence[int], target: int, size: int) -> tuple[int, int]:
    """(least, most) of the amounts, given in order, that can be in a selection of that size: with the largest or the smallest others."""
    low, high = 0, len(ordered)
    while high - low >= size:
        most = target - sum(ordered[low : low + size - 1])
        least = target - sum(ordered[high - size + 1 : high])
        narrower = bisect_left(ordered, least, low, high), bisect_right(ordered, most, low, high)
        if narrower == (low, high):
            return ordered[low], ordered[high - 1]
        low, high = narrower
    return 1, 0


def _selections(amounts: Sequence[int], target: int, size: int) -> Iterator[tuple[int, ...]]:
    """Positions of so many amounts that sum to the target, in order; found where sums of first and of second halves meet."""
    half = size - size // 2
    seconds = set(map(sum, combinations(amounts, half)))
    if seconds.isdisjoint(map(target.__sub__, map(sum, combinations(amounts, size - half)))):
        return

    def search(begin: int, rest: int, left: int) -> Iterator[tuple[int, ...]]:
        if left == half and rest not in seconds:
            return
        for position in range(begin, len(amounts) - left + 1):
            if left == 1 and amounts[position] == rest:
                yield (position,)
            elif left > 1 and amounts[position] < rest:
                for more in search(position + 1, rest - amounts[position], left - 1):
                    yield (position, *more)

    yield from search(0, target, size)
