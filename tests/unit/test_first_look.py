"""What ``remedy`` alone says of a host, and which command it names to go on with."""

from __future__ import annotations

import argparse
import html
import re
from pathlib import Path
from typing import Any

import pytest
from builder import finding, scan

from remedies.cli import first_look as screen
from remedies.cli.terminal import Style
from remedies.model import Unknown
from remedies.operations.first_look import FirstLook
from remedies.operations.outlook import Outlook
from remedies.operations.standing import HostStatus
from remedies.status.in_force import InForce
from remedies.values import replace

PICTURE = Path(__file__).resolve().parent.parent.parent / "docs/pictures/first-minute.svg"
ARGS = argparse.Namespace(typed=frozenset(), plain=True, no_color=False, json=False)
WELL = HostStatus((InForce("t1", "notrack", "a", "ours"),), Outlook((), ()), {}, ())
QUIET = FirstLook(scan(), watched=30, standing=WELL, containers=0, namespaces=0, hidden=False)
PENDING = replace(WELL, unfinished={"t2": "pending"})
DEAD = replace(WELL, unfinished={"t2": "dead"})
WAIVED = scan(finding("old", verdict="exposed", waived="until May, by al"))
PROVEN = scan(finding("bad", verdict="proven"), finding("mended", verdict="mitigated"))
UNREAD = scan(unknown=(Unknown("dim", "no permission"), Unknown("bad", "a rule", partly=True)))


@pytest.mark.parametrize(
    ("more", "as_root", "first"),
    [
        ({"standing": PENDING, "scan": PROVEN}, True, "remedy confirm'"),
        ({"standing": DEAD, "scan": PROVEN}, True, "remedy status'"),
        ({"standing": replace(WELL, unowned=("nft:a",))}, True, "remedy status'"),
        ({"scan": PROVEN, "containers": 2}, True, "remedy scan'"),
        ({"scan": UNREAD, "standing": None}, False, "sudo remedy'"),
        ({"hidden": True}, False, "sudo remedy'"),
        ({"scan": UNREAD, "containers": 2}, True, "remedy scan --all-netns'"),
        ({"namespaces": 1}, True, "remedy scan --all-netns'"),
        ({"scan": WAIVED}, True, "remedy status'"),
        ({"scan": WAIVED, "standing": replace(WELL, entries=())}, True, "remedy lab run"),
    ],
)  # fmt: skip
def test_the_most_urgent_command_comes_next(
    more: dict[str, Any], as_root: bool, first: str
) -> None:
    told = screen.following(ARGS, replace(QUIET, **more), as_root=as_root)
    assert told.startswith(f"'{first}")


@pytest.mark.parametrize(
    ("more", "label", "line"),
    [
        ({}, "faults", "none seen in 1 s"),
        ({"scan": PROVEN}, "faults", "proven: bad; mitigated: mended"),
        ({"scan": WAIVED}, "faults", "none seen in 1 s"),
        ({}, "unknown", "nothing: all 30 conditions were judged"),
        ({"scan": UNREAD}, "unknown", "1 of 30 conditions could not be judged"),
        ({}, "fixes", "in force: notrack"),
        ({"standing": None}, "fixes", "not known: only root may read the journal"),
        ({"standing": replace(WELL, entries=())}, "fixes", "none in force"),
        ({"standing": replace(WELL, entries=(InForce("t1", "notrack", "a", "gone"),))}, "fixes",
         "in force: notrack; needs attention"),
        ({"standing": PENDING}, "fixes",
         "in force: notrack; waits for 'remedy confirm'"),
        ({}, "others", "no other network namespace"),
        ({"containers": 1, "namespaces": 2}, "others",
         "1 container and 2 other network namespaces, not looked into"),
        ({"containers": 3, "hidden": True}, "others",
         "3 containers, not looked into; some may not be seen"),
    ],
)  # fmt: skip
def test_each_line_says_what_is_there(more: dict[str, Any], label: str, line: str) -> None:
    assert dict(screen.lines(replace(QUIET, **more), Style(ARGS)))[label] == line


def test_the_picture_shows_these_words_and_fetches_nothing() -> None:
    """``python tests/docs_picture.py`` makes it anew."""
    svg = PICTURE.read_text()
    text = html.unescape(re.sub(r"<[^>]+>", "\n", svg)).replace("\xa0", " ")
    shown = replace(QUIET, scan=scan(finding("tcp-invalid-reset", verdict="mitigated")))
    for label, line in screen.lines(shown, Style(ARGS)):
        assert label in text
        assert line.split(": ")[0] in text
    assert "'remedy --help' lists the verbs." in text
    assert not re.search(r"url\((?!#)|href", svg)
