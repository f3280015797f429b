"""A segment outside the TCP window makes the host reset a healthy connection behind NAT.

What it detects
    This namespace rewrites TCP addresses, and nothing keeps a segment that conntrack calls INVALID
    from reaching the host's own TCP. ``exposed``: NAT is in use, ``nf_conntrack_tcp_be_liberal``
    is 0, and no effective INVALID drop stands on the hooks that such a segment takes, for each
    family: input where sources or destinations are rewritten, and forward as well where
    destinations are (a published port: what its clients send arrives on input, what the container
    answers is forwarded, and a client that reaches the container's address resets it).
    A drop counts if no earlier rule of its chain accepts some of these segments (one service's own
    port aside, where a client or NAT picked the port), and on forward a rule that keeps clients'
    resets from containers does as much. Where this host itself asks a published port, what the
    container answers arrives on input. NAT that stays on the loopback is none (what this host
    sends, redirected to a proxy on it). No more is NAT that stands for addresses of no link here (a
    pool, a service): nobody here answers for them.
    ``unknown``: a rule that is not understood, and no other, may accept some before a drop, a
    program that reads a queue decides, or a rule asks for a realm or for IPsec where routes give
    realms, or IPsec has policies: which of NAT's flows have either does not show. Nor does a drop
    on nftables' egress hook of a link count (netdev): what it keeps in is ``exposed``.
    NAT rules that could not be read count as rewriting both. ``active``: a reset left for a tuple
    that a NAT flow owns while INVALID segments arrived, and neither its checksum nor the INVALID
    counter tells who made it: the host's TCP, or a firewall's REJECT; or, where connections are
    listened to (after a write, and in ``verify``), data of a connection that NAT owns came again,
    did not leave and was not acknowledged, while conntrack counted INVALID segments: a
    reset that became a hang. ``proven``: the host's TCP answered with a reset for such a tuple.

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
    ``invalid`` also counts bad checksums, scans and ICMP errors, and ``OutRsts`` every refusal:
    that both move says nothing by itself. A reset for a segment in the middle of a connection of
    which conntrack holds no flow has another cause: conntrack has forgotten the connection (it was
    idle for longer than ``nf_conntrack_tcp_timeout_established``, or the table was flushed), so
    that NAT is gone for good. Neither a drop nor ``nf_conntrack_tcp_be_liberal`` helps there; the
    finding stays what it is without these resets, and says what they are.
    Since Linux 6.1 a segment below the window is ignored, not INVALID; one above it still is. A
    drop on forward alone (kube-proxy's) does not help for what arrives on input, and one on input
    alone not for what containers answer from published ports.

References
    net/netfilter/nf_conntrack_proto_tcp.c (tcp_in_window, nf_tcp_log_invalid); Linux commit
    6e250dcbff1d; moby/libnetwork#1090; kubernetes/kubernetes#74839 and #119887
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.netfilter import Netfilter
from remedies.facts.stalls import Stall, Stalls
from remedies.facts.sysctl import Sysctl
from remedies.facts.tap import Reset, Tap
from remedies.model import Evidence, Finding, Severity, Verdict
from remedies.netlink.flow import Flow
from remedies.printable import at, both_ends
from remedies.rules import invalid_ways as ways
from remedies.tap.streams import DATA

TITLE = "Segments outside the TCP window reset connections behind NAT"
SYMPTOM = 'uploads and downloads of containers die with "Connection reset by peer", now and then'
SEVERITY: Severity = "critical"
AREA = "conntrack"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-7", "NIST-800-53 SI-2", "CIS-Controls-8 4.4")
NEEDS = (Netfilter, Sysctl, Counters, Tap)
PARAMS: Mapping[str, object] = {}

BE_LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
ESTABLISHED = "net.netfilter.nf_conntrack_tcp_timeout_established"
_OUR_DROPS = frozenset(
    ("nft:inet/remedy_invalid_drop", "iptables:mangle/REMEDY-INVALID",
     "ip6tables:mangle/REMEDY-INVALID")
)  # fmt: skip
"""The addresses of ``invalid-drop``'s rules."""
_SUBJECT = "tcp through NAT"
_EACH = 2
"""How often conntrack says INVALID for one reset: of the segment, and of the reset itself, which
opens no connection (net/netfilter/nf_conntrack_proto_tcp.c, tcp_new())."""
_READ_APART = 2
"""How many segments may be heard for one that the counter shows: the counter is read earlier."""
_SHOWN = 3
"""Proofs written out in full; the others are counted."""
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
    tied = _tied(facts)
    if not _needed(netfilter) and not tied:
        return ()  # what NAT stands for is elsewhere
    covered_by = _covered_by(facts, netfilter)
    if not (proofs or covered_by or tied):
        _raise_doubts(netfilter)
    if not (proofs or covered_by) and netfilter.unread and not _OUR_DROPS.isdisjoint(facts.ours):
        raise Unreadable(f"rules of ours are in force, and {'; '.join(netfilter.unread)}")
    hanging = _hanging(facts) if covered_by else ()
    if proofs:
        verdict: Verdict = "proven"
    elif hanging:
        verdict = "active"
    elif covered_by:
        verdict = "mitigated"
    elif tied and facts.get(Counters).delta("nf_conntrack.invalid") != 0:
        verdict = "active"
    else:
        verdict = "exposed"
    return (
        Finding(
            condition="tcp-invalid-reset",
            subject=_SUBJECT,
            verdict=verdict,
            severity=_SEVERITY_OF[verdict],
            message=(
                _hang(hanging, covered_by)
                if hanging and not proofs
                else _message(facts, verdict, proofs or tied, covered_by)
            )
            + _forgotten(facts),
            evidence=_evidence(facts, netfilter, proofs),
            mitigated_by=covered_by if verdict == "mitigated" else None,
            details={"hangs": both_ends(*hanging[0].way.parts)} if hanging else {},
        ),
    )


