"""The faults that the lab reproduces. One file per scenario; its name is the file's, with dashes.

A scenario is a module whose docstring tells what will be seen, with

``CONDITION``, ``VERDICT``
    the condition that ``scan`` must report in the world, and how surely.
``HEALTHY``
    what ``scan`` says of the condition in the healthy twin: ``absent``, or ``exposed`` where
    the preconditions hold there, too.
``FIXES``
    the fixes that answer it, best first.
``build(world) -> None``
    fills an empty :class:`~remedies.lab.world.World`, by its options.
``traffic(world) -> Outcome``
    one attempt, bounded in bytes and in time (seconds): did the connection live?
``story(story) -> None``
    the steps of ``remedy lab run``: what is shown, run and expected.
``look(world) -> tuple[str, ...]``
    commands worth trying in a world that was left up.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import TYPE_CHECKING, Protocol, cast

from remedies.errors import UsageError

if TYPE_CHECKING:
    from remedies.lab.story import Story
    from remedies.lab.world import TrafficOutcome, World


class Scenario(Protocol):
    """What every module of this folder offers (see the folder's docstring)."""

    __doc__: str | None
    CONDITION: str
    VERDICT: str
    HEALTHY: str
    FIXES: tuple[str, ...]

    def build(self, world: World) -> None:
        """Fill an empty world."""

    def traffic(self, world: World) -> TrafficOutcome:
        """Try once whether the connection lives."""

    def story(self, story: Story) -> None:
        """Tell the fault, its proof, its fix and the way back."""

    def look(self, world: World) -> tuple[str, ...]:
        """Return commands worth trying in the world."""


def names() -> tuple[str, ...]:
    """Return the names of all scenarios, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.replace("_", "-") for name in found))


def load(name: str) -> Scenario:
    """Import one scenario; raises UsageError naming the nearest where there is none."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]}?" if near else "see: remedy lab list"
        raise UsageError(f"no scenario is called {name!r}", hint)
    return cast(Scenario, importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))


def summary(scenario: Scenario) -> str:
    """Return the first line of a scenario's story."""
    return (scenario.__doc__ or "").strip().splitlines()[0]
