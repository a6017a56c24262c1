"""Whatever is told by whom and in which order: each identity stands as often as the path that has it most often says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger_pipeline.reconcile.twins import Known, Stands, Told, pair

PATHS = ("a", "b", "c")


class Books:
    """What `pair` decides, kept as the database would."""

    def __init__(self) -> None:
        self.standing: dict[tuple[str, str], Stands] = {}
        self.known: dict[tuple[str, str], Known] = {}

    def tell(self, name: str, ids: list[int], *, is_replay: bool = False) -> None:
        told = [Told("bank_transaction", str(id_), id_, "k", "") for id_ in ids]
        found = pair(name, told, self.standing.values(), self.known.values(), is_replay=is_replay)
        for moved, to in found.moved.items():
            at = moved.connection, moved.source_id
            self.known[at] = replace(self.known[at], twin_connection=to.connection, twin_source_id=to.source_id)
        for one in told:
            at = name, one.source_id
            self.standing.pop(at, None)
            self.known.pop(at, None)
            if twin := found.twins.get(one):
                self.known[at] = Known(
                    name, one.record, one.source_id, one.raw_id, "k", twin.connection, twin.source_id
                )
            else:
                self.standing[at] = Stands(name, one.record, one.source_id, "k", "")

    def take_back(self, name: str, id_: str) -> None:
        self.standing.pop((name, id_), None)
        self.known.pop((name, id_), None)


deliveries = st.lists(
    st.tuples(st.sampled_from(PATHS), st.lists(st.integers(0, 4), unique=True, max_size=5), st.booleans()), max_size=14
)


@settings(max_examples=300, deadline=None)
@given(deliveries)
def test_each_identity_stands_as_often_as_the_fullest_path_says(steps: list[tuple[str, list[int], bool]]) -> None:
    books = Books()
    seen: dict[str, set[int]] = {name: set() for name in PATHS}
    for name, ids, is_replay in steps:
        books.tell(name, ids, is_replay=is_replay)
        seen[name] |= set(ids)
        assert len(books.standing) == max(len(ids_) for ids_ in seen.values())
        assert set(books.standing) | set(books.known) == {(n, str(i)) for n, ids_ in seen.items() for i in ids_}
        twins = Counter((n, k.twin_connection, k.twin_source_id) for (n, _), k in books.known.items())
        assert all(count == 1 for count in twins.values())
        assert all((k.twin_connection, k.twin_source_id) in books.standing for k in books.known.values())


@settings(max_examples=200, deadline=None)
@given(deliveries, st.integers(0, 4))
@example(
    [("c", [0, 1, 2, 3], False), ("a", [0, 1, 2, 3, 4], False), ("b", [0, 1], False)], 0
)  # b relies on a's surplus
def test_what_is_taken_back_on_one_path_stands_by_another_once_that_is_replayed(
    steps: list[tuple[str, list[int], bool]], gone: int
) -> None:
    books = Books()
    seen: dict[str, set[int]] = {name: set() for name in PATHS}
    for name, ids, _ in steps:
        books.tell(name, ids)
        seen[name] |= set(ids)
    books.take_back("a", str(gone))
    seen["a"].discard(gone)
    for name in ("b", "c", "a"):
        books.tell(name, sorted(seen[name]), is_replay=True)
    assert len(books.standing) == max(len(ids) for ids in seen.values())
