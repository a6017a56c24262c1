"""The measures as Dagster assets: one run takes all three, keeps them, and shows their history."""

from __future__ import annotations

import base64
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from ledger_pipeline.orchestration import jobs, measures
from ledger_pipeline.orchestration.assets import ledger_key
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.orchestration.months import NIGHTS, booked_month


def materialise(path: Path, first: date, last: date, **more: Any) -> dg.ExecuteInProcessResult:
    config = Runtime.from_file(path).config
    made = measures.assets(config, jobs.partitions(config))
    return dg.materialize(
        made,
        resources={"ledger": Ledger(config_path=str(path))},
        tags={"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)},
        **more,
    )


def test_a_connections_measures_are_taken_kept_and_drawn(tmp_path: Path, database: Database) -> None:
    path = booked_month(tmp_path, database)
    result = materialise(path, NIGHTS[0], NIGHTS[-1])
    assert result.success
    done = {m.asset_key.to_user_string(): m.metadata for m in result.asset_materializations_for_node("measure_bank")}
    assert set(done) == {f"measures/bank/{name}" for name in ("completeness", "timeliness", "clearing")}
    complete = done["measures/bank/completeness"]
    assert (complete["share"].value, complete["numerator"].value, complete["denominator"].value) == (1.0, 1.0, 1.0)
    assert str(complete["last 30 days"].value).count("100.00%") == 3
    image = str(complete["chart"].value).partition("base64,")[2].rstrip(")")
    assert "bank: completeness (%)" in base64.b64decode(image).decode()
    assert "share" not in done["measures/bank/clearing"]
    with database.connect("reader") as connection:
        rows = connection.execute("SELECT sync_date, count(*) FROM ops.measure GROUP BY 1 ORDER BY 1").fetchall()
    assert rows == [(day, 3) for day in NIGHTS]


def test_the_assets_belong_to_their_connection_and_follow_its_entries(tmp_path: Path, database: Database) -> None:
    config = Runtime.from_file(booked_month(tmp_path, database)).config
    (made,) = measures.assets(config, jobs.partitions(config))
    assert set(made.keys) == set(measures.keys_of("bank"))
    for spec in made.specs:
        assert spec.group_name == "bank"
        assert [dep.asset_key for dep in spec.deps] == [ledger_key("bank")]
    only = materialise(
        tmp_path / "ledger.yaml", NIGHTS[0], NIGHTS[0], selection=[measures.measure_key("bank", "timeliness")]
    )
    assert [m.asset_key.path[-1] for m in only.asset_materializations_for_node("measure_bank")] == ["timeliness"]
