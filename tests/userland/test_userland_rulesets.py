"""Rollback is exact on every Debian's userland, whatever rules are there and in whatever order.

The examples are those of tests/kernel/test_property_rulesets.py in kind, fewer for each userland;
that userland's own tools load them and print what is compared, and its own Python runs the
bundle's drivers and transaction code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ruleset_steps
from debian import SUITES
from foreign_rules import STEPS, foreign
from hypothesis import HealthCheck, Phase, given, settings
from ruleset_steps import Foreign, Step
from userland_world import Userland

from remedies.lab import ruleset

EXAMPLES = 15
GO = """
import json, traceback
import remedies
remedies.__path__.append("/opt")
sys.path.append("/opt/steps")
from ruleset_steps import Foreign, Step, go

counts = {}
for world, steps in json.load(sys.stdin):
    told = []
    try:
        go(Foreign(**world), [Step(**step) for step in steps], told.append)
    except BaseException:
        print(json.dumps({"world": world, "steps": steps, "said": told}, indent=1))
        traceback.print_exc(file=sys.stdout)
        sys.exit(1)
    for word in (line.partition(":")[2].strip() for line in told):
        counts[word] = counts.get(word, 0) + 1
print(json.dumps(counts))
"""
"""Runs in the userland; what compares dumps is the lab's, which is no part of the bundle."""


def examples(count: int) -> list[Any]:
    """Return so many random rulesets with sequences of steps, always the same."""
    made: list[Any] = []

    @settings(max_examples=count, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
    @given(foreign(), STEPS)
    def collect(world: Foreign, steps: list[Step]) -> None:
        made.append([asdict(world), [asdict(step) for step in steps]])

    collect()
    return made


def test_any_fixes_on_any_ruleset_are_rolled_back_exactly(
    userland: Callable[..., Userland], suite: str
) -> None:
    mine = examples(EXAMPLES * len(SUITES))[SUITES.index(suite) :: len(SUITES)]
    with userland() as world:
        for source, folder in ((ruleset, "lab"), (ruleset_steps, "steps")):
            text = Path(str(source.__file__)).read_text()
            place = world.root / "opt" / folder
            place.mkdir()
            (place / f"{source.__name__.rpartition('.')[2]}.py").write_text(text)
        (world.root / "opt/lab/__init__.py").touch()
        counts = json.loads(world.python(GO, stdin=json.dumps(mine)))
    assert counts["applied"] >= EXAMPLES // 2, counts
