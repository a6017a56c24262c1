-- Matches between members of clearing accounts. What is found, joined and decided is appended; recon.used is what it comes to.

CREATE SEQUENCE recon.match_id_seq;
CREATE TABLE recon.match (
  match_id       bigint PRIMARY KEY,
  entity         text NOT NULL,
  role           text NOT NULL,
  currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  kind           text NOT NULL CHECK (kind IN ('exact', 'reference', 'scored', 'subset')),
  score          integer NOT NULL CHECK (score BETWEEN 0 AND 1000),
  reasons        text[] NOT NULL,
  is_suggestion  boolean NOT NULL,
  run_id         text NOT NULL,
  made_at        timestamptz NOT NULL
);
COMMENT ON TABLE recon.match IS 'Members that belong together, and why; a suggestion counts once a person accepts it. Append-only.';
COMMENT ON COLUMN recon.match.score IS 'From 0 to 1000.';
CREATE INDEX match_of_entity ON recon.match (entity, role, currency);

CREATE TABLE recon.member (
  match_id      bigint NOT NULL REFERENCES recon.match,
  connection    text NOT NULL,
  record        text NOT NULL,
  source_id     text NOT NULL,
  amount_minor  bigint NOT NULL,
  reason        text NOT NULL DEFAULT '',
  run_id        text NOT NULL,
  joined_at     timestamptz NOT NULL,
  PRIMARY KEY (match_id, connection, record, source_id)
);
COMMENT ON TABLE recon.member IS 'The records of a match, whatever version of them stands in the books. Some join later. Append-only.';
COMMENT ON COLUMN recon.member.amount_minor IS 'What it had on the account when it joined.';
COMMENT ON COLUMN recon.member.reason IS 'Why it joined an earlier match; empty for those that made it.';

CREATE TABLE recon.event (
  event_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  match_id     bigint NOT NULL REFERENCES recon.match,
  event        text NOT NULL CHECK (event IN ('accepted', 'rejected', 'dissolved')),
  by_whom      text NOT NULL CHECK (by_whom <> ''),
  reason       text NOT NULL DEFAULT '',
  run_id       text NOT NULL,
  happened_at  timestamptz NOT NULL
);
COMMENT ON TABLE recon.event IS 'What became of a match: accepted or rejected by a person, or dissolved. Append-only.';
CREATE UNIQUE INDEX event_accepts_once ON recon.event (match_id) WHERE event = 'accepted';
CREATE UNIQUE INDEX event_ends_once ON recon.event (match_id) WHERE event <> 'accepted';

CREATE TABLE recon.used (
  entity      text NOT NULL,
  role        text NOT NULL,
  currency    text NOT NULL,
  connection  text NOT NULL,
  record      text NOT NULL,
  source_id   text NOT NULL,
  match_id    bigint NOT NULL,
  PRIMARY KEY (entity, role, currency, connection, record, source_id)
);
COMMENT ON TABLE recon.used IS 'Which match uses a member now: at most one. Only triggers write it.';
CREATE INDEX used_by ON recon.used (match_id);

CREATE VIEW recon.live_match AS
  SELECT m.*, CASE WHEN m.is_suggestion AND a.event_id IS NULL THEN 'suggested' ELSE 'matched' END AS state,
         coalesce(a.by_whom, 'engine') AS decided_by
    FROM recon.match m LEFT JOIN recon.event a ON a.match_id = m.match_id AND a.event = 'accepted'
   WHERE NOT EXISTS (SELECT 1 FROM recon.event e WHERE e.match_id = m.match_id AND e.event <> 'accepted');
COMMENT ON VIEW recon.live_match IS 'Matches and suggestions that were neither rejected nor dissolved.';

CREATE TRIGGER match_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON recon.match FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER member_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON recon.member FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON recon.event FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE FUNCTION recon.use_members() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
  bad record;
BEGIN
  PERFORM 1 FROM recon.match WHERE match_id IN (SELECT match_id FROM new_members) ORDER BY match_id FOR SHARE;
  SELECT n.match_id INTO bad FROM new_members n JOIN recon.event e USING (match_id) WHERE e.event <> 'accepted' LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'match % has ended: no member joins it', bad.match_id USING ERRCODE = 'check_violation';
  END IF;
  INSERT INTO recon.used (entity, role, currency, connection, record, source_id, match_id)
  SELECT l.entity, l.role, l.currency, n.connection, n.record, n.source_id, n.match_id
    FROM new_members n JOIN recon.live_match l USING (match_id) WHERE l.state = 'matched';
  RETURN NULL;
END $$;
CREATE TRIGGER members_are_used_once AFTER INSERT ON recon.member REFERENCING NEW TABLE AS new_members
  FOR EACH STATEMENT EXECUTE FUNCTION recon.use_members();

CREATE FUNCTION recon.apply_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
  made record;
BEGIN
  SELECT * INTO made FROM recon.match WHERE match_id = NEW.match_id FOR UPDATE;
  IF NEW.event = 'accepted' THEN
    IF NOT made.is_suggestion OR EXISTS (SELECT 1 FROM recon.event WHERE match_id = NEW.match_id AND event <> 'accepted') THEN
      RAISE EXCEPTION 'match % is no open suggestion: it can''t be accepted', NEW.match_id USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO recon.used (entity, role, currency, connection, record, source_id, match_id)
    SELECT made.entity, made.role, made.currency, connection, record, source_id, match_id FROM recon.member WHERE match_id = NEW.match_id;
  ELSE
    DELETE FROM recon.used WHERE match_id = NEW.match_id;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER event_applies AFTER INSERT ON recon.event FOR EACH ROW EXECUTE FUNCTION recon.apply_event();

GRANT SELECT, INSERT ON recon.match, recon.member, recon.event TO ledger_pipeline_writer;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA recon TO ledger_pipeline_writer;
GRANT SELECT ON recon.used, recon.live_match TO ledger_pipeline_writer;
GRANT SELECT ON recon.match, recon.member, recon.event, recon.used, recon.live_match TO ledger_pipeline_reader;
