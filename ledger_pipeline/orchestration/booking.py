"""What checked records should stand as in the books, per entity: routes, rules, and what the rules refuse. Nothing is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.model import journal, routing
from ledger_pipeline.model.journal import Journal, Rates, Share
from ledger_pipeline.model.rules import RULES
from ledger_pipeline.orchestration.runtime import Link


@dataclass(slots=True)
class Wanted:
    """Entries and lines by entity, and the payloads that have none: ignored with a reason, rejected as (raw_id, record, reason)."""

    by_entity: dict[str, tuple[pa.Table, pa.Table]]
    ignored: dict[int, str] = field(default_factory=dict)
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    posted: set[int] = field(default_factory=set)


def wanted(config: LedgerConfig, link: Link, tables: Mapping[str, pa.Table], rates: Rates) -> Wanted:
    """Apply the routes and rules to a connection's records (`tables` as `staging.load` gives them)."""
    routed = routing.entities_by_payload(tables, link.routes)
    made: dict[str, dict[str, Journal]] = {
        entity: _journals(config, link, entity, tables, routed, rates) for entity in link.entities
    }
    found = Wanted({})
    for journals in made.values():
        for record, one in journals.items():
            found.rejected += _pairs(one.rejected, record) + _conflicts(one, record)
            for raw_id, _, reason in _pairs(one.ignored, record):
                found.ignored.setdefault(raw_id, reason)
            found.posted.update(one.entries["raw_id"].to_pylist())
    bad = {raw_id for raw_id, _, _ in found.rejected}
    found.by_entity = {entity: _one_journal(journals, bad) for entity, journals in made.items()}
    return found


def _journals(
    config: LedgerConfig,
    link: Link,
    entity: str,
    tables: Mapping[str, pa.Table],
    routed: Mapping[int, str],
    rates: Rates,
) -> dict[str, Journal]:
    """The records' journals as this entity books them: the connection's own one all but what is routed away, another one what comes to it."""
    settings, is_home = config.entities[entity], entity == link.entity
    elsewhere = {raw_id: to for raw_id, to in routed.items() if to != link.entity}
    found = {}
    for record in link.source.records:
        if record not in RULES:
            continue
        mine, share = dict(tables), None
        if elsewhere:
            to = np.array([elsewhere.get(r, "") for r in tables[record]["raw_id"].to_pylist()], object)
            if is_home:
                share = Share(to, is_collector=True)
            else:
                mine[record] = tables[record].filter(pa.array(to == entity))
                share = Share(np.full(mine[record].num_rows, link.entity, object), is_collector=False)
        elif not is_home:
            continue
        found[record] = journal.post(
            RULES[record],
            mine,
            base=settings.base_currency,
            zone=settings.time_zone,
            rates=rates,
            has_account=settings.chart.has,
            share=share,
        )
    return found


def _pairs(table: pa.Table, record: str) -> list[tuple[int, str, str]]:
    return [(r, record, why) for r, why in zip(table["raw_id"].to_pylist(), table["reason"].to_pylist(), strict=True)]


def _conflicts(made: Journal, record: str) -> list[tuple[int, str, str]]:
    """Payloads that deliver a record again, with other content."""
    first: dict[str, bytes] = {}
    columns = (made.entries[name].to_pylist() for name in ("raw_id", "source_id", "fingerprint"))
    return [
        (raw_id, record, f"{record} {source_id} was delivered before on this day with other content")
        for raw_id, source_id, print_ in zip(*columns, strict=True)
        if first.setdefault(source_id, print_) != print_
    ]


_NO_ENTRIES = pa.schema(
    [
        ("raw_id", pa.int64()), ("record", pa.string()), ("source_id", pa.string()), ("rule", pa.string()), ("rule_version", pa.int64()),
        ("occurred_on", pa.date32()), ("currency", pa.string()), ("line_count", pa.int64()), ("fingerprint", pa.binary(32)),
    ]
)  # fmt: skip
_NO_LINES = pa.schema(
    [
        ("entry", pa.int64()), ("line_no", pa.int64()), ("role", pa.string()), ("currency", pa.string()),
        ("amount_minor", pa.int64()), ("base_minor", pa.int64()),
    ]
)  # fmt: skip


def nothing() -> tuple[pa.Table, pa.Table]:
    """No entries and no lines."""
    return _NO_ENTRIES.empty_table(), _NO_LINES.empty_table()


def _one_journal(journals: Mapping[str, Journal], rejected: set[int]) -> tuple[pa.Table, pa.Table]:
    """All records' entries in one table, each identity once, without those of rejected payloads."""
    entries, lines, offset = [_NO_ENTRIES.empty_table()], [_NO_LINES.empty_table()], 0
    for made in journals.values():
        entries.append(made.entries.cast(_NO_ENTRIES))
        lines.append(made.lines.set_column(0, "entry", pc.add(made.lines["entry"], offset)).cast(_NO_LINES))
        offset += made.entries.num_rows
    all_entries, all_lines = pa.concat_tables(entries), pa.concat_tables(lines)
    keep = np.ones(all_entries.num_rows, np.bool_)
    if rejected:
        keep &= ~np.isin(all_entries["raw_id"].to_numpy(), list(rejected))
    keys = pc.binary_join_element_wise(all_entries["record"], all_entries["source_id"], "\x1f").to_pylist()
    if len(set(keys)) < len(keys):
        seen: set[str] = set()
        for row in np.flatnonzero(keep).tolist():
            keep[row] = keys[row] not in seen
            seen.add(keys[row])
    return _kept(all_entries, all_lines, keep)


