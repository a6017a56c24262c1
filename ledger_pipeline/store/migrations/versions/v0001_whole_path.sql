-- Schemas, roles, raw, gate and the sealed ledger. Amounts are bigint in the currency's minor unit, debit positive.

CREATE SCHEMA IF NOT EXISTS raw;
CREATE SCHEMA IF NOT EXISTS staging;
CREATE SCHEMA IF NOT EXISTS ledger;
CREATE SCHEMA IF NOT EXISTS recon;
CREATE SCHEMA IF NOT EXISTS push;
CREATE SCHEMA IF NOT EXISTS ops;

DO $$
DECLARE
  role_name text;
BEGIN
  FOREACH role_name IN ARRAY ARRAY['ledger_pipeline_owner', 'ledger_pipeline_writer', 'ledger_pipeline_reader'] LOOP
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role_name) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;  -- roles belong to the whole server; another database made them in this moment
      END;
    END IF;
    IF NOT pg_has_role(current_user, role_name, 'USAGE') THEN
      EXECUTE format('GRANT %I TO %I', role_name, current_user);  -- so that the pipeline's login may take the role
    END IF;
  END LOOP;
END $$;

-- raw: what the sources said, exactly ---------------------------------------------------------------------------------

CREATE SEQUENCE raw.raw_id_seq;

CREATE TABLE raw.record (
  raw_id        bigint PRIMARY KEY DEFAULT nextval('raw.raw_id_seq'),
  connection    text NOT NULL,
  stream        text NOT NULL,
  source_id     text NOT NULL,
  content_hash  bytea NOT NULL CHECK (octet_length(content_hash) = 32),
  version_at    timestamptz,
  sync_date     date NOT NULL,
  fetched_at    timestamptz NOT NULL,
  run_id        text NOT NULL,
  units         integer NOT NULL DEFAULT 1,
  payload       json NOT NULL
);
COMMENT ON TABLE raw.record IS 'Payloads exactly as the source sent them; the same content of the same record lands once. Append-only.';
COMMENT ON COLUMN raw.record.version_at IS 'The source''s own time of the last change, where it states one.';
COMMENT ON COLUMN raw.record.sync_date IS 'The daily partition in which this content was first pulled.';
COMMENT ON COLUMN raw.record.units IS 'Rows of the source that make up this record (lines of a file); 1 for an API.';
CREATE UNIQUE INDEX record_content ON raw.record (connection, stream, source_id, content_hash);

