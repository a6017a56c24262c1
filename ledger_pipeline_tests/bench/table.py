"""The table that `make bench` prints: the ratio first, what it is made of after it, and a verdict per row."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MET, MISSED, NOT_MEASURED = "met", "MISSED", "not measured"


@dataclass(frozen=True, slots=True)
class Row:
    """One measure: its number in the table, the result as a ratio where there is one, the goal and the details."""

    number: str
    measure: str
    result: str
    goal: str
    verdict: str
    detail: str = ""


def judged(number: str, measure: str, result: str, goal: str, is_met: bool, detail: str = "") -> Row:
    return Row(number, measure, result, goal, MET if is_met else MISSED, detail)


def unmeasured(number: str, measure: str, goal: str, reason: str) -> Row:
    return Row(number, measure, "–", goal, NOT_MEASURED, reason)


def render(rows: Iterable[Row]) -> str:
    """A Markdown table, so that it can be pasted into docs/performance.md as it is."""
    head = ("#", "result", "goal", "verdict", "measure", "details")
    cells = [head, *((r.number, r.result, r.goal, r.verdict, r.measure, r.detail) for r in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head) - 1)]
    lines = []
    for line in cells:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        lines.append(f"| {' | '.join([*padded, line[-1]])} |")
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|---|")
    return "\n".join(lines)


def by_step(runs: Sequence[Mapping[str, float]]) -> str:
    """Medians of each step's seconds."""
    return ", ".join(f"{name} {statistics.median(run[name] for run in runs):.2f}" for name in runs[0])


def mb(size: float) -> str:
    return f"{size:,.0f} MB"


def seconds(value: float) -> str:
    return f"{value:.2f} s"
