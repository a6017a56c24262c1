"""Who is told of what: in the transaction that does it, in one statement for a whole batch, and only where somebody wants it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ledger_pipeline.config import EndpointConfig
from ledger_pipeline.orchestration import closing, reconciling
from ledger_pipeline.orchestration import events as outgoing
from ledger_pipeline.orchestration.changed import WARM
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.fakes import FakeCompany, order
from ledger_pipeline_tests.orchestration.months import NOW, SEPTEMBER, booked_month
from ledger_pipeline_tests.reconcile.conftest import Desk
from ledger_pipeline_tests.reconcile.house import House

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def wanting(runtime: Runtime, **types: tuple[Any, ...]) -> None:
    """Endpoints by name, and what each wants."""
    endpoints = {
        name: EndpointConfig(url="https://example.invalid/x", secrets=(SECRET,), types=wanted)
        for name, wanted in types.items()
    }
    runtime.config = runtime.config.model_copy(update={"events": endpoints})


def told(database: Database) -> list[tuple[Any, ...]]:
    """(type, subject, data, endpoints) in order."""
    with database.connect("reader") as connection:
        return connection.execute(
            "SELECT type, subject, data, (SELECT array_agg(endpoint ORDER BY endpoint) FROM ops.outbox WHERE event_no = e.event_no) "
            "FROM ops.event e ORDER BY event_no"
        ).fetchall()


@pytest.fixture
def company(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    return FakeCompany(database, tmp_path, monkeypatch)


def test_every_posted_entry_is_told_with_ids_amounts_and_hashes(company: FakeCompany) -> None:
    wanting(company.runtime, zapier=("entry.posted",), make=("entry.posted", "gate.closed"), n8n=("period.closed",))
    company.run(order("o1", 1000), order("o2", 250))
    found = told(company.database)
    assert [(type_, subject, endpoints) for type_, subject, _, endpoints in found] == [
        ("entry.posted", f"acme/shop/sale/{id_}", ["make", "zapier"]) for id_ in ("o1", "o2")
    ]
    data = found[0][2]
    assert data["debit_minor"] == {"USD": 1000}
    assert (data["kind"], data["version"], data["posted_on"]) == ("original", 1, "2026-10-05")
    assert company.rows(
        "SELECT encode(fingerprint, 'hex') FROM ledger.entry WHERE entry_id = %s", data["entry_id"]
    ) == [(data["fingerprint"],)]
    company.run(order("o1", 1000), order("o2", 250))
    assert len(told(company.database)) == 2, "nothing new, nothing told"
    company.run(order("o1", 900, updated="2026-10-07T13:00:00+00:00"), order("o2", 250))
    assert [(data["kind"], data["debit_minor"]) for _, _, data, _ in told(company.database)[2:]] == [
        ("reversal", {"USD": 1000}),
        ("replacement", {"USD": 900}),
    ]


def test_nobody_is_told_what_nobody_wants(company: FakeCompany) -> None:
    company.run(order("o1"))
    wanting(company.runtime, n8n=("period.closed",))
    company.run(order("o2"))
    assert told(company.database) == []


def test_what_is_rolled_back_was_never_told(company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    from ledger_pipeline.store import posting

    wanting(company.runtime, zapier=("entry.posted",))
    company.prepare(order("o1"))

    def fail(*_: object) -> None:
        raise RuntimeError("after the batch")

    monkeypatch.setattr(posting, "decide", fail)
    with pytest.raises(RuntimeError, match="after the batch"):
        company.post()
    assert told(company.database) == []
    assert company.entries() == []


def test_a_batch_is_told_in_one_statement(company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    wanting(company.runtime, zapier=("entry.posted",))
    company.prepare(*(order(f"o{n}") for n in range(50)))
    statements: list[str] = []
    real = psycopg.Cursor.execute

    def count(self: Any, query: Any, *arguments: Any, **more: Any) -> Any:
        statements.append(str(query))
        return real(self, query, *arguments, **more)

    monkeypatch.setattr(psycopg.Cursor, "execute", count)
    company.post()
    assert len([one for one in statements if "ops.event" in one or "ops.outbox" in one]) == 1
    assert len(told(company.database)) == 50


def test_a_closed_gate_is_told_once(company: FakeCompany) -> None:
    wanting(company.runtime, zapier=("gate.closed", "entry.posted"))
    bad = [order(f"o{n}", 1000, net=1) for n in range(20)]
    assert company.run(*bad, order("good")).error
    assert company.run(*bad, order("good")).error
    ((type_, subject, data, _),) = told(company.database)
    assert (type_, subject) == ("gate.closed", "shop/2026-10-05")
    assert data["closed_by"]
    assert (data["quarantined"], data["documents"]) == (20, 21)


def test_a_closed_month_is_told_with_its_hash_and_without_a_name(database: Database, tmp_path: Path) -> None:
    runtime = Runtime.from_file(booked_month(tmp_path, database))
    runtime.clock = lambda: NOW
    wanting(runtime, zapier=("period.closed",))
    assert closing.close(runtime, "acme", SEPTEMBER, "Ann Example", {}).event is not None
    ((type_, subject, data, _),) = told(database)
    assert (type_, subject, data["entries"]) == ("period.closed", "acme/2024-09", 3)
    assert len(data["content_hash"]) == 64
    assert "Ann" not in json.dumps(data)


def test_a_payout_that_was_found_at_the_bank_is_told(database: Database, tmp_path: Path) -> None:
    desk = Desk(database)
    desk.payout("po_1", 500)
    desk.bank("b1", 500, 1)
    desk.payout("po_2", 1_200, 1)
    config = tmp_path / "ledger.yaml"
    config.write_text(
        f"database_url: {database.url}\nentities:\n  acme: {{name: Acme, base_currency: USD, time_zone: UTC}}\n"
        "connections:\n  stripe: {entity: acme, source: stripe, api_key: k}\n"
    )
    runtime = Runtime.from_file(config)
    wanting(runtime, zapier=("payout.reconciled",))
    reconciling.run(runtime, ["acme"], "r1")
    reconciling.run(runtime, ["acme"], "r2")
    ((type_, _, data, _),) = told(database)
    assert (type_, data["amount_minor"], data["currency"]) == ("payout.reconciled", 500, "USD")
    assert sum(member["amount_minor"] for member in data["members"]) == 0
    assert len(data["members"]) == 2


def test_an_invoice_is_told_when_its_last_part_is_paid(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(database, tmp_path, monkeypatch)
    wanting(house.runtime, zapier=("invoice.paid", "entry.posted"))
    house.invoice("s1", 100_00, number="INV-2001")
    house.line("b1", 40_00, 3, "INV-2001 PART 1")
    house.run()
    assert [type_ for type_, *_ in told(database) if type_ == "invoice.paid"] == []
    house.line("b2", 60_00, 9, "INV-2001 REST")
    house.run()
    ((_, _, data, _),) = [one for one in told(database) if one[0] == "invoice.paid"]
    assert (data["amount_minor"], {m["source_id"] for m in data["members"]}) == (100_00, {"s1", "b1", "b2"})
    moved = [data for type_, _, data, _ in told(database) if type_ == "entry.posted" and data["source_id"] == "b2"]
    assert [data["kind"] for data in moved] == ["original", "reversal", "replacement"]


def test_the_sensor_asks_for_a_delivery_when_something_is_due(company: FakeCompany) -> None:
    wanting(company.runtime, zapier=("entry.posted",))
    jobs = outgoing.jobs(company.runtime.config)
    (sensor,) = outgoing.sensors(company.runtime.config, jobs)
    assert outgoing.jobs(company.runtime.config.model_copy(update={"events": {}})) == []

    class Given(Ledger):
        @property
        def runtime(self) -> Runtime:
            return company.runtime

    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> list[Any]:
            repository = dg.Definitions(jobs=jobs, sensors=[sensor], resources={"ledger": Given()}).get_repository_def()
            context = dg.build_sensor_context(
                instance=instance, repository_def=repository, resources={"ledger": Given()}
            )
            return list(repository.get_sensor_def("events_are_due").evaluate_tick(context).run_requests or ())

        assert tick() == []
        company.run(order("o1"))
        (request,) = tick()
        assert request.tags[WARM] == "deliver_events"
        instance.create_run_for_job(jobs[0], status=dg.DagsterRunStatus.STARTED)
        assert tick() == []
