"""PostgreSQL: the embedded server, migrations, roles, and one module per schema. `journal` is the only write path to the ledger."""
