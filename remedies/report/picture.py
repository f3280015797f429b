"""Inline SVG: the path of a packet, and a counter before and after. Pure; no ids, no styles.

Pictures are drawn upright, client above server, so that one width reads on a phone, a screen and
paper. Colours come from the page's classes; every line also differs in dash and mark, and each
walk's number stands in the caption, so nothing rests on colour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from remedies.report.pictures.shapes import Path, Stop, Walk
from remedies.report.record import Series

WIDTH = 360
_LEFT = 86
"""Where the boxes begin; the walks run in the gutter before it."""
_LINE = 16
_GAP = 20
_FITS = 36
"""Characters of a monospaced line in a box."""
_TITLE = 28
"""Characters of a title, with room for a mark beside it."""
_LINES = 4
"""Lines of one text in a box; more is cut."""
_JOINT = re.compile(r"[,:/\]-](?=.)")
"""Where an address or a rule may be broken that has no blank early enough."""


class _Placed(NamedTuple):
    """A stop's box on the picture."""

    stop: Stop
    lines: list[str]
    top: float
    height: float


def cut(text: str, fits: int = _FITS, most: int = _LINES) -> list[str]:
    """Return a text in lines that fit, broken where addresses and rules have joints.

    ``fits``: characters of a line, by default of a box; ``most``: lines; what is more is cut.
    """
    lines: list[str] = []
    rest = text.strip()
    while rest:
        if len(lines) == most:
            lines[-1] = f"{lines[-1][: fits - 3]}..."
            break
        end = _end_of_line(rest, fits)
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return lines or [""]


