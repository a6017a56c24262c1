-- Staged rows once more, as Arrow columns: the check and the posting read these as long as no row was touched since.

CREATE TABLE staging.packed (
  connection  text NOT NULL,
  sync_date   date NOT NULL,
  chunk_no    integer NOT NULL,
  record      text NOT NULL,
  row_count   bigint NOT NULL,
  hash        bytea NOT NULL CHECK (octet_length(hash) = 32),
  columns     bytea NOT NULL,
  PRIMARY KEY (connection, sync_date, chunk_no, record)
);
ALTER TABLE staging.packed ALTER COLUMN columns SET STORAGE EXTERNAL;  -- compressed already
COMMENT ON TABLE staging.packed IS 'A staged day''s rows by record and chunk of payloads, as an Arrow stream; valid while each row of the day was written by the same transaction.';
COMMENT ON COLUMN staging.packed.hash IS 'SHA-256 of columns; the gate''s fingerprint is over these hashes.';

GRANT SELECT, INSERT, DELETE ON staging.packed TO ledger_pipeline_writer;
GRANT SELECT ON staging.packed TO ledger_pipeline_reader;

-- What a day was staged and posted from: where that is the same again, so is the result.

ALTER TABLE ops.staged ADD COLUMN inputs bytea CHECK (octet_length(inputs) = 32);
COMMENT ON COLUMN ops.staged.inputs IS 'SHA-256 over the payloads of the day, the mapping, the options and the code that staged them.';

CREATE TABLE ops.decided (
  connection  text PRIMARY KEY,
  number      bigint NOT NULL
);
COMMENT ON TABLE ops.decided IS 'How often fates of a connection''s payloads were decided: it tells whether anything was since.';

CREATE TABLE ops.checked (
  connection  text NOT NULL,
  sync_date   date NOT NULL,
  inputs      bytea NOT NULL CHECK (octet_length(inputs) = 32),
  rows        jsonb NOT NULL,
  PRIMARY KEY (connection, sync_date)
);
COMMENT ON TABLE ops.checked IS 'Staged days whose rows met every expectation; the same rows and code meet them again.';

CREATE TABLE ops.posted (
  connection  text NOT NULL,
  sync_date   date NOT NULL,
  inputs      bytea NOT NULL CHECK (octet_length(inputs) = 32),
  entries     bigint NOT NULL,
  fates       jsonb NOT NULL,
  units       jsonb NOT NULL,
  run_id      text NOT NULL,
  posted_at   timestamptz NOT NULL,
  PRIMARY KEY (connection, sync_date)
);
COMMENT ON TABLE ops.posted IS 'What the last posting of a day came to, and from what: the same inputs post nothing more.';

GRANT SELECT, INSERT, UPDATE, DELETE ON ops.decided, ops.checked, ops.posted TO ledger_pipeline_writer;
GRANT SELECT ON ops.decided, ops.checked, ops.posted TO ledger_pipeline_reader;
