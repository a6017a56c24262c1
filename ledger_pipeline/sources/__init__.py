"""One folder per system: `spec.py` declares its `SOURCE`, `mapping.py` its fields, `sandbox.py` plays it, `NOTES.md` tells its oddities."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

from ledger_pipeline.connect.source import Source


@cache
def known() -> tuple[str, ...]:
    """Names of the sources that this installation has: every folder with a `spec.py`."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/spec.py")))


@cache
def load(name: str) -> Source:
    """The declaration of a source; raises KeyError with the known ones."""
    if name not in known():
        raise KeyError(f"unknown source {name!r}; known are {', '.join(known())}")
    source: Source = import_module(f"{__name__}.{name}.spec").SOURCE
    return source
