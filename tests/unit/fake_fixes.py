"""Two fixes that want what a test tells them to, and a plan made with them."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Optional, Union

import builder
import pytest
from fake_store import FakeStore

from remedies import catalogue
from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.model import (
    Advice,
    Finding,
    Held,
    Mode,
    Plan,
    Policy,
    Rule,
    Terms,
    Wanted,
)
from remedies.planning import plan as planning
from remedies.values import replace

FACTS = builder.facts()
FINDING = builder.finding("cond", "subject", severity="high", message="message")


class FakeFix(ModuleType):
    """A fix that wants what it is told to want."""

    TITLE = "does something"
    ANSWERS = ("cond",)
    RISK = "low"
    HARMLESS = True
    NEEDS: tuple[type, ...] = ()
    TOPICS: tuple[str, ...] = ()
    PARAMS: Mapping[str, object] = {"size": 1}

    def __init__(self, name: str, *wanted: Wanted) -> None:
        super().__init__(name)
        self.wanted: Union[tuple[Wanted, ...], Advice] = wanted
        self.reason: Optional[str] = None
        self.blind = False
        self.terms: Optional[Terms] = None

    def guard(self, finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
        assert (isinstance(facts, Facts), isinstance(terms, Terms)) == (True, True)
        if self.blind:
            raise Unreadable("rules cannot be read")
        return self.reason

    def desired(
        self, finding: Optional[Finding], facts: Facts, terms: Terms
    ) -> Union[tuple[Wanted, ...], Advice]:
        assert (isinstance(facts, Facts), isinstance(terms, Terms)) == (True, True)
        self.terms = terms
        return self.wanted

    def impact(self, finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
        why = finding.subject if finding is not None else "policy"
        return f"size {terms.params['size']} for {why} on {facts.host.kernel}"


FIXES: dict[str, FakeFix] = {}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the catalogue know ``first`` and ``second``, which want ``a`` and ``b``."""
    FIXES.clear()
    FIXES["first"] = FakeFix("first", Wanted("a", "1"))
    FIXES["second"] = FakeFix("second", Wanted("b", "1"))
    monkeypatch.setattr(catalogue, "fix", FIXES.__getitem__)
    monkeypatch.setattr(catalogue, "fix_ids", lambda: tuple(FIXES))


def policy(mode: Mode = "fix", *, every: bool = False, **more: Any) -> Policy:
    """Return a policy that mends ``cond`` with the first of both, or with both."""
    rule = Rule(mode, "exposed", ("first", "second"), every)
    return replace(builder.policy({"cond": rule}), **more)


def plan(
    policy: Policy,
    *findings: Finding,
    store: Optional[FakeStore] = None,
    held: Optional[Mapping[str, Held]] = None,
    prune: bool = False,
) -> Plan:
    """Plan as the planner does; ``store`` is the host, ``held`` what the journal has in force."""
    scan = builder.scan(*findings)
    return planning.plan(policy, FACTS, scan, held or {}, store or FakeStore(), prune=prune)


def summary(made: Plan) -> list[tuple[str, str, Optional[str], Optional[str]]]:
    """Return what each change does."""
    return [(c.action, c.resource, c.before, c.after) for c in made.changes]


HELD_A = {"a": Held("a", "first", None, "1", "t1", policy=("p",))}
