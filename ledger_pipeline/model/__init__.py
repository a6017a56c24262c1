"""What money, records, accounts, entries and rules are. Pure: no input or output, no Dagster, no environment."""
