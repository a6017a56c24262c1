"""What Dagster loads: the assets, checks, jobs, schedule and sensors of the connections in ledger.yaml. Nothing else happens here."""

from ledger_pipeline.orchestration.build import build_defs

defs = build_defs()
