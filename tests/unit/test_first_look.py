"""What ``remedy`` alone says of a host, and which command it names to go on with."""

from __future__ import annotations

import argparse
import html
import re
from pathlib import Path
from typing import Any

import pytest
from builder import finding, scan
from fake_operations import FakeHost, fake_host

from remedies.cli import first_look as screen
from remedies.cli.terminal import Style
from remedies.errors import NotPermitted
from remedies.model import Unknown
from remedies.namespaces import find
from remedies.namespaces.find import Namespace
from remedies.operations import first_look, session
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


OWN, BOX, NAMED = (
    Namespace(1, 4, ("/proc/self/ns/net",), own=True),
    Namespace(2, 4, ("/proc/4711/ns/net",), containers=("c0ffee",)),
    Namespace(3, 4, ("/run/netns/blue",), name="blue"),
)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    monkeypatch.setattr(find, "find", lambda: ([OWN, BOX, NAMED], []))
    return fake_host(tmp_path, monkeypatch)


def test_a_host_is_scanned_and_the_other_namespaces_are_counted(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.apply(keep=True)
    found = first_look.first_look(host.session)
    assert (found.scan.findings, found.watched) == ((), 1)
    assert found.standing is not None
    assert not found.standing.bad
    assert (found.containers, found.namespaces, found.hidden) == (1, 1, False)
    monkeypatch.setattr(find, "find", lambda: ([OWN], ["one was not read"]))
    found = first_look.first_look(host.session)
    assert (found.containers, found.namespaces, found.hidden) == (0, 0, True)


def test_who_may_not_read_the_journal_sees_the_faults_all_the_same(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> object:
        raise NotPermitted("cannot read the journal x: Permission denied")

    monkeypatch.setattr(session, "latest", refuse)
    found = first_look.first_look(host.session)
    assert found.standing is None
    assert [f.condition for f in found.scan.findings] == ["cond"]
