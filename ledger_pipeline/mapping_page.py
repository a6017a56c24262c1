"""The declared mappings as a page that a person reads, and as JSON: what `ledger-pipeline mapping` prints, and docs/mapping.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ledger_pipeline import sources
from ledger_pipeline.connect import mapping as engine
from ledger_pipeline.connect.source import Source

INTRO = """\
# Mappings

What every field of a canonical record is made from. This page is printed by the declarations that do the work:

    ledger-pipeline mapping > docs/mapping.md

`source` is the path in the payload, from its root; `[]` walks a list, `–` is no path at all. A field that stands here must convert, or
the payload is quarantined with that path; a field of a record that doesn't stand here is empty.
"""


def rows(source: Source) -> list[dict[str, Any]]:
    """One row per stream and mapping: record, list that it walks, condition, note, and its fields."""
    found = []
    for stream, plan in source.plans().items():
        lines = iter(plan.describe())
        found += [
            {
                "stream": stream,
                "record": mapping.record,
                "rows": mapping.each or "the payload",
                "where": _where(mapping),
                "note": mapping.doc,
                "fields": [_field(next(lines)) for _ in mapping.fields],
            }
            for mapping in plan.mappings
        ]
    return found


def as_json(names: Sequence[str]) -> list[dict[str, Any]]:
    """Every source's mappings with the version that entries carry."""
    loaded = [sources.load(name) for name in names]
    return [{"source": s.name, "mapping_version": s.mapping_version, "mappings": rows(s)} for s in loaded]


def as_markdown(names: Sequence[str]) -> str:
    """The page: one section per source, one table per mapping."""
    return "\n".join([INTRO, *(line for name in names for line in _section(sources.load(name)))])


def _where(mapping: engine.Mapping) -> str:
    if mapping.where is None:
        return ""
    return f"{', '.join(p.replace('?', '') for p in mapping.where.paths)}: {mapping.where.convert.name}"


def _field(row: Mapping[str, str]) -> dict[str, str]:
    return {**row, "target": row["target"].partition(".")[2]}


def _section(source: Source) -> Iterator[str]:
    yield f"## {source.title}\n\nMapping version `{source.mapping_version}`.\n"
    if source.mappings_for is not None:
        yield (
            "A connection's own `map` says which columns are read (see [delimited-files.md](delimited-files.md)); this is the mapping\n"
            "where it says nothing else.\n"
        )
    stream = ""
    for group in rows(source):
        if group["stream"] != stream:
            stream = group["stream"]
            yield f"### {source.name}: {stream}\n\n{source.stream(stream).doc}\n"
        each = f"each of `{group['rows'].replace('?', '')}`" if group["rows"] != "the payload" else group["rows"]
        where = f", where {group['where']}" if group["where"] else ""
        note = f" {group['note']}" if group["note"] else ""
        yield f"**{group['record']}**, from {each}{where}.{note}\n"
        yield from _table(("target", "source", "converter", "meaning"), group["fields"])
    yield from _converters(source)


def _converters(source: Source) -> Iterator[str]:
    named = {f.convert.name: f.convert.doc for m in source.mappings for f in m.fields if f.paths}
    yield f"### {source.name}: converters\n"
    yield from _table(
        ("converter", "what it does"), [{"converter": n, "what it does": named[n]} for n in sorted(named)]
    )


def _table(columns: tuple[str, ...], lines: Sequence[Mapping[str, str]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |\n|" + "---|" * len(columns)
    for line in lines:
        yield "| " + " | ".join(_cell(line[c], is_path=c in ("target", "source")) for c in columns) + " |"
    yield ""


def _cell(text: str, *, is_path: bool) -> str:
    plain = text.replace("|", "\\|").replace("\n", " ")
    return ", ".join(f"`{p}`" for p in plain.split(", ")) if is_path and plain != "–" else plain
