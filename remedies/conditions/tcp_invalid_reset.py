"""A segment outside the TCP window makes the host reset a healthy connection behind NAT.

What it detects
    This namespace rewrites TCP addresses, and nothing keeps a segment that conntrack calls INVALID
    from reaching the host's own TCP. ``exposed``: NAT is in use, ``nf_conntrack_tcp_be_liberal``
    is 0, and no effective INVALID drop stands on the hooks that such a segment takes (input where
    sources are rewritten or ports redirected, forward where destinations are). ``active``: both
    the INVALID counter and the count of sent resets moved while scan watched. ``proven``: the
    host answered with a reset for a tuple that a NAT flow owns.

Why it matters
    NAT is not undone for an INVALID segment, so it is addressed to the host itself, where no
    socket has the port. The host answers with a reset, and an upload or download in full health
    dies with "Connection reset by peer".

Evidence
    ``invalid`` in /proc/net/stat/nf_conntrack and ``Tcp: OutRsts`` in /proc/net/snmp, as deltas;
    outgoing resets heard on a packet socket; the flow whose reply tuple the reset answers, from
    ctnetlink; the NAT rules and INVALID drops in force.

False positives
    A firewall's ``REJECT --reject-with tcp-reset`` of what it forwards sends the same reset for
    the same tuple, and is somebody's will. It is told apart by who computes the checksum; where
    that does not show TCP, by the INVALID counter, since what is forwarded so is valid (what is
    rejected as it arrives for the host itself is this fault, whoever answers). Nothing is proven
    while that counter stands still: a container's own reset whose time to live a rule sets anew
    looks like one made here.
    ``invalid`` also counts bad checksums, scans and ICMP errors, so ``active`` is a strong hint
    and no proof. Since Linux 6.1 a segment below the window is ignored, not INVALID; one above it
    still is. A drop on forward alone (kube-proxy's) does not help where sources are rewritten:
    the segment arrives on input.

References
    net/netfilter/nf_conntrack_proto_tcp.c (tcp_in_window, nf_tcp_log_invalid); Linux commit
    6e250dcbff1d; moby/libnetwork#1090; kubernetes/kubernetes#74839 and #119887
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.flows import Flow
from remedies.facts.netfilter import Netfilter
from remedies.facts.sysctl import Sysctl
from remedies.facts.tap import Reset, Tap
from remedies.model import Evidence, Finding, Severity, Verdict
from remedies.netfilter.rule import PacketRule

TITLE = "Segments outside the TCP window reset connections behind NAT"
SEVERITY: Severity = "critical"
NEEDS = (Netfilter, Sysctl, Counters, Tap)
PARAMS: Mapping[str, object] = {}

BE_LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
_SUBJECT = "tcp through NAT"
_EACH = 2
"""How often conntrack says INVALID for one reset: of the segment, and of the reset itself, which
opens no connection (net/netfilter/nf_conntrack_proto_tcp.c, tcp_new())."""
_SHOWN = 3
"""Proofs written out in full; the others are counted."""
_HOOK_OF = {"snat": "input", "masquerade": "input", "redirect": "input", "dnat": "forward"}
"""Which hook an INVALID segment of such a flow takes: see the docstring, *What it detects*."""
_SEVERITY_OF: Mapping[Verdict, Severity] = {
    "proven": "critical",
    "active": "high",
    "exposed": "medium",
    "mitigated": "low",
}


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return one finding where addresses of TCP flows are rewritten, none elsewhere.

    Raises Unreadable where rulesets, counters or sysctls cannot be read.
    """
    netfilter = facts.get(Netfilter)
    proofs = _proofs(facts)
    if not netfilter.nat_uses and not proofs:
        if netfilter.unread:
            raise Unreadable("; ".join(netfilter.unread))
        return ()
    covered_by = _covered_by(facts, netfilter)
    invalid = facts.get(Counters).delta("nf_conntrack.invalid")
    resets = facts.get(Counters).delta("Tcp.OutRsts")
    verdict: Verdict
    if proofs:
        verdict = "proven"
    elif covered_by:
        verdict = "mitigated"
    elif invalid and resets and facts.window > 0:
        verdict = "active"
    else:
        verdict = "exposed"
    return (
        Finding(
            condition="tcp-invalid-reset",
            subject=_SUBJECT,
            verdict=verdict,
            severity=_SEVERITY_OF[verdict],
            message=_message(verdict, netfilter, proofs, covered_by),
            evidence=_evidence(facts, netfilter, proofs),
            mitigated_by=covered_by if verdict == "mitigated" else None,
        ),
    )


Proof = tuple[Reset, Flow]


def _proofs(facts: Facts) -> tuple[Proof, ...]:
    """Return the resets that answer the reply tuple of a flow whose addresses NAT rewrites.

    Such a reset speaks for an address that the host only lends: had NAT been undone, the segment
    would have gone to the flow's own end and nobody here would have answered.
    """
    candidates = tuple(
        (reset, reset.flow)
        for reset in facts.get(Tap).resets
        if reset.flow is not None and reset.flow.nat and _rewritten(reset.flow)
    )
    invalid = facts.get(Counters).delta("nf_conntrack.invalid")
    sure = tuple(pair for pair in candidates if pair[0].answers)
    others = sum(reset.count for reset, _ in candidates if not reset.answers)
    if invalid == 0:
        return ()
    return candidates if invalid is not None and invalid >= _EACH * others else sure