Proof = tuple[Reset, Flow]


def _proofs(facts: Facts) -> tuple[Proof, ...]:
    """Return the resets that answer the reply tuple of a flow whose addresses NAT rewrites.

    Such a reset speaks for an address that the host only lends: had NAT been undone, the segment
    would have gone to the flow's own end and nobody here would have answered.
    """
    candidates = _tied(facts)
    invalid = facts.get(Counters).delta("nf_conntrack.invalid")
    sure = tuple(pair for pair in candidates if pair[0].answers)
    others = sum(reset.count for reset, _ in candidates if not reset.answers)
    if invalid == 0:
        return ()
    return candidates if invalid is not None and invalid >= _EACH * others else sure


def _tied(facts: Facts) -> tuple[Proof, ...]:
    """Return the resets heard that speak for a flow whose addresses NAT rewrites."""
    return tuple(
        (reset, reset.flow)
        for reset in facts.get(Tap).resets
        if reset.flow is not None and reset.flow.nat and _rewritten(reset.flow)
    )


def _hanging(facts: Facts) -> tuple[Stall, ...]:
    """Return connections of NAT whose data is lost here again and again, as INVALID segments are.

    Nothing where nobody listened to connections.
    """
    try:
        stalls = facts.get(Stalls).found
    except Unreadable:
        return ()
    invalid = facts.get(Counters).delta("nf_conntrack.invalid") or 0
    return tuple(
        stall
        for stall in stalls
        if stall.kind == DATA
        and stall.again
        and stall.count <= _READ_APART * invalid
        and stall.flow is not None
        and _rewritten(stall.flow)
    )


def _hang(hanging: tuple[Stall, ...], covered_by: Optional[str]) -> str:
    """Return which connection does not go on, whatever keeps its resets away."""
    first = hanging[0]
    more = f" and {len(hanging) - 1} more" if len(hanging) > 1 else ""
    return (
        f"data of {both_ends(*first.way.parts)}{more} came {first.count} times, did not leave and "
        f"was not acknowledged, while conntrack counted INVALID segments: {covered_by} prevents "
        "its reset, but the connection hangs"
    )


def _rewritten(flow: Flow) -> bool:
    return flow.original != flow.reply.reversed


def _covered_by(facts: Facts, netfilter: Netfilter) -> Optional[str]:
    """Return what keeps INVALID segments from the host's TCP on every hook they take.

    What is ours begins with ``remedy``, and is named first: it is what a plan keeps.
    """
    liberal = facts.get(Sysctl).values.get(BE_LIBERAL, "0") != "0"
    ours = f"sysctl:{BE_LIBERAL}" in facts.ours
    if liberal and ours:
        return f"remedy sysctl:{BE_LIBERAL}"
    needed = _needed(netfilter)
    own = [d for d in netfilter.drops if d.owner == "remedy"]
    if not ways.not_dropped(needed, own):
        return f"remedy {own[0].place}"
    if liberal:
        return f"{BE_LIBERAL} = 1"
    if not ways.not_dropped(needed, netfilter.drops):
        kept = (d for d in netfilter.drops if needed & ways.kept_by(d))
        return "; ".join(dict.fromkeys(d.named for d in kept))
    return None


def _needed(netfilter: Netfilter) -> ways.Ways:
    """Return the ways by which INVALID segments of NAT's flows come here."""
    uses = [(use.family, use.action, use.hook, use.away) for use in netfilter.nat_uses]
    return ways.needed(uses, netfilter.nat_unread)


