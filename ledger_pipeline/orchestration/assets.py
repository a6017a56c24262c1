"""The assets of one connection: what was pulled, what it means, what was posted; and the checks that stand between."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg

from ledger_pipeline import sources
from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.connect.source import Source
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.orchestration import metadata, steps
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.store import staging
from ledger_pipeline.store.gate import GateClosed

OWNERS = ["team:finance-data"]
PULLS_AT_ONCE = 4


@dataclass(frozen=True)
class Group:
    """A connection's share of the definitions."""

    assets: list[dg.AssetsDefinition]
    checks: list[dg.AssetChecksDefinition]


def raw_key(connection: str, stream: str) -> dg.AssetKey:
    """`raw/<connection>/<the source's own word>`."""
    return dg.AssetKey(["raw", connection, stream])


def staging_key(connection: str, record: str) -> dg.AssetKey:
    """`staging/<connection>/<canonical record>`."""
    return dg.AssetKey(["staging", connection, record])


def ledger_key(connection: str) -> dg.AssetKey:
    """`ledger/<connection>/entries`."""
    return dg.AssetKey(["ledger", connection, "entries"])


def of_connection(config: LedgerConfig, name: str, partitions: dg.PartitionsDefinition) -> Group:
    """Raw, staging, checks and ledger of a connection."""
    source = sources.load(config.connections[name].source)
    entity = config.connections[name].entity
    common: dict[str, Any] = {"group_name": name, "owners": OWNERS, "partitions_def": partitions}
    tags = {"entity": entity, "source": source.name}
    return Group(
        [
            _raw(name, source, common, tags),
            _staging(name, source, common, tags),
            _ledger(name, source, common, tags, config.entities[entity].name),
        ],
        [_checks(name, source)],
    )


