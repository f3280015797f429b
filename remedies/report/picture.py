"""Inline SVG: the path of a packet, and a counter before and after. Pure; no ids, no styles.

Pictures are drawn upright, client above server, so that one width reads on a phone, a screen and
paper. Colours come from the page's classes; every line also differs in dash and mark, and each
walk's number stands in the caption, so nothing rests on colour.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from html import escape

from remedies.report.path import Path, Stop, Walk
from remedies.report.record import Series

_WIDTH = 360
_LEFT = 92
"""Where the boxes begin; the walks run in the gutter before it."""
_LINE = 17
_GAP = 22
_FITS = 34
"""Characters of a monospaced line in a box."""
_LINES = 3
"""Lines of one text in a box; more is cut."""


def _cut(text: str) -> list[str]:
    """Return a text in lines that fit a box."""
    lines = textwrap.wrap(text[: _FITS * (_LINES + 1)], _FITS) or [""]
    return (
        lines
        if len(lines) <= _LINES
        else [*lines[: _LINES - 1], lines[_LINES - 1][: _FITS - 3] + "..."]
    )


def path_svg(path: Path) -> str:
    """Return the picture of a path."""
    boxes: list[str] = []
    middles: list[float] = []
    top = 8.0
    for stop in path.stops:
        lines = [part for line in stop.lines for part in _cut(line)]
        height = 30 + _LINE * len(lines)
        boxes += _box(stop, lines, top, height)
        middles.append(top + height / 2)
        top += height + _GAP
    height = round(top - _GAP + 8)
    drawn = "".join(_walks(path.walks, middles)) + "".join(boxes)
    return _svg(height, path.summary, drawn)


def _svg(height: float, label: str, drawn: str) -> str:
    return (
        f'<svg class="picture" viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" '
        f'height="{height:g}" role="img" aria-label="{escape(label)}">{drawn}</svg>'
    )


def _box(stop: Stop, lines: list[str], top: float, height: float) -> Iterator[str]:
    width = _WIDTH - _LEFT - 4
    yield (
        f'<rect class="stop {stop.kind}" x="{_LEFT}" y="{top:g}" width="{width}" '
        f'height="{height:g}" rx="6"/>'
    )
    yield f'<text class="stop-title" x="{_LEFT + 12}" y="{top + 20:g}">{escape(stop.title)}</text>'
    for number, line in enumerate(lines, 1):
        y = top + 20 + _LINE * number
        yield f'<text class="stop-line" x="{_LEFT + 12}" y="{y:g}">{escape(line)}</text>'


def _walks(walks: tuple[Walk, ...], middles: list[float]) -> Iterator[str]:
    """Draw each walk in a lane of its own, with its number, an arrow or the cross of its end."""
    lanes = len(walks)
    for number, walk in enumerate(walks, 1):
        x = 16 + (_LEFT - 40) / max(1, lanes - 1) * (number - 1) if lanes > 1 else 40
        start, end = middles[walk.start], middles[walk.end]
        down = 1 if end > start else -1
        start, end = start + 8 * down, end - 6 * down
        yield f'<path class="walk {walk.kind}" d="M{x:g} {start:g}V{end:g}"/>'
        yield f'<path class="lead" d="M{x:g} {end:g}H{_LEFT}"/>'
        if walk.kind == "lost":
            cross = f"M{x - 6:g} {end - 6:g}l12 12m0-12l-12 12"
            yield f'<path class="cross" d="{cross}"/>'
        else:
            tip = f"M{x - 5:g} {end - 9 * down:g}L{x:g} {end:g}L{x + 5:g} {end - 9 * down:g}"
            yield f'<path class="tip {walk.kind}" d="{tip}"/>'
        middle = start + 4 * down
        yield f'<circle class="mark {walk.kind}" cx="{x:g}" cy="{middle:g}" r="9"/>'
        yield f'<text class="mark-text" x="{x:g}" y="{middle + 4:g}">{number}</text>'


def plot_svg(series: Series) -> str:
    """Return the plot of a counter's figures, with the transaction between before and after."""
    most = max(reading.value for reading in series.readings) or 1.0
    step = (_WIDTH - 96) / max(1, len(series.readings) - 1)
    points = [
        (48 + step * number, 100 - 72 * reading.value / most)
        for number, reading in enumerate(series.readings)
    ]
    said = ", ".join(f"{r.moment} {r.value:g}" for r in series.readings)
    line = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
    parts = ['<path class="axis" d="M24 100H336"/>']
    if len(points) > 1:
        middle = (points[0][0] + points[1][0]) / 2
        parts.append(f'<path class="deed-line" d="M{middle:g} 12V100"/>')
        parts.append(f'<text class="deed-text" x="{middle:g}" y="10">applied</text>')
    parts.append(f'<path class="curve" d="{line}"/>')
    for (x, y), reading in zip(points, series.readings, strict=True):
        parts.append(
            f'<circle class="point {escape(reading.moment)}" cx="{x:g}" cy="{y:g}" r="5"/>'
        )
        parts.append(f'<text class="value" x="{x:g}" y="{y - 11:g}">{reading.value:g}</text>')
        parts.append(f'<text class="when" x="{x:g}" y="118">{escape(reading.moment)}</text>')
        parts.append(f'<text class="when" x="{x:g}" y="133">{escape(reading.time[11:19])}</text>')
    return _svg(140, f"{series.key} {series.unit}: {said}", "".join(parts))