def _raise_doubts(netfilter: Netfilter) -> None:
    """Raise Unreadable where rules that are not understood alone may leave a way open."""
    left = ways.not_dropped(_needed(netfilter), netfilter.drops)
    rules = [rule for rule in netfilter.doubts if ways.kept_by(rule) & left]
    if left and not ways.not_dropped(left, rules):
        told = "; ".join(dict.fromkeys(f"'{rule.text}' ({rule.place})" for rule in rules))
        raise Unreadable(
            f"it is not known whether {told} lets INVALID segments by on {ways.told(left)}"
        )


def _partly(netfilter: Netfilter) -> str:
    """Return whose drops close some ways but not all, and which stay open; or nothing."""
    needed = _needed(netfilter)
    open_ways = ways.not_dropped(needed, netfilter.drops)
    served = {family for family, _ in needed}
    by: dict[str, ways.Ways] = {}
    for rule in netfilter.drops:
        kept = {way for way in ways.kept_by(rule) if way[0] in served}
        if kept:
            by.setdefault(rule.owner or rule.place, set()).update(kept)
    told_open = "".join(
        f"; {rule.named} accepts such segments first, on {ways.told(by_it)}"
        for rule in netfilter.lets_by
        for by_it in (ways.kept_by(rule) & open_ways,)
        if by_it
    )
    if not by or not open_ways:
        return told_open
    told = "; ".join(f"{who} drops INVALID on {ways.told(kept)} only" for who, kept in by.items())
    return f"; {told}; open: {ways.told(open_ways)}{told_open}"


def _message(
    facts: Facts, verdict: Verdict, tied: tuple[Proof, ...], covered_by: Optional[str]
) -> str:
    netfilter = facts.get(Netfilter)
    if verdict in ("proven", "active"):
        reset, flow = tied[0]
        more = f" (and {len(tied) - 1} more)" if len(tied) > 1 else ""
        answered = flow.reply.source, flow.reply.source_port
        way_back = answered == (reset.destination, reset.destination_port)
        end = flow.original.source if way_back else flow.reply.source
        for_whom = (
            f"reset to {at(reset.destination, reset.destination_port)} for a "
            f"connection that NAT translates for {end}{more}"
        )
        if verdict == "proven":
            return f"the host sent a {for_whom}"
        return (
            f"a {for_whom} left while INVALID segments arrived, and it is not known whether the "
            f"host's TCP or a REJECT rule sent it{_partly(netfilter)}"
        )
    if covered_by:
        return f"NAT rewrites TCP here, and {covered_by} keeps INVALID segments away"
    return (
        "NAT rewrites TCP here, and a segment outside the window would make the host reset "
        f"the connection{_partly(netfilter)}"
    )


def _forgotten(facts: Facts) -> str:
    """Return what the resets are that answer connections which conntrack does not know."""
    resets = [reset for reset in facts.get(Tap).resets if reset.forgotten]
    if not resets:
        return ""
    first, count = resets[0], sum(reset.count for reset in resets)
    value = facts.get(Sysctl).values.get(ESTABLISHED)
    limit = ESTABLISHED if value is None else f"{ESTABLISHED} = {value} s"
    return (
        f"; {count} resets answered segments of connections that conntrack has forgotten or never "
        f"saw, the first to {at(first.destination, first.destination_port)} from port "
        f"{first.source_port}: it forgets what is idle for {limit}, and neither dropping INVALID "
        "nor be_liberal brings NAT back for them"
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
    forgotten = [reset for reset in facts.get(Tap).resets if reset.forgotten]
    if forgotten:
        limit = facts.get(Sysctl).values.get(ESTABLISHED)
        note = "seconds; resets were sent for connections that conntrack does not know"
        evidence.append(Evidence("/proc/sys", ESTABLISHED, limit or "absent", note))
    if len(proofs) > _SHOWN:
        count = Evidence("packet socket", "resets proven", str(len(proofs)), f"{_SHOWN} are shown")
        evidence.append(count)
    for reset, flow in proofs[:_SHOWN]:
        evidence.append(
            Evidence(
                source="packet socket",
                key="reset sent",
                value=both_ends(
                    reset.source, reset.source_port, reset.destination, reset.destination_port
                ),
                note=f"{reset.count} times",
            )
        )
        evidence.append(
            Evidence(
                source="ctnetlink",
                key="flow that owns it",
                value=both_ends(*flow.original.parts),
                note=f"reply {both_ends(*flow.reply.parts)}",
            )
        )
    return tuple(evidence)