def _kept(entries: pa.Table, lines: pa.Table, keep: npt.NDArray[np.bool_]) -> tuple[pa.Table, pa.Table]:
    """These entries and their lines, which refer to them by their new row."""
    if keep.all():
        return entries, lines
    renumber = np.cumsum(keep) - 1
    entry = np.asarray(lines["entry"].to_numpy(), np.int64)
    mask = keep[entry] if len(entry) else np.zeros(0, np.bool_)
    kept = lines.filter(pa.array(mask)).set_column(0, "entry", pa.array(renumber[entry[mask]], pa.int64()))
    return entries.filter(pa.array(keep)), kept


Identity = tuple[str, str]
"""(record, source id)."""


def leave_out(
    made: Wanted,
    tables: Mapping[str, pa.Table],
    told_elsewhere: Mapping[Identity, str],
    rejected: Mapping[Identity, str] = MappingProxyType({}),
) -> None:
    """Take records out of what is wanted, each with its reason: what is told elsewhere isn't posted, what is rejected is quarantined.

    A payload of which nothing else is posted is ignored, with the reasons of its records.
    """
    out = set(told_elsewhere) | set(rejected)
    if not out:
        return
    bad: set[int] = set()
    for entries, _ in made.by_entity.values():
        for raw_id, *identity in zip(*(entries[n].to_pylist() for n in ("raw_id", "record", "source_id")), strict=True):
            if tuple(identity) in rejected and raw_id not in bad:
                bad.add(raw_id)
                made.rejected.append((raw_id, identity[0], rejected[identity[0], identity[1]]))
    standing: set[Identity] = set()
    for entity, (entries, lines) in made.by_entity.items():
        identities = list(zip(entries["record"].to_pylist(), entries["source_id"].to_pylist(), strict=True))
        keep = np.array([one not in out for one in identities], np.bool_)
        keep &= ~np.isin(entries["raw_id"].to_numpy(), list(bad))
        made.by_entity[entity] = _kept(entries, lines, keep)
        standing.update(one for one, is_kept in zip(identities, keep.tolist(), strict=True) if is_kept)
    _ignore_empty(made, tables, told_elsewhere, standing)


def _ignore_empty(
    made: Wanted, tables: Mapping[str, pa.Table], told_elsewhere: Mapping[Identity, str], standing: set[Identity]
) -> None:
    """Payloads none of whose records stands any more; also one that repeats another's records on this day."""
    reasons: dict[int, list[str]] = {}
    stands: set[int] = set()
    for record in {record for record, _ in told_elsewhere}:
        for raw_id, source_id in zip(*(tables[record][n].to_pylist() for n in ("raw_id", "source_id")), strict=True):
            if (record, source_id) in told_elsewhere:
                reasons.setdefault(raw_id, []).append(told_elsewhere[record, source_id])
    if not reasons:
        return
    for record in RULES:
        if record in tables:
            rows = zip(*(tables[record][n].to_pylist() for n in ("raw_id", "source_id")), strict=True)
            stands.update(raw_id for raw_id, source_id in rows if (record, source_id) in standing)
    for raw_id, said in reasons.items():
        if raw_id not in stands:
            made.posted.discard(raw_id)
            made.ignored[raw_id] = said[0] + (f"; and {len(said) - 1} more records likewise" if said[1:] else "")


def fates(
    documents: pa.Table, made: Wanted, refused: Mapping[int, str], stale: set[int], ignored_by: Mapping[int, str]
) -> pa.Table:
    """One fate per payload: superseded before ignored by a person before quarantined before posted before ignored before reference."""
    why_rejected = {raw_id: reason for raw_id, _, reason in reversed(made.rejected)}
    fate: list[str] = []
    reasons: list[str] = []
    for raw_id, is_gone in zip(documents["raw_id"].to_pylist(), documents["is_gone"].to_pylist(), strict=True):
        if raw_id in stale:
            fate.append("superseded")
            reasons.append("a newer version of this record")
        elif raw_id in refused or raw_id in why_rejected:
            decided = ignored_by.get(raw_id)
            fate.append("ignored" if decided else "quarantined")
            reasons.append(decided or refused.get(raw_id) or why_rejected.get(raw_id, ""))
        elif is_gone:
            fate.append("ignored")
            reasons.append("removed at the source")
        elif raw_id in made.posted:
            fate.append("posted")
            reasons.append("")
        else:
            fate.append("ignored" if raw_id in made.ignored else "reference")
            reasons.append(made.ignored.get(raw_id, ""))
    return pa.table(
        {
            "raw_id": documents["raw_id"],
            "stream": documents["stream"],
            "source_id": documents["origin_id"],
            "fate": pa.array(fate, pa.string()),
            "reason": pa.array(reasons, pa.string()),
            "units": documents["units"],
            "control_amount": documents["control_amount"],
            "control_currency": documents["control_currency"],
            "version_at": documents["version_at"],
        }
    )


def sum_units(fates_: pa.Table) -> dict[str, int]:
    """Source rows by fate."""
    units: defaultdict[str, int] = defaultdict(int)
    for fate, count in zip(fates_["fate"].to_pylist(), fates_["units"].to_pylist(), strict=True):
        units[fate] += count
    return dict(units)
