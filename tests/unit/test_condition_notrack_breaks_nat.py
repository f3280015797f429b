"""The condition on facts as data: proven, unknown, nothing."""

from __future__ import annotations

import pytest

from remedies.conditions import notrack_breaks_nat
from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.nat import Nat
from remedies.facts.netfilter import Netfilter
from remedies.model import Finding, Host
from remedies.netlink.links import Links
from remedies.rules.rule import Match, PacketRule
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


DNAT = PacketRule(
    "nft",
    "ip",
    "n",
    "pre",
    "prerouting",
    "dnat",
    "udp dport 53 dnat to 10.0.0.2",
    Match(("udp",), destination_ports=((53, 53),)),
    to="10.0.0.2",
)


SEEN = Nat(asked=True, rules=(DNAT,))


def detect(
    *notracks: PacketRule, nat: Nat = SEEN, unread: tuple[str, ...] = ()
) -> tuple[Finding, ...]:
    netfilter = Netfilter(
        nf_tables=True, iptables="none", notracks=notracks, unread_notracks=unread
    )
    known: dict[str, object] = {"netfilter": netfilter, "nat": nat, "links": Links()}
    facts = Facts(host=Host("", "", "", "", ""), time="", window=0, known=known)
    return notrack_breaks_nat.detect(facts, {})


def test_a_definite_overlap_is_proven_by_both_rules() -> None:
    (finding,) = detect(notrack(53))
    assert finding.verdict == "proven"
    assert [item.value for item in finding.evidence] == [
        "udp dport 53 notrack",
        "udp dport 53 dnat to 10.0.0.2",
    ]
    assert finding.subject == "nft inet t raw: udp dport 53 notrack"


def test_no_overlap_and_our_own_rule_are_nothing() -> None:
    assert detect(notrack(5060)) == ()
    assert detect(notrack(53, owner="remedy")) == ()


def test_what_is_not_modelled_or_not_read_is_unknown() -> None:
    (maybe,) = detect(notrack(53, unmodelled=("meta mark",)))
    assert (maybe.verdict, "meta mark" in maybe.message) == ("unknown", True)
    (unread,) = detect(notrack(5060), nat=Nat(asked=True, unread=("ip nat: late",)))
    assert (unread.verdict, "ip nat: late" in unread.message) == ("unknown", True)
    with pytest.raises(Unreadable, match="raw: late"):
        detect(unread=("raw: late",))


def test_one_finding_for_a_rule_that_two_hooks_reach() -> None:
    twice = notrack(53)
    again = PacketRule(**{**vars(twice), "hook": "output"})
    assert len(detect(twice, again)) == 1


def test_kube_proxy_hides_only_what_its_services_are_asked_for() -> None:
    """What it marks has met a rule of its own for a service, and that one is judged by itself."""
    marked = Match(unmodelled=("meta mark",))
    hiding = PacketRule(
        "nft", "ip", "n", "post", "postrouting", "masquerade", "masquerade", after=(marked,)
    )
    sip = replace(notrack(5060), hook="output")
    (others,) = detect(sip, nat=Nat(True, (hiding,)))
    assert (others.verdict, "meta mark" in others.message) == ("unknown", True)
    kube = replace(hiding, owner="kube-proxy")
    assert detect(sip, nat=Nat(True, (kube,))) == ()
    named = replace(kube, match=Match(("udp",), unmodelled=("set",)))
    assert detect(sip, nat=Nat(True, (named,)))[0].verdict == "unknown"
    service = replace(DNAT, owner="kube-proxy")
    assert detect(notrack(53), nat=Nat(True, (service, kube)))[0].verdict == "proven"
