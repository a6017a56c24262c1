"""Token buckets: by time, and by what the server reports."""

from __future__ import annotations

import threading
import time

import msgspec
import pytest

from ledger_pipeline.connect.limits import Cost, CostLimit, Limit

from .conftest import to_json


def test_a_burst_goes_at_once_and_then_the_rate_holds(clock):
    bucket = Limit(per_second=10, burst=3).start(clock, clock.sleep)
    waits = [round(bucket.acquire(), 6) for _ in range(6)]
    assert waits == [0, 0, 0, 0.1, 0.1, 0.1]


def test_idle_time_saves_up_no_more_than_a_burst(clock):
    bucket = Limit(per_second=10, burst=2).start(clock, clock.sleep)
    clock.sleep(100)
    assert [bucket.acquire() > 0 for _ in range(3)] == [False, False, True]


def test_threads_share_the_rate():
    bucket = Limit(per_second=100, burst=1).start(time.monotonic, time.sleep)
    started = time.monotonic()
    threads = [threading.Thread(target=lambda: [bucket.acquire() for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert 0.19 <= time.monotonic() - started < 0.6


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (5, 0)])
def test_a_limit_that_could_never_be_met_is_refused(clock, rate, burst):
    with pytest.raises(ValueError, match="rate above 0"):
        Limit(rate, burst).start(clock, clock.sleep)


class _Throttle(msgspec.Struct, rename="camel"):
    currently_available: float
    restore_rate: float


class _Body(msgspec.Struct, rename="camel"):
    requested_query_cost: float
    throttle_status: _Throttle


def _read(response):
    body = response.decode(_Body)
    return Cost(body.throttle_status.currently_available, body.throttle_status.restore_rate, body.requested_query_cost)


def shopify(available: float, requested: float = 500) -> object:
    return to_json(
        {"requestedQueryCost": requested, "throttleStatus": {"currentlyAvailable": available, "restoreRate": 100}}
    )


def test_a_cost_limit_waits_until_the_server_has_restored_the_points(serve, connect, clock):
    client = connect(serve([shopify(200), shopify(1500), shopify(1500)]).url, None, CostLimit(_read))
    client.get("/x")
    client.get("/x")  # 200 of 500 points are there, 100 come back each second
    assert clock.slept == [pytest.approx(3.0)]
    client.get("/x")
    assert len(clock.slept) == 1


def test_a_cost_limit_counts_requests_that_are_still_on_their_way(clock, serve, connect):
    bucket = CostLimit(_read, maximum=1000).start(clock, clock.sleep)
    answer = connect(serve([shopify(900)]).url).get("/x")
    bucket.acquire()
    bucket.acquire()
    bucket.learn(answer)  # 900 left, and the other one will take 500 of them
    assert bucket.acquire() == pytest.approx(1.0)


def test_an_answer_that_never_came_is_no_longer_on_its_way(clock, serve, connect):
    bucket = CostLimit(_read, maximum=1000).start(clock, clock.sleep)
    answer = connect(serve([shopify(900)]).url).get("/x")
    bucket.acquire()
    bucket.acquire()
    bucket.learn(None)
    bucket.learn(answer)
    assert bucket.acquire() == 0
