"""A ledger with a past: entries and lines of earlier days, with the indexes that they have in a real one."""

from __future__ import annotations

from ledger_pipeline_tests.bench.company import CONNECTION
from ledger_pipeline_tests.bench.machine import Machine, name_of

LINES_PER_ENTRY = 5

_RAW = """
INSERT INTO raw.record (raw_id, connection, stream, source_id, content_hash, version_at, sync_date, fetched_at, run_id, payload)
SELECT n, '{connection}', 'orders', n::text, sha256(n::text::bytea), '2026-09-01', '2026-09-01', '2026-09-02', 'past', '{{}}'
  FROM generate_series(1, {entries}) n
"""
_FATES = """
INSERT INTO ops.fate (raw_id, connection, stream, source_id, sync_date, fate, version_at, run_id, decided_at)
SELECT n, '{connection}', 'orders', n::text, '2026-09-01', 'posted', '2026-09-01', 'past', '2026-09-02'
  FROM generate_series(1, {entries}) n
"""
_ENTRIES = """
INSERT INTO ledger.entry (entry_id, batch_id, entity, connection, stream, origin_id, record, source_id, rule, version, kind, occurred_on,
       posted_on, raw_id, content_hash, mapping_version, rule_version, line_count, fingerprint, version_at)
SELECT n, 1, 'acme', '{connection}', 'orders', n::text, 'sale', n::text, 'sale', 1, 'original', day, day, n, sha256(n::text::bytea),
       'past', 1, {lines}, sha256(n::text::bytea), '2026-09-01'
  FROM (SELECT n, date '2024-01-01' + (n % 900)::int AS day FROM generate_series(1, {entries}) n) made
"""
_LINES = """
INSERT INTO ledger.line (entry_id, line_no, entity, posted_on, account, role, currency, amount_minor, base_minor)
SELECT n, no, 'acme', date '2024-01-01' + (n % 900)::int, '4000', 'sales', 'USD', amount, amount
  FROM generate_series(1, {entries}) n
 CROSS JOIN LATERAL (SELECT no, CASE no WHEN {lines} THEN -({lines} - 1) * 100 ELSE 100 END AS amount
                       FROM generate_series(1, {lines}) no) one
"""
_BATCH = """
INSERT INTO ledger.batch (batch_id, entity, chain_no, connection, sync_date, run_id, posted_at, entry_count, line_count, content_hash,
       previous_hash, hash)
VALUES (1, 'acme', 1, '{connection}', '2026-09-01', 'past', '2026-09-02', {entries}, {entries} * {lines}, sha256('c'), sha256('p'), sha256('h'))
"""
_SEQUENCES = """
SELECT setval('raw.raw_id_seq', {entries}), setval('ledger.entry_id_seq', {entries}), setval('ledger.batch_id_seq', 1)
"""


def template(machine: Machine, lines: int) -> str:
    """The name of a database whose ledger holds about that many lines; copy it with `machine.database(name)`.

    The rows are written past the triggers (they are the server's own superuser's), which is quick and leaves the same tables.
    """
    database = machine.database()
    values = {"entries": lines // LINES_PER_ENTRY, "lines": LINES_PER_ENTRY, "connection": CONNECTION}
    with database.connect("owner") as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        for statement in (_RAW, _FATES, _ENTRIES, _LINES, _BATCH, _SEQUENCES):
            connection.execute(statement.format(**values))  # type: ignore[call-overload]
    with database.connect("owner", autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return name_of(database)
