"""Which entity books a record: the connection's own, unless a route says otherwise (ship-to country, sales channel…).

A payload is routed as a whole, so that a refund follows its order: the first route that fits any of its records decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.model.records import RECORDS


@dataclass(frozen=True, slots=True)
class Route:
    """Payloads with a `record` whose columns all hold one of the given values go to `entity`; a value may end in `*`."""

    entity: str
    record: str
    when: tuple[tuple[str, tuple[str, ...]], ...]


def mistake(route: Route) -> str | None:
    """What is wrong with a route; None when it is sound."""
    record = RECORDS.get(route.record)
    if record is None or record.parent:
        heads = ", ".join(name for name, r in RECORDS.items() if not r.parent)
        return f"unknown record {route.record!r}; known are {heads}"
    texts = [f.name for f in record.columns if f.kind in ("text", "currency")]
    for column, _ in route.when:
        if column not in texts:
            return f"{route.record} has no text field {column!r}; it has {', '.join(texts)}"
    return None


def entities_by_payload(tables: Mapping[str, pa.Table], routes: Sequence[Route]) -> dict[int, str]:
    """raw_id → entity, of the payloads that a route takes."""
    found: dict[int, str] = {}
    for route in reversed(routes):  # the first that fits is written last
        table = tables.get(route.record)
        if table is None or not table.num_rows:
            continue
        fits = np.ones(table.num_rows, np.bool_)
        for column, values in route.when:
            fits &= _holds(table[column], values)
        raw_ids = np.asarray(table["raw_id"].to_numpy(), np.int64)[fits]
        found.update(dict.fromkeys(raw_ids.tolist(), route.entity))
    return found


def _holds(column: pa.ChunkedArray, values: Sequence[str]) -> npt.NDArray[np.bool_]:
    exact = [value for value in values if not value.endswith("*")]
    fits = pc.is_in(column, value_set=pa.array(exact, pa.string()))
    for value in values:
        if value.endswith("*"):
            fits = pc.or_(fits, pc.fill_null(pc.starts_with(column, value[:-1]), False))
    return np.asarray(fits.to_numpy(), np.bool_)
