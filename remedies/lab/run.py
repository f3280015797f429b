"""Running a scenario from beginning to end, and leaving one up to look into."""

from __future__ import annotations

from dataclasses import dataclass

from remedies.lab import registry, scenarios
from remedies.lab.story import Story, StoryFailed, StoryStep, Tell
from remedies.lab.world import Options, World, require_root_and_tools


@dataclass(frozen=True)
class LabResult:
    """What ``remedy lab run`` came to."""

    world: str
    steps: tuple[StoryStep, ...]
    failure: str
    """Which step differed, from what; empty: everything as told."""


def run(name: str, options: Options, tell: Tell, *, keep: bool = False) -> LabResult:
    """Build a scenario's world, tell its story, and remove it (or keep it).

    Worlds that a killed run left behind are removed first.
    """
    scenario = scenarios.load(name)
    require_root_and_tools(options)
    registry.sweep()
    with World(name, options) as world:
        if keep:
            world.keep()
        scenario.build(world)
        twin = ", healthy twin" if options.healthy else ""
        tell.text(f"{name} (IPv{options.family}, NAT by {options.nat}{twin}), world {world.id}\n")
        tell.text((scenario.__doc__ or "").strip())
        story = Story(world, scenario.traffic, tell, scenario.CONDITION, scenario.VERDICT)
        failure = ""
        try:
            if options.healthy:
                _healthy(story, scenario)
            else:
                scenario.story(story)
        except StoryFailed as error:
            failure = str(error)
        return LabResult(world.id, tuple(story.steps), failure)


def _healthy(story: Story, scenario: scenarios.Scenario) -> None:
    """Tell the twin's story: nothing dies, and nothing is reported that calls for action."""
    before = story.dump()
    story.lives("The same traffic, without the fault")
    story.scan("Nothing that calls for action", verdict=scenario.HEALTHY, code=0)
    story.unchanged("Looking changed nothing", before)


def up(name: str, options: Options) -> tuple[World, tuple[str, ...]]:
    """Build a scenario's world and leave it; returns it and commands worth trying."""
    scenario = scenarios.load(name)
    require_root_and_tools(options)
    registry.sweep()
    with World(name, options) as world:
        scenario.build(world)
        world.keep()
    return world, scenario.look(world)
