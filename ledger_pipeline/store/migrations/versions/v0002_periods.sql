-- Periods with a history, people's decisions, measures and refreshed exchange rates; the seal also covers reversals.

-- periods: every change is an event in a hash chain per entity; ledger.period is what they come to ---------------------------

CREATE TABLE ledger.period_event (
  entity         text NOT NULL,
  event_no       bigint NOT NULL CHECK (event_no > 0),
  month          date NOT NULL CHECK (extract(day FROM month) = 1),
  event          text NOT NULL CHECK (event IN ('closing', 'closed', 'reopened')),
  happened_at    timestamptz NOT NULL,
  by_whom        text NOT NULL CHECK (by_whom <> ''),
  reason         text NOT NULL DEFAULT '',
  entry_count    bigint,
  line_count     bigint,
  content_hash   bytea CHECK (octet_length(content_hash) = 32),
  checks         jsonb NOT NULL DEFAULT '[]',
  previous_hash  bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
  hash           bytea NOT NULL CHECK (octet_length(hash) = 32),
  PRIMARY KEY (entity, event_no),
  UNIQUE (entity, previous_hash),
  CHECK ((event = 'closed') = (content_hash IS NOT NULL AND entry_count IS NOT NULL AND line_count IS NOT NULL)),
  CHECK (event <> 'reopened' OR reason <> '')
);
COMMENT ON TABLE ledger.period_event IS 'Who closed or reopened a month, when and why; what was closed is hashed. Append-only.';
COMMENT ON COLUMN ledger.period_event.content_hash IS 'SHA-256 over the lines that are posted in the month (of closed ones).';
COMMENT ON COLUMN ledger.period_event.checks IS 'What was checked at closing: name, passed, what was found, and by whose word a failed one was accepted.';

CREATE TRIGGER period_event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.period_event
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- Whoever posts holds this lock shared until the end of the transaction, whoever changes a period holds it alone.
CREATE FUNCTION ledger.lock_periods(entity text, alone boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF alone THEN
    PERFORM pg_advisory_xact_lock(hashtextextended('ledger.period:' || entity, 0));
  ELSE
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('ledger.period:' || entity, 0));
  END IF;
END $$;

CREATE FUNCTION ledger.apply_period_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
  now_is text;
  becomes text;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN  -- an older snapshot wouldn't show what has closed since
    RAISE EXCEPTION 'a period changes in a READ COMMITTED transaction only' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM ledger.lock_periods(NEW.entity, true);
  SELECT state INTO now_is FROM ledger.period WHERE entity = NEW.entity AND month = NEW.month;
  now_is := coalesce(now_is, 'open');
  becomes := CASE NEW.event WHEN 'reopened' THEN 'open' ELSE NEW.event END;
  IF NOT ((now_is = 'open' AND becomes = 'closing') OR (now_is = 'closing' AND becomes IN ('closed', 'open'))
          OR (now_is = 'closed' AND becomes = 'open')) THEN
    RAISE EXCEPTION 'period % of % is %: it can''t become %', to_char(NEW.month, 'YYYY-MM'), NEW.entity, now_is, becomes
      USING ERRCODE = 'check_violation';
  END IF;
  INSERT INTO ledger.period (entity, month, state, changed_at, changed_by)
  VALUES (NEW.entity, NEW.month, becomes, NEW.happened_at, NEW.by_whom)
  ON CONFLICT (entity, month) DO UPDATE SET state = excluded.state, changed_at = excluded.changed_at, changed_by = excluded.changed_by;
  RETURN NULL;
END $$;
CREATE TRIGGER period_event_applies AFTER INSERT ON ledger.period_event FOR EACH ROW EXECUTE FUNCTION ledger.apply_period_event();
REVOKE INSERT ON ledger.period FROM ledger_pipeline_writer;

-- the seal: as in 0001, and no entry slips past a period that closes meanwhile, and a reversal mirrors what it reverses -------

