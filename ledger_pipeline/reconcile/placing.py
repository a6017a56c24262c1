"""Where a bank line belongs: to what it is matched with, else to what its categorisation rule says.

The books follow the matches. A line that stands elsewhere gets a reversal and a replacement on the right role; a line that is posted again
(a late edit, a replay) goes there at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import pyarrow as pa

from ledger_pipeline.model.accounts import UNPLACED_ROLES
from ledger_pipeline.reconcile.clearing import MATCHED_ROLES
from ledger_pipeline.store import posting
from ledger_pipeline.store.database import Connection, lock
from ledger_pipeline.store.posting import Move, Posted, Target

RECORD = "bank_transaction"


def roles_by_match(connection: Connection, entity: str, name: str) -> dict[str, str]:
    """The role of each of a connection's bank lines that is in a match that counts, by source id."""
    rows = connection.execute(
        "SELECT source_id, role FROM recon.used WHERE (entity, connection, record) = (%s, %s, %s)",
        (entity, name, RECORD),
    )
    return dict(rows.fetchall())


def placed(connection: Connection, entity: str, name: str, tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """A connection's records with the roles of its bank lines that their matches say; the others keep their own."""
    found, lines = dict(tables), tables.get(RECORD)
    known = roles_by_match(connection, entity, name) if lines is not None and lines.num_rows else {}
    if lines is None or not known:
        return found
    roles = [
        known.get(source_id, role)
        for source_id, role in zip(lines["source_id"].to_pylist(), lines["role"].to_pylist(), strict=True)
    ]
    found[RECORD] = lines.set_column(lines.schema.get_field_index("role"), "role", pa.array(roles, pa.string()))
    return found


_STANDING = """
    WITH standing AS (
      SELECT e.entry_id, e.connection, e.source_id, e.raw_id, l.role, l.currency
        FROM ledger.live_entry e JOIN ledger.line l USING (entry_id)
       WHERE l.entity = %(entity)s AND split_part(l.role, ':', 1) = ANY(%(roles)s) AND e.record = %(record)s),
    meant AS (
      SELECT s.*, CASE WHEN u.match_id IS NOT NULL THEN u.role
                       WHEN EXISTS (SELECT 1 FROM recon.member m JOIN recon.match of USING (match_id)
                                     WHERE (m.connection, m.record, m.source_id) = (s.connection, %(record)s, s.source_id)
                                       AND (of.entity, of.role, of.currency) = (%(entity)s, s.role, s.currency))
                       THEN (SELECT t.role FROM staging.bank_transaction t
                              WHERE t.connection = s.connection AND t.source_id = s.source_id
                              ORDER BY t.raw_id = s.raw_id DESC, t.sync_date DESC LIMIT 1)
                       ELSE s.role END AS belongs
        FROM standing s LEFT JOIN recon.used u
          ON (u.entity, u.currency, u.connection, u.record, u.source_id) = (%(entity)s, s.currency, s.connection, %(record)s, s.source_id))
    SELECT connection, entry_id, role, belongs FROM meant WHERE belongs <> role ORDER BY connection, entry_id
"""


def apply(connection: Connection, entity: str, target_of: Callable[[str], Target]) -> Posted:
    """Move the entity's bank lines to where they belong, in the caller's transaction; what was moved is `corrected`.

    `target_of` says as whom a connection posts. What nobody matches any more goes back to what its rule says.
    """
    roles = [*MATCHED_ROLES, *UNPLACED_ROLES]
    found: dict[str, list[Move]] = defaultdict(list)
    for name, entry_id, role, belongs in connection.execute(
        _STANDING, {"entity": entity, "roles": roles, "record": RECORD}
    ):
        found[name].append(Move(entry_id, role, belongs))
    for name in sorted(
        found
    ):  # all before the first entry: whoever posts holds its own and then waits for the entity's chain
        lock(connection, "post", name)
    done = Posted()
    for name, moves in sorted(found.items()):
        done.add(posting.move(connection, target_of(name), moves))
    return done
