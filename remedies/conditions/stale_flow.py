"""A flow is older than the NAT rule that would send it on, and goes on past it.

What it detects
    UDP requests of others without an answer, whose flow has another target than the one that
    today's NAT rules (DNAT, REDIRECT) surely give such packets.

Why it matters
    NAT is decided by the first packet of a flow. A client that asks from one port all the time (a
    SIP phone, syslog, a VPN peer, a resolver) keeps its flow alive. A service that
    was published, moved or restarted meanwhile never hears it, until the client falls silent for
    ``nf_conntrack_udp_timeout`` (30 s), or the flow is deleted. New clients work.

Evidence
    ``proven``: the flow as conntrack has it, without a reply, and the rule that it is older than.

False positives
    A rule with a condition that is not understood, or that chooses at random, is no proof; nor is
    a flow whose target any rule of the service may give. Packets of a link that cannot be told
    from the client's address count for no rule that asks for a link. A flow that its client gave
    up less than 30 s ago is still named: deleting it harms nobody.

References
    net/netfilter/nf_nat_core.c, nf_nat_inet_fn(); moby/moby#8795, kubernetes/kubernetes#105657;
    conntrack(8), -D
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.stale import Stale, StaleFlow
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.flow import Flow
from remedies.printable import at, both_ends

TITLE = "A UDP flow is older than the NAT rule that would send it on"
SYMPTOM = "one UDP client is not answered since a service was published or restarted; new ones are"
SEVERITY: Severity = "high"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-5")
NEEDS = (Stale,)
PARAMS: Mapping[str, object] = {}

_SHOWN = 4  # flows that a finding names


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each rule that flows go past. Raises Unreadable for unread rules."""
    fact = facts.get(Stale)
    by_rule: dict[tuple[str, str], list[StaleFlow]] = {}
    for each in fact.found:
        by_rule.setdefault((each.rule.place, each.rule.line), []).append(each)
    if not by_rule and fact.unread:
        raise Unreadable("; ".join(fact.unread))
    return tuple(_finding(stale) for stale in by_rule.values())


def _finding(stale: list[StaleFlow]) -> Finding:
    rule, first = stale[0].rule, stale[0].flow
    more = f", and so do {len(stale) - 1} more flows" if len(stale) > 1 else ""
    target = at(first.reply.source, first.reply.source_port)
    return Finding(
        condition="stale-flow",
        subject=f"{rule.place}: {rule.line}",
        verdict="proven",
        severity=SEVERITY,
        message=(
            f"udp {both_ends(*first.original.parts)} is older than the NAT rule '{rule.text}' "
            f"({rule.place}) and still goes to {target}, unanswered{more}; end it, and the next "
            f"packet takes the rule: {command(first)}"
        ),
        evidence=(
            Evidence(source=rule.place, key=rule.action, value=rule.text),
            *(
                Evidence(
                    "conntrack",
                    "no reply",
                    both_ends(*each.flow.original.parts),
                    f"goes to {at(each.flow.reply.source, each.flow.reply.source_port)}",
                )
                for each in stale[:_SHOWN]
            ),
        ),
        details={"nat": rule.text, "flows": str(len(stale))},
    )


def command(flow: Flow) -> str:
    """Return the command that deletes this one flow."""
    way = flow.original
    return (
        f"conntrack -D -p udp --orig-src {way.source} --orig-dst {way.destination} "
        f"--sport {way.source_port} --dport {way.destination_port}"
    )
