"""What people see beside an asset: schemas, mappings, rows, money by currency. Never a payload, a name or a key."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from ledger_pipeline.connect.mapping import readable
from ledger_pipeline.connect.source import Source
from ledger_pipeline.model.money import DIGITS, from_minor
from ledger_pipeline.model.records import SQL, Record
from ledger_pipeline.model.rules import RULES


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


def money_of(record: Record, staged: pa.Table) -> dict[str, Any]:
    """Sums by currency of a record's money columns, as a table; nothing when there are no rows."""
    rows = []
    for amount, currency in record.money:
        sums: dict[str, int] = {}
        for value, code in zip(staged[amount].to_pylist(), staged[currency].to_pylist(), strict=True):
            if value is not None and code in DIGITS:
                sums[code] = sums.get(code, 0) + value
        rows += [{"amount": amount, "currency": c, "total": f"{from_minor(s, c):,}"} for c, s in sorted(sums.items())]
    return {"money": table(rows, ("amount", "currency", "total"))} if rows else {}


def parts_note(record: Record) -> str:
    """`part of sale` for parts, else nothing."""
    return f" Part of {record.parent}." if record.parent else ""
