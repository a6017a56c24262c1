-- One business event by several paths. recon.identity and recon.twin follow from the ledger and staging; flags and decisions are appended.

CREATE TABLE recon.identity (
  entry_id    bigint PRIMARY KEY,
  connection  text NOT NULL,
  record      text NOT NULL,
  source_id   text NOT NULL,
  key         text NOT NULL,
  agrees      text NOT NULL
);
COMMENT ON TABLE recon.identity IS 'The business identity of posted entries, of connections that share events with others (same_as).';
COMMENT ON COLUMN recon.identity.key IS 'The identity''s columns as records.py declares them, joined by unit separators.';
COMMENT ON COLUMN recon.identity.agrees IS 'What must be equal, too, or a person has to look.';
CREATE INDEX identity_by_key ON recon.identity (record, key);
CREATE INDEX identity_of_connection ON recon.identity (connection);

CREATE TABLE recon.identified (
  connection  text PRIMARY KEY,
  declared    text NOT NULL,
  batch_id    bigint NOT NULL
);
COMMENT ON TABLE recon.identified IS 'Up to which batch a connection''s entries stand in recon.identity, by which declaration of identities.';

CREATE TABLE recon.twin (
  connection       text NOT NULL,
  record           text NOT NULL,
  source_id        text NOT NULL,
  stream           text NOT NULL,
  origin_id        text NOT NULL,
  raw_id           bigint NOT NULL,
  key              text NOT NULL,
  twin_connection  text NOT NULL,
  twin_source_id   text NOT NULL,
  run_id           text NOT NULL,
  noticed_at       timestamptz NOT NULL,
  PRIMARY KEY (connection, record, source_id)
);
COMMENT ON TABLE recon.twin IS 'Records that are not posted because another connection''s record of the same event stands in the books.';
CREATE INDEX twin_by_origin ON recon.twin (connection, stream, origin_id);
CREATE INDEX twin_by_key ON recon.twin (record, key);

CREATE TABLE recon.flag (
  flag_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  what             text NOT NULL CHECK (what IN ('charge', 'line', 'reference', 'path', 'statement')),
  entity           text NOT NULL,
  record           text NOT NULL,
  connection       text NOT NULL,
  source_id        text NOT NULL,
  raw_id           bigint NOT NULL,
  happened_on      date NOT NULL,
  twin_connection  text NOT NULL,
  twin_source_id   text NOT NULL,
  twin_on          date NOT NULL,
  currency         text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  amount_minor     bigint NOT NULL,
  pattern          text NOT NULL,
  reason           text NOT NULL,
  sync_date        date NOT NULL,
  run_id           text NOT NULL,
  noticed_at       timestamptz NOT NULL,
  CHECK ((connection, source_id) <> (twin_connection, twin_source_id))
);
COMMENT ON TABLE recon.flag IS 'Two records that may be one payment made twice, or one event told twice. Both are posted until a person decides. Append-only.';
COMMENT ON COLUMN recon.flag.twin_source_id IS 'The other record; of a statement flag the id of the statement that has the line, too.';
COMMENT ON COLUMN recon.flag.pattern IS 'SHA-256 of what the two have in common; who says that both are real says so of its rhythm, too.';
CREATE UNIQUE INDEX flag_asks_once ON recon.flag (record, least(connection || E'\x1f' || source_id, twin_connection || E'\x1f' || twin_source_id),
                                                  greatest(connection || E'\x1f' || source_id, twin_connection || E'\x1f' || twin_source_id));
CREATE INDEX flag_by_day ON recon.flag (connection, sync_date);
CREATE INDEX flag_by_pattern ON recon.flag (pattern);

CREATE TABLE recon.flag_decision (
  decision_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  flag_id      bigint NOT NULL REFERENCES recon.flag,
  decision     text NOT NULL CHECK (decision IN ('both_real', 'duplicate')),
  by_whom      text NOT NULL CHECK (by_whom <> ''),
  reason       text NOT NULL CHECK (reason <> ''),
  decided_at   timestamptz NOT NULL
);
COMMENT ON TABLE recon.flag_decision IS 'What a person said about a flag; the last word counts. Append-only.';
CREATE INDEX decision_of_flag ON recon.flag_decision (flag_id, decision_id);

CREATE VIEW recon.flag_now AS
  SELECT f.*, d.decision, d.by_whom, d.reason AS why, d.decided_at
    FROM recon.flag f
    LEFT JOIN LATERAL (SELECT * FROM recon.flag_decision WHERE flag_id = f.flag_id ORDER BY decision_id DESC LIMIT 1) d ON true;
COMMENT ON VIEW recon.flag_now IS 'Flags with the last word about each; decision is null while nobody has spoken.';

CREATE TRIGGER flag_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON recon.flag FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER flag_decision_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON recon.flag_decision
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE TABLE staging.payout_member (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  processor  text NOT NULL,
  payout_id  text NOT NULL,
  transaction_id  text NOT NULL,
  currency  text NOT NULL,
  net_minor  bigint NOT NULL
);
CREATE INDEX payout_member_by_day ON staging.payout_member (connection, sync_date);
COMMENT ON TABLE staging.payout_member IS 'That a payout carried a balance transaction, as the processor says it. A reference: the transaction''s money is booked from itself.';

GRANT SELECT, INSERT, UPDATE, DELETE ON recon.identity, recon.identified, recon.twin TO ledger_pipeline_writer;
GRANT SELECT, INSERT ON recon.flag, recon.flag_decision TO ledger_pipeline_writer;
GRANT SELECT ON recon.flag_now TO ledger_pipeline_writer;
GRANT SELECT ON recon.identity, recon.identified, recon.twin, recon.flag, recon.flag_decision, recon.flag_now TO ledger_pipeline_reader;
GRANT SELECT, INSERT, DELETE ON staging.payout_member TO ledger_pipeline_writer;
GRANT SELECT ON staging.payout_member TO ledger_pipeline_reader;
