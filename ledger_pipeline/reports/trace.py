"""From a figure back to its source: everything that is known about one source record."""

from __future__ import annotations

import json
from typing import Any

from ledger_pipeline.store.database import Connection


def trace(
    connection: Connection, source_id: str, name: str | None = None, *, with_payload: bool = True
) -> dict[str, Any]:
    """Landed versions with their fates, quarantine, entries with lines, and matches, of a record by its source id (or its origin's).

    Sensitive payloads are stored encrypted and come back so.
    """
    arguments = {"id": source_id, "connection": name}
    payload = "r.payload::text" if with_payload else "NULL"
    versions = _rows(
        connection,
        f"""
        SELECT r.raw_id, r.connection, r.stream, r.source_id, r.sync_date, r.fetched_at, r.run_id, encode(r.content_hash, 'hex') AS content_hash,
               f.fate, f.reason, {payload} AS payload
          FROM raw.record r LEFT JOIN ops.fate f USING (raw_id)
         WHERE (%(connection)s::text IS NULL OR r.connection = %(connection)s)
           AND (r.source_id = %(id)s OR r.raw_id IN (SELECT raw_id FROM ledger.entry WHERE source_id = %(id)s))
         ORDER BY r.raw_id
        """,
        arguments,
    )
    entries = _rows(
        connection,
        """
        SELECT e.entry_id, e.entity, e.connection, e.record, e.source_id, e.kind, e.version, e.occurred_on, e.posted_on, e.is_prior_period,
               e.rule, e.rule_version, e.mapping_version, e.corrects_entry_id, e.raw_id, b.batch_id, b.run_id, b.posted_at
          FROM ledger.entry e JOIN ledger.batch b USING (batch_id)
         WHERE (%(connection)s::text IS NULL OR e.connection = %(connection)s) AND (e.source_id = %(id)s OR e.origin_id = %(id)s)
         ORDER BY e.entry_id
        """,
        arguments,
    )
    lines = _rows(
        connection,
        "SELECT entry_id, line_no, account, role, currency, amount_minor, base_minor FROM ledger.line WHERE entry_id = ANY(%(ids)s) "
        "ORDER BY entry_id, line_no",
        {"ids": [e["entry_id"] for e in entries]},
    )
    for entry in entries:
        entry["lines"] = [
            {k: v for k, v in line.items() if k != "entry_id"}
            for line in lines
            if line["entry_id"] == entry["entry_id"]
        ]
    quarantine = _rows(
        connection,
        "SELECT raw_id, sync_date, stage, record, path, reason FROM ops.quarantine WHERE raw_id = ANY(%(ids)s) ORDER BY quarantine_id",
        {"ids": [v["raw_id"] for v in versions]},
    )
    for version in versions:
        version["quarantine"] = [q for q in quarantine if q["raw_id"] == version["raw_id"]]
        if version["payload"] is not None:
            version["payload"] = json.loads(version["payload"], parse_float=str)
    return {
        "source_id": source_id,
        "versions": versions,
        "entries": entries,
        "matches": _matches(connection, arguments),
    }


def _matches(connection: Connection, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """What the record is matched with, and why; suggestions, too."""
    return _rows(
        connection,
        """
        SELECT l.match_id, l.entity, l.role, l.currency, l.kind, l.score, l.reasons, l.state, l.decided_by, l.made_at,
               (SELECT array_agg(format('%%s/%%s/%%s', o.connection, o.record, o.source_id) ORDER BY o.connection, o.record, o.source_id)
                  FROM recon.member o
                 WHERE o.match_id = l.match_id
                   AND (o.connection, o.record, o.source_id) IS DISTINCT FROM (m.connection, m.record, m.source_id)) AS others
          FROM recon.live_match l JOIN recon.member m USING (match_id)
         WHERE m.source_id = %(id)s AND (%(connection)s::text IS NULL OR m.connection = %(connection)s)
         ORDER BY l.match_id
        """,
        arguments,
    )


def _rows(connection: Connection, query: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    cursor = connection.execute(query, arguments)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]
