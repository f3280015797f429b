"""The condition on facts as data: proven, unknown, nothing."""

from __future__ import annotations

from builder import HOST, TIME

from remedies.conditions import notrack_breaks_nat
from remedies.facts import Facts
from remedies.facts.nat import Nat
from remedies.facts.netfilter import Netfilter
from remedies.model import Finding
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
    facts = Facts(HOST, TIME, 0.0, known)
    return notrack_breaks_nat.detect(facts, {})


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
