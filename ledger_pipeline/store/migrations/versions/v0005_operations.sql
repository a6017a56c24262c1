-- Alerts and their deliveries, what became of attempts and steps, and the history of health.

CREATE TABLE ops.alert (
  alert_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event_key    text NOT NULL UNIQUE,
  fingerprint  text NOT NULL,
  kind         text NOT NULL,
  severity     text NOT NULL CHECK (severity IN ('warning', 'error')),
  connection   text NOT NULL DEFAULT '',
  partition    text NOT NULL DEFAULT '',
  sentence     text NOT NULL,
  link         text NOT NULL DEFAULT '',
  run_id       text NOT NULL DEFAULT '',
  noticed_at   timestamptz NOT NULL,
  folded_into  bigint REFERENCES ops.alert
);
COMMENT ON TABLE ops.alert IS 'Everything that somebody should hear of, each occurrence once; one that repeats an earlier one within the window is folded into it.';
CREATE INDEX alert_repeats ON ops.alert (fingerprint, noticed_at DESC) WHERE folded_into IS NULL;
CREATE INDEX alert_folded ON ops.alert (folded_into) WHERE folded_into IS NOT NULL;

CREATE TABLE ops.alert_delivery (
  alert_id    bigint NOT NULL REFERENCES ops.alert,
  channel     text NOT NULL,
  state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'failed')),
  attempts    integer NOT NULL DEFAULT 0,
  next_at     timestamptz NOT NULL,
  sent_at     timestamptz,
  message_id  text NOT NULL DEFAULT '',
  error       text NOT NULL DEFAULT '',
  PRIMARY KEY (alert_id, channel)
);
COMMENT ON TABLE ops.alert_delivery IS 'How an alert reached a channel; alerts of one summary share its message_id.';
CREATE INDEX delivery_due ON ops.alert_delivery (channel, next_at) WHERE state = 'pending';
CREATE INDEX delivery_sent ON ops.alert_delivery (channel, sent_at) WHERE state = 'sent';

CREATE TABLE ops.pull_failure (
  pull_id       bigint PRIMARY KEY,
  ended_at      timestamptz NOT NULL,
  pages         integer NOT NULL,
  records       bigint NOT NULL,
  calls         integer NOT NULL,
  retries       integer NOT NULL,
  cause         text NOT NULL,
  is_transient  boolean NOT NULL,
  error         text NOT NULL
);
COMMENT ON TABLE ops.pull_failure IS 'Why an attempt of raw.attempt did not become a pull. One that was killed has no row here either.';

CREATE TABLE ops.sync_step (
  step_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_id        text NOT NULL,
  connection    text NOT NULL,
  sync_date     date NOT NULL,
  step          text NOT NULL CHECK (step IN ('stage', 'check', 'post')),
  started_at    timestamptz NOT NULL,
  ended_at      timestamptz NOT NULL,
  details       jsonb NOT NULL DEFAULT '{}',
  cause         text NOT NULL DEFAULT '',
  is_transient  boolean NOT NULL DEFAULT false,
  error         text NOT NULL DEFAULT ''
);
COMMENT ON TABLE ops.sync_step IS 'What staging, checking and posting of a connection''s day did in a run: versions, rows, refusals, entries, or the error.';
CREATE INDEX sync_step_by_day ON ops.sync_step (connection, sync_date);
CREATE INDEX sync_step_by_run ON ops.sync_step (run_id);

CREATE TABLE ops.health (
  health_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  checked_at  timestamptz NOT NULL,
  subject     text NOT NULL,
  state       text NOT NULL CHECK (state IN ('ok', 'warn', 'fail', 'sandbox')),
  sentence    text NOT NULL,
  details     jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE ops.health IS 'What every look at a connection, the database, the disk, the daemons and the queue has found.';
CREATE INDEX health_by_subject ON ops.health (subject, checked_at DESC);
CREATE INDEX health_by_time ON ops.health (checked_at DESC);

CREATE VIEW ops.sync_log AS
  SELECT a.run_id, a.connection, a.sync_date, 'pull' AS step, a.stream, a.started_at, coalesce(p.ended_at, f.ended_at) AS ended_at,
         coalesce(p.records, f.records) AS records, coalesce(p.landed, 0) AS landed, coalesce(f.is_transient, false) AS is_transient, coalesce(p.calls, f.calls) AS calls,
         coalesce(p.retries, f.retries) AS retries, coalesce(p.pages, f.pages) AS pages,
         CASE WHEN p.pull_id IS NOT NULL THEN 'ended' WHEN f.pull_id IS NOT NULL THEN 'failed' ELSE 'cut off' END AS outcome,
         coalesce(f.cause, '') AS cause, coalesce(f.error, '') AS error, coalesce(p.notes, '{}') AS details
    FROM raw.attempt a LEFT JOIN raw.pull p USING (pull_id) LEFT JOIN ops.pull_failure f USING (pull_id)
  UNION ALL
  SELECT run_id, connection, sync_date, step, '', started_at, ended_at, (details->>'records')::bigint, NULL, is_transient, NULL, NULL, NULL,
         CASE WHEN error = '' THEN 'ended' ELSE 'failed' END, cause, error, details
    FROM ops.sync_step;
COMMENT ON VIEW ops.sync_log IS 'Per run, connection and sync date: every attempt to pull a stream, and what staging, checking and posting did. A running attempt shows as cut off.';

GRANT SELECT, INSERT, UPDATE ON ops.alert_delivery TO ledger_pipeline_writer;
GRANT SELECT, INSERT ON ops.alert, ops.pull_failure, ops.sync_step, ops.health TO ledger_pipeline_writer;
GRANT DELETE ON ops.health TO ledger_pipeline_writer;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA ops TO ledger_pipeline_writer;
GRANT SELECT ON ops.alert, ops.alert_delivery, ops.pull_failure, ops.sync_step, ops.health, ops.sync_log TO ledger_pipeline_reader;
GRANT SELECT ON ops.sync_log TO ledger_pipeline_writer;
