"""A picture as a file of its own, SVG or HTML: the path, its steps by number, what to do. Pure.

Texts come from packets and from names that others chose: control characters are spelled out and
markup is escaped. Neither file asks for anything or runs a script; the page's content security
policy allows its own style and nothing else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from html import escape

from remedies.hashing import sha256
from remedies.printable import clean
from remedies.report.picture import WIDTH, cut, path_picture, path_svg
from remedies.report.picture_style import COLOURS, PICTURES
from remedies.report.pictures.shapes import Path
from remedies.values import replace

_MARGIN = 20
_BESIDE = _MARGIN + WIDTH + 28
_TEXT = 420
"""Pixels of the lines beside the picture, and how many characters fit, monospaced."""
_FITS = 52
_MOST = 24
"""Lines of one step; more is cut."""
_LINE = 17
_WIDE = 96
"""Characters of the title's line."""
_SVG_STYLE = """\
svg { font-family: ui-sans-serif, system-ui, "Helvetica Neue", "DejaVu Sans", sans-serif; }
.paper { fill: var(--paper); }
.told, .head { fill: var(--ink); white-space: pre; }
.told { font: 12px ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
.told.lost { fill: var(--bad); } .told.note { fill: var(--soft); }
.head { font-weight: 640; font-size: 14px; }
"""
_PAGE_STYLE = """\
body {
  margin: 0 auto; max-width: 1000px; padding: 1.5rem clamp(1rem, 4vw, 2.5rem);
  background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.5 ui-sans-serif, system-ui, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.2rem; line-height: 1.3; }
figure {
  display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1rem 2rem; margin: 1.2rem 0;
}
figcaption { flex: 1 1 20rem; min-width: 0; }
.picture { display: block; max-width: 100%; height: auto; flex: 0 0 auto; }
ol { margin: 0; padding-left: 1.5rem; }
li { margin-top: .55rem; }
.lost { color: var(--bad); }
"""


def svg(path: Path, notes: Iterable[str]) -> Iterator[str]:
    """Yield an SVG file: the summary, the picture below it, steps and notes beside that."""
    path, notes = _cleaned(path, notes)
    drawn, height = path_picture(path)
    head = cut(path.summary, _WIDE, 3)
    top = 2 * _MARGIN + _LINE * len(head)
    lines = list(_lines(path, notes))
    width = _BESIDE + _TEXT + _MARGIN
    height = top + max(height, _LINE * len(lines)) + _MARGIN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" '
        f'width="{width}" height="{height:g}">\n<title>{escape(path.summary)}</title>\n'
        f"<style>\n{COLOURS}{PICTURES}{_SVG_STYLE}</style>\n"
        f'<rect class="paper" width="{width}" height="{height:g}"/>\n'
    )
    for number, line in enumerate(head, 1):
        yield _text("head", _MARGIN, _MARGIN + _LINE * number - 4, line)
    yield f'<g transform="translate({_MARGIN} {top})">{drawn}</g>\n'
    for number, (kind, line) in enumerate(lines, 1):
        yield _text(f"told {kind}", _BESIDE, top + _LINE * number, line)
    yield "</svg>\n"


def _lines(path: Path, notes: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each line beside the picture, an empty one after each step."""
    steps = [(walk.kind, f"{n:>2}. ", walk.label) for n, walk in enumerate(path.walks, 1)]
    for kind, mark, text in (*steps, *(("note", "  - ", note) for note in notes)):
        for line in cut(text, _FITS, _MOST):
            yield kind, f"{mark}{line}"
            mark = " " * len(mark)
        yield kind, ""


def _text(kind: str, x: float, y: float, line: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(line)}</text>\n' if line else ""


def html(path: Path, notes: Iterable[str]) -> Iterator[str]:
    """Yield an HTML page: the summary, the picture, steps and notes."""
    path, notes = _cleaned(path, notes)
    style = f"\n{COLOURS}{PICTURES}{_PAGE_STYLE}"
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    title = escape(path.summary)
    yield (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n<main>\n<h1>{title}</h1>\n"
        f"<figure>{path_svg(path)}<figcaption><ol>\n"
    )
    for walk in path.walks:
        lost = ' class="lost"' if walk.kind == "lost" else ""
        yield f"<li{lost}>{escape(walk.label)}</li>\n"
    yield "</ol></figcaption></figure>\n<ul>\n"
    for note in notes:
        yield f"<li>{escape(note)}</li>\n"
    yield "</ul>\n</main>\n</html>\n"


def _cleaned(path: Path, notes: Iterable[str]) -> tuple[Path, tuple[str, ...]]:
    """Return both without control characters and line ends."""
    stops = tuple(
        replace(stop, title=_flat(stop.title), lines=tuple(map(_flat, stop.lines)))
        for stop in path.stops
    )
    walks = tuple(replace(walk, label=_flat(walk.label)) for walk in path.walks)
    return Path(_flat(path.summary), stops, walks), tuple(map(_flat, notes))


def _flat(text: str) -> str:
    return " ".join(clean(text).split())
