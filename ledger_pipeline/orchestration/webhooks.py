"""Stored webhooks become runs: a sensor asks for one run per connection and day that pulls just the streams that changed.

An event is a hint and no more. The run pulls from the provider, stages, checks and posts like a night's, under the same sync date, so
that nothing posts twice, and the night finds what a lost webhook would have brought.
"""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta

import dagster as dg

from ledger_pipeline import sources
from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import engines
from ledger_pipeline.orchestration.assets import ledger_key, raw_key, staging_key
from ledger_pipeline.orchestration.changed import SINCE, THROUGH, WARM, WEBHOOK
from ledger_pipeline.orchestration.jobs import UNFINISHED, AssetJob, receiving
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store import webhooks
from ledger_pipeline.store.webhooks import Waiting

log = logging.getLogger(__name__)

LOOKBACK = timedelta(minutes=10)
"""What a provider's list may show late, or with an earlier time than its event."""
ATTEMPTS = 3
"""Failed runs in a row, after which a connection's events are left to the night."""
WATCH_SECONDS = 4.0
"""How long a tick waits for something to ask for. The daemon evaluates sensors every five seconds: without this an event waits for that."""
LOOK_SECONDS = 0.2
BACK_OFF = timedelta(seconds=30)


def jobs(config: LedgerConfig) -> list[AssetJob]:
    """The job of the runs that webhooks ask for; none where no connection receives any."""
    names = receiving(config)
    if not names:
        return []
    return [
        dg.define_asset_job(
            "changed",
            dg.AssetSelection.groups(*names),
            description="What webhooks say has changed: pulled, staged, checked and posted, asked for by the sensor.",
            executor_def=engines.executor(config.execution),
        )
    ]


def keys_of(config: LedgerConfig, name: str, streams: tuple[str, ...]) -> list[dg.AssetKey]:
    """The streams, and what follows: a day is staged, checked and posted as a whole."""
    source = sources.load(config.connections[name].source)
    return [
        *(raw_key(name, stream) for stream in streams),
        *(staging_key(name, record) for record in source.records),
        ledger_key(name),
    ]


@dataclass(slots=True)
class Asked:
    """What was last asked for a connection: up to which event, when, and how many runs in a row have failed."""

    through: int
    at: str
    failed: int = 0


def sensors(config: LedgerConfig, made: list[AssetJob]) -> list[dg.SensorDefinition]:
    """The sensor; none where no connection receives webhooks."""
    if not made:
        return []
    (job,) = made

    @dg.sensor(
        name="changed_by_webhooks",
        job=job,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for a run of every connection whose webhooks wait: one run takes all that wait.",
    )
    def changed_by_webhooks(
        context: dg.SensorEvaluationContext, ledger: Ledger
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        runtime = ledger.runtime
        asked = {name: Asked(**one) for name, one in json.loads(context.cursor or "{}").items()}
        before = dict(asked)
        until = time.monotonic() + WATCH_SECONDS
        while not (requests := list(_requests(runtime, context.instance, asked))):
            if asked != before or time.monotonic() >= until:
                break
            time.sleep(LOOK_SECONDS)
        context.update_cursor(json.dumps({name: asdict(one) for name, one in asked.items()}))
        if not requests:
            yield dg.SkipReason("no webhook waits, or what waits has a run under way")
        yield from requests

    return [changed_by_webhooks]


def _requests(runtime: Runtime, instance: dg.DagsterInstance, asked: dict[str, Asked]) -> Iterator[dg.RunRequest]:
    """What can be asked for now."""
    zones = {name: str(runtime.config.entity_of(name).zone) for name in receiving(runtime.config)}
    with runtime.database.connect("reader") as connection:
        found = webhooks.waiting(connection, zones)
    busy = _under_way(instance) if found else set()
    for one in found:
        if one.connection not in busy:
            yield from _ask(runtime, one, asked)


def _under_way(instance: dg.DagsterInstance) -> set[str]:
    """Connections with such a run under way: what waits now is asked for when it has ended."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED), limit=1000)
    return {run.tags[WEBHOOK] for run in runs if WEBHOOK in run.tags}


def _ask(runtime: Runtime, found: Waiting, asked: dict[str, Asked]) -> Iterator[dg.RunRequest]:
    """One run per day that has changes to pull, the newest day's looks after the events; nothing while a failed one is not due again."""
    name, now = found.connection, runtime.clock()
    before = asked.get(name)
    failed = before.failed + 1 if before and found.first <= before.through else 0
    if before and failed and now < datetime.fromisoformat(before.at) + BACK_OFF * failed:
        return
    if failed >= ATTEMPTS:
        log.error("%s: %d runs for its webhooks failed; %d events are left to the night", name, failed, found.count)
        _mark(runtime, found, "left to the night")
        asked.pop(name)
        return
    wanted = list(_wanted(runtime, found))
    if not wanted:
        _mark(runtime, found, "nothing to pull")
        return
    asked[name] = Asked(found.through, now.isoformat(), failed)
    for day, streams, since in wanted:
        tags = {WARM: "changed", WEBHOOK: name, SINCE: since.isoformat()}
        yield dg.RunRequest(
            run_key=f"{name}:{day}:{found.through}:{failed}",
            partition_key=day.isoformat(),
            asset_selection=keys_of(runtime.config, name, streams),
            tags=tags | ({THROUGH: str(found.through)} if day == wanted[-1][0] else {}),
        )


def _wanted(runtime: Runtime, found: Waiting) -> Iterator[tuple[date, tuple[str, ...], datetime]]:
    """(day, streams, since) of today's and yesterday's changes; a night has pulled the days before."""
    webhook = sources.load(runtime.config.connections[found.connection].source).webhook
    zone = runtime.config.entity_of(found.connection).zone
    today = runtime.clock().astimezone(zone).date()
    for day, topics in sorted(found.days.items()):
        changed = {topic: webhook.streams_of(topic) for topic in topics} if webhook else {}
        streams = tuple(dict.fromkeys(stream for streams in changed.values() for stream in streams))
        if streams and day >= today - timedelta(days=1):
            yield day, streams, min(topics[topic] for topic, some in changed.items() if some) - LOOKBACK


def _mark(runtime: Runtime, found: Waiting, outcome: webhooks.Outcome) -> None:
    with runtime.database.connect() as connection:
        webhooks.mark(connection, found.connection, found.through, outcome, "", runtime.clock())
