-- The seal looks at new lines once, and staging tells which payloads deliver the same record.

-- As in 0001, by one pass over the lines. Nearly always that finds nothing; else it is looked for what is wrong, to say so.
CREATE OR REPLACE FUNCTION ledger.check_lines() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  bad record;
BEGIN
  PERFORM 1
     FROM (SELECT entry_id, sum(lines) AS lines, max(last) AS last, min(entity) AS entity, max(entity_too) AS entity_too,
                  min(posted_on) AS posted_on, max(posted_on_too) AS posted_on_too, bool_or(amount <> 0) AS is_unbalanced, sum(base) AS base
             FROM (SELECT entry_id, count(*) AS lines, max(line_no) AS last, min(entity) AS entity, max(entity) AS entity_too,
                          min(posted_on) AS posted_on, max(posted_on) AS posted_on_too, sum(amount_minor) AS amount, sum(base_minor) AS base
                     FROM new_lines GROUP BY entry_id, currency) by_currency
            GROUP BY entry_id) n
     LEFT JOIN ledger.entry e USING (entry_id)
    WHERE e.entry_id IS NULL OR e.transaction_id <> pg_current_xact_id() OR e.line_count <> n.lines OR n.last <> n.lines
       OR e.entity <> n.entity OR e.entity <> n.entity_too OR e.posted_on <> n.posted_on OR e.posted_on <> n.posted_on_too
       OR n.is_unbalanced OR n.base <> 0
    LIMIT 1;
  IF FOUND THEN
    SELECT n.entry_id, e.line_count INTO bad
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

ALTER TABLE ops.staged ADD COLUMN shared bigint[];
COMMENT ON COLUMN ops.staged.shared IS
  'raw_ids of the payloads that deliver a record which another payload of the day, or the same one, delivers too; null: not looked for.';

COMMENT ON TABLE ops.endpoint_event IS
  'An endpoint that answered 410, or took nothing for days, is disabled until a person enables it. The last row counts. Append-only.';
