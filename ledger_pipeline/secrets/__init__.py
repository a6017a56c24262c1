"""Where secrets come from: references in ledger.yaml, and the environment, files, AWS Secrets Manager and Vault that they lead to."""
