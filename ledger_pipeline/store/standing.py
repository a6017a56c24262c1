"""What stands in the books, as bytes: equal for equal books, whatever the order in which they came about."""

from __future__ import annotations

import hashlib

from psycopg import sql

from ledger_pipeline.store.database import Connection

_QUERY = """
SELECT e.entity, e.posted_on, e.connection, e.record, e.source_id, e.rule, e.occurred_on, l.line_no, l.account, l.role, l.currency,
       l.amount_minor, l.base_minor
  FROM ledger.live_entry e JOIN ledger.line l USING (entry_id)
 WHERE e.entity = {}
 ORDER BY e.posted_on, e.connection COLLATE "C", e.record COLLATE "C", e.source_id COLLATE "C", e.rule COLLATE "C", l.line_no
"""


def fingerprint(connection: Connection, entity: str) -> str:
    """SHA-256 in hex over the lines of an entity's standing entries (reversed ones and their reversals left out), without ids and times."""
    digest = hashlib.sha256()
    statement = sql.SQL("COPY ({}) TO STDOUT").format(sql.SQL(_QUERY).format(sql.Literal(entity)))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for chunk in copy:
            digest.update(chunk)
    return digest.hexdigest()
