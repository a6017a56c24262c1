"""An entity's statements as monthly assets: tables and charts beside each, and a check that it ties."""

from collections.abc import Generator, Iterator
from datetime import date
from itertools import islice
from typing import Any

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.model.months import last_of_month
from ledger_pipeline.orchestration import metadata
from ledger_pipeline.orchestration.assets import OWNERS, gains_key, ledger_key
from ledger_pipeline.orchestration.attempts import retried
from ledger_pipeline.orchestration.closing_checks import feeding
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reports import charts
from ledger_pipeline.reports.statements import STATEMENTS, Scope, Statement, make
from ledger_pipeline.reports.statements.statement import Cell, Link, Row

ROWS_SHOWN = 300
"""Of a statement, in an asset's metadata; the files have all."""
TIES = "ties"


def statement_key(entity: str, name: str) -> dg.AssetKey:
    """`books/<entity>/<statement>`."""
    return dg.AssetKey(["books", entity, name])


def partitions(config: LedgerConfig) -> dg.MonthlyPartitionsDefinition:
    """One partition per month, from that of the first sync date to the one that has begun."""
    start = date.fromisoformat(config.schedule.start).replace(day=1)
    return dg.MonthlyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)


def assets(config: LedgerConfig, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """One multi-asset per entity; its statements come from one snapshot of the books, any of them can be asked for alone."""
    return [_of_entity(config, entity, partitions) for entity in config.entities]


def _of_entity(config: LedgerConfig, entity: str, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    deps = [ledger_key(name) for name in feeding(config, entity) if config.connections[name].is_enabled]
    deps.append(gains_key(entity))
    keys = {name: statement_key(entity, name) for name in STATEMENTS}
    specs = [
        dg.AssetSpec(
            keys[name],
            deps=deps,
            description=f"{config.entities[entity].name}, the month: {doc}",
            group_name="books",
            owners=OWNERS,
            partitions_def=partitions,
            kinds={"postgres"},
            tags={"entity": entity},
        )
        for name, (doc, _) in STATEMENTS.items()
    ]
    checks = [
        dg.AssetCheckSpec(TIES, asset=key, description="Every sum of the statement comes out.") for key in keys.values()
    ]

    @dg.multi_asset(specs=specs, check_specs=checks, name=f"statements_of_{entity}", can_subset=True)
    @retried
    def statements(
        context: dg.AssetExecutionContext, ledger: Ledger
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        runtime = ledger.runtime
        wanted = {
            name
            for name, key in keys.items()
            if key in context.selected_asset_keys or dg.AssetCheckKey(key, TIES) in context.selected_asset_check_keys
        }
        scope = _scope(runtime, entity, date.fromisoformat(context.partition_key))
        with runtime.database.connect("reader") as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for statement in make(connection, scope, wanted):
                key = keys[statement.name]
                if key in context.selected_asset_keys:
                    yield dg.MaterializeResult(asset_key=key, metadata=_metadata(statement))
                if dg.AssetCheckKey(key, TIES) in context.selected_asset_check_keys:
                    yield _check(statement, key)

    return statements


def _scope(runtime: Runtime, entity: str, month: date) -> Scope:
    """The whole month, also while it is under way."""
    config = runtime.config.entities[entity]
    days = month, last_of_month(month)
    return Scope(entity, config.name, config.base_currency, *days, runtime.clock(), config.fiscal_year_start)


def _metadata(statement: Statement) -> dict[str, Any]:
    """The first rows as a table, the charts as images, totals for people and in minor units for Dagster's plots."""
    main = [at for at, column in enumerate(statement.columns) if not column.is_detail]
    rows = list(islice(statement.rows, ROWS_SHOWN + 1))
    if isinstance(statement.rows, Generator):
        statement.rows.close()
    is_cut = len(rows) > ROWS_SHOWN
    lines = sum(1 for row in rows if row.style == "line") if statement.line_count is None else statement.line_count
    made: dict[str, Any] = {
        "dagster/row_count": lines,
        "period": ", ".join(f"{period.month:%Y-%m} {period.state}" for period in statement.periods),
        "statement": _table(statement, rows[:ROWS_SHOWN], main),
    }
    if is_cut:
        made["rows shown"] = f"the first {ROWS_SHOWN}; `ledger-pipeline statements` writes all"
    for chart in statement.charts:
        made[chart.title.lower()] = dg.MetadataValue.md(f"![{chart.title}]({charts.data_uri(chart.svg)})")
    for total in statement.totals:
        made[total.name] = f"{total.amount:,f} {total.currency}"
        made[f"{total.name}_minor"] = total.amount_minor
    return made


def _table(statement: Statement, rows: list[Row], main: list[int]) -> dg.MarkdownMetadataValue:
    titles = tuple(statement.columns[at].title for at in main)
    return metadata.table(
        [{titles[n]: _words(row, row.cells[at]) for n, at in enumerate(main)} for row in rows], titles
    )


def _words(row: Row, cell: Cell) -> str:
    """A cell for people; headings and totals in bold."""
    if cell is None or cell == "":
        return ""
    value = cell.value if isinstance(cell, Link) else cell
    text = str(value) if isinstance(value, str | date | int) else f"{value:,f}"
    return text if row.style == "line" else f"**{text}**"


def _check(statement: Statement, key: dg.AssetKey) -> dg.AssetCheckResult:
    rows = [
        {"check": c.name, "holds": "yes" if c.holds else "NO", "difference": c.difference} for c in statement.checks
    ]
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=TIES,
        passed=statement.ties,
        description="; ".join(statement.failures) or None,
        metadata={"checks": metadata.table(rows, ("check", "holds", "difference"))},
    )
