"""Packets are too big for a link on their way, and their sender is not told.

What it detects
    ICMP messages that say "send smaller packets" (IPv4: fragmentation needed; IPv6: packet too big)
    and that this host's firewall dropped while scan watched. And TCP connections through this host
    whose data it dropped as too big for the link they leave by, again and again, because the
    message does not reach the sender: a firewall elsewhere, or the sender's own, drops it.

Why it matters
    Small requests work; a TLS handshake, an upload or a large answer hangs until it times out. It
    begins where a VPN, an overlay or a provider's line carries less than 1500 octets and somebody
    drops all ICMP.

Evidence
    ``proven``: the kernel's reason for each packet. A dropped message belongs to a connection that
    conntrack knows (related), so it is nobody's forgery; the rule that dropped it is named where
    that can be told. Without the message: PKT_TOO_BIG for a connection whose data came again, did
    not leave and was not acknowledged meanwhile. Without BTF or CAP_BPF it is unknown.
    ``mitigated`` where they are of TCP alone and clamp-mss is in force for the link: connections
    that are older than it still send what does not fit.

False positives
    Links of different size alone are none: senders adapt when they are told, after one packet. What
    is too big for a router elsewhere that tells nobody is not seen from here.

References
    RFC 1191, RFC 2923 (2.1), RFC 8201, RFC 4890 (4.3.1); ip_forward() in net/ipv4/ip_forward.c,
    ip6_forward() in net/ipv6/ip6_output.c; moby/moby#22297, moby/moby#12565
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.drop_signs import drops_of, evidence, rule_of
from remedies.facts.droppers import Droppers
from remedies.facts.drops import Drops, SeenDrop
from remedies.facts.narrow import Narrow, NarrowWay
from remedies.facts.stalls import Stalls
from remedies.model import Evidence, Finding, Severity, mitigated
from remedies.printable import both_ends
from remedies.rules.accepting import clamping
from remedies.rules.rule import PacketRule
from remedies.tap.streams import DATA

TITLE = "Packets are too big for a link, and their sender is not told"
SYMPTOM = "small requests work; TLS, uploads or large answers hang, often behind a VPN"
SEVERITY: Severity = "high"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6",)
NEEDS = (Drops, Droppers, Narrow, Stalls)
PARAMS: Mapping[str, object] = {}

_SHOWN = 3


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each sender that is not told. Raises Unreadable without the drops."""
    untold = drops_of("mtu-black-hole", facts)
    seen = facts.get(Drops).seen
    big = [each for each in facts.get(Narrow).found if each.drop in seen]
    stalled = {stall.way for stall in facts.get(Stalls).found if stall.kind == DATA} if big else ()
    hung = [each for each in big if each.drop.way in stalled and each.drop.protocol == "tcp"]
    senders = dict.fromkeys(
        (*(drop.way.destination for drop in untold), *(each.drop.way.source for each in hung))
    )
    return tuple(
        _finding(
            facts,
            sender,
            [drop for drop in untold if drop.way.destination == sender],
            [each for each in big if each.drop.way.source == sender],
        )
        for sender in senders
    )


def _finding(facts: Facts, sender: str, untold: list[SeenDrop], big: list[NarrowWay]) -> Finding:
    covered = _clamped(facts, sender, big)
    if covered is not None:
        return covered
    rules = (rule_of(facts, drop) for drop in untold)
    rule = next((rule for rule in rules if rule is not None), None)
    said = (*_what(big), _why(sender, untold, rule), _cure(sender, untold, rule))
    return Finding(
        condition="mtu-black-hole",
        subject=f"packets from {sender}",
        verdict="proven",
        severity=SEVERITY,
        message="; ".join(said),
        evidence=(
            *(evidence(each.drop) for each in big[:_SHOWN]),
            *(evidence(drop) for drop in untold[:_SHOWN]),
            *(() if rule is None else (Evidence(rule.place, rule.hook, rule.text, rule.owner),)),
        ),
        details={"sender": sender, **_narrow(big)},
    )


def _narrow(big: list[NarrowWay]) -> dict[str, str]:
    """Return what a fix has to know: the link that is too narrow, and for what."""
    link = next((each.link for each in big if each.link), "")
    if not link:
        return {}
    return {"link": link, "protocols": " ".join(sorted({each.drop.protocol for each in big}))}


def _clamped(facts: Facts, sender: str, big: list[NarrowWay]) -> Optional[Finding]:
    """Return the finding of a sender whose packets are of TCP, by links that we clamp.

    Its new connections fit; what was open before goes on to send what does not.
    """
    clamped = facts.get(Narrow).clamped
    if not big or any(w.drop.protocol != "tcp" or w.link not in clamped for w in big):
        return None
    return mitigated(
        "mtu-black-hole",
        f"packets from {sender}",
        by=f"remedy {clamped[big[0].link]}",
        message=(
            f"{'; '.join(_what(big))}, of connections that are older than the clamp of remedy for "
            f"{big[0].link}: new ones fit, these go on to hang until they are closed"
        ),
        evidence=tuple(evidence(each.drop) for each in big[:_SHOWN]),
        sender=sender,
        **_narrow(big),
    )


def _what(big: list[NarrowWay]) -> Iterable[str]:
    """Yield what was too big for which link."""
    if big:
        first, count = big[0], sum(each.drop.count for each in big)
        yield (
            f"{count} packets were too big for {first.link or 'their way'}"
            f"{f', whose MTU is {first.mtu}' if first.mtu else ''}, the most of "
            f"{first.drop.protocol} {both_ends(*first.drop.way.parts)}"
        )


def _why(sender: str, untold: list[SeenDrop], rule: Optional[PacketRule]) -> str:
    """Return why the sender goes on to send them."""
    if not untold:
        return f"{sender} sends them again and again: no ICMP message that names the MTU reaches it"
    teller, count = untold[0].way.source, sum(drop.count for drop in untold)
    by = "the firewall" if rule is None else rule.named
    return f"{count} ICMP messages from {teller} that name the MTU to {sender} were dropped by {by}"


def _cure(sender: str, untold: list[SeenDrop], rule: Optional[PacketRule]) -> str:
    """Return what lets the sender hear of it, and what helps TCP until then."""
    six = ":" in sender
    if rule is not None:
        told = f"accept them before that: {_accepting(rule, six)}"
    elif untold:
        told = "accept what conntrack calls related"
    else:
        kind = "packet-too-big" if six else "fragmentation-needed"
        told = f"accept ICMP {kind} at {sender} and on the way there"
    return f"{told}; or, for TCP alone: {clamping(six)}"


def _accepting(rule: PacketRule, six: bool) -> str:
    """Return the command that accepts such messages before a rule drops them."""
    if rule.backend == "nft":
        kind = "icmpv6 type packet-too-big" if six else "icmp type destination-unreachable"
        chain = f"{rule.family} {rule.table} {rule.chain}"
        return f"nft insert rule {chain} {kind} accept"
    tool = rule.backend.replace("iptables", "ip6tables" if six else "iptables")
    kind = (
        "ipv6-icmp --icmpv6-type packet-too-big" if six else "icmp --icmp-type fragmentation-needed"
    )
    return f"{tool} -t {rule.table} -I {rule.chain} -p {kind} -j ACCEPT"
