"""Connections that tell of the same events (`same_as` in ledger.yaml): their groups, and what of a day is not posted because it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.orchestration import booking
from ledger_pipeline.orchestration.booking import Wanted
from ledger_pipeline.reconcile import flags, twins
from ledger_pipeline.store import posting
from ledger_pipeline.store.database import Connection
from ledger_pipeline.store.posting import Target


def group(config: LedgerConfig, name: str) -> tuple[str, ...]:
    """The connections that tell of the same events as this one, itself among them, sorted; empty for one that stands alone."""
    found = {name}
    while True:
        more = {
            one
            for this, connection in config.connections.items()
            for one in (this, *connection.same_as)
            if found & {this, *connection.same_as}
        }
        if more <= found:
            return tuple(sorted(found)) if len(found) > 1 else ()
        found |= more


def once(
    config: LedgerConfig,
    connection: Connection,
    target: Target,
    made: Wanted,
    tables: Mapping[str, pa.Table],
    documents: pa.Table,
) -> Target:
    """Take out of what is wanted what a person called a duplicate, and what another path has posted already.

    `documents` are the payloads that are decided. Returns the target with the records whose entries are taken back on a person's word. Costs a
    connection that stands alone one query.
    """
    duplicates = flags.duplicates(connection, target.connection)
    booking.leave_out(made, tables, duplicates)
    paths = group(config, target.connection)
    if paths:
        twins.hold(connection, paths)
        twins.identify(connection, paths)
        told = twins.told((entries for entries, _ in made.by_entity.values()), tables)
        standing, known = twins.read(connection, paths, told)
        paired = twins.pair(target.connection, told, standing, known, is_replay=target.is_replay)
        same = {(t.record, t.source_id): _same_as(s.name) for t, s in paired.twins.items()}
        odd = {(t.record, t.source_id): _contradiction(t, s) for t, s in paired.conflicts.items()}
        booking.leave_out(made, tables, same, odd)
        twins.keep(connection, target.connection, paired, documents, target.run_id, target.at)
        handed_over = [(k.raw_id, _same_as(k.twin_name), _same_as(s.name)) for k, s in paired.moved.items()]
        posting.reword(connection, target, handed_over)
    return replace(target, withdrawn=frozenset(duplicates))


def _same_as(name: str) -> str:
    return f"the same event as {name}"


def _contradiction(told: twins.Told, stands: twins.Stands) -> str:
    ours, theirs = (said.replace("\x1f", ", ") for said in (told.agrees, stands.agrees))
    columns = ", ".join(RECORDS[told.record].agrees)
    return f"{stands.name} is the same event with other content: {columns} {theirs} there, {ours} here"
