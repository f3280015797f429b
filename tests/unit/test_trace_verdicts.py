"""What conditions say, laid over the drops that a trace saw."""

from __future__ import annotations

from typing import Optional

import pytest
from builder import finding, packet_rule

from remedies.facts.drop_signs import evidence
from remedies.model import Evidence, Finding
from remedies.netlink.flow import Tuple
from remedies.trace.event import DropEvent
from remedies.trace.verdicts import explained
from remedies.values import replace

RULE = packet_rule("forward", "drop", text="policy drop")
NAMED = Evidence(RULE.place, RULE.hook, RULE.text)
PLAIN = DropEvent(
    time=0.0, reason="NETFILTER_DROP", means="some rule drops it", look="nft list ruleset",
    ordinary=False, protocol="udp", way=Tuple("10.0.0.9", 5000, "172.17.0.2", 53), flags="",
    namespace="", container="", link="eth0", conntrack="", place="nf_hook_slow", count=10,
    fix="let it by", sign="NETFILTER_DROP",
)  # fmt: skip
RULED = replace(PLAIN, rule=RULE.named, conntrack="new")
LATE = replace(
    PLAIN, reason="NEIGH_FAILED", sign="NEIGH_FAILED", conntrack="new", place="neigh_invalidate"
)
FULL = finding("conntrack-pressure", verdict="active")


def about(condition: str, drop: Optional[DropEvent] = None) -> Finding:
    """Return a finding whose evidence is a drop, or the rule."""
    seen = drop.seen if drop is not None else None
    return finding(condition, evidence=(NAMED if seen is None else evidence(seen),))


@pytest.mark.parametrize(
    ("drop", "found", "refused", "condition", "fix", "look"),
    [
        (RULED, about("forward-policy-drop"), 0, "forward-policy-drop", "", ""),
        (replace(RULED, conntrack="established"), about("published-but-refused"), 0,
         "published-but-refused", "", ""),
        (RULED, finding("other"), 0, "", "let it by", "nft list ruleset"),
        (replace(RULED, condition="reply-dropped"), about("forward-policy-drop"), 0,
         "reply-dropped", "let it by", "nft list ruleset"),
        (replace(RULED, namespace="docker:web"), about("forward-policy-drop"), 0, "", "let it by",
         "nft list ruleset"),
        (PLAIN, about("forward-policy-drop"), 0, "", "let it by", "nft list ruleset"),
        (LATE, about("subnet-overlap", LATE), 0, "subnet-overlap", "", ""),
        (LATE, about("subnet-overlap", replace(LATE, way=Tuple("10.0.0.9", 1, "10.0.0.8", 2))), 0,
         "", "let it by", "nft list ruleset"),
        (replace(LATE, way=None), about("subnet-overlap", LATE), 0, "", "let it by",
         "nft list ruleset"),
        (PLAIN, FULL, 10, "conntrack-pressure",
             "a larger table, or fewer flows: 'remedy plan' shows both as flow-advice", ""),
        (PLAIN, FULL, 9, "", "let it by", "nft list ruleset"),
        (PLAIN, FULL, 0, "", "let it by", "nft list ruleset"),
        (PLAIN, finding("other"), 10, "", "let it by", "nft list ruleset"),
        (RULED, FULL, 10, "", "let it by", "nft list ruleset"),
        (replace(PLAIN, conntrack="new"), FULL, 10, "", "let it by", "nft list ruleset"),
        (replace(PLAIN, invalid=True), FULL, 10, "", "let it by", "nft list ruleset"),
        (replace(PLAIN, namespace="docker:web"), FULL, 10, "", "let it by", "nft list ruleset"),
        (LATE, FULL, 10, "", "let it by", "nft list ruleset"),
    ],
    ids=[
        "its rule is named", "its rule, whatever conntrack holds", "no evidence names its rule",
        "it is a sign by itself", "another namespace's rule of that name",
        "no rule is known to have dropped it", "the finding names the drop", "it names another",
        "no IP packet", "the table is full and the counter covers it",
        "the counter does not cover it", "nothing was refused", "the table is not full",
        "full, and a rule dropped it", "full, and conntrack has an entry",
        "full, and conntrack calls it INVALID", "full, in another namespace",
        "full, and dropped elsewhere",
    ],
)  # fmt: skip
def test_a_drop_takes_the_condition_that_speaks_of_it(
    drop: DropEvent, found: Finding, refused: int, condition: str, fix: str, look: str
) -> None:
    (told,) = explained((drop,), {RULE.named: RULE}, (found,), refused)
    assert (told.condition, told.fix, told.look) == (condition, fix, look)


def test_a_full_table_explains_all_drops_without_a_rule_or_none() -> None:
    """The counter tells no packet from another."""
    drops = PLAIN, replace(PLAIN, link="eth1"), RULED
    for refused, conditions in ((20, ["conntrack-pressure"] * 2), (19, ["", ""])):
        told = explained(drops, {RULE.named: RULE}, (FULL,), refused)
        assert [each.condition for each in told] == [*conditions, ""]
        assert ["no rule drops it" in each.means for each in told[:2]] == [refused == 20] * 2


@pytest.mark.parametrize(
    ("drop", "means"),
    [
        (replace(PLAIN, conntrack="new"), "NAT drops it, no rule does"),
        (RULED, "some rule drops it"),
        (LATE, "some rule drops it"),
    ],
    ids=["no rule did", "a rule did", "another part of the kernel did"],
)
def test_what_no_rule_dropped_is_not_said_to_be_dropped_by_one(drop: DropEvent, means: str) -> None:
    said = about("cond", None if drop.rule else drop)
    (told,) = explained((drop,), {RULE.named: RULE}, (said,), 0)
    assert (told.condition, told.means) == ("cond", means)
