"""Open items as an asset: its key and lineage, what stands beside it, and its two checks."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ledger_pipeline.orchestration import reconciliation, reconciling
from ledger_pipeline.orchestration.resources import Ledger, runtime_of
from ledger_pipeline.reconcile import open_items
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.reconcile.conftest import TRANSIT
from ledger_pipeline_tests.reconcile.conftest import Desk as Acme

CONFIG = """\
database_url: {url}
entities:
  acme: {{name: Acme Inc., base_currency: USD, time_zone: UTC}}
  other: {{name: Other Ltd, base_currency: JPY, time_zone: UTC}}
connections:
  stripe: {{entity: acme, source: stripe, api_key: k}}
  idle: {{entity: acme, source: stripe, api_key: k, is_enabled: false}}
schedule: {{start: "2026-10-01"}}
"""


class Desk:
    """The asset over books with a payment, a payout that is late and one on its way."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.acme = Acme(database)
        self.config = folder / "ledger.yaml"
        self.config.write_text(CONFIG.format(url=database.url))
        self.acme.sale("o1", 8_449)
        self.acme.charge("t1", "o1", 8_449)
        self.acme.payout("po_1", 500)
        self.acme.bank("b1", 500, 1)
        self.acme.payout("po_2", 1_200, 1)
        self.acme.payout("po_3", 70, 8)
        self.partitions = dg.DailyPartitionsDefinition("2026-10-01", end_offset=1)
        self.assets = reconciliation.assets(runtime_of(str(self.config)).config, self.partitions)

    def run(self, day: str = "2026-10-13") -> dg.ExecuteInProcessResult:
        return dg.materialize(
            self.assets,
            partition_key=day,
            resources={"ledger": Ledger(config_path=str(self.config))},
            instance=self.instance,
        )

    instance: dg.DagsterInstance


@pytest.fixture
def desk(tmp_path: Path, database: Database) -> Iterator[Desk]:
    made = Desk(tmp_path, database)
    with dg.DagsterInstance.ephemeral() as made.instance:
        yield made


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("reconcile")
    return {key: value.value for key, value in event.metadata.items()}


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def test_it_follows_every_enabled_connection(desk: Desk) -> None:
    (spec,) = [spec for asset in desk.assets for spec in asset.specs]
    assert spec.key == dg.AssetKey(["books", "open_items"])
    assert [dep.asset_key for dep in spec.deps] == [dg.AssetKey(["ledger", "stripe", "entries"])]
    assert (spec.group_name, spec.owners, spec.kinds) == ("books", ["team:finance-data"], {"postgres"})
    assert {key.name for key in desk.assets[0].check_keys} == {"sum_equals_balance", "payouts_arrive"}


def test_a_night_is_matched_and_what_is_open_is_shown_by_cause_and_age(desk: Desk) -> None:
    result = desk.run()
    shown = metadata_of(result)
    assert (shown["dagster/row_count"], shown["matched"], shown["suggested"]) == (2, 2, 0)
    rows = shown["acme: open items"].splitlines()
    assert rows[2].startswith(f"| {TRANSIT} | 12.00 USD | 12.00 | payment missing | 2026-10-06 | 7 | payout po_2 |")
    assert "| timing |" in rows[3]
    assert shown["acme: open_base_minor"] == 1_270
    for name in ("acme: by cause", "acme: by age"):
        assert base64.b64decode(shown[name].partition("base64,")[2][:-1]).startswith(b"<svg")
    assert len(shown["other: open items"].splitlines()) == 2


def test_a_late_payout_is_a_warning_and_the_sum_ties(desk: Desk) -> None:
    checks = checks_of(desk.run())
    assert checks["sum_equals_balance"].passed
    late = checks["payouts_arrive"]
    assert (late.passed, late.severity, late.description) == (False, dg.AssetCheckSeverity.WARN, "1 to look at")
    assert "| acme | payout overdue | po_2 | 12.00 USD |" in late.metadata["alerts"].value
    assert checks_of(desk.run("2026-10-09"))["payouts_arrive"].passed


def test_a_sum_that_misses_the_balance_fails_its_check(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    of_entity = open_items.of_entity
    monkeypatch.setattr(reconciling.open_items, "of_entity", lambda *a, **k: of_entity(*a, **k)[1:])
    check = checks_of(desk.run())["sum_equals_balance"]
    assert not check.passed
    assert check.description == f"acme {TRANSIT} USD: open items (70, 70), balance (1270, 1270)"


def test_ages_fall_into_classes() -> None:
    assert [reconciling.age_class(days) for days in (0, 1, 2, 7, 8, 30, 31)] == [
        "0–1", "0–1", "2–3", "4–7", "8–30", "8–30", "over 30",
    ]  # fmt: skip


def test_the_last_posted_day(desk: Desk) -> None:
    runtime = runtime_of(str(desk.config))
    assert reconciling.last_posted(runtime, ["acme"]) == date(2026, 10, 13)
    assert reconciling.last_posted(runtime, ["other"]) is None
