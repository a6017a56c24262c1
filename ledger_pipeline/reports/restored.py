"""What a restored database still holds of what was noted before, and from where each connection has to be pulled again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from ledger_pipeline.store.database import Connection

_CHAINS = {
    "batches": ("heads", "chain_no", "SELECT chain_no, encode(hash, 'hex') FROM ledger.batch WHERE entity = %(entity)s"),
    "period events": ("period_heads", "event_no", "SELECT event_no, encode(hash, 'hex') FROM ledger.period_event WHERE entity = %(entity)s"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """A noted head of an entity's chain beside the restored one; `lost` and `newer` are numbers of links."""

    entity: str
    chain: str
    noted: int
    found: int
    is_same: bool
    """The restored chain has the noted link, with its hash."""

    @property
    def lost(self) -> int:
        """Links that were there when the heads were noted, and aren't any more."""
        return max(0, self.noted - self.found)

    @property
    def newer(self) -> int:
        """Links that came after the heads were noted."""
        return max(0, self.found - self.noted)


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a connection goes on: its last sync date that was pulled, when that was, and the streams that go on from a stored cursor."""

    connection: str
    last_sync_date: date
    pulled_at: datetime
    cursors: tuple[str, ...]


def compare(connection: Connection, noted: Mapping[str, Any]) -> list[Compared]:
    """Hold the chains against noted heads (`ledger-pipeline verify --json`: `heads`, `period_heads`). Raises KeyError for other data."""
    found = []
    for chain, (key, number, query) in _CHAINS.items():
        for head in noted[key]:
            links: dict[int, str] = dict(connection.execute(query, {"entity": head["entity"]}).fetchall())
            is_same = links.get(head[number]) == head["hash"]
            found.append(Compared(head["entity"], chain, head[number], max(links, default=0), is_same))
    return found


def resumptions(connection: Connection, names: Sequence[str]) -> list[Resumption]:
    """By connection, of those that have been pulled at all."""
    rows = connection.execute(
        "SELECT connection, max(sync_date), max(ended_at), "
        "coalesce(array_agg(DISTINCT stream) FILTER (WHERE cursor_after IS NOT NULL), '{}') "
        "FROM raw.pull WHERE connection = ANY(%s) GROUP BY 1 ORDER BY 1",
        (list(names),),
    )
    return [Resumption(name, day, at, tuple(sorted(cursors))) for name, day, at, cursors in rows]