def _rewritten(flow: Flow) -> bool:
    one, other = flow.original, flow.reply
    return (one.source, one.source_port, one.destination, one.destination_port) != (
        other.destination,
        other.destination_port,
        other.source,
        other.source_port,
    )


def _covered_by(facts: Facts, netfilter: Netfilter) -> Optional[str]:
    """Return what keeps INVALID segments from the host's TCP on every hook they take.

    What is ours begins with ``remedy``, and is named first: it is what a plan keeps.
    """
    liberal = facts.get(Sysctl).values.get(BE_LIBERAL, "0") != "0"
    ours = f"sysctl:{BE_LIBERAL}" in facts.ours
    if liberal and ours:
        return f"remedy sysctl:{BE_LIBERAL}"
    needed = {(use.family, _HOOK_OF[use.action]) for use in netfilter.nat_uses}
    needed = needed or {("inet", "input"), ("inet", "forward")}
    own = [d for d in netfilter.drops if d.owner == "remedy"]
    if _all_dropped(needed, own):
        return f"remedy {own[0].place}"
    if liberal:
        return f"{BE_LIBERAL} = 1"
    if _all_dropped(needed, netfilter.drops):
        hooks = {hook for _, hook in needed}
        names = (f"{d.owner or 'a rule'} ({d.place})" for d in netfilter.drops if d.hook in hooks)
        return "; ".join(dict.fromkeys(names))
    return None


def _all_dropped(needed: Iterable[tuple[str, str]], drops: Iterable[PacketRule]) -> bool:
    """Tell whether INVALID segments are dropped for every family on every hook they take."""
    dropped = {
        (family, rule.hook)
        for rule in drops
        for family in (("ip", "ip6") if rule.family == "inet" else (rule.family,))
    }
    wanted = {
        (family, hook)
        for each, hook in needed
        for family in (("ip", "ip6") if each == "inet" else (each,))
    }
    return wanted <= dropped


def _message(
    verdict: str, netfilter: Netfilter, proofs: tuple[Proof, ...], covered_by: Optional[str]
) -> str:
    if proofs:
        reset, flow = proofs[0]
        more = f" (and {len(proofs) - 1} more)" if len(proofs) > 1 else ""
        answered = flow.reply.source, flow.reply.source_port
        way_back = answered == (reset.destination, reset.destination_port)
        end = flow.original.source if way_back else flow.reply.source
        return (
            f"the host sent a reset to {_at(reset.destination, reset.destination_port)} for a "
            f"connection that NAT owns for {end}{more}"
        )
    if covered_by:
        return f"TCP is rewritten here, and INVALID segments are kept away by {covered_by}"
    half = {d.hook: d for d in netfilter.drops if d.owner != "remedy"}
    partly = "".join(
        f"; {d.owner or d.place} drops INVALID on {hook} only" for hook, d in half.items()
    )
    if verdict == "active":
        return f"INVALID segments arrived and the host sent resets while scan watched{partly}"
    return (
        "TCP is rewritten here, and a segment outside the window would make the host reset "
        f"the connection{partly}"
    )


def _evidence(
    facts: Facts, netfilter: Netfilter, proofs: tuple[Proof, ...]
) -> tuple[Evidence, ...]:
    evidence = [Evidence(source="nat hooks", key="rule", value=line) for line in netfilter.nat]
    value = facts.get(Sysctl).values.get(BE_LIBERAL)
    evidence.append(
        Evidence(
            source="/proc/sys",
            key=BE_LIBERAL,
            value="absent" if value is None else value,
        )
    )
    for source, file, column in (
        ("/proc/net/stat/nf_conntrack", "nf_conntrack", "invalid"),
        ("/proc/net/snmp", "Tcp", "OutRsts"),
    ):
        moved = facts.get(Counters).delta(f"{file}.{column}")
        if moved is not None and facts.window > 0:
            note = f"in {facts.window:g} s"
            evidence.append(Evidence(source=source, key=column, value=f"+{moved}", note=note))
    evidence += [
        Evidence(source=f"{d.hook} hook", key="drops INVALID", value=d.text, note=d.place)
        for d in netfilter.drops
    ]
    if len(proofs) > _SHOWN:
        count = Evidence("packet socket", "resets proven", str(len(proofs)), f"{_SHOWN} are shown")
        evidence.append(count)
    for reset, flow in proofs[:_SHOWN]:
        evidence.append(
            Evidence(
                source="packet socket",
                key="reset sent",
                value=f"{_at(reset.source, reset.source_port)} -> "
                f"{_at(reset.destination, reset.destination_port)}",
                note=f"{reset.count} times",
            )
        )
        evidence.append(
            Evidence(
                source="ctnetlink",
                key="flow that owns it",
                value=f"{_at(flow.original.source, flow.original.source_port)} -> "
                f"{_at(flow.original.destination, flow.original.destination_port)}",
                note=f"reply {_at(flow.reply.source, flow.reply.source_port)} -> "
                f"{_at(flow.reply.destination, flow.reply.destination_port)}",
            )
        )
    return tuple(evidence)


def _at(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
