"""Stated balances over a configuration: the accounts of each entity's own connections, read in one snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import statements
from ledger_pipeline.reconcile.statements import Account


def of_entities(runtime: Runtime, entities: Iterable[str], through: date | None = None) -> list[Account]:
    """Every bank account whose balance was stated until the end of a day, against the ledger."""
    found: list[Account] = []
    with runtime.database.connect("reader") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for entity in entities:
            own = [name for name, of in runtime.config.connections.items() if of.entity == entity]
            found += statements.of_entity(connection, entity, own, through)
    return found
