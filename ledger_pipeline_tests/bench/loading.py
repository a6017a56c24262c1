"""Row 2: the same orders from HTTP pages to the end of staging, beside dlt's extract, normalise and load into the same server.

`python -m ledger_pipeline_tests.bench.loading ours|dlt WARM_URL URL SHOPS_URL COUNT` loads them once, after a page that warms the process
up in a database of its own, and prints JSON. dlt keeps its defaults
(its workers, INSERT as the file format, child tables for whatever is nested, append) and works in a temporary folder, without telemetry.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from ledger_pipeline.orchestration import steps
from ledger_pipeline.sources.shopify import queries
from ledger_pipeline.sources.shopify.reader import PATH
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.bench import orders, pages
from ledger_pipeline_tests.bench.company import CONNECTION, DAY, runtime_on
from ledger_pipeline_tests.bench.machine import PROCESS_SECONDS, ROOT, Machine, name_of
from ledger_pipeline_tests.bench.table import Row, by_step, judged, seconds, unmeasured

GOAL, TIMES = ">= 20 x faster", 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """Seconds by step and in all, the orders found afterwards, and the rows of all tables."""

    steps: dict[str, float]
    seconds: float
    orders: int
    rows: int


def rows(machine: Machine, count: int, runs: int, dlt_runs: int) -> list[Row]:
    """Both in turn, each time in a fresh process and database; each must have loaded all orders. dlt, which takes minutes, may run less often."""
    measure = f"{count:,} orders from HTTP pages to the end of staging, against dlt into the same PostgreSQL"
    if not find_spec("dlt"):
        return [unmeasured("2", measure, GOAL, "dlt isn't installed; `make bench` installs it")]
    mine: list[Loaded] = []
    theirs: list[Loaded] = []
    with pages.serving(count) as shops:
        for number in range(runs):
            mine.append(_load(machine, "ours", shops, count))
            if number < dlt_runs:
                theirs.append(_load(machine, "dlt", shops, count))
    ours, dlt = (statistics.median(one.seconds for one in found) for found in (mine, theirs))
    told = f"{seconds(ours)} by the Shopify connector's own reader ({by_step([one.steps for one in mine])}) against {seconds(dlt)} by dlt ({by_step([one.steps for one in theirs])})"
    told += f", which ran {'once' if len(theirs) == 1 else f'{len(theirs)} times'}; the same GraphQL pages of {orders.PAGE} from loopback"
    return [
        judged("2", measure, f"{dlt / ours:.1f} x faster", GOAL, dlt >= TIMES * ours,
               f"{told}; {mine[0].rows:,} and {theirs[0].rows:,} rows, ours without raw"),
    ]  # fmt: skip


def _load(machine: Machine, how: str, shops: str, count: int) -> Loaded:
    warm, database = (machine.database("template_bench" if how == "ours" else "template0") for _ in range(2))
    with tempfile.TemporaryDirectory(prefix="lp-loading-") as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            **dict.fromkeys(("DLT_DATA_DIR", "DLT_PROJECT_DIR", "HOME"), folder),
        }
        arguments = [how, warm.url, database.url, shops, str(count)]
        command = [sys.executable, "-m", "ledger_pipeline_tests.bench.loading", *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PROCESS_SECONDS, check=False
        )
    if done.returncode:
        raise RuntimeError(f"loading by {how} failed:\n{done.stderr[-3000:]}")
    loaded = Loaded(**json.loads(done.stdout.splitlines()[-1]))
    if loaded.orders != count:
        raise RuntimeError(f"{how} loaded {loaded.orders:,} of {count:,} orders")
    machine.drop(warm)
    machine.drop(database)
    return loaded


# in the child ---------------------------------------------------------------------------------------------------------


def _ours(database: Database, folder: Path, shop: str) -> dict[str, float]:
    runtime = runtime_on(database, folder, shop)
    link = runtime.link(CONNECTION)
    link = replace(
        link,
        source=replace(link.source, streams=(link.source.stream("orders"),)),
        options=link.options.model_copy(update={"page_size": orders.PAGE, "bulk_from": sys.maxsize}),
    )
    _ = runtime.database
    began = time.perf_counter()
    steps.pull(runtime, link, link.source.streams[0], DAY, "bench")
    landed = time.perf_counter()
    steps.stage(runtime, link, DAY, "bench")
    return {"land": landed - began, "stage": time.perf_counter() - landed}


def _dlt(database: Database, folder: Path, shop: str) -> dict[str, float]:
    import dlt
    from dlt.sources.helpers.rest_client import RESTClient
    from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

    client = RESTClient(
        base_url=shop,
        paginator=JSONResponseCursorPaginator("data.orders.pageInfo.endCursor", cursor_body_path="variables.after"),
        data_selector="data.orders.nodes",
    )

    @dlt.resource(name="orders")
    def listed() -> Any:
        asked = {"query": queries.ORDERS, "variables": {"first": orders.PAGE}}
        yield from client.paginate(PATH, method="POST", json=asked)

    pipeline = dlt.pipeline(
        name_of(database),
        pipelines_dir=str(folder),
        destination=dlt.destinations.postgres(_credentials(database)),
        dataset_name="shop",
    )
    taken = {}
    for name, step in (
        ("extract", lambda: pipeline.extract(listed())),
        ("normalise", pipeline.normalize),
        ("load", lambda: pipeline.load().raise_on_failed_jobs()),  # type: ignore[union-attr]
    ):
        began = time.perf_counter()
        step()
        taken[name] = time.perf_counter() - began
    return taken


def _credentials(database: Database) -> str:
    """The URL as dlt takes it: with a host and a password, which a server on a socket doesn't look at; `host` in the query comes first."""
    url = urlsplit(database.url)
    name, host = url.username or "postgres", url.hostname or "localhost"
    return urlunsplit(url._replace(netloc=f"{name}:{url.password or 'none'}@{host}:{url.port or 5432}"))


def _counted(database: Database, schema: str, table: str) -> dict[str, int]:
    """Rows of the table with one an order, and of all tables of the schema."""
    with psycopg.connect(database.url, connect_timeout=10) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
        counts = {}
        for (name,) in names:
            counting = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))
            counts[name] = connection.execute(counting).fetchone()[0]  # type: ignore[index]
    return {"orders": counts[table], "rows": sum(counts.values())}


def main() -> None:
    how, warm, database, shops, count = sys.argv[1], Database(sys.argv[2]), Database(sys.argv[3]), *sys.argv[4:]
    load, schema, table = (_ours, "staging", "sale") if how == "ours" else (_dlt, "shop", "orders")
    load(warm, Path.cwd(), f"{shops}/{orders.PAGE}")
    gc.collect()
    taken = load(database, Path.cwd(), f"{shops}/{count}")
    print(json.dumps({"steps": taken, "seconds": sum(taken.values()), **_counted(database, schema, table)}))


if __name__ == "__main__":
    main()
