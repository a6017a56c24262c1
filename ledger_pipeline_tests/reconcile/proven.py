"""What a company of the reconcile tests says of its own books, whatever fills them."""

from __future__ import annotations

from typing import Any

from ledger_pipeline.orchestration import reconciling
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import matches
from ledger_pipeline.reconcile.matches import Kept, Ran
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify


class Proven:
    """The entity `acme`, whose books are proven after each reconciliation."""

    runtime: Runtime
    database: Database

    def run(self) -> Ran:
        """Reconcile, prove the books, and be sure that a second time changes nothing."""
        (ran,) = reconciling.run(self.runtime, ["acme"], "reconcile")
        (again,) = reconciling.run(self.runtime, ["acme"], "again")
        assert not again.is_new, again
        assert verify(self.database).findings == []
        return ran

    def live(self) -> list[Kept]:
        """Matches and suggestions."""
        with self.database.connect("reader") as connection:
            return matches.live(connection, "acme")

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """What a query says, as the reader."""
        with self.database.connect("reader") as connection:
            return connection.execute(query, arguments).fetchall()
