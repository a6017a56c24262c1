"""Line and bar charts as SVG text, without a library: for HTML files as they are, for Dagster's Markdown by `data_uri`.

Values are exact until they become pixels. A chart without any value is a frame that says so.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from html import escape

Number = int | float | Decimal
Values = Sequence[Number | None]

COLOURS = ("#2563a8", "#c2571a", "#2e7d4f", "#7b4fa3", "#8a6d1d", "#5f6b76", "#b03060", "#1b8a9a")
"""In the order of the series; they repeat after the last."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 14, 52, 30
_TICKS = 5
_LABEL_WIDTH = 62


def line_chart(
    labels: Sequence[str],
    series: Mapping[str, Values],
    *,
    title: str,
    unit: str = "",
    width: int = 720,
    height: int = 260,
) -> str:
    """One line per series over evenly spaced labels; None leaves a gap. `unit` stands beside the title.

    Raises ValueError when a series has more or fewer values than there are labels.
    """
    return _chart(labels, series, title, unit, width, height, _lines)


def bar_chart(
    labels: Sequence[str],
    series: Mapping[str, Values],
    *,
    title: str,
    unit: str = "",
    width: int = 720,
    height: int = 260,
) -> str:
    """One bar per label and series, those of a label side by side; None leaves its place empty. Else as `line_chart`."""
    return _chart(labels, series, title, unit, width, height, _bars)


def data_uri(svg: str) -> str:
    """For `![title](…)` in Markdown."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values between `low` and `high` on the canvas; labels have slots of equal width."""

    low: Decimal
    high: Decimal
    step: Decimal
    count: int
    width: int
    height: int

    def y(self, value: Decimal) -> Decimal:
        room = self.height - _TOP - _BOTTOM
        return _TOP + room * (self.high - value) / (self.high - self.low)

    def x(self, position: int) -> Decimal:
        """The middle of a label's slot."""
        return _LEFT + self.slot * position + self.slot / 2

    @property
    def slot(self) -> Decimal:
        return Decimal(self.width - _LEFT - _RIGHT) / max(self.count, 1)


_Draw = Callable[[_Scale, int, int, str, "Sequence[Decimal | None]"], str]


def _chart(
    labels: Sequence[str], series: Mapping[str, Values], title: str, unit: str, width: int, height: int, draw: _Draw
) -> str:
    exact = {name: [None if v is None else Decimal(str(v)) for v in values] for name, values in series.items()}
    for name, values in exact.items():
        if len(values) != len(labels):
            raise ValueError(f"series {name!r} has {len(values)} values for {len(labels)} labels")
    known = [v for values in exact.values() for v in values if v is not None]
    heading = escape(title + (f" ({unit})" if unit else ""))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{heading}" font-family="sans-serif" font-size="11" fill="#333">',
        f"<title>{heading}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="18" font-size="13" font-weight="bold">{heading}</text>',
    ]
    if not known:
        parts.append(f'<text x="{width // 2}" y="{height // 2}" text-anchor="middle">no values</text>')
    else:
        scale = _scale(known, len(labels), width, height)
        parts += [_legend(list(exact)), _grid(scale), _x_labels(scale, labels)]
        parts += [
            draw(scale, number, len(exact), COLOURS[number % len(COLOURS)], values)
            for number, values in enumerate(exact.values())
        ]
    return "".join([*parts, "</svg>"])


def _scale(values: Sequence[Decimal], count: int, width: int, height: int) -> _Scale:
    """Round limits around the values and zero."""
    low, high = min(*values, Decimal(0)), max(*values, Decimal(0))
    if low == high:
        high = Decimal(1)
    step = _round_step((high - low) / _TICKS)
    return _Scale(
        (low / step).to_integral_value(ROUND_FLOOR) * step,
        (high / step).to_integral_value(ROUND_CEILING) * step,
        step,
        count,
        width,
        height,
    )


def _round_step(least: Decimal) -> Decimal:
    """The smallest of 1, 2, 5 times a power of ten that is no less."""
    power = Decimal(1).scaleb(least.adjusted())
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def _grid(scale: _Scale) -> str:
    made = []
    value = scale.low
    while value <= scale.high:
        y, colour = _px(scale.y(value)), "#888" if value == 0 else "#e3e3e3"
        made.append(
            f'<line x1="{_LEFT}" x2="{scale.width - _RIGHT}" y1="{y}" y2="{y}" stroke="{colour}"/>'
            f'<text x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{_number(value)}</text>'
        )
        value += scale.step
    return "".join(made)


def _x_labels(scale: _Scale, labels: Sequence[str]) -> str:
    """As many labels as fit."""
    every = max(1, int((_LABEL_WIDTH / scale.slot).to_integral_value(ROUND_CEILING)))
    y = scale.height - _BOTTOM + 18
    return "".join(
        f'<text x="{_px(scale.x(n))}" y="{y}" text-anchor="middle">{escape(label)}</text>'
        for n, label in enumerate(labels)
        if n % every == 0
    )


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    made, x = [], _LEFT
    for number, name in enumerate(names):
        made.append(
            f'<rect x="{x}" y="28" width="10" height="10" fill="{COLOURS[number % len(COLOURS)]}"/>'
            f'<text x="{x + 14}" y="37">{escape(name)}</text>'
        )
        x += 30 + 7 * len(name)
    return "".join(made)


def _lines(scale: _Scale, number: int, of: int, colour: str, values: Sequence[Decimal | None]) -> str:
    """Stretches between gaps; a value with none beside it is a dot."""
    stretches: list[list[tuple[str, str]]] = [[]]
    for position, value in enumerate(values):
        if value is None:
            stretches.append([])
        else:
            stretches[-1].append((_px(scale.x(position)), _px(scale.y(value))))
    made = []
    for points in stretches:
        if len(points) == 1:
            made.append(f'<circle cx="{points[0][0]}" cy="{points[0][1]}" r="3" fill="{colour}"/>')
        elif points:
            path = " ".join(f"{x},{y}" for x, y in points)
            made.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return "".join(made)


def _bars(scale: _Scale, number: int, of: int, colour: str, values: Sequence[Decimal | None]) -> str:
    width = scale.slot * Decimal("0.76") / of
    made = []
    for position, value in enumerate(values):
        if value is None:
            continue
        left = scale.x(position) - width * of / 2 + width * number
        top, bottom = sorted((scale.y(value), scale.y(Decimal(0))))
        made.append(
            f'<rect x="{_px(left)}" y="{_px(top)}" width="{_px(width)}" height="{_px(bottom - top)}" fill="{colour}"/>'
        )
    return "".join(made)


def _px(value: Decimal) -> str:
    return f"{value.quantize(Decimal('0.1')):f}"


def _number(value: Decimal) -> str:
    """`1,500`, `0.25`, `12,000`: no exponent, no idle zeros."""
    text = f"{value:,f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) if value else "0"
