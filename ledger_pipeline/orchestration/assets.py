"""The assets of one connection: what was pulled, what it means, what was posted; and the checks that stand between."""

from collections import Counter
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
from ledger_pipeline.orchestration import changed, metadata, policies, resuming, steps
from ledger_pipeline.orchestration.attempts import retried
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.reconcile import flags
from ledger_pipeline.store import staging
from ledger_pipeline.store.gate import GateClosed
from ledger_pipeline.store.raw import Pull

OWNERS = ["team:finance-data"]
PULLS_AT_ONCE = 4
LIKELY = "likely_duplicates"


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


def gains_key(entity: str) -> dg.AssetKey:
    """`books/<entity>/currency_gains`: what the month's statements and closing wait for."""
    return dg.AssetKey(["books", entity, "currency_gains"])


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
            _ledger(name, source, common, tags, config.entities[entity].name, policies.of_ledger(config, name)),
        ],
        [_checks(name, source)],
    )


def _days(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[date]:
    """The sync dates of the run, in order: one in a night, many in a backfill."""
    return sorted(date.fromisoformat(key) for key in context.partition_keys)


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

    @dg.multi_asset(
        specs=specs,
        name=f"pull_{name}",
        op_tags={"ledger/connection": name},
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    @retried
    def pull(context: dg.AssetExecutionContext, ledger: Ledger) -> Iterator[dg.MaterializeResult[Any]]:
        runtime = ledger.runtime
        wanted = [stream for stream in source.streams if raw_key(name, stream.name) in context.selected_asset_keys]
        pulls: dict[str, list[Pull]] = {stream.name: [] for stream in wanted}
        days, since = _days(context), changed.since(context.run.tags)
        done = resuming.pulled_before(context, runtime, runtime.link(name), days)
        with ThreadPoolExecutor(PULLS_AT_ONCE, thread_name_prefix=f"pull-{name}") as pool:
            for day in days:
                link = runtime.link(name)  # anew: a backfill may outlive a key
                futures = {
                    stream.name: pool.submit(steps.pull, runtime, link, stream, day, context.run.run_id, since=since)
                    for stream in wanted
                    if (stream.name, day) not in done
                }
                for stream in wanted:
                    future = futures.get(stream.name)
                    pulls[stream.name].append(future.result() if future else done[stream.name, day])
        for stream in wanted:
            yield dg.MaterializeResult(
                asset_key=raw_key(name, stream.name), metadata=metadata.of_pulls(pulls[stream.name])
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

    @dg.multi_asset(
        specs=specs,
        name=f"stage_{name}",
        op_tags={"ledger/connection": name},
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    @retried
    def stage(context: dg.AssetExecutionContext, ledger: Ledger) -> Iterator[dg.MaterializeResult[Any]]:
        runtime = ledger.runtime
        link = runtime.link(name)
        rows: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        sums = metadata.Sums(source.records)
        for day in _days(context):  # a day is staged as a whole, whichever of its records were asked for
            staged = steps.stage(runtime, link, day, context.run.run_id)
            for refusal in staged.refusals:
                context.log.warning(
                    "%s %s %s: %s - at %s", name, refusal.stream, refusal.source_id, refusal.reason, refusal.path
                )
            rows.update(staged.rows)
            refused.update(refusal.record for refusal in staged.refusals)
            with runtime.database.connect("reader") as connection:
                opened = staging.open_day(connection, name, day, source.records)
                for group in opened.groups(connection):
                    sums.add(group.tables)
        for record in source.records:
            if staging_key(name, record) in context.selected_asset_keys:
                yield dg.MaterializeResult(
                    asset_key=staging_key(name, record),
                    metadata={
                        "dagster/row_count": rows[record],
                        "quarantined payloads": refused[record],
                        "dagster/column_lineage": metadata.lineage(name, source, record),
                        **sums.of(record),
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
    flagged = [record for record in flags.FLAGGED if record in source.records]
    specs += [
        dg.AssetCheckSpec(
            LIKELY,
            asset=staging_key(name, record),
            description="Nothing looks like a payment made or told twice. What does is posted all the same: "
            "`ledger-pipeline duplicates` asks a person.",
        )
        for record in flagged
    ]

    @dg.multi_asset_check(specs=specs, name=f"check_{name}", op_tags={"ledger/connection": name}, can_subset=True)
    @retried
    def check(context: dg.AssetCheckExecutionContext, ledger: Ledger) -> Iterator[dg.AssetCheckResult]:
        runtime, days = ledger.runtime, _days(context)
        checked = {day: steps.check(runtime, runtime.link(name), day, context.run.run_id) for day in days}
        for record in source.records:
            if dg.AssetCheckKey(staging_key(name, record), "expectations") not in context.selected_asset_check_keys:
                continue
            outcomes = [o for one in checked.values() for o in one.outcomes if o.record == record]
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
        if dg.AssetCheckKey(staging_key(name, gate_of), "gate") in context.selected_asset_check_keys:
            yield _verdict(staging_key(name, gate_of), checked)
        for record in flagged:
            if dg.AssetCheckKey(staging_key(name, record), LIKELY) in context.selected_asset_check_keys:
                found = [f for one in checked.values() for f in one.likely_duplicates if f.record == record]
                yield _likely_duplicates(staging_key(name, record), found)

    return check


def _likely_duplicates(key: dg.AssetKey, found: list[flags.Flag]) -> dg.AssetCheckResult:
    """A warning with the flags that wait for a person; it holds nothing up."""
    rows = [
        {"flag": f.flag_id, "why": f.reason, "later": f.source_id, "earlier": f"{f.twin_connection} {f.twin_source_id}"}
        for f in found
    ]
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=LIKELY,
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(found)} to decide: `ledger-pipeline duplicates`" if found else None,
        metadata={"flags": metadata.table(rows[:100], ("flag", "why", "later", "earlier")), "waiting": len(found)},
    )


def _verdict(key: dg.AssetKey, checked: dict[date, steps.Checked]) -> dg.AssetCheckResult:
    """The gate of the run's days. In a backfill a closed day doesn't stop the open ones: posting reads every gate again."""
    closed = [f"{day}: {'; '.join(one.closed_by)}" for day, one in checked.items() if not one.is_open]
    quarantined, documents = sum(c.quarantined for c in checked.values()), sum(c.documents for c in checked.values())
    return dg.AssetCheckResult(
        asset_key=key,
        check_name="gate",
        passed=not closed,
        severity=dg.AssetCheckSeverity.ERROR if len(closed) == len(checked) else dg.AssetCheckSeverity.WARN,
        description="; ".join(closed) or f"open: {quarantined} of {documents} records quarantined",
        metadata={"records": documents, "quarantined": quarantined},
    )


def _ledger(
    name: str,
    source: Source,
    common: dict[str, Any],
    tags: dict[str, str],
    entity_name: str,
    fresh: dg.FreshnessPolicy,
) -> dg.AssetsDefinition:
    rules = [{"record": record, **row} for record in source.records for row in metadata.rule_rows(record)]
    spec = dg.AssetSpec(
        ledger_key(name),
        freshness_policy=fresh,
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

    @dg.multi_asset(
        specs=[spec],
        name=f"post_{name}",
        op_tags={"ledger/connection": name},
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    @retried
    def post(
        context: dg.AssetExecutionContext, ledger: Ledger
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetMaterialization]:
        runtime = ledger.runtime
        done: dict[date, steps.PostedDay] = {}
        closed: list[str] = []
        for day in _days(context):
            try:
                done[day] = steps.post(runtime, runtime.link(name), day, context.run.run_id)
            except GateClosed as error:
                closed.append(str(error))
        if closed:
            for day, one in done.items():
                yield dg.AssetMaterialization(ledger_key(name), partition=str(day), metadata=metadata.of_posted([one]))
            raise dg.Failure("; ".join(closed), allow_retries=False)
        changed.looked_after(runtime, name, context.run)
        yield dg.MaterializeResult(asset_key=ledger_key(name), metadata=metadata.of_posted(list(done.values())))

    return post
