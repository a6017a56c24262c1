"""Categorisation rules over a configuration: the banks that have them, what each rule took, which rule takes a text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from ledger_pipeline import sources
from ledger_pipeline.model.categories import categorise, first_fitting
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import categories
from ledger_pipeline.reconcile.categories import Taken

DAYS = 30
"""Booking days that are counted unless somebody says otherwise."""


def banks(runtime: Runtime) -> list[str]:
    """Connections that yield bank lines, as their options map them."""
    return [
        name
        for name, connection in runtime.config.connections.items()
        if connection.is_enabled
        and "categorise" in sources.load(connection.source).options.model_fields
        and any(m.record == "bank_transaction" for plan in runtime.link(name).plans.values() for m in plan.mappings)
    ]


def counts(runtime: Runtime, names: Sequence[str], first: date | None = None, last: date | None = None) -> list[Taken]:
    """As `reconcile.categories.counts`, of several connections; the DAYS until the last sync date unless a range is given."""
    with runtime.database.connect("reader") as connection:
        if last is None:
            row = connection.execute(
                "SELECT max(sync_date) FROM ops.staged WHERE connection = ANY(%s)", (list(names),)
            ).fetchone()
            last = row[0] if row and row[0] else runtime.clock().date()
        first = first or last - timedelta(days=DAYS - 1)
        return [
            one
            for name in names
            for one in categories.counts(
                connection, name, runtime.link(name).settings.options["categorise"], first, last
            )
        ]


def rule_for(runtime: Runtime, name: str, text: str, is_in: bool) -> tuple[int, str]:
    """(place of the rule from 1 or 0 without one, role) for a description."""
    rules = runtime.link(name).settings.options["categorise"]
    at = first_fitting(text, is_in, rules)
    return (0 if at is None else at + 1), categorise(text, is_in, rules)
