"""No text of a report becomes more than text, in any format, to the program that reads it.

Each report is read beside its twin, where a plain word of the same length stands in the same
places: what a hostile text added would be there in the one alone.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import pytest
import report_hostile
from lxml import etree
from markdown_it import MarkdownIt
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from remedies import codec
from remedies import report as reports
from remedies.printable import clean
from remedies.report.record import FORMAT_VERSION, Report
from remedies.report.redact import fit

Read = Callable[[str], Any]
"""Returns what a reader makes of a format, but for the texts themselves."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "|", "%")
NAMED = ("href", "src", "class", "id", "data-outcome", "http-equiv", "content", "type", "name")
"""Attributes that mean something to a browser: they hold nothing of a host's."""

SIGNS = {("span", "class", kind) for kind in ("add", "del", "at")}
"""A line of a difference that begins so is coloured."""


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.made: set[object] = set()

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.made.add((tag, *(name for name, _ in attributes)))
        self.made.update((tag, *pair) for pair in attributes if pair[0] in NAMED)

    def handle_comment(self, data: str) -> None:
        self.made.add(("comment", data))

    def handle_pi(self, data: str) -> None:
        self.made.add(("instruction", data))


def html(text: str) -> object:
    page = Page()
    page.feed(text)
    tree = etree.fromstring(text.encode(), etree.HTMLParser(encoding="utf-8"))
    kinds = {(str(node.tag), *sorted(map(str, node.attrib))) for node in tree.iter()}
    return page.made | kinds


def markdown(text: str) -> object:
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    blocks = Counter(token.type for token in tokens)
    inline = [child for token in tokens for child in token.children or ()]
    # An empty comment parts an @ from a name; escapes and entities are text.
    assert {t.content for t in inline if t.type == "html_inline"} <= {"<!-- -->"}
    texts = ("text", "text_special", "html_inline")
    return blocks, Counter(t.type for t in inline if t.type not in texts)


def csv_(text: str) -> object:
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    for cell in (cell for row in rows[1:] for cell in row):
        assert not cell.lstrip().startswith(FORMULA)
        assert len(cell.splitlines()) <= 1
        assert len(cell) <= 32_767
    return [len(row) for row in rows]


def shape(plain: Any) -> Any:
    """Return a JSON value without its texts."""
    if isinstance(plain, dict):
        return {key: shape(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [shape(value) for value in plain]
    return type(plain)


def sarif(text: str) -> object:
    (run,) = json.loads(text)["runs"]
    told = run["results"] + run["invocations"][0].get("toolExecutionNotifications", [])
    for item in told:
        message = item["message"]["text"]
        assert not re.search(r"[\[\]]", re.sub(r"\\.", "", message)), "a link"
        assert not re.search(r"[{}]", message.replace("{{", "").replace("}}", "")), "a placeholder"
        for location in item.get("locations", ()):
            uri = location.get("physicalLocation", {}).get("artifactLocation", {}).get("uri", "")
            assert re.fullmatch(r"[\w/.~%-]*", uri, re.ASCII)
            assert ".." not in unquote(uri).split("/")
    # A text that names a policy's line makes a location.
    shapes = shape(run)
    for result in shapes["results"]:
        result["locations"][0].pop("physicalLocation", None)
    return shapes


def oscal(text: str) -> object:
    plain = json.loads(text)
    every: list[Any] = [plain]
    while every:
        value = every.pop()
        every += value.values() if isinstance(value, dict) else value if type(value) is list else []
        assert not isinstance(value, str) or value == value.strip() != ""
    return shape(plain)


def jsonl(text: str) -> object:
    assert text.isascii()
    assert text.isprintable() or set(filter(str.isspace, text)) <= {"\n", " "}
    return [json.loads(line)["kind"] for line in text.splitlines()]


def junit(text: str) -> object:
    tree = etree.fromstring(text.encode(), etree.XMLParser(resolve_entities=False))
    return Counter((str(node.tag), *map(str, node.attrib)) for node in tree.iter())


def prometheus(text: str) -> object:
    read: Any = openmetrics.text_string_to_metric_families
    assert list(read(text + "# EOF\n"))
    families = text_string_to_metric_families(text)
    return [(f.name, [(s.name, *s.labels, s.value) for s in f.samples]) for f in families]


def nagios(text: str) -> object:
    (line,) = text.splitlines()
    said, figures = line.split("|")
    return said.partition(" - ")[0], figures


READERS: dict[str, Read] = {
    "csv": csv_,
    "html": html,
    "json": lambda text: json.loads(text)["kind"],
    "jsonl": jsonl,
    "junit": junit,
    "markdown": markdown,
    "nagios": nagios,
    "oscal": oscal,
    "oscal-plan": oscal,
    "prometheus": prometheus,
    "sarif": sarif,
}


@cache
def made(value: str, alone: bool) -> Report:
    return fit(report_hostile.poisoned(value, alone=alone))


@cache
def of_twin(form: str, length: int, alone: bool) -> object:
    return reader(form)(text_of(form, "Q" * length, alone))


def reader(form: str) -> Read:
    assert form in READERS, f"READERS does not say how {form} is read: docs/writing-a-format.md, 2"
    return READERS[form]


def text_of(form: str, value: str, alone: bool) -> str:
    return "".join(reports.load(form).render(made(value, alone)))


def test_a_host_writes_what_it_likes_nearly_everywhere() -> None:
    assert len(report_hostile.closed()) < 20
    assert not any(
        path.endswith(("subject", "message", "name")) for path in report_hostile.closed()
    )


@pytest.mark.parametrize("alone", [False, True], ids=["rollout", "alone"])
@pytest.mark.parametrize("value", report_hostile.VALUES, ids=lambda value: ascii(value)[:24])
@pytest.mark.parametrize("form", reports.formats())
def test_a_text_stays_text(form: str, value: str, alone: bool) -> None:
    text = text_of(form, value, alone)
    text.encode()
    odd = {character for character in set(text) if not character.isprintable()}
    assert odd <= ({"\n", "\r"} if form == "csv" else {"\n", "\t"})
    read, twin = reader(form)(text), of_twin(form, len(clean(value)), alone)
    if isinstance(read, set):
        assert isinstance(twin, set)
        assert read - twin <= SIGNS
    else:
        assert read == twin


@pytest.mark.parametrize("value", report_hostile.VALUES, ids=lambda value: ascii(value)[:24])
def test_the_whole_record_is_read_back_from_json(value: str) -> None:
    plain = json.loads(text_of("json", value, False))
    assert (plain.pop("kind"), plain.pop("format_version")) == ("report", FORMAT_VERSION)
    assert codec.decode(Report, plain, "x") == made(value, False)
