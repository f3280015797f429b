"""What a plan leaves: proven faults by finding, and the policies that would fix them."""

from __future__ import annotations

import builder
import pytest
from builder import change

from remedies.model import Change, Finding, Mode, Plan, Policy, Rule, Verdict
from remedies.planning.remaining import left, proven
from remedies.values import replace

PROVEN = builder.finding("udp", "udp *:53", verdict="proven")


def plan(*findings: Finding, changes: tuple[Change, ...] = ()) -> Plan:
    return builder.plan(*changes, findings=findings)


def policy(mode: Mode, from_: Verdict = "proven") -> Policy:
    return builder.policy({"udp": Rule(mode, from_, ("a",))}, names=(mode,))


@pytest.mark.parametrize(
    "finding",
    [
        replace(PROVEN, verdict="exposed"),
        replace(PROVEN, verdict="active"),
        replace(PROVEN, verdict="mitigated"),
        replace(PROVEN, verdict="unknown"),
        replace(PROVEN, waived="until then"),
    ],
)
def test_only_what_is_proven_and_not_accepted_is_left(finding: Finding) -> None:
    assert proven(plan(finding)) == ()
    assert proven(plan(finding, PROVEN)) == (PROVEN,)


def test_what_a_change_answers_is_not_left() -> None:
    other = replace(PROVEN, subject="udp *:123")
    assert proven(plan(PROVEN, other, changes=(change("r", finding=PROVEN.id),))) == (other,)
    both = change("r", finding=PROVEN.id, others=(other.id,))
    assert proven(plan(PROVEN, other, changes=(both,))) == ()


def test_the_policies_that_fix_it_are_named() -> None:
    others = {m: policy(m) for m in ("off", "advise", "fix")} | {"bare": builder.policy()}
    for mode in ("off", "advise"):
        (stays,) = left(plan(PROVEN), policy(mode), others)
        assert (stays.mode, stays.policies) == (mode, ("fix",))
    (unnamed,) = left(plan(PROVEN), others["bare"], others)
    assert (unnamed.mode, unnamed.policies) == ("advise", ("fix",))


def test_no_other_policy_is_named_where_this_one_fixes_it() -> None:
    """Then the plan itself says why it did not: refused, or advice alone."""
    (stays,) = left(plan(PROVEN), policy("fix"), {"fix": policy("fix")})
    assert (stays.mode, stays.policies) == ("fix", ())
