"""What Dagster loads: the assets, checks, jobs, schedule and sensors of the connections in ledger.yaml. Nothing else happens here."""

import gc

was_collecting = gc.isenabled()
gc.disable()  # what is loaded stays: walking over it again and again takes a seventh of the loading and finds nothing
try:
    from ledger_pipeline.orchestration.build import build_defs

    defs = build_defs()
finally:
    if was_collecting:
        gc.enable()
