"""The three measures of a connection as assets: taken after its night is posted, kept, and drawn over the last 30 days."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import metadata
from ledger_pipeline.orchestration.assets import OWNERS, ledger_key
from ledger_pipeline.orchestration.attempts import retried
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reports import charts, measures
from ledger_pipeline.reports.measures import MEASURES, Measure, Subject

HISTORY_DAYS = 30


def measure_key(connection: str, measure: str) -> dg.AssetKey:
    """`measures/<connection>/<completeness, timeliness or clearing>`."""
    return dg.AssetKey(["measures", connection, measure])


def keys_of(connection: str) -> list[dg.AssetKey]:
    """All three."""
    return [measure_key(connection, measure) for measure in MEASURES]


def assets(config: LedgerConfig, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """One multi-asset per enabled connection, in its group, after its entries."""
    return [_of(config, name, partitions) for name, of in config.connections.items() if of.is_enabled]


def subject_of(config: LedgerConfig, name: str) -> Subject:
    """A connection as the measures see it."""
    entity = config.entity_of(name)
    return Subject(name, config.connections[name].entity, entity.base_currency, entity.time_zone)


def take(runtime: Runtime, name: str, days: Sequence[date]) -> list[Measure]:
    """Measure sync dates of a connection and keep the result."""
    subject = subject_of(runtime.config, name)
    with runtime.database.connect() as connection:
        found = [one for day in days for one in measures.of_day(connection, subject, day)]
        measures.keep(connection, found, runtime.clock())
    return found


def _of(config: LedgerConfig, name: str, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    source = config.connections[name].source
    specs = [
        dg.AssetSpec(
            measure_key(name, measure),
            deps=[ledger_key(name)],
            description=doc,
            group_name=name,
            owners=OWNERS,
            partitions_def=partitions,
            kinds={source, "postgres"},
            tags={"entity": config.connections[name].entity, "source": source, "layer": "measures"},
            metadata={"dagster/table_name": "ops.measure"},
        )
        for measure, doc in MEASURES.items()
    ]

    @dg.multi_asset(
        specs=specs,
        name=f"measure_{name}",
        op_tags={"ledger/connection": name},
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    @retried
    def measure(context: dg.AssetExecutionContext, ledger: Ledger) -> Iterator[dg.MaterializeResult[Any]]:
        runtime = ledger.runtime
        days = sorted(date.fromisoformat(key) for key in context.partition_keys)
        taken = take(runtime, name, days)
        with runtime.database.connect("reader") as connection:
            past = measures.history(connection, [name], days[-1] - timedelta(days=HISTORY_DAYS - 1), days[-1])
        for one in taken:
            key = measure_key(name, one.measure)
            if one.sync_date == days[-1] and key in context.selected_asset_keys:
                own = [other for other in past if other.measure == one.measure]
                yield dg.MaterializeResult(asset_key=key, metadata=_metadata(one, own))

    return measure


def _metadata(one: Measure, past: Sequence[Measure]) -> Mapping[str, Any]:
    """Dagster plots `share` over the partitions; a day with nothing to measure has none."""
    share = {} if one.share is None else {"share": dg.MetadataValue.float(float(one.share))}
    rows = [
        {"sync date": p.sync_date, "share": _percent(p), "of": f"{p.numerator:,f} / {p.denominator:,f}"} for p in past
    ]
    chart = charts.line_chart(
        [f"{p.sync_date:%m-%d}" for p in past],
        {one.measure: [None if p.share is None else p.share * 100 for p in past]},
        title=f"{one.connection}: {one.measure}",
        unit="%",
    )
    return {
        **share,
        "numerator": dg.MetadataValue.float(float(one.numerator)),
        "denominator": dg.MetadataValue.float(float(one.denominator)),
        "details": dg.MetadataValue.json(dict(one.details)),
        "last 30 days": metadata.table(rows, ("sync date", "share", "of")),
        "chart": dg.MetadataValue.md(f"![{one.measure}]({charts.data_uri(chart)})"),
    }


def _percent(one: Measure) -> str:
    return "–" if one.share is None else f"{one.share:.2%}"
