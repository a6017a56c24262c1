"""What people see beside an asset: schemas, mappings, rows, money by currency. Never a payload, a name or a key."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from ledger_pipeline.connect.mapping import readable
from ledger_pipeline.connect.source import Source
from ledger_pipeline.model.money import DIGITS, from_minor
from ledger_pipeline.model.records import RECORDS, SQL, Record
from ledger_pipeline.model.rules import RULES
from ledger_pipeline.orchestration.steps import PostedDay
from ledger_pipeline.store.raw import Pull


def table(rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...]) -> dg.MarkdownMetadataValue:
    """Rows as a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += [
        "| " + " | ".join(str(row.get(c, "")).replace("|", "\\|").replace("\n", " ") for c in columns) + " |"
        for row in rows
    ]
    return dg.MetadataValue.md("\n".join(lines))


def record_schema(record: Record) -> dg.TableSchema:
    """The staging table's columns with their meaning."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                f.name,
                SQL[f.kind],
                description=f.doc,
                constraints=dg.TableColumnConstraints(nullable=not f.is_required),
            )
            for f in record.columns
        ]
    )


def mapping_rows(source: Source, record: str) -> list[Mapping[str, Any]]:
    """The lines of the mapping that fill a record."""
    return [
        {"stream": stream, **row, "target": row["target"].partition(".")[2]}
        for stream, plan in source.plans().items()
        for row in plan.describe()
        if row["target"].partition(".")[0] == record
    ]


def lineage(connection: str, source: Source, record: str) -> dg.TableColumnLineage:
    """Each staged column, and the paths of the payload that it comes from."""
    found: dict[str, dict[dg.TableColumnDep, None]] = {}
    for stream, plan in source.plans().items():
        key = dg.AssetKey(["raw", connection, stream])
        for mapping in plan.mappings:
            for f in mapping.fields if mapping.record == record else ():
                found.setdefault(f.target, {}).update(
                    dict.fromkeys(dg.TableColumnDep(key, readable(mapping, p)) for p in f.paths)
                )
    return dg.TableColumnLineage(deps_by_column={column: list(deps) for column, deps in found.items()})


def rule_rows(record: str) -> list[Mapping[str, Any]]:
    """What a record posts."""
    return list(RULES[record].describe()) if record in RULES else []


def of_pulls(pulls: Sequence[Pull]) -> dict[str, Any]:
    """What a stream brought on the days of a run."""
    expected = [pull.expected for pull in pulls]
    return {
        "dagster/row_count": sum(pull.records for pull in pulls),
        "new or changed": sum(pull.landed for pull in pulls),
        "repeated": sum(pull.repeated for pull in pulls),
        "the source's own count": "not offered" if None in expected else sum(n or 0 for n in expected),
        "pages": sum(pull.pages for pull in pulls),
        "requests": sum(pull.calls for pull in pulls),
        "retries": sum(pull.retries for pull in pulls),
        "window (UTC)": f"{pulls[0].window_start} – {pulls[-1].window_end}",
        **{f"note: {key}": str(value) for pull in pulls for key, value in pull.notes.items()},
    }


def of_posted(days: Sequence[PostedDay]) -> dict[str, Any]:
    """What posting the days of a run appended, and what became of their records."""
    fates: Counter[str] = Counter()
    for day in days:
        fates.update(day.fates)
    posted = [day.posted for day in days]
    return {
        "dagster/row_count": sum(p.originals + p.corrected + p.reversed for p in posted),
        "new entries": sum(p.originals for p in posted),
        "corrected": sum(p.corrected for p in posted),
        "reversals": sum(p.reversed for p in posted),
        "already posted": sum(p.unchanged for p in posted),
        "lines": sum(p.lines for p in posted),
        "batches": ", ".join(str(b) for p in posted for b in p.batch_ids) or "none",
        "fates": table([{"fate": f, "records": n} for f, n in sorted(fates.items())], ("fate", "records")),
    }


class Sums:
    """Sums by currency of the records' money columns, added up table by table."""

    def __init__(self, records: Sequence[str]) -> None:
        self._sums: dict[str, dict[tuple[str, str], int]] = {record: {} for record in records}

    def add(self, tables: Mapping[str, pa.Table]) -> None:
        """Count rows in; amounts without a known currency aren't money."""
        for record, sums in self._sums.items():
            for amount, currency in RECORDS[record].money:
                by_currency = tables[record].select([amount, currency]).group_by(currency).aggregate([(amount, "sum")])
                for row in by_currency.to_pylist():
                    if row[currency] in DIGITS and row[f"{amount}_sum"] is not None:
                        key = amount, row[currency]
                        sums[key] = sums.get(key, 0) + row[f"{amount}_sum"]

    def of(self, record: str) -> dict[str, Any]:
        """As a table; nothing when there are no rows."""
        rows = [
            {"amount": amount, "currency": code, "total": f"{from_minor(total, code):,}"}
            for name, _ in RECORDS[record].money
            for (amount, code), total in sorted(self._sums[record].items())
            if amount == name
        ]
        return {"money": table(rows, ("amount", "currency", "total"))} if rows else {}


def parts_note(record: Record) -> str:
    """`part of sale` for parts, else nothing."""
    return f" Part of {record.parent}." if record.parent else ""
