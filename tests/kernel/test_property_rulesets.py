"""Rollback is exact: random foreign rulesets, random sequences of fixes, on a real kernel.

Each example is a namespace of its own with rules as others write them: nft, both iptables, both
families. Fixes are applied, given back and rolled back in random order (ruleset_steps). The
sequence is derived from the test itself, so every run sees the same examples.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from examples import examples
from foreign_rules import STEPS, foreign
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from ruleset_steps import Foreign, Step, go

from remedies.namespaces import netns
from remedies.resources import iptables_legacy

EXAMPLES = examples(50)


@pytest.fixture(autouse=True)
def _nothing_reaches_the_machines_own_rules() -> Iterator[None]:
    with netns.scratch():
        yield


@settings(max_examples=EXAMPLES, phases=(Phase.generate,))
@given(foreign(), STEPS, st.integers(0, 15))
def test_any_fixes_on_any_ruleset_are_rolled_back_exactly(
    world: Foreign, steps: list[Step], die: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if die == 0:  # starting the library takes a fifth of a second
            patch.setattr(iptables_legacy, "_installed", lambda _: False)
        go(world, steps, event)
