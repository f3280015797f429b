"""The condition on facts as data: exposed, unknown, nothing."""

from __future__ import annotations

from typing import Any, Optional

import builder
import pytest
from builder import facts, flow, packet_rule

from remedies.conditions import notrack_breaks_nat
from remedies.facts.nat import Nat
from remedies.facts.netfilter import Netfilter
from remedies.facts.untracked import PastNat, Untracked
from remedies.model import Finding
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.links import Address, Link, Links
from remedies.rules.rule import Match, PacketRule
from remedies.rules.untracked import HeardWay, Pair, ends, pairs, taken
from remedies.values import replace


def notrack(port: int, *, owner: str = "", unmodelled: tuple[str, ...] = ()) -> PacketRule:
    match = Match(("udp",), destination_ports=((port, port),), unmodelled=unmodelled)
    return PacketRule(
        "nft",
        "inet",
        "t",
        "raw",
        "prerouting",
        "notrack",
        f"udp dport {port} notrack",
        match,
        owner=owner,
    )


DNAT = packet_rule(
    "prerouting", "dnat", Match(("udp",), destination_ports=((53, 53),)), to="10.0.0.2"
)


SEEN = Nat(asked=True, rules=(DNAT,))


def detect(
    *notracks: PacketRule, nat: Nat = SEEN, unread: tuple[str, ...] = ()
) -> tuple[Finding, ...]:
    netfilter = Netfilter(
        nf_tables=True, iptables="none", notracks=notracks, unread_notracks=unread
    )
    return notrack_breaks_nat.detect(builder.facts(netfilter, nat, Links()), {})


def test_kube_proxy_hides_only_what_its_services_are_asked_for() -> None:
    """What it marks has met a rule of its own for a service, and that one is judged by itself."""
    marked = Match(unmodelled=("meta mark",))
    hiding = packet_rule("postrouting", "masquerade", after=(marked,))
    sip = replace(notrack(5060), hook="output")
    (others,) = detect(sip, nat=Nat(True, (hiding,)))
    assert (others.verdict, "meta mark" in others.message) == ("unknown", True)
    kube = replace(hiding, owner="kube-proxy")
    assert detect(sip, nat=Nat(True, (kube,))) == ()
    named = replace(kube, match=Match(("udp",), unmodelled=("set",)))
    assert detect(sip, nat=Nat(True, (named,)))[0].verdict == "unknown"
    service = replace(DNAT, owner="kube-proxy")
    assert detect(notrack(53), nat=Nat(True, (service, kube)))[0].verdict == "exposed"


HERE = Links(
    (
        Link(1, "lo", "", True, None, True),
        Link(2, "eth0", "", True),
        Link(3, "br0", "bridge", True),
    ),
    (Address("192.0.2.10", 24, 2, "global"), Address("172.17.0.1", 16, 3, "global")),
)
REQUEST = Tuple("192.0.2.1", 4000, "192.0.2.10", 53)
BACK = REQUEST.reversed
ARRIVED = HeardWay("udp", REQUEST, arrives="eth0")


def became(pair: Pair, heard: HeardWay, flow: Optional[Flow] = None) -> list[str]:
    of = taken(heard, [pair], HERE)
    return [end for end, _ in ends(heard, of, flow, HERE)]


def between(original: Tuple, reply: Tuple, *, replied: bool = False) -> Flow:
    nat = original != reply.reversed
    return flow(*original.parts, reply=reply, seen_reply=replied, nat=nat)


FROM_53 = Match(("udp",), source_ports=((53, 53),))
BEHIND = between(REQUEST, Tuple("172.17.0.2", 53, "192.0.2.1", 4000))
ANSWER = HeardWay("udp", BEHIND.reply, arrives="br0", leaves="eth0")
HIDDEN = HeardWay("udp", Tuple("172.17.0.2", 4000, "198.51.100.9", 53), "br0", "eth0")
MASQUERADE = packet_rule("postrouting", "masquerade", Match(sources=("172.17.0.0/16",)))


@pytest.mark.parametrize(
    ("heard", "seen", "end"),
    [
        (ARRIVED, None, "unanswered"),
        (replace(ARRIVED, waited=False), None, "moves"),
        (replace(ARRIVED, refused=True), None, "refused"),
        (replace(ARRIVED, answered=True), None, "answered"),
        (replace(ARRIVED, answered=True), between(BACK, REQUEST), "answered"),
        (ARRIVED, between(REQUEST, BACK), "moves"),
        (ARRIVED, BEHIND, "moves"),
    ],
)
def test_what_becomes_of_a_request(heard: HeardWay, seen: Optional[Flow], end: str) -> None:
    assert became((notrack(53), DNAT), heard, seen) == [end]


def test_only_what_surely_meets_both_rules_counts() -> None:
    assert became((notrack(53), DNAT), replace(ARRIVED, protocol="tcp")) == []
    assert became((replace(notrack(53), hook="output"), DNAT), ARRIVED) == []
    marked = Match(unmodelled=("meta mark",))
    assert became((replace(notrack(53), after=(marked,)), DNAT), ARRIVED) == []
    assert became((notrack(53), replace(DNAT, after=(marked,))), ARRIVED) == []
    other = replace(DNAT, after=(Match(in_interfaces=("br0",)),))
    assert became((notrack(53), other), ARRIVED) == ["unanswered"]
    drawn = replace(DNAT, match=replace(DNAT.match, unmodelled=("statistic",)))
    assert became((notrack(53), drawn), ARRIVED) == ["unanswered"]
    passing = HeardWay("udp", BEHIND.reply, leaves="eth0")  # nobody here sent it
    assert became((packet_rule("output", "notrack", FROM_53), DNAT), passing) == []


