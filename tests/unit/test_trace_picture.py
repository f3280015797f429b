"""The picture of a followed conversation: steps where their addresses say, hostile text as text."""

from __future__ import annotations

import html.parser
import json
from pathlib import Path as File
from typing import Any, Optional
from xml.etree import ElementTree

import pytest
import yaml_cases
from conversation_samples import drop, event, hostile, step, summary, way
from report_hostile import VALUES

from remedies.cli.trace_picture import PictureFiles
from remedies.errors import RemedyError, UsageError
from remedies.netlink.flow import Flow
from remedies.report import conversation, sheet
from remedies.report.pictures.shapes import Path
from remedies.trace.event import ConversationStep, Event, Meaning
from remedies.trace.packet_filter import parse

CASES = yaml_cases.read((File(__file__).parent / "cases/trace-pictures.yaml").read_text())


def drawn(case: dict[str, Any]) -> tuple[Path, tuple[str, ...]]:
    """Return what is drawn of a case."""
    said: Optional[str] = case.get("flow")
    steps: tuple[ConversationStep, ...] = ()
    if said:
        first, reply = map(way, said.split(" | "))
        names = str(case["steps"]).split()
        nat = first != reply.reversed
        flow = Flow("udp", first, reply, seen_reply="answered" in names, nat=nat)
        steps = tuple(step(name, flow) for name in names)
    found = summary(
        tuple(drop(each, case.get("sent_by", "")) for each in case.get("drops", ())),
        tuple(event(*each.split(": ", 1)) for each in case.get("events", ())),
        tuple(each.flow for each in steps[:1]),
    )
    return conversation.draw(parse(str(case.get("packet", "udp to 10.0.0.1:53"))), steps, found)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_each_step_is_drawn_where_its_addresses_say(case: dict[str, Any]) -> None:
    path, _ = drawn(case)
    assert [stop.title for stop in path.stops] == case["stops"]
    assert [f"{w.start}-{w.end} {w.kind}" for w in path.walks] == case["walks"]
    assert str(case["summary"]) in path.summary
    ElementTree.fromstring("".join(sheet.svg(path, ())))


class Tags(html.parser.HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


@pytest.mark.parametrize("text", VALUES, ids=range(len(VALUES)))
def test_a_hostile_text_is_no_markup_in_either_file(text: str) -> None:
    path, notes = hostile(text)
    svg = "".join(sheet.svg(path, notes))
    names = {each.tag.rpartition("}")[2] for each in ElementTree.fromstring(svg.encode()).iter()}
    assert names == {"svg", "title", "style", "rect", "g", "text", "path", "circle"}
    page = "".join(sheet.html(path, notes))
    assert page.encode()
    attributes = {name for _, found in Tags(page).found for name in found}
    assert not {name for name in attributes if name.startswith("on")}
    allowed = Tags("".join(sheet.html(*hostile("x")))).found
    assert set(Tags(page).found) <= set(allowed)
    assert json.dumps(svg + page).isascii()
    assert not any(ord(each) < 32 and each != "\n" for each in svg + page)


def test_what_a_rule_and_a_cure_are_stands_in_both_files() -> None:
    path, notes = hostile("the word")
    for text in ("".join(sheet.svg(path, notes)), "".join(sheet.html(path, notes))):
        assert "condition: the word" in text
        assert "fix: the word" in text
        assert ">the word<" in text


def test_an_answer_from_another_address_is_drawn_at_the_flow_that_asked() -> None:
    """The refused answer is a flow of its own, which the event is not about."""
    asked, stray = (
        Flow("udp", way(f"{one} -> {other}"), way(f"{other} -> {one}"), seen_reply=False, nat=False)
        for one, other in (("10.0.0.9:5000", "10.0.0.1:53"), ("10.0.0.2:53", "10.0.0.9:5000"))
    )
    told = Event(0.0, "refused", "udp", stray.original, "10.0.0.9", Meaning("no"), flow=asked)
    steps = step("request", stray), step("request", asked)
    found = summary(events=(told,), flows=(stray, asked))
    path, _ = conversation.draw(parse("udp"), steps, found)
    assert path.stops[0].lines == ("10.0.0.9:5000",)
    assert path.stops[-1].lines == ("10.0.0.1:53", "answers from 10.0.0.2:53")
    assert [(walk.start, walk.end, walk.kind) for walk in path.walks][-1] == (1, 0, "lost")


def test_of_many_flows_the_one_with_a_drop_is_drawn_and_the_rest_counted() -> None:
    flows = tuple(
        Flow("udp", way(f"10.0.0.9:{port} -> 10.0.0.1:53"), way(f"10.0.0.1:53 -> 10.0.0.9:{port}"),
             seen_reply=True, nat=False)
        for port in (5000, 5001, 5002)
    )  # fmt: skip
    steps = tuple(step("request", flow) for flow in flows)
    found = summary((drop("10.0.0.1:53 -> 10.0.0.9:5001"),), flows=flows)
    path, notes = conversation.draw(parse("udp to 10.0.0.1:53"), steps, found)
    assert path.stops[0].lines == ("10.0.0.9:5001",)
    assert any(note.startswith("not drawn: 2 more") for note in notes)


@pytest.mark.parametrize("word", ["svg", "svg:", "png:x.png", "svg:-"])
def test_what_is_no_output_is_a_usage_error(word: str) -> None:
    with pytest.raises(UsageError):
        PictureFiles([word], parse("udp"))


def test_a_picture_needs_a_conversation_and_a_folder(tmp_path: File) -> None:
    with pytest.raises(UsageError, match="--packet"):
        PictureFiles([f"svg:{tmp_path}/x.svg"], None)
    with pytest.raises(RemedyError, match="no such folder"):
        PictureFiles([f"svg:{tmp_path}/none/x.svg"], parse("udp"))
