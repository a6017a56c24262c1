-- Webhooks in. An event is kept for good, so that its id is known for good; marks say up to where events have been looked after.

CREATE TABLE ops.webhook_event (
  event_no     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  connection   text NOT NULL,
  event_id     text NOT NULL,
  topic        text NOT NULL,
  subject      text NOT NULL,
  occurred_at  timestamptz NOT NULL,
  received_at  timestamptz NOT NULL,
  stored_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  secret_no    smallint NOT NULL,
  body_hash    bytea NOT NULL CHECK (length(body_hash) = 32),
  body_size    integer NOT NULL,
  body         bytea,
  once_by      bytea
);
COMMENT ON TABLE ops.webhook_event IS 'Signed webhooks, each once. Numbers are given under a lock: in the order in which they were committed. Append-only.';
COMMENT ON COLUMN ops.webhook_event.body IS 'Exactly as received; null where the source says that it isn''t kept.';
COMMENT ON COLUMN ops.webhook_event.secret_no IS 'Which of the connection''s secrets had signed it, from 1.';
COMMENT ON COLUMN ops.webhook_event.once_by IS 'The body''s hash where the provider doesn''t sign its id: the same body isn''t taken again under another id.';
CREATE UNIQUE INDEX webhook_event_once ON ops.webhook_event (connection, event_id);
CREATE UNIQUE INDEX webhook_event_once_by_body ON ops.webhook_event (connection, once_by) WHERE once_by IS NOT NULL;
CREATE INDEX webhook_event_waiting ON ops.webhook_event (connection, event_no);

CREATE TABLE ops.webhook_mark (
  mark_no     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  connection  text NOT NULL,
  through     bigint NOT NULL,
  outcome     text NOT NULL CHECK (outcome IN ('pulled', 'nothing to pull', 'left to the night')),
  run_id      text NOT NULL,
  marked_at   timestamptz NOT NULL
);
COMMENT ON TABLE ops.webhook_mark IS 'The events of a connection up to this number wait no longer. Append-only.';
CREATE INDEX webhook_mark_through ON ops.webhook_mark (connection, through);

CREATE TRIGGER webhook_event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.webhook_event FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER webhook_mark_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.webhook_mark FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- Events out. An event is written in the transaction that does what it tells of; ops.outbox is what is still to be delivered to whom.

CREATE TABLE ops.event (
  event_no     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event_id     text NOT NULL UNIQUE DEFAULT 'evt_' || replace(gen_random_uuid()::text, '-', ''),
  type         text NOT NULL,
  entity       text NOT NULL,
  subject      text NOT NULL,
  data         json NOT NULL,
  happened_at  timestamptz NOT NULL
);
COMMENT ON TABLE ops.event IS 'What others are told: ids, amounts and hashes, no personal data. Append-only.';

CREATE INDEX event_gate_closed ON ops.event (subject, event_no) WHERE type = 'gate.closed';

CREATE TABLE ops.outbox (
  event_no  bigint NOT NULL REFERENCES ops.event,
  endpoint  text NOT NULL,
  subject   text NOT NULL,
  state     text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
  attempts  integer NOT NULL DEFAULT 0,
  due_at    timestamptz NOT NULL,
  PRIMARY KEY (event_no, endpoint)
);
COMMENT ON TABLE ops.outbox IS 'Which endpoint gets an event, and how far that is.';
CREATE INDEX outbox_due ON ops.outbox (endpoint, due_at) WHERE state = 'pending';
CREATE INDEX outbox_order ON ops.outbox (endpoint, subject, event_no) WHERE state = 'pending';

CREATE TABLE ops.delivery (
  delivery_no   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event_no      bigint NOT NULL,
  endpoint      text NOT NULL,
  attempt       integer NOT NULL,
  outcome       text NOT NULL CHECK (outcome IN ('delivered', 'failed', 'gone')),
  status        integer,
  error         text NOT NULL DEFAULT '',
  duration_ms   integer NOT NULL,
  attempted_at  timestamptz NOT NULL
);
COMMENT ON TABLE ops.delivery IS 'Every attempt to deliver an event. Append-only.';
CREATE INDEX delivery_of_event ON ops.delivery (event_no, endpoint);

CREATE TABLE ops.endpoint_event (
  endpoint_event_no  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  endpoint           text NOT NULL,
  event              text NOT NULL CHECK (event IN ('disabled', 'enabled')),
  reason             text NOT NULL,
  happened_at        timestamptz NOT NULL
);
COMMENT ON TABLE ops.endpoint_event IS 'An endpoint that answered 410 is disabled until a person enables it. The last row counts. Append-only.';
CREATE INDEX endpoint_event_of ON ops.endpoint_event (endpoint, endpoint_event_no);

CREATE TRIGGER event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.event FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER delivery_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.delivery FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER endpoint_event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.endpoint_event FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

GRANT SELECT, INSERT ON ops.webhook_event, ops.webhook_mark, ops.event, ops.delivery, ops.endpoint_event TO ledger_pipeline_writer;
GRANT SELECT, INSERT, UPDATE ON ops.outbox TO ledger_pipeline_writer;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA ops TO ledger_pipeline_writer;
GRANT SELECT ON ops.webhook_event, ops.webhook_mark, ops.event, ops.outbox, ops.delivery, ops.endpoint_event TO ledger_pipeline_reader;
