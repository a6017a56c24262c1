"""Reads the files of a sync date: finds their format, keeps their bytes, and yields one document per statement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from ledger_pipeline.connect.files import Delivered, deliveries
from ledger_pipeline.connect.source import Request
from ledger_pipeline.sources.bank_file import bai2, camt, mt940, ofx
from ledger_pipeline.sources.bank_file.statement import Statement, Unreadable, document, refuse

FORMATS: dict[str, Callable[[bytes], Iterator[Statement]]] = {
    "mt940": mt940.read,
    "camt053": camt.read,
    "ofx": ofx.read,
    "bai2": bai2.read,
}


def format_of(content: bytes) -> str:
    """The format that the first bytes look like; raises Unreadable."""
    start = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if b"<OFX" in start or start.startswith(b"OFXHEADER"):
        return "ofx"
    if start.startswith(b"<"):
        return "camt053"
    if start.startswith(b"01,"):
        return "bai2"
    if start.startswith((b":", b"{")) or b"\n:20:" in start or b"\n:6" in start:
        return "mt940"
    raise Unreadable("line 1: it is neither MT940, CAMT.053, OFX nor BAI2")


def read(request: Request) -> Iterator[Sequence[bytes]]:
    """One page a file. A file or statement that can't be used is a document with a `fault`, so that it has its fate."""
    placed: dict[str, tuple[Statement, str]] = {}
    for file in deliveries(request, request.options.folder, request.options.pattern):
        request.pages += 1
        yield [msgspec.json.encode(found) for found in _documents(request, file, placed)]


def _documents(request: Request, file: Delivered, placed: dict[str, tuple[Statement, str]]) -> Iterator[dict[str, Any]]:
    accounts = request.options.accounts
    latest: dict[str, tuple[Statement, Counter[str]]] = {}
    try:
        kind = request.options.format
        for statement in FORMATS[format_of(file.content) if kind == "auto" else kind](file.content):
            before, counted = latest.get(statement.account, (None, Counter()))
            if before is None or not statement.follows(before):
                counted = Counter()
            latest[statement.account] = statement, counted
            if not statement.can_tie:
                request.notes["statements_without_opening"] = request.notes.get("statements_without_opening", 0) + 1
            found = document(statement, file.sha256, file.name, accounts, counted)
            _refuse_ambiguous(found, statement, file, placed)
            yield found
    except Unreadable as error:
        yield {"source_id": f"file:{file.name}", "lines": [], "file": file.sha256, "fault": f"{file.name}: {error}"}


def _refuse_ambiguous(
    found: dict[str, Any], statement: Statement, file: Delivered, placed: dict[str, tuple[Statement, str]]
) -> None:
    """Two files' statements follow one another and hold an equal line: is it a repetition? A person must look."""
    if "fault" in found:
        return
    for line in found["lines"]:
        other, name = placed.setdefault(line["line_id"], (statement, file.name))
        if name != file.name and statement.follows(other):
            refuse(
                found,
                f"{file.name}: {statement.name}, line {line['place']}: an equal line stands in {name}, "
                "which this statement continues; whether it is the same line can't be told",
            )
            return