def _end_of_line(text: str, fits: int) -> int:
    """Return where a line that fits ends: at a blank, else at a joint, else where it must."""
    if len(text) <= fits:
        return len(text)
    blank = text.rfind(" ", fits // 4, fits + 1)
    if blank > 0:
        return blank
    joints = (match.end() for match in _JOINT.finditer(text, 0, fits + 1))
    return max((end for end in joints if fits // 2 < end <= fits), default=fits)


def path_svg(path: Path) -> str:
    """Return the picture of a path."""
    return path_picture(path)[0]


def path_picture(path: Path) -> tuple[str, float]:
    """Return the picture of a path, and its height in pixels; it is ``WIDTH`` wide."""
    places: list[_Placed] = []
    top = 6.0
    for stop in path.stops:
        lines = [part for line in stop.lines if line for part in cut(line)]
        height = 34.0 + _LINE * len(lines) - (6 if not lines else 0)
        places.append(_Placed(stop, lines, top, height))
        top += height + _GAP
    deadly = {walk.end for walk in path.walks if walk.kind == "lost"}
    drawn = [part for n, place in enumerate(places) for part in _box(place, n in deadly)]
    drawn += _walks(path.walks, places)
    height = top - _GAP + 6
    return _svg(height, path.summary, "".join(drawn)), height


def _svg(height: float, label: str, drawn: str) -> str:
    return (
        f'<svg class="picture" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
        f'height="{height:g}" role="img" aria-label="{escape(label)}">{drawn}</svg>'
    )


def _box(place: _Placed, deadly: bool) -> Iterator[str]:
    stop, left, top = place.stop, _LEFT, place.top
    width, right = WIDTH - left - 2, WIDTH - 14
    kinds = f"stop {stop.kind} dead" if deadly else f"stop {stop.kind}"
    title = stop.title if len(stop.title) <= _TITLE else f"{stop.title[: _TITLE - 3]}..."
    yield (
        f'<rect class="{kinds}" x="{left}" y="{top:g}" width="{width}" '
        f'height="{place.height:g}" rx="7"/>'
    )
    yield f'<text class="stop-title" x="{left + 14}" y="{top + 20:g}">{escape(title)}</text>'
    if deadly:
        yield f'<text class="dies" x="{right}" y="{top + 20:g}">dies here</text>'
    for number, line in enumerate(place.lines, 1):
        y = top + 21 + _LINE * number
        yield f'<text class="stop-line" x="{left + 14}" y="{y:g}">{escape(line)}</text>'


def _walks(walks: tuple[Walk, ...], places: list[_Placed]) -> Iterator[str]:
    """Draw each walk in a lane of its own: out of its first stop's box, into its last one's."""
    ends = [(stop, number) for number, walk in enumerate(walks) for stop in (walk.start, walk.end)]

    def level(stop: int, number: int) -> float:
        """Return the height at which a walk meets a box, apart from the others there."""
        here = [walk for at, walk in ends if at == stop]
        place = places[stop]
        return place.top + place.height * (here.index(number) + 1) / (len(here) + 1)

    marks = []
    for number, walk in enumerate(walks):
        x = 16.0 + 44 / max(1, len(walks) - 1) * (len(walks) - 1 - number)
        start, end = level(walk.start, number), level(walk.end, number)
        turn = 6 if end > start else -6
        stop_at = _LEFT - (11 if walk.kind == "lost" else 3)
        yield (
            f'<path class="walk {walk.kind}" d="M{_LEFT} {start:g}H{x + 6:g}Q{x:g} {start:g} '
            f"{x:g} {start + turn:g}V{end - turn:g}Q{x:g} {end:g} {x + 6:g} {end:g}"
            f'H{stop_at:g}"/>'
        )
        for passed in range(min(walk.start, walk.end) + 1, max(walk.start, walk.end)):
            y = places[passed].top + places[passed].height / 2
            yield f'<circle class="pass {walk.kind}" cx="{x:g}" cy="{y:g}" r="3"/>'
        if walk.kind == "lost":
            cross = f"M{_LEFT - 14:g} {end - 6:g}l12 12m0-12l-12 12"
            yield f'<path class="cross" d="{cross}"/>'
        else:
            tip = f"M{_LEFT - 10:g} {end - 5:g}L{_LEFT - 2:g} {end:g}L{_LEFT - 10:g} {end + 5:g}"
            yield f'<path class="tip {walk.kind}" d="{tip}"/>'
        middle = start + 15 * (turn / 6)
        marks.append(f'<circle class="mark {walk.kind}" cx="{x:g}" cy="{middle:g}" r="9"/>')
        marks.append(f'<text class="mark-text" x="{x:g}" y="{middle + 4:g}">{number + 1}</text>')
    yield from marks


def plot_svg(series: Series) -> str:
    """Return the plot of a counter's figures, with the transaction between before and after."""
    most = max(reading.value for reading in series.readings) or 1.0
    step = (WIDTH - 96) / max(1, len(series.readings) - 1)
    points = [
        (48 + step * number, 100 - 72 * reading.value / most)
        for number, reading in enumerate(series.readings)
    ]
    said = ", ".join(f"{r.moment} {r.value:g}" for r in series.readings)
    line = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
    parts = ['<path class="axis" d="M24 100H336"/>']
    if len(points) > 1:
        middle = (points[0][0] + points[1][0]) / 2
        parts.append(f'<path class="deed-line" d="M{middle:g} 14V100"/>')
        parts.append(f'<text class="deed-text" x="{middle:g}" y="10">applied</text>')
    parts.append(f'<path class="curve" d="{line}"/>')
    for (x, y), reading in zip(points, series.readings):
        parts.append(
            f'<circle class="point {escape(reading.moment)}" cx="{x:g}" cy="{y:g}" r="5"/>'
        )
        parts.append(f'<text class="value" x="{x:g}" y="{y - 11:g}">{reading.value:g}</text>')
        parts.append(f'<text class="when" x="{x:g}" y="118">{escape(reading.moment)}</text>')
        parts.append(f'<text class="when" x="{x:g}" y="133">{escape(reading.time[11:19])}</text>')
    return _svg(140, f"{series.key} {series.unit}: {said}", "".join(parts))
