"""One measured day in a process of its own: `python -m ledger_pipeline_tests.bench.child URL COUNT [--rerun] [--warm URL]`; prints JSON."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.bench import company


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    parser.add_argument("--warm", help="a database in which a small day runs first, unmeasured")
    parser.add_argument("--rerun", action="store_true", help="the same day once more")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        company.warm_up()
        if given.warm:
            company.run(Database(given.warm), folder, 200)
        runs = [company.run(Database(given.url), folder, given.count)]
        if given.rerun:
            runs.append(company.run(Database(given.url), folder, given.count))
    print(json.dumps([asdict(ran) for ran in runs]))


if __name__ == "__main__":
    main()
