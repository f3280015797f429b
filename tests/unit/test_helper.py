"""A process that answers one question after the other."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator

import pytest

from remedies.namespaces import child, helper
from remedies.namespaces.helper import Broken, Helper

Start = Callable[[Callable[[str], str]], Helper]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return what starts helpers that are ended after the test."""
    with contextlib.ExitStack() as ended:

        def started(work: Callable[[str], str]) -> Helper:
            with child.signals_wait():
                made = Helper(work)
            ended.callback(made.end)
            return made

        yield started


def test_one_process_answers_all(start: Start) -> None:
    seen: list[str] = []

    def work(text: str) -> str:
        seen.append(text)
        return f"{os.getpid()} {' '.join(seen)}"

    asked = start(work)
    pid, *first = asked.ask("one").split()
    assert first == ["one"]
    assert asked.ask("\N{SNOWMAN}") == f"{pid} one \N{SNOWMAN}"
    assert not seen
    assert int(pid) != os.getpid()
    asked.end()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_much_is_carried_whole(start: Start) -> None:
    asked = start(lambda text: text * 10)
    text = "\N{SNOWMAN}" * 100_000
    assert asked.ask(text) == text * 10


def test_a_failure_is_one_question_s_own(start: Start) -> None:
    def work(text: str) -> str:
        if text == "fail":
            raise ValueError("no such\nthing")
        return text

    asked = start(work)
    with pytest.raises(Broken, match="no such thing") as caught:
        asked.ask("fail")
    assert not caught.value.killed_by
    assert asked.ask("fine") == "fine"


def test_one_that_dies_is_told(start: Start) -> None:
    def dies(_: str) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"

    asked = start(dies)
    with pytest.raises(Broken, match="SIGKILL") as caught:
        asked.ask("x")
    assert caught.value.killed_by == signal.SIGKILL
    assert asked.ended


def test_one_that_was_gone_before_the_question_is_told(start: Start) -> None:
    asked = start(lambda _: str(os.getpid()))
    pid = int(asked.ask("x"))
    gone = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([gone], [], [], 10.0)[0]
    os.close(gone)
    with pytest.raises(Broken, match="SIGKILL"):
        asked.ask("x")


def test_one_that_has_grown_answers_and_is_ended(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bytes] = []

    def grow(text: str) -> str:
        kept.append(b"x" * (int(text) << 20))
        return text

    monkeypatch.setattr(helper, "_MOST", (20 << 20) // os.sysconf("SC_PAGESIZE"))
    asked = start(grow)
    assert asked.ask("1") == "1"
    assert not asked.ended
    assert asked.ask("40") == "40"
    assert asked.ended


def test_an_interrupted_question_leaves_no_answer_behind(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> str:
        raise KeyboardInterrupt

    asked = start(str)
    monkeypatch.setattr(asked, "_exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asked.ask("x")
    assert asked.ended


def test_it_ends_with_who_started_it() -> None:
    """Whoever is killed leaves nobody who works on."""
    said, say = os.pipe()
    starter = os.fork()
    if starter == 0:
        try:
            with child.signals_wait():
                asked = Helper(lambda _: str(os.getpid()))
            os.write(say, asked.ask("x").encode() + b"\n")
            signal.pause()
        finally:
            os._exit(1)
    os.close(say)
    with os.fdopen(said) as answers:
        gone = os.pidfd_open(int(answers.readline()))
    os.kill(starter, signal.SIGKILL)
    os.waitpid(starter, 0)
    assert select.select([gone], [], [], 10.0)[0]
    os.close(gone)
