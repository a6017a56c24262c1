"""Statements as assets: keys, months, lineage; what stands beside them; and a check that fails when one doesn't tie."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ledger_pipeline.orchestration import statements
from ledger_pipeline.orchestration.resources import Ledger, runtime_of
from ledger_pipeline.reports.statements import STATEMENTS
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.reports.statements.conftest import Books

CONFIG = """\
database_url: {url}
entities:
  acme: {{name: Acme Inc., base_currency: USD, time_zone: UTC}}
  other: {{name: Other Ltd, base_currency: JPY, time_zone: UTC}}
connections:
  shop: {{entity: acme, source: stripe, api_key: k}}
  idle: {{entity: acme, source: stripe, api_key: k, is_enabled: false}}
  till: {{entity: other, source: stripe, api_key: k}}
schedule: {{start: "2026-09-15"}}
"""
OCTOBER = "2026-10-01"


class Desk:
    """The assets of two entities, over books with a sale and its money."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.database, self.config = database, folder / "ledger.yaml"
        self.config.write_text(CONFIG.format(url=database.url))
        books = Books(database)
        books.post("o1", date(2026, 10, 5), ("order_clearing:x", 123456), ("sales", -123456))
        books.post("b1", date(2026, 10, 6), ("bank:a", 1000), ("order_clearing:x", -1000), record="bank_transaction")
        books.post("b2", date(2026, 11, 6), ("bank:a", 5), ("order_clearing:x", -5), record="bank_transaction")
        ledger = runtime_of(str(self.config)).config
        self.partitions = statements.partitions(ledger)
        self.assets = statements.assets(ledger, self.partitions)

    def run(self, *selection: str) -> dg.ExecuteInProcessResult:
        keys = [statements.statement_key("acme", name) for name in selection]
        return dg.materialize(
            self.assets[:1],
            partition_key=OCTOBER,
            resources={"ledger": Ledger(config_path=str(self.config))},
            selection=keys or None,
            instance=self.instance,
        )

    instance: dg.DagsterInstance


@pytest.fixture
def desk(tmp_path: Path, database: Database) -> Iterator[Desk]:
    made = Desk(tmp_path, database)
    with dg.DagsterInstance.ephemeral() as made.instance:
        yield made


def metadata_of(result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
    (event,) = [m for m in result.asset_materializations_for_node("statements_of_acme")
                if m.asset_key == statements.statement_key("acme", name)]  # fmt: skip
    return {key: value.value for key, value in event.metadata.items()}


def test_every_entity_has_every_statement_by_month_after_its_own_connections(desk: Desk) -> None:
    specs = {"/".join(spec.key.path): spec for asset in desk.assets for spec in asset.specs}
    assert set(specs) == {f"books/{entity}/{name}" for entity in ("acme", "other") for name in STATEMENTS}
    for path, spec in specs.items():
        entity = path.split("/")[1]
        assert {"/".join(dep.asset_key.path) for dep in spec.deps} == {
            f"ledger/{'shop' if entity == 'acme' else 'till'}/entries",
            f"books/{entity}/currency_gains",
        }
        assert (spec.group_name, spec.owners, spec.kinds) == ("books", ["team:finance-data"], {"postgres"})
        assert len(spec.description or "") > 20
    assert {(key.asset_key.path[1], key.name) for asset in desk.assets for key in asset.check_keys} == {
        ("acme", "ties"), ("other", "ties"),
    }  # fmt: skip


def test_months_begin_with_that_of_the_first_sync_date_and_the_one_under_way_is_offered(desk: Desk) -> None:
    now = datetime(2026, 11, 3, tzinfo=UTC)
    assert list(desk.partitions.get_partition_keys(current_time=now)) == ["2026-09-01", "2026-10-01", "2026-11-01"]


def test_a_month_is_materialised_with_tables_charts_totals_and_checks(desk: Desk) -> None:
    result = desk.run()
    assert result.success
    checks = {e.asset_key.path[-1]: e for e in result.get_asset_check_evaluations()}
    assert set(checks) == set(STATEMENTS)
    assert all(check.passed for check in checks.values())
    profit = metadata_of(result, "profit_and_loss")
    assert (profit["net_profit"], profit["net_profit_minor"]) == ("1,234.56 USD", 123456)
    assert "| 4000 | Sales | 1,234.56 | 0.00 | 1,234.56 |" in profit["statement"]
    assert "| **Net profit** | **1,234.56** |" in profit["statement"]
    assert profit["period"] == "2026-10 open"
    chart = profit["profit and loss by month"]
    assert chart.startswith("![Profit and loss by month](data:image/svg+xml;base64,")
    assert base64.b64decode(chart.partition("base64,")[2][:-1]).startswith(b"<svg")
    assert metadata_of(result, "cash_flow")["closing_cash_minor"] == 1000
    ledger = metadata_of(result, "general_ledger")
    assert ledger["dagster/row_count"] == 4
    assert "Payload" not in ledger["statement"]


def test_one_statement_can_be_asked_for_alone(desk: Desk) -> None:
    result = desk.run("general_ledger")
    assert [m.asset_key.path[-1] for m in result.asset_materializations_for_node("statements_of_acme")] == [
        "general_ledger"
    ]
    assert [e.asset_key.path[-1] for e in result.get_asset_check_evaluations()] == ["general_ledger"]


def test_a_long_ledger_is_cut_in_the_metadata_and_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "ROWS_SHOWN", 3)
    shown = metadata_of(desk.run("general_ledger"), "general_ledger")
    assert len(shown["statement"].splitlines()) == 2 + 3
    assert shown["rows shown"].startswith("the first 3;")
    assert shown["dagster/row_count"] == 4


def test_a_statement_that_does_not_tie_fails_its_check_and_says_by_how_much(desk: Desk) -> None:
    with desk.database.connect("owner") as connection:
        connection.execute("ALTER TABLE ledger.line DISABLE TRIGGER ALL")
        connection.execute("UPDATE ledger.line SET base_minor = base_minor + 7 WHERE role = 'sales'")
    (check,) = desk.run("balance_sheet").get_asset_check_evaluations()
    assert not check.passed
    assert check.description == "assets equal liabilities and equity on 2026-10-31: off by 0.07 USD"
