"""How long a story's traffic waits: what has to come is given more time than what may stay away."""

from __future__ import annotations

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
