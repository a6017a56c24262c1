"""From a provider's signed webhook to the posted entry: just what changed is pulled, nothing posts twice, a lost one is found at night."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import requests

from ledger_pipeline.model.webhooks import Event
from ledger_pipeline.orchestration import jobs, steps
from ledger_pipeline.orchestration import webhooks as sensors
from ledger_pipeline.orchestration.build import build_defs
from ledger_pipeline.orchestration.changed import SINCE, THROUGH, WARM, WEBHOOK
from ledger_pipeline.orchestration.resources import Ledger, runtime_of
from ledger_pipeline.sandbox import hooks
from ledger_pipeline.store import raw
from ledger_pipeline.store import webhooks as store
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.webhooks.serve import receiving

DAY = date(2026, 10, 6)
EVENING = datetime(2026, 10, 6, 22, 0, tzinfo=UTC)  # 18:00 in New York
MORNING = datetime(2026, 10, 6, 15, 0, tzinfo=UTC)


class Definitions:
    """The sample company's configuration and what Dagster loads of it, made once for all tests."""

    def __init__(self, sandbox: SandboxCompany, folder: Path, database: Database) -> None:
        sandbox.runtime(folder, database)
        self.config = folder / "ledger.yaml"
        self.runtime = runtime_of(str(self.config))
        self.repository = build_defs(self.config).get_repository_def()


