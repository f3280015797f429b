"""Somebody's notrack rule takes packets away from NAT.

What it detects
    A notrack rule (``notrack``, ``-j CT --notrack``, ``-j NOTRACK``) that is not ours and that
    matches packets which a NAT rule has to rewrite, or replies to them. ``exposed``: both rules are
    understood in full and some packet meets both. ``active``: such packets came while scan watched.
    ``proven``: one of them was seen to fail: it left with an address that NAT should have changed,
    or it arrived, conntrack has no flow of it, and it was refused or not answered, or it is an
    answer that conntrack did not notice. ``unknown``: conditions that are not modelled, or rules
    that could not be read, decide. ``mitigated``: the notrack rule is about services of this host
    alone, and each has a socket bound to the very address.

Why it matters
    NAT works on tracked flows only. A published port, a redirect or a masquerade that a notrack
    rule overlaps is silently not rewritten: requests reach the host instead of the container,
    replies are thrown away, clients time out.

Evidence
    The two rules themselves, as their tools print them, with the packets that both see: protocol,
    addresses, ports, interfaces and hooks, through jumps, sets and maps, for nft, iptables-nft
    and iptables-legacy. Packets of both that a packet socket heard within the window, by their
    addresses and ports, and what conntrack and the opposite direction said of each.

False positives
    A cache that takes a service's address on the host itself, as Kubernetes' NodeLocal DNSCache
    does, keeps those packets from NAT on purpose: that is ``mitigated``, and needs nothing.
    A notrack rule beside NAT without common packets is no finding: one limited to an address of
    the host, or to ports that no NAT rule is about. Packets that another program answers although
    NAT did not see them are ``active``, and those of a flow that began before the notrack rule was
    made. Rules that run only by other rules' marks are ``unknown``, but for kube-proxy's
    masquerade, which marks what its rules for a service match, and those are judged, and for what
    Cilium marks for its proxy. The packets of a tunnel (VXLAN, Geneve, WireGuard) never leave by
    the tunnel: NAT of what it carries is not about them. What comes in by one link and would leave
    by the same is taken for nothing that is forwarded, unless that link is the only one.

References
    iptables-extensions(8): CT; nft(8): NOTRACK STATEMENT; moby/moby#10270;
    net/netfilter/nf_nat_core.c (nf_nat_inet_fn passes what has no conntrack entry)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.nat import Nat
from remedies.facts.netfilter import Netfilter
from remedies.facts.served import Served, ends_of
from remedies.facts.untracked import PastNat, Untracked
from remedies.model import Evidence, Finding, Severity, Verdict, mitigated
from remedies.netlink.links import Links
from remedies.printable import both_ends
from remedies.rules.known_traffic import by_its_mark
from remedies.rules.overlap import overlap
from remedies.rules.rule import PacketRule
from remedies.rules.untracked import ANSWERED, FAILED, LEFT, MOVES, REFUSED, UNANSWERED, UNDONE

TITLE = "A notrack rule takes packets away from NAT"
SYMPTOM = "a published UDP port is dead since somebody tuned connection tracking"
SEVERITY: Severity = "high"
AREA = "NAT"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-7", "CIS-Controls-8 4.4")
NEEDS = (Netfilter, Nat, Links, Served, Untracked)
PARAMS: Mapping[str, object] = {}

_SHOWN = 4  # NAT rules, and packets, that a finding names as evidence
_SEVERITY_OF: Mapping[Verdict, Severity] = {"proven": SEVERITY, "active": SEVERITY}
_BECAME = {
    LEFT: "left with an address that NAT should have changed",
    UNDONE: "answers a flow of that NAT rule, and conntrack has not seen it",
    REFUSED: "arrived, conntrack has no flow of it, and this host refused it",
    UNANSWERED: "arrived, conntrack has no flow of it, and nobody answered it",
    ANSWERED: "was answered, although NAT did not see it",
    MOVES: "was seen",
}
"""What became of a packet, by the words of :mod:`remedies.rules.untracked`."""


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each foreign notrack rule that takes, or may take, packets from NAT.

    Raises Unreadable where a notrack rule may stand in what could not be read.
    """
    netfilter = facts.get(Netfilter)
    places: dict[tuple[str, str], list[PacketRule]] = {}
    for rule in netfilter.notracks:
        if not rule.ours:
            places.setdefault((rule.place, rule.text), []).append(rule)
    found = [_judge(rules, facts) for rules in places.values()]
    findings = tuple(finding for finding in found if finding is not None)
    if not findings and netfilter.unread_notracks:
        raise Unreadable("; ".join(netfilter.unread_notracks))
    return findings


