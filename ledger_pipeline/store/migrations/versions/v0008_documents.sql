-- Staging tables of the records invoice, bill and pay_run, with their parts; columns as records.py declares them.

CREATE TABLE staging.invoice (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  number  text NOT NULL,
  issued_on  date NOT NULL,
  due_on  date,
  state  text NOT NULL,
  customer_id  text,
  reduces  text,
  currency  text NOT NULL,
  total_minor  bigint NOT NULL
);
CREATE INDEX invoice_by_day ON staging.invoice (connection, sync_date);
COMMENT ON TABLE staging.invoice IS 'What a customer is billed; a credit note is one with a negative total.';

CREATE TABLE staging.invoice_line (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  line_no  bigint NOT NULL,
  role  text NOT NULL,
  currency  text NOT NULL,
  net_minor  bigint NOT NULL
);
CREATE INDEX invoice_line_by_day ON staging.invoice_line (connection, sync_date);
COMMENT ON TABLE staging.invoice_line IS 'What an invoice is for.';

CREATE TABLE staging.invoice_tax (
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
CREATE INDEX invoice_tax_by_day ON staging.invoice_tax (connection, sync_date);
COMMENT ON TABLE staging.invoice_tax IS 'A tax on an invoice.';

CREATE TABLE staging.bill (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  number  text NOT NULL,
  issued_on  date NOT NULL,
  due_on  date,
  state  text NOT NULL,
  supplier_id  text,
  reduces  text,
  currency  text NOT NULL,
  total_minor  bigint NOT NULL
);
CREATE INDEX bill_by_day ON staging.bill (connection, sync_date);
COMMENT ON TABLE staging.bill IS 'What a supplier bills; a credit note is one with a negative total.';

CREATE TABLE staging.bill_line (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  line_no  bigint NOT NULL,
  role  text NOT NULL,
  currency  text NOT NULL,
  net_minor  bigint NOT NULL
);
CREATE INDEX bill_line_by_day ON staging.bill_line (connection, sync_date);
COMMENT ON TABLE staging.bill_line IS 'What a bill is for.';

CREATE TABLE staging.bill_tax (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  line_no  bigint NOT NULL,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL,
  role  text NOT NULL
);
CREATE INDEX bill_tax_by_day ON staging.bill_tax (connection, sync_date);
COMMENT ON TABLE staging.bill_tax IS 'A tax on a bill that is reclaimed.';

CREATE TABLE staging.pay_run (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  paid_on  date NOT NULL,
  state  text NOT NULL,
  currency  text NOT NULL,
  gross_minor  bigint NOT NULL,
  net_minor  bigint NOT NULL
);
CREATE INDEX pay_run_by_day ON staging.pay_run (connection, sync_date);
COMMENT ON TABLE staging.pay_run IS 'What a payroll comes to, by account; it says nothing of a single employee.';

CREATE TABLE staging.pay_run_line (
  connection  text NOT NULL,
  sync_date  date NOT NULL,
  raw_id  bigint NOT NULL,
  source_id  text NOT NULL,
  line_no  bigint NOT NULL,
  role  text NOT NULL,
  department  text,
  currency  text NOT NULL,
  amount_minor  bigint NOT NULL
);
CREATE INDEX pay_run_line_by_day ON staging.pay_run_line (connection, sync_date);
COMMENT ON TABLE staging.pay_run_line IS 'What a pay run moves on one account.';

GRANT SELECT, INSERT, DELETE ON staging.invoice, staging.invoice_line, staging.invoice_tax, staging.bill, staging.bill_line, staging.bill_tax,
  staging.pay_run, staging.pay_run_line TO ledger_pipeline_writer;
GRANT SELECT ON staging.invoice, staging.invoice_line, staging.invoice_tax, staging.bill, staging.bill_line, staging.bill_tax,
  staging.pay_run, staging.pay_run_line TO ledger_pipeline_reader;
