"""Work behind the caller's back: in order, one piece at a time, ended when the caller leaves, and its errors are the caller's."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from ledger_pipeline.store.behind import TURN_MICROSECONDS, Behind, ahead, short_turns


def test_the_next_item_is_read_while_the_caller_is_at_one() -> None:
    read = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for number, event in enumerate(read):
            event.set()
            yield number

    with ahead(items()) as found:
        for number in found:
            assert all(event.wait(5) for event in read[: number + 2])
            assert not any(event.is_set() for event in read[number + 3 :])
    assert all(event.is_set() for event in read)


def test_an_error_of_the_reader_reaches_the_caller_after_what_was_read() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("the database went away")

    seen = []
    with pytest.raises(RuntimeError, match="went away"), ahead(items()) as found:
        seen.extend(found)
    assert seen == [1]


def test_who_leaves_early_leaves_no_reader_at_work() -> None:
    asked: list[int] = []
    with ahead(iter(lambda: asked.append(len(asked)) or len(asked), 100)) as found:
        next(found)
    known = len(asked)
    assert known <= 2
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_pieces_run_one_after_the_other_and_a_fault_comes_with_the_next() -> None:
    done: list[int] = []

    def work() -> None:
        with Behind() as behind:
            behind.do(done.append, 1)
            behind.do(lambda: 1 // 0)
            behind.do(done.append, 2)

    with pytest.raises(ZeroDivisionError):
        work()
    assert done == [1]


def test_turns_are_short_only_meanwhile() -> None:
    before = sys.getswitchinterval()
    with short_turns(), short_turns():
        assert sys.getswitchinterval() == pytest.approx(TURN_MICROSECONDS / 10**6)
    assert sys.getswitchinterval() == pytest.approx(before)
