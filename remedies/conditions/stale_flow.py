"""A flow goes where today's NAT rules would not send it, and past them.

What it detects
    Requests of others without an answer, of UDP or of TCP that has got no further than its SYN,
    whose flow has another target than the one that today's NAT rules (DNAT, REDIRECT) give such
    packets; and UDP flows, answered or not, to a target that is gone, which no rule gives any more.
    And flows to which a rule (``snat to``) gave an address that has left this host since, and whose
    packets nobody answers.

Why it matters
    NAT is decided by the first packet of a flow. A client that asks from one port all the time (a
    SIP phone, syslog, a VPN peer, a resolver, a proxy with a fixed source port) keeps its flow
    alive. A service that was published, moved, scaled or restarted meanwhile never hears it, until
    the client falls silent for ``nf_conntrack_udp_timeout`` (30 s; 120 s once it was answered) or
    ``nf_conntrack_tcp_timeout_syn_sent`` (120 s), or the flow is deleted. New clients work.

Evidence
    ``proven``: the flow as conntrack has it, and the rule that would send it elsewhere; where no
    rule would send it on, that nothing is at its target: no neighbour answers, or no route. Of an
    address that has left: two packets or more that left with it while scan watched, when nothing
    came to it, and that nobody here answers for it on the link whose subnet it is of.

False positives
    A rule with a condition that is not understood may send the packets there, so any target of a
    rule that they may meet counts: each backend of a service, whatever session affinity and chance
    choose. A TCP connection that was answered is never named, nor a UDP flow with an answer whose
    target is there (a backend that drains), nor a flow of another conntrack zone than the default
    one, of a flowtable, or of an expectation (a SIP or FTP helper), nor what this host sends
    itself, nor what a UDP socket of this host takes. Where NAT's rules are gone as a whole nothing
    is said: its flows may be all that works. Packets of a link that cannot be told from the
    client's address count for no rule that asks for a link. TCP, and neighbours that are being
    asked, are looked at twice, 0.25 s apart. A flow that its client gave up a moment ago is still
    named: deleting it harms nobody. An address of no link's subnet may be led here from elsewhere,
    and is not judged; a datagram that nobody has ever answered may need no answer.

References
    net/netfilter/nf_nat_core.c, nf_nat_inet_fn(); nf_nat_masquerade.c beside it (who ends flows
    with their address); moby/moby#8795, moby/moby#53384,
    kubernetes/kubernetes#105657, kubernetes/kubernetes#139629; conntrack(8), -D
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.departed import Departed, DepartedSource
from remedies.facts.stale import Stale, StaleFlow
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.flow import Flow
from remedies.printable import at, both_ends
from remedies.rules.flow_address import StuckFlow

TITLE = "A flow goes on to where today's NAT rules would not send it"
SYMPTOM = (
    "one client is not answered since a service was published, moved or restarted; new ones are"
)
SEVERITY: Severity = "high"
AREA = "NAT"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-5")
NEEDS = (Stale, Departed)
PARAMS: Mapping[str, object] = {}

MOST_ENDED = 256
"""Flows of a finding that a fix ends at a time."""
_SHOWN = 4  # flows that a finding names


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each rule that flows go past, and for each service that no rule has.

    Raises Unreadable for unread rules.
    """
    fact, departed = facts.get(Stale), facts.get(Departed)
    by_subject: dict[str, list[StaleFlow]] = {}
    for each in fact.found:
        by_subject.setdefault(_subject(each), []).append(each)
    if not by_subject and not departed.found and fact.unread:
        raise Unreadable("; ".join(fact.unread))
    return (
        *(_finding(subject, stale) for subject, stale in by_subject.items()),
        *map(_of_source, departed.found),
    )


def _subject(stale: StaleFlow) -> str:
    if stale.rule is not None:
        return f"{stale.rule.place}: {stale.rule.line}"
    way = stale.flow.original
    return f"{stale.flow.protocol} {at(way.destination, way.destination_port)}: no NAT rule"