def _judge(notracks: list[PacketRule], facts: Facts) -> Optional[Finding]:
    """Judge one rule, which several hooks may reach."""
    nat, links = facts.get(Nat), facts.get(Links)
    met: dict[str, list[tuple[PacketRule, str]]] = {"yes": [], "maybe": []}
    for rule in nat.rules:
        for notrack in notracks:
            answer = overlap(notrack, rule, links)
            # What marks the packets is judged by itself. A guard does not rely on that: nothing
            # keeps others from setting the mark.
            if answer.answer == "maybe" and (by_its_mark(rule) or by_its_mark(notrack)):
                continue
            if answer.answer in met and all(
                rule.text != seen.text for seen, _ in met[answer.answer]
            ):
                met[answer.answer].append((rule, answer.reason))
    if met["yes"] or met["maybe"]:
        by = _served(notracks, facts)
        if by:
            return _mitigated(notracks[0], met["yes"] + met["maybe"], by)
    if met["yes"]:
        heard = _heard(notracks, facts)
        failed = any(each.end in FAILED for each in heard)
        verdict: Verdict = "proven" if failed else "active" if heard else "exposed"
        return _finding(verdict, notracks[0], met["yes"], heard)
    if met["maybe"]:
        return _finding("unknown", notracks[0], met["maybe"])
    if nat.unread:
        return _unread(notracks[0], nat.unread)
    return None


def _heard(notracks: list[PacketRule], facts: Facts) -> tuple[PastNat, ...]:
    """Return the packets of one rule and of NAT that were heard; what failed comes first."""
    heard = facts.known.get("untracked")
    if not isinstance(heard, Untracked):
        return ()
    rule = notracks[0]
    return tuple(
        each
        for each in heard.packets
        if (each.notrack.place, each.notrack.text) == (rule.place, rule.text)
    )


def _served(notracks: list[PacketRule], facts: Facts) -> str:
    """Return the sockets that take all that the rule keeps from NAT; empty where some is not."""
    served = facts.known.get("served")
    ends = {end for rule in notracks for end in ends_of(rule)}
    exact = all(ends_of(rule) for rule in notracks)
    if not exact or not isinstance(served, Served) or not ends <= set(served.ends):
        return ""
    return ", ".join(sorted(f"{end.protocol} {end.address} port {end.port}" for end in ends))


def _mitigated(notrack: PacketRule, met: list[tuple[PacketRule, str]], by: str) -> Finding:
    rule, _ = met[0]
    return mitigated(
        "notrack-breaks-nat",
        _subject(notrack),
        by=f"a socket bound to {by}",
        message=(
            f"the notrack rule {notrack.named} keeps packets from the NAT rule "
            f"{rule.named}, and a socket of this host takes them: {by}"
        ),
        evidence=(_evidence(notrack), *(_evidence(nat, why) for nat, why in met[:_SHOWN])),
        notrack=notrack.text,
        nat=rule.text,
    )


def _subject(rule: PacketRule) -> str:
    return f"{rule.place}: {rule.line}"


def _evidence(rule: PacketRule, note: str = "") -> Evidence:
    return Evidence(source=rule.place, key=rule.action, value=rule.text, note=note)


def _finding(
    verdict: Verdict,
    notrack: PacketRule,
    met: list[tuple[PacketRule, str]],
    heard: tuple[PastNat, ...] = (),
) -> Finding:
    rule, reason = met[0]
    if heard:
        rule, reason = heard[0].nat, next((r for n, r in met if n.text == heard[0].nat.text), "")
        met = [(rule, reason), *(each for each in met if each[0].text != rule.text)]
    claim = "may keep" if verdict == "unknown" else "keeps"
    others = f" and {len(met) - 1} more" if len(met) > 1 else ""
    return Finding(
        condition="notrack-breaks-nat",
        subject=_subject(notrack),
        verdict=verdict,
        severity=_SEVERITY_OF.get(verdict, "medium"),
        message=(
            f"the notrack rule {notrack.named} {claim} packets from the NAT "
            f"rule {rule.named}{others}: "
            f"{_sentence(heard[0]) if heard else reason}; narrow the notrack rule to the "
            "addresses and ports of a service that no NAT rule serves"
        ),
        evidence=(
            _evidence(notrack),
            *(_evidence(nat, why) for nat, why in met[:_SHOWN]),
            *(
                Evidence("packet socket", _BECAME[each.end], _way(each), f"{each.count} times")
                for each in heard[:_SHOWN]
            ),
        ),
        details={"notrack": notrack.text, "nat": rule.text},
    )


def _sentence(heard: PastNat) -> str:
    return f"{_way(heard)} by {heard.link} {_BECAME[heard.end]}"


def _way(heard: PastNat) -> str:
    return f"{heard.protocol} {both_ends(*heard.way.parts)}"


def _unread(notrack: PacketRule, reasons: tuple[str, ...]) -> Finding:
    return Finding(
        condition="notrack-breaks-nat",
        subject=_subject(notrack),
        verdict="unknown",
        severity="medium",
        message=(
            f"whether the notrack rule {notrack.named} takes packets from NAT "
            f"could not be judged: {'; '.join(reasons)}"
        ),
        evidence=(_evidence(notrack),),
        details={"notrack": notrack.text},
    )