CREATE SEQUENCE raw.pull_id_seq;
CREATE TABLE raw.pull (
  pull_id        bigint PRIMARY KEY DEFAULT nextval('raw.pull_id_seq'),
  connection     text NOT NULL,
  stream         text NOT NULL,
  sync_date      date NOT NULL,
  run_id         text NOT NULL,
  started_at     timestamptz NOT NULL,
  ended_at       timestamptz NOT NULL,
  window_start   timestamptz,
  window_end     timestamptz,
  cursor_before  text,
  cursor_after   text,
  pages          integer NOT NULL,
  records        bigint NOT NULL,
  repeated       bigint NOT NULL,
  landed         bigint NOT NULL,
  expected       bigint,
  calls          integer NOT NULL,
  retries        integer NOT NULL,
  notes          jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE raw.pull IS 'One row per finished pull of a stream: what was asked, what came, what the source itself counts.';
CREATE INDEX pull_by_day ON raw.pull (connection, sync_date, stream);

CREATE TABLE raw.seen (
  pull_id  bigint NOT NULL,
  raw_id   bigint NOT NULL,
  PRIMARY KEY (pull_id, raw_id)
);
COMMENT ON TABLE raw.seen IS 'Which content a pull saw; a sync date stages the newest content that its pulls saw.';
CREATE INDEX seen_record ON raw.seen (raw_id);

CREATE TABLE raw.file (
  content_hash  bytea PRIMARY KEY CHECK (octet_length(content_hash) = 32),
  connection    text NOT NULL,
  name          text NOT NULL,
  fetched_at    timestamptz NOT NULL,
  run_id        text NOT NULL,
  content       bytea NOT NULL
);
COMMENT ON TABLE raw.file IS 'Files exactly as they were delivered; their records name them by hash.';

-- ops: gate, quarantine, fates, cursors -------------------------------------------------------------------------------

CREATE TABLE ops.staged (
  connection       text NOT NULL,
  sync_date        date NOT NULL,
  staged_at        timestamptz NOT NULL,
  run_id           text NOT NULL,
  mapping_version  text NOT NULL,
  rows_by_record   jsonb NOT NULL,
  PRIMARY KEY (connection, sync_date)
);
CREATE TABLE ops.gate (
  connection    text NOT NULL,
  sync_date     date NOT NULL,
  is_open       boolean NOT NULL,
  fingerprint   bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
  suite         text NOT NULL,
  verdict       jsonb NOT NULL,
  run_id        text NOT NULL,
  checked_at    timestamptz NOT NULL,
  PRIMARY KEY (connection, sync_date)
);
COMMENT ON TABLE ops.gate IS 'The verdict that one connection''s staged day may be posted, with a fingerprint of what was checked.';

CREATE TABLE ops.quarantine (
  quarantine_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  connection     text NOT NULL,
  sync_date      date NOT NULL,
  stream         text NOT NULL,
  raw_id         bigint NOT NULL,
  source_id      text NOT NULL,
  stage          text NOT NULL CHECK (stage IN ('staging', 'check', 'posting')),
  record         text NOT NULL,
  path           text NOT NULL,
  reason         text NOT NULL,
  run_id         text NOT NULL,
  noticed_at     timestamptz NOT NULL,
  UNIQUE (connection, sync_date, raw_id, stage, record, path)
);
COMMENT ON TABLE ops.quarantine IS 'Records that were not posted, and why; the payload stays in raw.record.';

CREATE TABLE ops.fate (
  raw_id      bigint PRIMARY KEY,
  connection  text NOT NULL,
  stream      text NOT NULL,
  source_id   text NOT NULL,
  sync_date   date NOT NULL,
  fate        text NOT NULL CHECK (fate IN ('posted', 'superseded', 'quarantined', 'ignored', 'reference')),
  reason      text NOT NULL DEFAULT '',
  units       integer NOT NULL DEFAULT 1,
  control_amount    numeric,
  control_currency  text,
  version_at  timestamptz NOT NULL,
  run_id      text NOT NULL,
  decided_at  timestamptz NOT NULL
);
COMMENT ON TABLE ops.fate IS 'What became of each landed record version: exactly one fate.';
CREATE INDEX fate_by_record ON ops.fate (connection, stream, source_id);
CREATE INDEX fate_by_day ON ops.fate (connection, sync_date);

-- ledger --------------------------------------------------------------------------------------------------------------

CREATE TABLE ledger.account (
  entity     text NOT NULL,
  code       text NOT NULL,
  name       text NOT NULL,
  type       text NOT NULL CHECK (type IN ('asset', 'liability', 'equity', 'income', 'expense')),
  is_active  boolean NOT NULL DEFAULT true,
  PRIMARY KEY (entity, code)
);

CREATE TABLE ledger.period (
  entity     text NOT NULL,
  month      date NOT NULL CHECK (extract(day FROM month) = 1),
  state      text NOT NULL CHECK (state IN ('open', 'closing', 'closed')),
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL,
  PRIMARY KEY (entity, month)
);
COMMENT ON TABLE ledger.period IS 'A month without a row is open.';

CREATE TABLE ledger.batch (
  batch_id     bigint PRIMARY KEY,
  entity       text NOT NULL,
  chain_no     bigint NOT NULL,
  connection   text NOT NULL,
  sync_date    date NOT NULL,
  run_id       text NOT NULL,
  posted_at    timestamptz NOT NULL,
  entry_count  bigint NOT NULL CHECK (entry_count > 0),
  line_count   bigint NOT NULL CHECK (line_count > 0),
  content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
  previous_hash bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
  hash         bytea NOT NULL CHECK (octet_length(hash) = 32),
  UNIQUE (entity, chain_no),
  UNIQUE (entity, previous_hash)
);
COMMENT ON TABLE ledger.batch IS 'What was posted in one transaction; hash = SHA-256(previous_hash, content_hash, header) chains the batches of an entity.';

CREATE SEQUENCE ledger.batch_id_seq;
CREATE SEQUENCE ledger.entry_id_seq;

CREATE TABLE ledger.entry (
  entry_id           bigint PRIMARY KEY,
  batch_id           bigint NOT NULL REFERENCES ledger.batch DEFERRABLE INITIALLY DEFERRED,
  entity             text NOT NULL,
  connection         text NOT NULL,
  stream             text NOT NULL,
  origin_id          text NOT NULL,
  record             text NOT NULL,
  source_id          text NOT NULL,
  rule               text NOT NULL,
  version            integer NOT NULL CHECK (version > 0),
  kind               text NOT NULL CHECK (kind IN ('original', 'replacement', 'reversal')),
  occurred_on        date NOT NULL,
  posted_on          date NOT NULL,
  is_prior_period    boolean NOT NULL DEFAULT false,
  raw_id             bigint NOT NULL,
  content_hash       bytea NOT NULL CHECK (octet_length(content_hash) = 32),
  mapping_version    text NOT NULL,
  rule_version       integer NOT NULL,
  corrects_entry_id  bigint,
  line_count         integer NOT NULL CHECK (line_count >= 1),
  fingerprint        bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
  version_at         timestamptz NOT NULL,
  transaction_id     xid8 NOT NULL DEFAULT pg_current_xact_id(),
  CHECK ((kind = 'original') = (corrects_entry_id IS NULL)),
  CHECK (is_prior_period OR posted_on = occurred_on OR kind = 'reversal')
);
COMMENT ON TABLE ledger.entry IS 'Journal entries. Never changed, never removed: a correction is a reversal and a replacement, linked by corrects_entry_id.';
COMMENT ON COLUMN ledger.entry.origin_id IS 'source_id in raw.record of the payload that it comes from (a refund''s origin is its order).';
COMMENT ON COLUMN ledger.entry.version IS '1 for the original; each replacement counts up; a reversal carries the version that it reverses.';
COMMENT ON COLUMN ledger.entry.fingerprint IS 'SHA-256 over occurred_on and the lines (role, currency, amount, base).';
CREATE UNIQUE INDEX entry_identity ON ledger.entry (connection, record, source_id, rule, entity, version, (kind = 'reversal'));
CREATE UNIQUE INDEX entry_reversed_once ON ledger.entry (corrects_entry_id) WHERE kind = 'reversal';
CREATE INDEX entry_origin ON ledger.entry (connection, stream, origin_id);
CREATE INDEX entry_batch ON ledger.entry (batch_id);

CREATE TABLE ledger.line (
  entry_id      bigint NOT NULL,
  line_no       integer NOT NULL CHECK (line_no >= 1),
  entity        text NOT NULL,
  posted_on     date NOT NULL,
  account       text NOT NULL,
  role          text NOT NULL,
  currency      text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  amount_minor  bigint NOT NULL,
  base_minor    bigint NOT NULL,
  CHECK (amount_minor <> 0 OR base_minor <> 0),
  PRIMARY KEY (entry_id, line_no)
);
COMMENT ON COLUMN ledger.line.amount_minor IS 'In minor units of currency; debit positive, credit negative.';
COMMENT ON COLUMN ledger.line.base_minor IS 'In minor units of the entity''s base currency; debit positive.';

-- The seal: what a role of the pipeline cannot do, whatever the code does.

CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%.% is append-only: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'restrict_violation', HINT = 'A correction is a reversal and a replacement.';
END $$;

CREATE TRIGGER entry_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.entry FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER line_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.line FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER batch_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.batch FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER record_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON raw.record FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER pull_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON raw.pull FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER seen_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON raw.seen FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER file_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON raw.file FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- Lines come with their entry, in one statement and in its transaction; set-based over the new rows.
CREATE FUNCTION ledger.check_lines() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  bad record;
BEGIN
  SELECT n.entry_id, n.lines, e.line_count, e.transaction_id INTO bad
    FROM (SELECT entry_id, count(*) AS lines, max(line_no) AS last, min(entity) AS entity, max(entity) AS entity_too,
                 min(posted_on) AS posted_on, max(posted_on) AS posted_on_too
            FROM new_lines GROUP BY entry_id) n
    LEFT JOIN ledger.entry e USING (entry_id)
   WHERE e.entry_id IS NULL OR e.transaction_id <> pg_current_xact_id() OR e.line_count <> n.lines OR n.last <> n.lines
      OR e.entity <> n.entity OR e.entity <> n.entity_too OR e.posted_on <> n.posted_on OR e.posted_on <> n.posted_on_too
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entry % takes no such lines: its % line(s), entity and posting date are sealed with it', bad.entry_id, bad.line_count
      USING ERRCODE = 'check_violation';
  END IF;
  SELECT entry_id, currency, sum(amount_minor) AS total INTO bad
    FROM new_lines GROUP BY entry_id, currency HAVING sum(amount_minor) <> 0 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entry % is unbalanced by % % minor units', bad.entry_id, bad.total, bad.currency USING ERRCODE = 'check_violation';
  END IF;
  SELECT entry_id, sum(base_minor) AS total INTO bad FROM new_lines GROUP BY entry_id HAVING sum(base_minor) <> 0 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entry % is unbalanced by % minor units in base', bad.entry_id, bad.total USING ERRCODE = 'check_violation';
  END IF;
  SELECT n.entity, n.account INTO bad
    FROM (SELECT DISTINCT entity, account FROM new_lines) n
    LEFT JOIN ledger.account a ON a.entity = n.entity AND a.code = n.account AND a.is_active
   WHERE a.code IS NULL LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'account % of entity % is unknown or inactive', bad.account, bad.entity USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER lines_balance AFTER INSERT ON ledger.line REFERENCING NEW TABLE AS new_lines FOR EACH STATEMENT EXECUTE FUNCTION ledger.check_lines();

-- A batch is written last and seals its entries: each has all its lines, none stands in a closed period, each has its source.
CREATE FUNCTION ledger.check_batch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  bad record;
  entries bigint;
  lines bigint;
BEGIN
  SELECT count(*), sum(line_count) INTO entries, lines FROM ledger.entry WHERE batch_id = NEW.batch_id;
  IF entries <> NEW.entry_count OR lines <> NEW.line_count THEN
    RAISE EXCEPTION 'batch % states % entries with % lines but holds % with %', NEW.batch_id, NEW.entry_count, NEW.line_count, entries, lines
      USING ERRCODE = 'check_violation';
  END IF;
  SELECT count(*) INTO lines FROM ledger.line l JOIN ledger.entry e USING (entry_id) WHERE e.batch_id = NEW.batch_id;
  IF lines <> NEW.line_count THEN
    RAISE EXCEPTION 'batch % states % lines but % were written', NEW.batch_id, NEW.line_count, lines USING ERRCODE = 'check_violation';
  END IF;
  SELECT e.entry_id, e.posted_on, e.entity INTO bad
    FROM ledger.entry e JOIN ledger.period p ON p.entity = e.entity AND p.month = date_trunc('month', e.posted_on)::date
   WHERE e.batch_id = NEW.batch_id AND p.state = 'closed' LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entry % is dated % but that period of % is closed', bad.entry_id, bad.posted_on, bad.entity USING ERRCODE = 'check_violation';
  END IF;
  SELECT e.entry_id INTO bad FROM ledger.entry e LEFT JOIN raw.record r ON r.raw_id = e.raw_id AND r.content_hash = e.content_hash
   WHERE e.batch_id = NEW.batch_id AND r.raw_id IS NULL LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entry % has no landed source record', bad.entry_id USING ERRCODE = 'check_violation';
  END IF;
  SELECT entry_id INTO bad FROM ledger.entry WHERE batch_id = NEW.batch_id AND entity <> NEW.entity LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entry % belongs to another entity than its batch', bad.entry_id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER batch_seals AFTER INSERT ON ledger.batch FOR EACH ROW EXECUTE FUNCTION ledger.check_batch();

CREATE FUNCTION ledger.check_entries() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  bad record;
BEGIN
  -- Two transactions with the same batch go one after the other: the second one sees that it is sealed.
  PERFORM pg_advisory_xact_lock(hashtextextended('ledger.batch', batch_id)) FROM (SELECT DISTINCT batch_id FROM new_entries) n;
  SELECT n.entry_id, n.batch_id INTO bad FROM new_entries n JOIN ledger.batch b USING (batch_id) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'batch % is sealed: entry % refused', bad.batch_id, bad.entry_id USING ERRCODE = 'check_violation';
  END IF;
  SELECT entry_id INTO bad FROM new_entries WHERE transaction_id <> pg_current_xact_id() LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entry % names another transaction', bad.entry_id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER entries_unsealed AFTER INSERT ON ledger.entry REFERENCING NEW TABLE AS new_entries FOR EACH STATEMENT EXECUTE FUNCTION ledger.check_entries();

CREATE VIEW ledger.live_entry AS
  SELECT e.* FROM ledger.entry e
   WHERE e.kind <> 'reversal'
     AND NOT EXISTS (SELECT 1 FROM ledger.entry r WHERE r.corrects_entry_id = e.entry_id AND r.kind = 'reversal');
COMMENT ON VIEW ledger.live_entry IS 'Entries that have not been reversed.';

CREATE VIEW ledger.balance AS
  SELECT entity, account, role, currency, sum(amount_minor)::bigint AS amount_minor, sum(base_minor)::bigint AS base_minor, count(*) AS lines
    FROM ledger.line GROUP BY entity, account, role, currency;

-- rights --------------------------------------------------------------------------------------------------------------

GRANT USAGE ON SCHEMA raw, staging, ledger, recon, push, ops TO ledger_pipeline_writer, ledger_pipeline_reader;
GRANT CREATE ON SCHEMA staging TO ledger_pipeline_owner;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA raw, ledger TO ledger_pipeline_writer;
GRANT UPDATE (name, is_active) ON ledger.account TO ledger_pipeline_writer;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA raw, ledger TO ledger_pipeline_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ops TO ledger_pipeline_writer;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA ops TO ledger_pipeline_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA raw, ledger, ops TO ledger_pipeline_reader;

-- staging: canonical rows, replaced per connection and sync date; columns as in ledger_pipeline/model/records.py -------

CREATE TABLE staging.document (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  stream  text NOT NULL,
  origin_id  text NOT NULL,
  version_at  timestamptz NOT NULL,
  units  integer NOT NULL,
  control_amount  numeric,
  control_currency  text,
  is_gone  boolean NOT NULL
);
CREATE INDEX document_by_day ON staging.document (connection, sync_date);
COMMENT ON TABLE staging.document IS 'The landed payloads that a sync date stages, one row each, with the amount that the source''s own totals count it with.';

CREATE TABLE staging.sale (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  order_number  text NOT NULL,
  occurred_at  timestamptz NOT NULL,
  state  text NOT NULL,
  channel  text,
  customer_id  text,
  jurisdiction  text,
  currency  text NOT NULL,
  total_minor  bigint NOT NULL,
  unpaid_minor  bigint NOT NULL,
  presentment_currency  text,
  presentment_minor  bigint
);
CREATE INDEX sale_by_day ON staging.sale (connection, sync_date);
COMMENT ON TABLE staging.sale IS 'An order that a customer placed. Posted when money was captured; until then it waits.';

CREATE TABLE staging.sale_line (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  line_no  bigint NOT NULL,
  line_id  text,
  role  text NOT NULL,
  sku  text,
  title  text,
  quantity  bigint NOT NULL,
  currency  text NOT NULL,
  net_minor  bigint NOT NULL,
  discount_minor  bigint NOT NULL
);
CREATE INDEX sale_line_by_day ON staging.sale_line (connection, sync_date);
COMMENT ON TABLE staging.sale_line IS 'What a sale consists of: goods, gift cards, shipping, tip.';

CREATE TABLE staging.sale_tax (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  line_no  bigint NOT NULL,
  jurisdiction  text NOT NULL,
  title  text,
  rate  numeric,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL,
  is_marketplace_liable  boolean NOT NULL,
  role  text NOT NULL
);
CREATE INDEX sale_tax_by_day ON staging.sale_tax (connection, sync_date);
COMMENT ON TABLE staging.sale_tax IS 'A tax on a sale.';

CREATE TABLE staging.sale_tender (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  line_no  bigint NOT NULL,
  tender_id  text,
  gateway  text NOT NULL,
  role  text NOT NULL,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL,
  settled_minor  bigint NOT NULL,
  settled_currency  text NOT NULL,
  payment_id  text
);
CREATE INDEX sale_tender_by_day ON staging.sale_tender (connection, sync_date);
COMMENT ON TABLE staging.sale_tender IS 'A captured payment on a sale, as the shop saw it.';

CREATE TABLE staging.refund (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  order_id  text NOT NULL,
  occurred_at  timestamptz NOT NULL,
  state  text NOT NULL,
  currency  text NOT NULL,
  total_minor  bigint NOT NULL
);
CREATE INDEX refund_by_day ON staging.refund (connection, sync_date);
COMMENT ON TABLE staging.refund IS 'Money or goods given back on a sale.';

CREATE TABLE staging.refund_line (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  line_no  bigint NOT NULL,
  line_id  text,
  role  text NOT NULL,
  quantity  bigint,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL
);
CREATE INDEX refund_line_by_day ON staging.refund_line (connection, sync_date);
COMMENT ON TABLE staging.refund_line IS 'What was given back: goods, shipping, goodwill.';

CREATE TABLE staging.refund_tax (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  line_no  bigint NOT NULL,
  jurisdiction  text NOT NULL,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL,
  role  text NOT NULL
);
CREATE INDEX refund_tax_by_day ON staging.refund_tax (connection, sync_date);
COMMENT ON TABLE staging.refund_tax IS 'Tax given back.';

CREATE TABLE staging.refund_tender (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  line_no  bigint NOT NULL,
  tender_id  text,
  gateway  text NOT NULL,
  role  text NOT NULL,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL,
  settled_minor  bigint NOT NULL,
  settled_currency  text NOT NULL
);
CREATE INDEX refund_tender_by_day ON staging.refund_tender (connection, sync_date);
COMMENT ON TABLE staging.refund_tender IS 'The way in which the money went back.';

CREATE TABLE staging.processor_transaction (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  processor  text NOT NULL,
  kind  text NOT NULL,
  occurred_at  timestamptz NOT NULL,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL,
  fee_minor  bigint NOT NULL,
  net_minor  bigint NOT NULL,
  role  text NOT NULL,
  source_object_id  text,
  settled_minor  bigint NOT NULL,
  settled_currency  text NOT NULL,
  exchange_rate  numeric,
  order_id  text,
  payout_id  text,
  description  text
);
CREATE INDEX processor_transaction_by_day ON staging.processor_transaction (connection, sync_date);
COMMENT ON TABLE staging.processor_transaction IS 'A movement of the balance that a payment processor keeps: charge, refund, dispute, payout, fee.';

CREATE TABLE staging.payout (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  processor  text NOT NULL,
  occurred_at  timestamptz NOT NULL,
  state  text NOT NULL,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL,
  arrives_on  date
);
CREATE INDEX payout_by_day ON staging.payout (connection, sync_date);
COMMENT ON TABLE staging.payout IS 'What a processor sent to the bank, or took from it. Its money is booked from the balance transaction; this is what matching refers to.';

CREATE TABLE staging.dispute (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  processor  text NOT NULL,
  opened_at  timestamptz NOT NULL,
  decided_at  timestamptz,
  state  text NOT NULL,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL,
  charge_id  text,
  order_id  text
);
CREATE INDEX dispute_by_day ON staging.dispute (connection, sync_date);
COMMENT ON TABLE staging.dispute IS 'A customer''s bank takes a payment back. Opening and winning move the balance (processor_transaction); losing is booked from here.';

CREATE TABLE staging.bank_transaction (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  account_id  text NOT NULL,
  booked_on  date NOT NULL,
  state  text NOT NULL,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL,
  description  text,
  reference  text,
  pending_id  text,
  bank_role  text NOT NULL,
  role  text NOT NULL
);
CREATE INDEX bank_transaction_by_day ON staging.bank_transaction (connection, sync_date);
COMMENT ON TABLE staging.bank_transaction IS 'A line on a bank account. Only booked lines are posted.';

CREATE TABLE staging.bank_balance (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  account_id  text NOT NULL,
  stated_on  date,
  kind  text NOT NULL,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL
);
CREATE INDEX bank_balance_by_day ON staging.bank_balance (connection, sync_date);
COMMENT ON TABLE staging.bank_balance IS 'A balance that the bank states.';

CREATE TABLE staging.party (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  kind  text NOT NULL,
  country  text
);
CREATE INDEX party_by_day ON staging.party (connection, sync_date);
COMMENT ON TABLE staging.party IS 'A customer or supplier, by id only: no personal data is staged.';

GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA staging TO ledger_pipeline_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA staging TO ledger_pipeline_reader;
