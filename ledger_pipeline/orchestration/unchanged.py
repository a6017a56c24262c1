"""Whether a day would be staged, checked or posted from the very same things as before: then what came of it is kept, not computed again.

Each step's inputs are digested: payloads, configuration, rules and code, and what has been decided since. Whatever isn't in a digest has to be
without influence on the step; where that can't be said the step runs in full.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib import metadata, resources
from typing import Any

from ledger_pipeline.checks.suites import Outcome, expectations_of
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.model.rules import RULES
from ledger_pipeline.orchestration import paths
from ledger_pipeline.orchestration.runtime import Link, Runtime
from ledger_pipeline.store import posting, raw, staging
from ledger_pipeline.store.database import Connection

_LIBRARIES = ("great_expectations", "msgspec", "numpy", "pandas", "pyarrow", "CurrencyConverter")


@cache
def code() -> str:
    """Changes with every file of this package and with the libraries that compute: an edited converter or rule counts as another one."""
    digest = hashlib.sha256()
    root = resources.files("ledger_pipeline")
    _add(digest, root)
    digest.update(json.dumps({name: metadata.version(name) for name in _LIBRARIES}).encode())
    return digest.hexdigest()


def _add(digest: hashlib._Hash, folder: Any) -> None:
    for one in sorted(folder.iterdir(), key=lambda found: str(found.name)):
        if one.is_dir():
            _add(digest, one)
        elif one.name.endswith((".py", ".csv", ".zip", ".json")):
            digest.update(one.name.encode() + b"\0" + one.read_bytes())


def _digest(*parts: object) -> bytes:
    return hashlib.sha256("\x1e".join(map(str, parts)).encode()).digest()


def staged_from(connection: Connection, link: Link, sync_date: date) -> bytes:
    """What a day is staged from. Secrets are masked in it."""
    seen = raw.digest_of(connection, link.name, sync_date).hex()
    mapping = [row for name in sorted(link.plans) for row in link.plans[name].describe()]
    return _digest(
        *("staged", code(), seen, link.source.mapping_version, json.dumps(mapping)),
        *(link.base_currency, link.zone, link.options.model_dump_json()),
    )


def staged_before(connection: Connection, link: Link, sync_date: date, inputs: bytes) -> dict[str, int] | None:
    """Rows by record of a day that is staged from these inputs, without a refusal, and whose rows nobody has touched; else None."""
    if staging.refused_ids(connection, link.name, sync_date, ("staging",)):
        return None  # what was refused is tried anew each time
    row = connection.execute(
        "SELECT rows_by_record FROM ops.staged WHERE connection = %s AND sync_date = %s AND inputs = %s",
        (link.name, sync_date, inputs),
    ).fetchone()
    if row is None or staging.open_day(connection, link.name, sync_date, link.source.records).whole is not None:
        return None
    return {str(name): int(rows) for name, rows in row[0].items()}


def _checked_from(day: staging.Day) -> bytes:
    return _digest("checked", code(), day.fingerprint.hex())


def checked_before(connection: Connection, link: Link, day: staging.Day) -> list[Outcome] | None:
    """The outcomes of a day whose rows met all expectations before: time alone makes none of them fail."""
    row = connection.execute(
        "SELECT rows FROM ops.checked WHERE connection = %s AND sync_date = %s AND inputs = %s",
        (day.connection, day.sync_date, _checked_from(day)),
    ).fetchone()
    if row is None:
        return None
    return [
        Outcome(name, expected.name, expected.doc, True, row[0].get(name, 0))
        for name in link.source.records
        for expected in expectations_of(RECORDS[name])
    ]


def remember_check(connection: Connection, day: staging.Day, outcomes: list[Outcome]) -> None:
    """Keep that all expectations were met, or that they weren't."""
    connection.execute(
        "DELETE FROM ops.checked WHERE connection = %s AND sync_date = %s", (day.connection, day.sync_date)
    )
    if all(outcome.is_met for outcome in outcomes):
        rows = {outcome.record: outcome.rows for outcome in outcomes}
        connection.execute(
            "INSERT INTO ops.checked (connection, sync_date, inputs, rows) VALUES (%s, %s, %s, %s)",
            (day.connection, day.sync_date, _checked_from(day), json.dumps(rows)),
        )


def posted_from(
    connection: Connection,
    runtime: Runtime,
    link: Link,
    target: posting.Target,
    fingerprint: bytes,
    refused: Mapping[int, str],
) -> bytes:
    """What a day is posted from: the checked rows, who is refused and why, the books' configuration, rates, people's decisions, matches.

    The state of the books is in it as the number of times that this connection's payloads were decided, its batches and those of the
    connections that tell of the same events, and the day's fates.
    """
    config, same = runtime.config, paths.group(runtime.config, link.name)
    entities = {*link.entities, *(e for e in posting.entities_of(connection, link.name) if e in config.entities)}
    return _digest(
        *("posted", code(), fingerprint.hex(), sorted(refused.items()), link.routes, link.source.mapping_version, same),
        *(link.base_currency, link.zone, target.is_adjusting, link.options.model_dump_json()),
        *(RULES[record] for record in link.source.records if record in RULES),
        *((entity, config.entities[entity].model_dump_json()) for entity in sorted(entities)),
        connection.execute(
            _STATE, {"connection": link.name, "day": target.sync_date, "paths": [link.name, *same]}
        ).fetchone(),
    )


_STATE = """
SELECT (SELECT number FROM ops.decided WHERE connection = %(connection)s),
       (SELECT (count(*), max(batch_id))::text FROM ledger.batch WHERE connection = ANY(%(paths)s)),
       (SELECT count(*) FROM recon.flag_decision),
       (SELECT count(*) FROM ops.fate WHERE connection = %(connection)s AND sync_date = %(day)s),
       (SELECT max(decision_id) FROM ops.decision),
       (SELECT (count(*), max(day), max(fetched_at))::text FROM ledger.rate),
       (SELECT max(match_id) FROM recon.match), (SELECT max(event_id) FROM recon.event),
       (SELECT (count(*), max(joined_at))::text FROM recon.member)
"""


def posted_before(
    connection: Connection, link: Link, sync_date: date, inputs: bytes
) -> tuple[int, dict[str, int], dict[str, int]] | None:
    """(entries that stand, fates, units by fate) of a day that was posted from these inputs; else None."""
    row = connection.execute(
        "SELECT entries, fates, units FROM ops.posted WHERE connection = %s AND sync_date = %s AND inputs = %s",
        (link.name, sync_date, inputs),
    ).fetchone()
    return None if row is None else (int(row[0]), dict(row[1]), dict(row[2]))


def remember_posting(
    connection: Connection,
    link: Link,
    target: posting.Target,
    inputs: bytes,
    entries: int,
    fates: Mapping[str, int],
    units: Mapping[str, int],
) -> None:
    """Keep what a posting came to, unless it refused something: that has to be said anew each time."""
    if staging.refused_ids(connection, link.name, target.sync_date, ("posting",)):
        connection.execute(
            "DELETE FROM ops.posted WHERE connection = %s AND sync_date = %s", (link.name, target.sync_date)
        )
        return
    connection.execute(
        "INSERT INTO ops.posted (connection, sync_date, inputs, entries, fates, units, run_id, posted_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (connection, sync_date) DO UPDATE SET inputs = excluded.inputs, "
        "entries = excluded.entries, fates = excluded.fates, units = excluded.units, run_id = excluded.run_id, posted_at = excluded.posted_at",
        (
            *(link.name, target.sync_date, inputs, entries, json.dumps(dict(fates)), json.dumps(dict(units))),
            *(target.run_id, target.at),
        ),
    )
