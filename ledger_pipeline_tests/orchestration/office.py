"""Two file connections of one entity, and Dagster's jobs over them."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from ledger_pipeline.orchestration import jobs
from ledger_pipeline.orchestration.build import build_defs
from ledger_pipeline.orchestration.resources import runtime_of
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database

DAY = "2026-10-05"
CONNECTION = """\
  {name}:
    entity: acme
    source: delimited_file
    folder: {folder}/{name}
    map:
      record: bank_transaction
      account: {{ value: {name} }}
      columns:
        date: Date
        amount: Amount
        description: Text
      currency: {{ value: GBP }}
"""


class Office:
    """Two file connections of one entity, and Dagster's jobs over them."""

    def __init__(self, folder: Path, database: Database, more: str = "") -> None:
        self.folder, self.database, self.config = folder, database, folder / "ledger.yaml"
        text = f"database_url: {database.url}\nentities:\n  acme: {{name: Acme, base_currency: GBP, time_zone: UTC}}\nconnections:\n"
        names = ("good", "bad")
        self.config.write_text(text + "".join(CONNECTION.format(name=n, folder=folder) for n in names) + more)
        for name in names:
            (folder / name).mkdir()
        self.repository = build_defs(self.config).get_repository_def()
        self.runtime: Runtime = runtime_of(str(self.config))

    def deliver(self, name: str, good: int, bad: int = 0) -> None:
        """A day's file with so many lines, some with a digit too many."""
        lines = [f"{DAY},{n}.00,line {n}" for n in range(1, good + 1)] + [f"{DAY},{n}.001,odd {n}" for n in range(bad)]
        (self.folder / name / f"{DAY}.csv").write_text("\n".join(["Date,Amount,Text", *lines]) + "\n")

    def run(
        self, job: str, instance: dg.DagsterInstance, name: str = "", layers: tuple[str, ...] = ()
    ) -> dg.ExecuteInProcessResult:
        """One run as the schedule asks for it."""
        keys = jobs.keys_of(self.runtime.config, name) if name else None
        if keys and layers:
            keys = [key for key in keys if key.path[0] in layers]
        tags = {jobs.NIGHT: DAY} | ({jobs.CONNECTION: name} if name else {})
        return self.repository.get_job(job).execute_in_process(
            instance=instance, partition_key=DAY, tags=tags, asset_selection=keys, raise_on_error=False
        )

    def entries(self, name: str) -> int:
        """How many entries a connection has."""
        with self.database.connect("reader") as connection:
            row = connection.execute("SELECT count(*) FROM ledger.entry WHERE connection = %s", (name,)).fetchone()
        assert row is not None
        return int(row[0])