@dataclass
class Office:
    """The sample company's pipeline on a database of the test, its Dagster, and the time that it is."""

    sandbox: SandboxCompany
    definitions: Definitions
    database: Database
    instance: dg.DagsterInstance
    cursor: str | None = None
    now: datetime = EVENING

    def __post_init__(self) -> None:
        self.config, self.runtime = self.definitions.config, self.definitions.runtime
        self.repository = self.definitions.repository
        self.runtime.clock = lambda: self.now
        self.runtime.config = self.runtime.config.model_copy(update={"database_url": self.database.url})

    def at(self, now: datetime) -> None:
        """It is so late, here and at the providers."""
        self.now = now
        self.sandbox.clock.set(now)  # type: ignore[attr-defined]

    def tick(self) -> list[dg.RunRequest]:
        """One evaluation of the sensor."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=self.repository,
            resources={"ledger": Ledger(config_path=str(self.config))},
        )
        sensor = self.repository.get_sensor_def("changed_by_webhooks")
        data = sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return list(data.run_requests or ())

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """What the daemon would start."""
        return self.repository.get_job("changed").execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            asset_selection=request.asset_selection,
            tags=dict(request.tags),
            raise_on_error=False,
        )

    def store(self, *events: Event) -> None:
        """As the receiver does."""
        with self.database.connect() as connection:
            connection.execute(store.STORE, store.columns(events))

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self.database.connect("reader") as connection:
            return connection.execute(query, arguments).fetchall()

    def entries(self, name: str) -> set[str]:
        return {row[0] for row in self.rows("SELECT source_id FROM ledger.live_entry WHERE connection = %s", name)}

    def waiting(self) -> dict[str, int]:
        with self.database.connect("reader") as connection:
            found = store.waiting(connection, dict.fromkeys(self.runtime.config.connections, "UTC"))
        return {one.connection: one.count for one in found}


def event(number: int, topic: str = "charge.succeeded", name: str = "stripe_us", at: datetime = EVENING) -> Event:
    return Event(name, f"evt_{number}", topic, "s", at, at, 1, bytes(32), 2, b"{}", None)


@pytest.fixture(scope="module")
def definitions(
    sandbox: SandboxCompany, tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Database]
) -> Definitions:
    return Definitions(sandbox, tmp_path_factory.mktemp("office"), new_database())


@pytest.fixture
def office(
    sandbox: SandboxCompany, definitions: Definitions, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Office]:
    monkeypatch.setattr(sensors, "WATCH_SECONDS", 0.0)
    with dg.DagsterInstance.ephemeral() as instance:
        made = Office(sandbox, definitions, database, instance)
        made.at(EVENING)
        yield made


# the whole path ---------------------------------------------------------------------------------------------------------


def test_signed_webhooks_of_all_three_become_entries_and_the_night_adds_what_was_lost(office: Office) -> None:
    names = ("stripe_us", "shopify_us", "plaid_us")
    company: Any = office.sandbox.company
    told = {name: list(hooks.told_between(company, name, MORNING, EVENING)) for name in names}
    assert all(told.values())
    with receiving(office.config, office.database) as serving, requests.Session() as session:
        for name in names:
            for one in told[name]:
                assert hooks.send(company, name, one, serving.url, session, datetime.now(UTC)) == 200
    waiting = office.waiting()
    assert 1 <= waiting.pop("plaid_us") <= len(told["plaid_us"]), "Plaid says the same each time: one a second"
    assert waiting == {name: len(told[name]) for name in ("stripe_us", "shopify_us")}
    assert office.entries("stripe_us") == set()
    asked = office.tick()
    assert {request.tags[WEBHOOK] for request in asked} == set(names)
    for request in asked:
        assert office.run(request).success
    assert office.waiting() == {}
    assert office.tick() == []
    charged = {one.txn_id for one in company.processor_transactions("stripe_us", DAY) if MORNING < one.at <= EVENING}
    assert charged
    assert charged <= office.entries("stripe_us")
    sold = {
        str(one.order_id) for one in company.orders("shopify_us", DAY) if MORNING < one.at <= EVENING and not one.fault
    }
    posted = {row[0] for row in office.rows("SELECT source_id FROM ops.fate WHERE connection = 'shopify_us'")}
    assert sold <= posted
    before = {name: office.entries(name) for name in names}
    office.sandbox.at_night_of(DAY)
    office.at(datetime(2026, 10, 7, 5, 30, tzinfo=UTC))
    for name in names:
        assert steps.run_day(office.runtime, name, DAY, "night").error is None
    whole = {one.txn_id for one in company.processor_transactions("stripe_us", DAY)}
    assert before["stripe_us"] < whole == office.entries("stripe_us"), "the night finds what no webhook told of"
    assert (
        office.rows(
            "SELECT connection, source_id FROM ledger.live_entry GROUP BY 1, 2, record, rule, entity HAVING count(*) > 1"
        )
        == []
    )
    assert office.rows("SELECT count(*) FROM ledger.entry WHERE kind = 'reversal' AND connection = 'stripe_us'") == [
        (0,)
    ]


def test_a_run_in_the_middle_of_a_day_leaves_the_same_books_as_the_night_alone(
    office: Office, sandbox: SandboxCompany, tmp_path: Path, copy_of: Any, template: str
) -> None:
    office.store(event(1, at=MORNING))
    (request,) = office.tick()
    assert office.run(request).success
    office.sandbox.at_night_of(DAY)
    office.at(datetime(2026, 10, 7, 5, 30, tzinfo=UTC))
    steps.run_day(office.runtime, "stripe_us", DAY, "night")
    (tmp_path / "alone").mkdir()
    alone = sandbox.runtime(tmp_path / "alone", copy_of(template))
    alone.clock = lambda: office.now
    steps.run_day(alone, "stripe_us", DAY, "night")
    query = (
        "SELECT e.record, e.source_id, e.kind, l.account, l.currency, l.amount_minor, l.base_minor, l.posted_on "
        "FROM ledger.entry e JOIN ledger.line l USING (entry_id) ORDER BY 1, 2, 3, 4, 5, 6"
    )
    with alone.database.connect("reader") as connection:
        assert office.rows(query) == connection.execute(query).fetchall()


# what is asked for ------------------------------------------------------------------------------------------------------


def test_just_the_streams_that_changed_are_pulled_from_shortly_before_the_change(office: Office) -> None:
    office.store(event(1), event(2, "customer.created"))
    (request,) = office.tick()
    assert request.partition_key == "2026-10-06"
    assert {k: v for k, v in request.tags.items() if k.startswith("ledger/")} == {
        WARM: "changed",
        WEBHOOK: "stripe_us",
        SINCE: (EVENING - timedelta(minutes=10)).isoformat(),
        THROUGH: "2",
    }
    assert office.run(request).success
    pulls = office.rows("SELECT stream, window_start, notes ? 'since' FROM raw.pull WHERE connection = 'stripe_us'")
    assert pulls == [("balance_transactions", EVENING - timedelta(minutes=10), True)]
    assert office.rows("SELECT connection, through, outcome FROM ops.webhook_mark") == [("stripe_us", 2, "pulled")]


def test_a_connection_with_a_run_under_way_is_not_asked_for_again(office: Office) -> None:
    office.store(event(1))
    office.instance.create_run_for_job(
        office.repository.get_job("changed"), status=dg.DagsterRunStatus.STARTED, tags={WEBHOOK: "stripe_us"}
    )
    assert office.tick() == []
    office.store(event(2, "orders/updated", "shopify_us"))
    assert [request.tags[WEBHOOK] for request in office.tick()] == ["shopify_us"]


def test_what_came_during_a_run_waits_for_the_next_one(office: Office) -> None:
    office.store(event(1))
    (request,) = office.tick()
    office.store(event(2))
    assert office.run(request).success
    assert office.waiting() == {"stripe_us": 1}
    (following,) = office.tick()
    assert following.tags[THROUGH] == "2"


def test_an_event_that_changes_no_stream_asks_for_nothing_and_waits_no_longer(office: Office) -> None:
    office.store(event(1, "customer.created"))
    assert office.tick() == []
    assert office.waiting() == {}
    assert office.rows("SELECT outcome FROM ops.webhook_mark") == [("nothing to pull",)]


def test_changes_of_two_days_are_two_runs_and_old_ones_are_the_nights(office: Office) -> None:
    office.store(event(1, at=EVENING - timedelta(days=1)), event(2), event(3, at=EVENING - timedelta(days=5)))
    asked = office.tick()
    assert [(request.partition_key, THROUGH in request.tags) for request in asked] == [
        ("2026-10-05", False),
        ("2026-10-06", True),
    ]
    for request in asked:
        assert office.run(request).success
    assert office.waiting() == {}


def test_a_day_is_the_entitys_own(office: Office) -> None:
    office.store(event(1, at=datetime(2026, 10, 6, 3, 0, tzinfo=UTC)))  # 23:00 in New York
    assert [request.partition_key for request in office.tick()] == ["2026-10-05"]


def test_failed_runs_come_again_later_and_are_left_to_the_night_in_the_end(office: Office) -> None:
    office.store(event(1))
    asked = []
    with office.sandbox.fault(route="stripe_us/v1/balance_transactions", kind="expired_token", times=99):
        for _ in range(60):
            for request in office.tick():
                asked.append(office.now)
                assert not office.run(request).success
            office.now += timedelta(seconds=10)
            if not office.waiting():
                break
    assert [(at - asked[0]).total_seconds() for at in asked] == [0, 30, 90]
    assert office.rows("SELECT outcome FROM ops.webhook_mark") == [("left to the night",)]
    office.store(event(2, at=office.now))
    (request,) = office.tick()
    assert office.run(request).success


def test_only_a_whole_day_counts_as_in(office: Office) -> None:
    """A night whose connection failed is not in just because a webhook had something posted before."""
    office.store(event(1))
    (request,) = office.tick()
    assert office.run(request).success
    with office.database.connect("reader") as connection:
        assert raw.whole_days(connection, DAY) == set()
    steps.run_day(office.runtime, "stripe_us", DAY, "night")
    with office.database.connect("reader") as connection:
        assert raw.whole_days(connection, DAY) == {"stripe_us"}


def test_partitions_reach_to_today_where_webhooks_come(office: Office) -> None:
    today = datetime.now(ZoneInfo("Europe/London")).date()  # of the entities' zones the one that is ahead
    keys = jobs.partitions(office.runtime.config).get_partition_keys()
    assert keys[-1] == today.isoformat()
    silent = office.runtime.config.model_copy(update={"connections": {}})
    assert today.isoformat() not in jobs.partitions(silent).get_partition_keys()
    assert sensors.jobs(silent) == []


def test_numbers_are_committed_in_their_order(office: Office) -> None:
    """Two receivers: the second waits for the first one's commit, so that no number below a mark shows up later."""
    import threading

    with office.database.connect() as first:
        first.execute(store.STORE, store.columns([event(1)]))
        second = threading.Thread(target=office.store, args=(event(2),))
        second.start()
        second.join(0.5)
        assert second.is_alive()
    second.join(10)
    assert office.rows("SELECT event_id FROM ops.webhook_event ORDER BY event_no") == [("evt_1",), ("evt_2",)]


def test_the_cursor_remembers_what_was_asked(office: Office) -> None:
    office.store(event(1))
    office.tick()
    assert json.loads(office.cursor or "")["stripe_us"]["through"] == 1
