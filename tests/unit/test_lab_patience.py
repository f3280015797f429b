"""How long a story's traffic waits: what has to come is given more time than what may stay away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from remedies.errors import RemedyError
from remedies.lab import story as stories
from remedies.lab.story import Story
from remedies.lab.world import Options, TrafficOutcome, World

LATE = 5.0
"""Seconds after which something comes on a busy machine, where a second is enough on others."""


class Silent:
    """Tells nobody."""

    def text(self, text: object) -> None:
        """Take what a story tells, and each of its other words."""

    heading = command = output = text

    def verdict(self, ok: bool, text: str) -> None:
        """Take how a step came out."""


def answered_late(world: World) -> TrafficOutcome:
    """Live where an answer is awaited until it is there."""
    return TrafficOutcome(world.patience(1.0) > LATE, "a question")


def let_in_late(world: World) -> TrafficOutcome:
    """Die where somebody is let in whom the host should keep out."""
    return TrafficOutcome(world.patience(1.0, alive=False) < LATE, "an intruder")


def test_an_answer_that_has_to_come_is_awaited_longer() -> None:
    story = Story(World("none", Options()), answered_late, Silent(), "condition", "proven")
    story.lives("it is answered")
    story.dies("nobody waits that long for silence")


def test_an_intruder_who_has_to_come_in_is_awaited_longer() -> None:
    story = Story(World("none", Options()), let_in_late, Silent(), "condition", "proven")
    story.dies("he gets in")
    story.lives("nobody waits that long for one who is kept out")


def test_beside_a_command_nobody_waits_longer() -> None:
    world = World("none", Options())
    with world.wanted(alive=True):
        assert world.patience(1.0, alive=False) == 1.0
    assert world.patience(1.0) == 1.0


@pytest.mark.parametrize("during", [False, True], ids=["alone", "beside traffic"])
def test_a_command_that_is_never_done_is_told(
    during: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stories, "COMMAND_DEADLINE", -1.0)
    monkeypatch.setattr(World, "folder", str(tmp_path))
    monkeypatch.setattr(
        stories,
        "started",
        lambda *_: subprocess.Popen(
            [sys.executable, "-ISc", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ),
    )
    story = Story(World("none", Options()), answered_late, Silent(), "condition", "proven")
    with pytest.raises(RemedyError, match=r"scan --window 500ms: not done after"):
        story.command("a scan", "scan", during=during)