@pytest.mark.parametrize(
    ("more", "met"),
    [
        ({"destination_local": True}, True),
        ({"destination_local": False}, False),
        ({"source_local": True}, False),
        ({"source_local": False}, True),
        ({"in_interfaces": ("eth0",)}, True),
        ({"in_interfaces": ("br0",)}, False),
        ({"destinations": ("192.0.2.0/24",)}, True),
        ({"destinations": ("192.0.2.11",)}, False),
    ],
)
def test_a_rule_takes_what_its_whole_match_covers(more: dict[str, Any], met: bool) -> None:
    mine, nat = (replace(rule, match=replace(rule.match, **more)) for rule in (notrack(53), DNAT))
    for pair in ((mine, DNAT), (notrack(53), nat)):
        assert became(pair, ARRIVED) == (["unanswered"] if met else [])


def test_a_rule_for_new_connections_sees_what_is_not_tracked_as_new() -> None:
    fresh = replace(DNAT, match=replace(DNAT.match, states=("new",)))
    assert became((notrack(53), fresh), ARRIVED) == ["unanswered"]
    known = replace(DNAT, match=replace(DNAT.match, states=("established",)))
    assert became((notrack(53), known), ARRIVED) == []


def test_rules_of_others_that_surely_meet_are_looked_at() -> None:
    ours = replace(notrack(53), owner="remedy")
    marked = notrack(53, unmodelled=("meta mark",))
    found = pairs([notrack(53), notrack(54), ours, marked], [DNAT, MASQUERADE], HERE)
    assert found == [(notrack(53), DNAT), (notrack(53), MASQUERADE), (notrack(54), MASQUERADE)]


def test_what_becomes_of_an_answer() -> None:
    taken_here = packet_rule("prerouting", "notrack", FROM_53)
    assert became((taken_here, DNAT), ANSWER, BEHIND) == ["undone"]
    assert became((taken_here, DNAT), ANSWER, replace(BEHIND, seen_reply=True)) == ["moves"]
    own = HeardWay("udp", Tuple("192.0.2.10", 5353, "192.0.2.1", 4000), leaves="eth0")
    redirected = between(REQUEST, own.way, replied=True)
    redirect = replace(DNAT, action="redirect", to=":5353")
    sent = packet_rule("output", "notrack", Match(("udp",), source_ports=((5353, 5353),)))
    assert became((sent, redirect), own, redirected) == ["undone"]
    assert became((sent, redirect), own, between(own.way, own.way.reversed)) == []


def test_what_becomes_of_a_request_of_this_host() -> None:
    asked = Tuple("192.0.2.10", 4000, "198.51.100.9", 53)
    own = HeardWay("udp", asked, leaves="eth0")
    pair = (replace(notrack(53), hook="output"), replace(DNAT, hook="output"))
    assert became(pair, own) == ["left"]
    assert became((pair[0], DNAT), own) == [], "what is made here passes no prerouting"
    assert became(pair, replace(own, answered=True)) == ["answered"]
    assert became(pair, own, between(asked, asked.reversed)) == ["moves"]
    assert became(pair, replace(own, arrives="br0")) == []


def test_what_becomes_of_a_hidden_source() -> None:
    assert became((notrack(53), MASQUERADE), HIDDEN) == ["left"]
    assert became((notrack(53), MASQUERADE), replace(HIDDEN, answered=True)) == ["answered"]
    assert became((notrack(53), MASQUERADE), replace(HIDDEN, leaves="")) == []
    snat = replace(MASQUERADE, action="snat", to="192.0.2.10")
    assert became((notrack(53), snat), HIDDEN) == ["left"]
    assert became((notrack(53), replace(snat, to="172.17.0.2")), HIDDEN) == []
    assert became((notrack(53), replace(snat, to=":1024-65535")), HIDDEN) == []
    own = HeardWay("udp", Tuple("192.0.2.10", 4000, "198.51.100.9", 53), leaves="eth0")
    everything = packet_rule("postrouting", "masquerade", Match())
    assert became((replace(notrack(53), hook="output"), everything), own) == []


def test_a_packet_that_failed_proves_it_and_one_that_moves_does_not() -> None:
    def found(*heard: str) -> Finding:
        packets = tuple(PastNat("udp", REQUEST, end, "eth0", 2, notrack(53), DNAT) for end in heard)
        netfilter = Netfilter(nf_tables=True, iptables="none", notracks=(notrack(53),))
        (one,) = notrack_breaks_nat.detect(facts(netfilter, SEEN, Links(), Untracked(packets)), {})
        return one

    assert [found(*heard).verdict for heard in ((), ("moves",), ("left", "moves"))] == [
        "exposed", "active", "proven",
    ]  # fmt: skip
    assert "udp 192.0.2.1:4000 -> 192.0.2.10:53 by eth0" in found("left").message