def _finding(subject: str, stale: list[StaleFlow]) -> Finding:
    first = stale[0]
    more = f", and so do {len(stale) - 1} more flows" if len(stale) > 1 else ""
    rule, flow = first.rule, first.flow
    target = at(flow.reply.source, flow.reply.source_port)
    goes = f"{flow.protocol} {both_ends(*flow.original.parts)} still goes to {target}"
    why = f" ({first.gone})" if first.gone else ""
    now = "no NAT rule sends it on any more" if rule is None else (
        f"the NAT rule '{rule.text}' ({rule.place}) would not send it there"
    )  # fmt: skip
    return Finding(
        condition="stale-flow",
        subject=subject,
        verdict="proven",
        severity=SEVERITY,
        message=(
            f"{goes}{why}, {'answered before' if flow.seen_reply else 'unanswered'}{more}, and "
            f"{now}; end it, and the next packet takes today's rules: {command(flow)}"
        ),
        evidence=(
            *(() if rule is None else (Evidence(rule.place, rule.action, rule.text),)),
            *(
                Evidence(
                    "conntrack",
                    "answered before" if each.flow.seen_reply else "no reply",
                    f"{each.flow.protocol} {both_ends(*each.flow.original.parts)}",
                    f"goes to {at(each.flow.reply.source, each.flow.reply.source_port)}"
                    + (f": {each.gone}" if each.gone else ""),
                )
                for each in stale[:_SHOWN]
            ),
        ),
        details={
            "nat": "" if rule is None else rule.text,
            "flows": str(len(stale)),
            "stale": " ".join(_path(each.flow) for each in stale[:MOST_ENDED]),
        },
    )


def _of_source(gone: DepartedSource) -> Finding:
    """Return the finding on flows that have an address which this host has no longer."""
    first, rule = gone.flows[0], gone.rule
    ends = f"{first.protocol} {both_ends(*first.original.parts)}"
    udp = [flow for flow in gone.flows if flow.protocol == "udp"]
    if rule is not None:
        cure = (
            f"the NAT rule '{rule.text}' ({rule.place}) still gives it: have it name an address of "
            f"this host, or give the address back: ip addr add {gone.address} dev {gone.link}"
        )
    else:
        cure = "no rule gives it any more; end the flow, and the next packet takes today's rules: "
        cure += command(first)
    return Finding(
        condition="stale-flow",
        subject=f"source {gone.address}",
        verdict="proven",
        severity=SEVERITY,
        message=(
            f"{gone.count} packets left with the source {gone.address}, which is no address of "
            f"this host, and nothing came back: NAT gave it to {len(gone.flows)} flows, the first "
            f"{ends}, and nobody here answers for it on {gone.link}; {cure}"
        ),
        evidence=(
            *(() if rule is None else (Evidence(rule.place, rule.action, rule.text),)),
            *(
                Evidence(
                    "conntrack",
                    "has the address",
                    f"{flow.protocol} {both_ends(*flow.original.parts)}",
                    f"as {at(*flow.reply.parts[2:])}",
                )
                for flow in gone.flows[:_SHOWN]
            ),
            Evidence("packet socket", "not answered", gone.address, f"{gone.count} times"),
        ),
        details={
            "nat": "" if rule is None else rule.text,
            "flows": str(len(gone.flows)),
            "stale": "" if rule is not None else " ".join(map(_path, udp[:MOST_ENDED])),
        },
    )


def _path(flow: Flow) -> str:
    """Return the address, without ``flow:``, by which a fix ends this one flow."""
    way, target = flow.original, flow.reply
    return StuckFlow(
        flow.protocol, *way.parts, target.source, target.source_port, flow.number, flow.seen_reply
    ).path


def command(flow: Flow) -> str:
    """Return the command that deletes this one flow, of the default zone alone."""
    way = flow.original
    return (
        f"conntrack -D -p {flow.protocol} --orig-src {way.source} --orig-dst {way.destination} "
        f"--sport {way.source_port} --dport {way.destination_port} -w 0"
    )
