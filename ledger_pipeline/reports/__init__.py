"""What the ledger says, as tables."""
