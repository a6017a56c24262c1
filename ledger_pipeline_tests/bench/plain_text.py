"""Row 3: posting and checking a day, against programs that read and check the same journal as text."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.bench.machine import Machine, seconds_of
from ledger_pipeline_tests.bench.table import Row, by_step, judged, seconds, unmeasured

GOAL = ">= 5 x faster"
_JOURNAL = """
SELECT e.entry_id, e.occurred_on::text, e.source_id, l.role, l.currency, l.amount_minor
  FROM ledger.entry e JOIN ledger.line l USING (entry_id) ORDER BY e.entry_id, l.line_no
"""


def rows(machine: Machine, orders: int, runs: int) -> list[Row]:
    """Medians of check + post, and of each program that is there."""
    measure = f"{orders:,} entries checked and posted, against plain-text accounting"
    programs: dict[str, list[str]] = {}
    if shutil.which("hledger"):
        programs["hledger"] = ["hledger", "check", "-f"]
    if find_spec("beancount"):
        programs["bean-check"] = [
            sys.executable,
            "-c",
            "from beancount.scripts.check import main; main()",
            "--no-cache",
        ]
    if not programs:
        return [unmeasured("3", measure, GOAL, "neither hledger nor beancount is installed")]
    with tempfile.TemporaryDirectory() as folder:
        databases = [machine.database() for _ in range(runs)]
        days = machine.days(databases, orders)
        lines = write_journals(databases[0], Path(folder))
        for database in databases:
            machine.drop(database)
        theirs = {
            name: statistics.median(seconds_of([*command, str(Path(folder) / name)]) for _ in range(runs))
            for name, command in programs.items()
        }
    ours = [{name: ran.seconds[name] for name in ("check", "post")} for ran in days]
    mine, fastest = statistics.median(sum(one.values()) for one in ours), min(theirs.values())
    used = statistics.median(ran.cpu["check"] + ran.cpu["post"] for ran in days)
    named = ", ".join(f"{name} {seconds(taken)}" for name, taken in theirs.items())
    absent = "".join(f"; {name} isn't installed" for name in ("hledger", "bean-check") if name not in programs)
    return [
        judged("3", measure, f"{fastest / mine:.1f} x faster", GOAL, fastest >= 5 * mine,
               f"{lines:,} lines in {seconds(mine)} ({by_step(ours)}; Python's CPU {used:.2f} s) against {named}{absent}"),
    ]  # fmt: skip


def write_journals(database: Database, folder: Path) -> int:
    """The posted entries in both programs' formats; returns the number of lines."""
    accounts: set[str] = set()
    bean: list[str] = []
    hledger: list[str] = []
    last = None
    count = 0
    with database.connect("reader") as connection, connection.cursor(name="journal") as cursor:
        cursor.itersize = 50_000
        cursor.execute(_JOURNAL)  # type: ignore[call-overload]
        for entry, day, source_id, role, currency, minor in cursor:
            if entry != last:
                bean.append(f'\n{day} * "{source_id}"\n')
                hledger.append(f"\n{day} {source_id}\n")
                last = entry
            account = "Assets:" + "-".join(part.title() for part in role.replace("_", "-").replace(":", "-").split("-"))
            accounts.add(account)
            amount = f"{'-' if minor < 0 else ''}{abs(minor) // 100}.{abs(minor) % 100:02d} {currency}"
            posting = f"  {account}  {amount}\n"
            bean.append(posting)
            hledger.append(posting)
            count += 1
    opened = "".join(f"2020-01-01 open {account}\n" for account in sorted(accounts))
    (folder / "bean-check").write_text(opened + "".join(bean))
    (folder / "hledger").write_text("".join(hledger))
    return count
