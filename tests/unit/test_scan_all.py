"""A scan of every namespace: who is visited, who had ended, who could not be scanned."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Optional, cast

import pytest
from builder import HOST, finding, policy, scan

from remedies import codec
from remedies.errors import Unreadable
from remedies.facts.drops import Drops
from remedies.model import Rule
from remedies.namespaces import containers, find, workers
from remedies.namespaces.find import Namespace
from remedies.namespaces.workers import WorkerResult
from remedies.operations import scan_all, session
from remedies.operations.session import HostSession
from remedies.planning import engine
from remedies.tap.drop_types import DropTypes
from remedies.values import replace

OWN = Namespace(1, 4, ("/proc/self/ns/net",), own=True)
BOX = Namespace(2, 4, ("/proc/4711/ns/net",), containers=("c0ffee",))


class Machine:
    """A machine of two namespaces, of which some can be entered."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.inside, self.ended = {1, 2}, set[int]()
        self.failing: dict[int, str] = {}
        self.said: list[str] = []
        patch.setattr(engine, "needs_of_scan", lambda _: {})
        patch.setattr(engine, "watched", lambda _: ("cond",))
        patch.setattr(find, "find", lambda: ([OWN, BOX], ["one was not read"]))
        patch.setattr(find, "enter", lambda n: n.inode in self.inside)
        patch.setattr(find, "still_there", lambda n: n.inode not in self.ended)
        patch.setattr(containers, "names", lambda _: {"c0ffee": "web"})
        patch.setattr(workers, "visit_all", self.visit_all)
        patch.setattr(scan_all, "read_host", lambda: HOST)
        patch.setattr(session, "reread", lambda here: here)
        patch.setattr(session, "unfinished_lines", lambda _: ["unfinished"])
        patch.setattr(session, "look", lambda *_, **__: None)
        patch.setattr(session, "judge", lambda *_: (scan(finding()), ["warned"]))
        self.session = HostSession(
            HOST, policy({"cond": Rule("fix", "exposed", ())}), "/nowhere", {}, {}, window=1.5,
            notify=self.said.append, store=cast(Any, None), read=cast(Any, None),
            arm=cast(Any, None),
        )  # fmt: skip

    def visit_all(self, works: list[Callable[[], str]], limit: float) -> list[WorkerResult]:
        assert limit == 1.5 + scan_all.PATIENCE
        return [
            WorkerResult("", self.failing[inode]) if inode in self.failing else WorkerResult(work())
            for inode, work in zip((1, 2), works)
        ]

    def scanned(self) -> list[tuple[str, str, int, int]]:
        """Return container, netns, findings and unknown of each namespace."""
        return [
            (s.container, s.scan.host.netns, len(s.scan.findings), len(s.scan.unknown))
            for s in scan_all.scan_all(self.session)
        ]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_each_namespace_is_scanned_from_inside(machine: Machine) -> None:
    found = scan_all.scan_all(machine.session)
    assert [(s.container, s.said) for s in found] == [
        ("", ("unfinished", "warned")), ("web", ("unfinished", "warned"))
    ]  # fmt: skip
    assert machine.said == ["one was not read"]


def test_the_kernel_s_types_are_read_once_and_before_the_children_that_need_them(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def read(cache: Optional[str]) -> DropTypes:
        done.append(f"types for {cache}")
        return DropTypes("this one", {}, cast(Any, None))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(engine, "needs_of_scan", lambda _: (Drops,))
    monkeypatch.setattr(scan_all, "drop_types", read)
    monkeypatch.setattr(session, "look", lambda *_, **__: done.append("a scan"))
    monkeypatch.setattr(
        workers, "visit_all", lambda works, _: [WorkerResult(work()) for work in works]
    )
    machine.scanned()
    assert done == ["types for /nowhere/cache", "a scan", "a scan"]
    machine.session = replace(machine.session, window=0.0)  # nobody listens, and none are needed
    machine.scanned()
    assert done[3:] == ["a scan", "a scan"]


def test_what_had_ended_is_left_out_and_counted(machine: Machine) -> None:
    machine.inside = {1}
    assert machine.scanned() == [("", "host", 1, 0)]
    assert machine.said[-1].startswith("1 namespaces ended")


def test_where_a_visit_fails_everything_is_unknown(machine: Machine) -> None:
    machine.failing = {2: "it took too long"}
    assert machine.scanned() == [("", "host", 1, 0), ("web", f"{HOST.boot_id[:8]}-i2", 0, 1)]
    machine.ended = {2}
    assert machine.scanned() == [("", "host", 1, 0)]


def test_that_this_one_cannot_be_scanned_is_an_error(machine: Machine) -> None:
    machine.failing = {1: "it took too long"}
    with pytest.raises(Unreadable, match="took too long"):
        machine.scanned()


def test_names_of_containers_are_asked_for_only_where_there_are_some(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "find", lambda: ([OWN], []))
    monkeypatch.setattr(containers, "names", lambda _: pytest.fail("no daemon is asked"))
    assert machine.scanned() == [("", "host", 1, 0)]


def test_a_watch_keeps_no_text_of_an_answer_for_ever() -> None:
    """Python's table of shared texts grows by each, and version 3.12 forgets none of them."""
    found = finding(message="seen 4711 times at noon")
    text = codec.dumps(scan_all.ChildScan(scan(found)))
    told = scan_all.answer(cast(Any, None), BOX, WorkerResult(text))
    assert told.scan is not None
    (again,) = told.scan.findings
    assert again == found
    assert again.message is not sys.intern("".join(list(found.message)))