def _day(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> date:
    return date.fromisoformat(context.partition_key)


def _raw(name: str, source: Source, common: dict[str, Any], tags: dict[str, str]) -> dg.AssetsDefinition:
    specs = [
        dg.AssetSpec(
            raw_key(name, stream.name),
            description=f"{source.title}: {stream.doc or stream.name} Payloads exactly as they were sent.",
            kinds={source.name, "postgres"},
            tags={**tags, "layer": "raw"},
            metadata={"dagster/table_name": "raw.record", "record id": stream.record_id},
            **common,
        )
        for stream in source.streams
    ]

    @dg.multi_asset(specs=specs, name=f"pull_{name}", op_tags={"ledger/connection": name})
    def pull(context: dg.AssetExecutionContext, ledger: Ledger) -> Iterator[dg.MaterializeResult[Any]]:
        runtime, day = ledger.runtime, _day(context)
        link = runtime.link(name)
        with ThreadPoolExecutor(PULLS_AT_ONCE, thread_name_prefix=f"pull-{name}") as pool:
            futures = [
                pool.submit(steps.pull, runtime, link, stream, day, context.run.run_id) for stream in source.streams
            ]
            for stream, future in zip(source.streams, futures, strict=True):
                done = future.result()
                yield dg.MaterializeResult(
                    asset_key=raw_key(name, stream.name),
                    metadata={
                        "dagster/row_count": done.records,
                        "new or changed": done.landed,
                        "repeated": done.repeated,
                        "the source's own count": done.expected if done.expected is not None else "not offered",
                        "pages": done.pages,
                        "requests": done.calls,
                        "retries": done.retries,
                        "window (UTC)": f"{done.window_start} – {done.window_end}",
                        **{f"note: {k}": str(v) for k, v in done.notes.items()},
                    },
                )

    return pull


def _staging(name: str, source: Source, common: dict[str, Any], tags: dict[str, str]) -> dg.AssetsDefinition:
    specs = [
        dg.AssetSpec(
            staging_key(name, record),
            deps=[raw_key(name, m) for m in sorted({m.stream for m in source.mappings if m.record == record})],
            description=RECORDS[record].doc + metadata.parts_note(RECORDS[record]),
            kinds={source.name, "postgres", "pandas"},
            tags={**tags, "layer": "staging"},
            metadata={
                "dagster/table_name": f"staging.{record}",
                "dagster/column_schema": metadata.record_schema(RECORDS[record]),
                "mapping": metadata.table(
                    metadata.mapping_rows(source, record), ("target", "stream", "source", "converter", "meaning")
                ),
                "mapping version": source.mapping_version,
            },
            **common,
        )
        for record in source.records
    ]

    @dg.multi_asset(specs=specs, name=f"stage_{name}", op_tags={"ledger/connection": name})
    def stage(context: dg.AssetExecutionContext, ledger: Ledger) -> Iterator[dg.MaterializeResult[Any]]:
        runtime, day = ledger.runtime, _day(context)
        link = runtime.link(name)
        staged = steps.stage(runtime, link, day, context.run.run_id)
        with runtime.database.connect("reader") as connection:
            tables, _, _ = staging.load(connection, name, day, source.records)
        for refusal in staged.refusals:
            context.log.warning(
                "%s %s %s: %s - at %s", name, refusal.stream, refusal.source_id, refusal.reason, refusal.path
            )
        for record in source.records:
            refused = sum(1 for r in staged.refusals if r.record == record)
            yield dg.MaterializeResult(
                asset_key=staging_key(name, record),
                metadata={
                    "dagster/row_count": staged.rows[record],
                    "quarantined payloads": refused,
                    "dagster/column_lineage": metadata.lineage(name, source, record),
                    **metadata.money_of(RECORDS[record], tables[record]),
                },
            )

    return stage


def _checks(name: str, source: Source) -> dg.AssetChecksDefinition:
    gate_of = source.records[0]
    specs = [
        dg.AssetCheckSpec(
            "expectations",
            asset=staging_key(name, record),
            description=f"Great Expectations over {record}. A failing row's payload is quarantined; the rest goes on.",
            blocking=True,
        )
        for record in source.records
    ] + [
        dg.AssetCheckSpec(
            "gate",
            asset=staging_key(name, gate_of),
            description="The verdict that this connection's day may be posted. Posting reads it again.",
            blocking=True,
        )
    ]

    @dg.multi_asset_check(specs=specs, name=f"check_{name}", op_tags={"ledger/connection": name})
    def check(context: dg.AssetCheckExecutionContext, ledger: Ledger) -> Iterator[dg.AssetCheckResult]:
        runtime, day = ledger.runtime, _day(context)
        checked = steps.check(runtime, runtime.link(name), day, context.run.run_id)
        for record in source.records:
            outcomes = [o for o in checked.outcomes if o.record == record]
            failed = [o for o in outcomes if not o.is_met]
            yield dg.AssetCheckResult(
                asset_key=staging_key(name, record),
                check_name="expectations",
                passed=not failed,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(o.name for o in failed) or None,
                metadata={
                    "expectations": metadata.table(
                        [
                            {
                                "expectation": o.name,
                                "rows": o.rows,
                                "failing": len(o.failing),
                                "met": "yes" if o.is_met else "no",
                            }
                            for o in outcomes
                        ],
                        ("expectation", "met", "rows", "failing"),
                    ),
                    "rows": outcomes[0].rows if outcomes else 0,
                },
            )
        yield dg.AssetCheckResult(
            asset_key=staging_key(name, gate_of),
            check_name="gate",
            passed=checked.is_open,
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(checked.closed_by)
            or f"open: {checked.quarantined} of {checked.documents} records quarantined",
            metadata={"records": checked.documents, "quarantined": checked.quarantined},
        )

    return check


def _ledger(
    name: str, source: Source, common: dict[str, Any], tags: dict[str, str], entity_name: str
) -> dg.AssetsDefinition:
    rules = [{"record": record, **row} for record in source.records for row in metadata.rule_rows(record)]
    spec = dg.AssetSpec(
        ledger_key(name),
        deps=[staging_key(name, record) for record in source.records],
        description=f"Balanced journal entries of {entity_name} from {source.title}, posted from checked records and sealed.",
        kinds={source.name, "postgres"},
        tags={**tags, "layer": "ledger"},
        metadata={
            "dagster/table_name": "ledger.entry",
            "rules": metadata.table(rules, ("record", "side", "role", "amount", "when")),
        },
        **common,
    )

    @dg.multi_asset(specs=[spec], name=f"post_{name}", op_tags={"ledger/connection": name})
    def post(context: dg.AssetExecutionContext, ledger: Ledger) -> Iterator[dg.MaterializeResult[Any]]:
        runtime, day = ledger.runtime, _day(context)
        try:
            done = steps.post(runtime, runtime.link(name), day, context.run.run_id)
        except GateClosed as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        yield dg.MaterializeResult(
            asset_key=ledger_key(name),
            metadata={
                "dagster/row_count": done.posted.originals + done.posted.corrected + done.posted.reversed,
                "new entries": done.posted.originals,
                "corrected": done.posted.corrected,
                "reversals": done.posted.reversed,
                "already posted": done.posted.unchanged,
                "lines": done.posted.lines,
                "batch": done.posted.batch_id or 0,
                "fates": metadata.table(
                    [{"fate": f, "records": n} for f, n in sorted(done.fates.items())], ("fate", "records")
                ),
            },
        )

    return post