CREATE OR REPLACE FUNCTION ledger.check_batch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  bad record;
  entries bigint;
  lines bigint;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN  -- an older snapshot wouldn't show what has closed since
    RAISE EXCEPTION 'a batch is sealed in a READ COMMITTED transaction only' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM ledger.lock_periods(NEW.entity, false);
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
  SELECT e.entry_id, e.corrects_entry_id INTO bad
    FROM ledger.entry e LEFT JOIN ledger.entry o ON o.entry_id = e.corrects_entry_id
   WHERE e.batch_id = NEW.batch_id AND e.corrects_entry_id IS NOT NULL
     AND (o.entry_id IS NULL OR o.kind = 'reversal'
          OR (e.entity, e.connection, e.record, e.source_id, e.rule) <> (o.entity, o.connection, o.record, o.source_id, o.rule)) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entry % corrects entry %, which is no earlier entry of the same record', bad.entry_id, bad.corrects_entry_id
      USING ERRCODE = 'check_violation';
  END IF;
  SELECT e.entry_id, e.corrects_entry_id INTO bad
    FROM ledger.entry e
   WHERE e.batch_id = NEW.batch_id AND e.kind = 'reversal'
     AND EXISTS (SELECT 1
                   FROM (SELECT * FROM ledger.line WHERE entry_id = e.entry_id) n
                   FULL JOIN (SELECT * FROM ledger.line WHERE entry_id = e.corrects_entry_id) o USING (line_no)
                  WHERE (n.account, n.role, n.currency, n.amount_minor, n.base_minor)
                        IS DISTINCT FROM (o.account, o.role, o.currency, -o.amount_minor, -o.base_minor)) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entry % is no reversal of entry %: their lines don''t mirror each other', bad.entry_id, bad.corrects_entry_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;

-- people's decisions and acts ------------------------------------------------------------------------------------------------

CREATE TABLE ops.decision (
  decision_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  raw_id       bigint NOT NULL,
  connection   text NOT NULL,
  stream       text NOT NULL,
  source_id    text NOT NULL,
  decision     text NOT NULL CHECK (decision IN ('ignore', 'withdrawn')),
  by_whom      text NOT NULL CHECK (by_whom <> ''),
  reason       text NOT NULL CHECK (reason <> ''),
  decided_at   timestamptz NOT NULL
);
COMMENT ON TABLE ops.decision IS 'What a person decided about one quarantined version of a record; the last one counts. Append-only.';
CREATE INDEX decision_of ON ops.decision (raw_id, decision_id);
CREATE TRIGGER decision_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.decision
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE TABLE ops.action (
  action_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  action      text NOT NULL,
  by_whom     text NOT NULL CHECK (by_whom <> ''),
  reason      text NOT NULL DEFAULT '',
  run_id      text NOT NULL,
  details     jsonb NOT NULL DEFAULT '{}',
  acted_at    timestamptz NOT NULL
);
COMMENT ON TABLE ops.action IS 'What people made the pipeline do beyond the nightly sync: replays, retries, month-end runs. Append-only.';
CREATE TRIGGER action_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.action
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- measures and rates ---------------------------------------------------------------------------------------------------------

CREATE TABLE ops.measure (
  connection   text NOT NULL,
  sync_date    date NOT NULL,
  measure      text NOT NULL CHECK (measure IN ('clearing', 'timeliness', 'completeness')),
  numerator    numeric NOT NULL,
  denominator  numeric NOT NULL,
  details      jsonb NOT NULL DEFAULT '{}',
  measured_at  timestamptz NOT NULL,
  PRIMARY KEY (connection, sync_date, measure)
);
COMMENT ON TABLE ops.measure IS 'How complete, timely and cleared a connection''s records were at the end of a sync date; the share is numerator / denominator.';

CREATE TABLE ledger.rate (
  day         date NOT NULL,
  currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  per_euro    numeric NOT NULL CHECK (per_euro > 0 AND per_euro <> 'NaN'),
  source      text NOT NULL,
  fetched_at  timestamptz NOT NULL,
  PRIMARY KEY (day, currency)
);
COMMENT ON TABLE ledger.rate IS 'Reference rates that were fetched after the history that comes with the package ends. Append-only.';
CREATE TRIGGER rate_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.rate
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- pulls that have begun: what one saw that never ended is decided when a later one has ended --------------------------------

CREATE TABLE raw.attempt (
  pull_id     bigint PRIMARY KEY,
  connection  text NOT NULL,
  stream      text NOT NULL,
  sync_date   date NOT NULL,
  run_id      text NOT NULL,
  started_at  timestamptz NOT NULL
);
COMMENT ON TABLE raw.attempt IS 'Every pull that has begun; one without a row in raw.pull did not end. Append-only.';
CREATE INDEX attempt_by_day ON raw.attempt (connection, sync_date);
CREATE TRIGGER attempt_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON raw.attempt
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE INDEX line_by_day ON ledger.line USING brin (posted_on) WITH (pages_per_range = 32);

GRANT SELECT, INSERT ON raw.attempt, ledger.period_event, ledger.rate, ops.decision, ops.action TO ledger_pipeline_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON ops.measure TO ledger_pipeline_writer;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA ops TO ledger_pipeline_writer;
GRANT SELECT ON raw.attempt, ledger.period_event, ledger.rate, ops.decision, ops.action, ops.measure TO ledger_pipeline_reader;
