"""Measured days in a process of their own: `python -m ledger_pipeline_tests.bench.child COUNT URL… [--rerun] [--warm URL]`; prints JSON."""

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
    parser.add_argument("count", type=int)
    parser.add_argument("urls", nargs="+", help="one day in each of these databases, in turn")
    parser.add_argument("--warm", help="a database in which a small day runs first, unmeasured")
    parser.add_argument("--rerun", action="store_true", help="the same day once more")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        company.warm_up()
        if given.warm:
            company.run(Database(given.warm), folder, 200)
        times = 2 if given.rerun else 1
        runs = [company.run(Database(url), folder, given.count) for url in given.urls for _ in range(times)]
    print(json.dumps([asdict(ran) for ran in runs]))


if __name__ == "__main__":
    main()
