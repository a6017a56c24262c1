"""How the tests pull: a folder of files in, documents and canonical tables out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger_pipeline.connect.mapping import Fault, Settings
from ledger_pipeline.connect.source import Request
from ledger_pipeline.sources.bank_file.spec import SOURCE

DAY = date(2026, 10, 5)


@dataclass
class Pulled:
    documents: list[dict[str, Any]]
    payloads: list[bytes]
    lines: list[dict[str, Any]]
    balances: list[dict[str, Any]]
    faults: tuple[Fault, ...]
    request: Request
    kept: dict[str, bytes]

    @property
    def ids(self) -> list[str]:
        return [line["source_id"] for line in self.lines]


def pull(folder: Path, pattern: str = "*", day: date = DAY, **options: Any) -> Pulled:
    chosen = SOURCE.options(folder=folder, pattern=pattern, **options)
    kept: dict[str, bytes] = {}

    def keep(name: str, content: bytes) -> str:
        kept[name] = content
        return ""

    moment: Any = None
    request = Request("bank", "statements", day, moment, moment, chosen, None, keep_file=keep)
    stream = SOURCE.stream("statements")
    payloads = [payload for page in stream.read(request) for payload in page]
    mapped = SOURCE.plans(chosen)["statements"].run(
        payloads, range(len(payloads)), Settings("bank", chosen.model_dump())
    )
    return Pulled(
        [msgspec.json.decode(p) for p in payloads],
        payloads,
        mapped.tables["bank_transaction"].to_pylist(),
        mapped.tables["bank_balance"].to_pylist(),
        mapped.faults,
        request,
        kept,
    )


@pytest.fixture
def pull_text(tmp_path: Path) -> Callable[..., Pulled]:
    """Pull files given as name=text."""

    def run(files: dict[str, str | bytes], **options: Any) -> Pulled:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return pull(tmp_path, **options)

    return run


@pytest.fixture
def pull_folder() -> Callable[..., Pulled]:
    return pull
