"""Bank statements as an asset: its key and lineage, what stands beside it, and its check."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from ledger_pipeline.orchestration import bank_statements
from ledger_pipeline.orchestration.resources import Ledger, runtime_of
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.commands.test_statement_balances_command import CONFIG
from ledger_pipeline_tests.reconcile.conftest import Desk
from ledger_pipeline_tests.reconcile.test_statements import state


@pytest.fixture
def config(tmp_path: Path, database: Database) -> str:
    """A company whose bank agrees on two days and differs on the third."""
    path = tmp_path / "ledger.yaml"
    path.write_text(CONFIG.format(url=database.url))
    acme = Desk(database)
    state(acme, 10_000, 0)
    acme.bank("b1", 500, 1)
    state(acme, 10_500, 1)
    acme.bank("b2", 70, 2)
    state(acme, 10_500, 2)
    return str(path)


def assets(config: str) -> list[dg.AssetsDefinition]:
    partitions = dg.DailyPartitionsDefinition("2026-10-01", end_offset=1)
    return bank_statements.assets(runtime_of(config).config, partitions)


def run(config: str, day: str) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            assets(config), partition_key=day, resources={"ledger": Ledger(config_path=config)}, instance=instance
        )


def test_it_follows_every_enabled_connection(config: str) -> None:
    (made,) = assets(config)
    (spec,) = made.specs
    assert spec.key == dg.AssetKey(["books", "bank_statements"])
    assert [dep.asset_key for dep in spec.deps] == [dg.AssetKey(["ledger", "bank", "entries"])]
    assert (spec.group_name, spec.owners, spec.kinds) == ("books", ["team:finance-data"], {"postgres"})
    assert {key.name for key in made.check_keys} == {"every_stated_balance_agrees"}


def test_the_check_passes_until_the_day_that_differs(config: str) -> None:
    result = run(config, "2026-10-06")
    (event,) = result.asset_materializations_for_node("compare_statements")
    shown = {key: value.value for key, value in event.metadata.items()}
    assert shown["dagster/row_count"] == 2
    assert shown["accounts"].splitlines()[2] == (
        "| acme | bank | a1 | 2 | 2026-10-05 | 2026-10-06 | 105.00 USD | 5.00 USD | 100.00 USD | none |"
    )
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.description) == (True, None)


def test_the_check_names_the_day_and_the_lines_around_it(config: str) -> None:
    (check,) = run(config, "2026-10-07").get_asset_check_evaluations()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.description == (
        "bank a1: differs from 2026-10-07 by -0.70 USD, agreed on 2026-10-06; explained by what is around it"
    )
    assert "| bank | a1 | unmatched | 2026-10-07 | b2 | -0.70 USD |" in check.metadata["lines around"].value  # type: ignore[operator]
