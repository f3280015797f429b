"""conntrack forgets what is only idle, and the host itself gets, and refuses, what comes next.

What it detects
    TCP: this namespace rewrites the source addresses of connections, and a time-out of conntrack is
    shorter than a NAT may have it: ``nf_conntrack_tcp_timeout_established`` below 7440 s (RFC 5382,
    REQ-5), or ``nf_conntrack_tcp_timeout_unacknowledged`` below 120 s. ``exposed``: no more than
    that was seen. ``active``: the host sent resets for segments in the middle of connections of
    which conntrack has no entry, to a port that NAT gives to clients.

    UDP: what a server sent to a client behind NAT after conntrack had forgotten its flow. Such a
    datagram begins a flow of its own, to this host, which takes the client's port: NAT has given
    the client another one since. ``proven``: those datagrams were dropped while scan watched. How
    long the time-outs are decides nothing: the kernel's own (30 s, and 120 s once both have spoken)
    are shorter than the silence of many a SIP phone or VPN peer.

Why it matters
    A connection that is idle for longer loses its entry, and its NAT with it. When the end outside
    speaks first, its segment is addressed to the host itself, no socket has the port, and the host
    answers with a reset: "Connection reset by peer" on database notifications, MQTT, SSH and
    connection pools. No fix of this tool brings back an entry that is gone: a longer time-out or
    TCP keep-alive does. With UDP calls and messages are lost, and the server that goes on sending
    to the port it knows keeps the client's way barred.

Evidence
    The time-outs, with the kernel's defaults; the line of sysctl.d that sets them at boot, and
    programs on this host that are known to (kube-proxy); the resets heard on a packet socket, and
    that conntrack has no entry for any of their connections. UDP: the dropped datagrams, and the
    client's flow to that server's very port, from the port that they were sent to, which NAT gave
    another one.

False positives
    A SYN-ACK that answers somebody else's forged SYN, and a scan by bare ACKs, are answered with
    the same resets. They are not counted on ports below 32768, and not at all while the time-outs
    are long enough. Entries that were deleted (``conntrack -D``, ``-F``) or lost in a failover look
    the same. UDP of a server that speaks first, and was never asked, does, too: its client is
    barred in the same way. A client that has not spoken again since is not told.

References
    RFC 5382, REQ-5; RFC 4787, REQ-5; net/netfilter/nf_conntrack_proto_tcp.c (tcp_timeouts),
    nf_nat_core.c (nf_nat_used_tuple()); the kernel's
    Documentation/networking/nf_conntrack-sysctl.rst; moby/moby#34359
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.forgotten import Forgotten, Short
from remedies.facts.netfilter import Netfilter
from remedies.facts.strays import Strays, evidence_of
from remedies.facts.sysctl import Sysctl
from remedies.facts.tap import Reset, Tap
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.flow import Tuple
from remedies.printable import at, both_ends
from remedies.rules.invalid_packet import EPHEMERAL

TITLE = "conntrack forgets idle connections, and the host refuses what comes for them"
SYMPTOM = "connections that are idle for a while are dead when they are used again, TCP or UDP"
SEVERITY: Severity = "high"
AREA = "conntrack"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-5")
NEEDS = (Netfilter, Forgotten, Tap, Strays, Sysctl)
PARAMS: Mapping[str, object] = {}

UDP_LIMITS = (
    "net.netfilter.nf_conntrack_udp_timeout",
    "net.netfilter.nf_conntrack_udp_timeout_stream",
)
_HIDES = ("snat", "masquerade")
_SHOWN = 3


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return one finding for TCP if a time-out is too short for the NAT here, one for UDP if seen.

    Raises Unreadable if rulesets or sysctls cannot be read.
    """
    return (*_udp(facts), *_tcp(facts))


def _udp(facts: Facts) -> tuple[Finding, ...]:
    late = [stray for stray in facts.get(Strays).found if stray.why == "forgotten"]
    if not late:
        return ()
    first = late[0]
    client, way = first.flow.original, first.drop.way
    count = sum(stray.drop.count for stray in late)
    values = facts.get(Sysctl).values
    told = ", ".join(f"{key} is {values[key]} s" for key in UDP_LIMITS if key in values)
    return (
        Finding(
            condition="idle-timeout",
            subject="udp through NAT",
            verdict="proven",
            severity=SEVERITY,
            message=(
                f"{count} datagrams came to this host itself, the most from "
                f"{at(way.source, way.source_port)} for {at(client.source, client.source_port)}: "
                f"conntrack had no flow for them, and NAT has had to give that client port "
                f"{first.flow.reply.destination_port} instead of {way.destination_port} ({told}); "
                f"{cure(way)}"
            ),
            evidence=evidence_of(late[:_SHOWN], "moved by NAT", "to"),
        ),
    )


def cure(way: Tuple) -> str:
    """Return what keeps a UDP flow in mind; ``way``: of a datagram that came after it was lost."""
    return (
        "let the client send more often than that, or raise them, or publish the port; the flow "
        f"that bars its way ends by: conntrack -D -p udp --orig-src {way.source} --orig-dst "
        f"{way.destination} --sport {way.source_port} --dport {way.destination_port} -w 0"
    )


def _tcp(facts: Facts) -> tuple[Finding, ...]:
    short = facts.get(Forgotten).short
    if not short:
        return ()
    netfilter = facts.get(Netfilter)
    if not any(use.action in _HIDES for use in netfilter.nat_uses):
        if netfilter.nat_unread:
            raise Unreadable("; ".join(netfilter.unread))
        return ()
    resets = tuple(
        reset
        for reset in facts.get(Tap).resets
        if reset.forgotten and EPHEMERAL[0] <= reset.source_port <= EPHEMERAL[1]
    )
    return (
        Finding(
            condition="idle-timeout",
            subject="tcp through NAT",
            verdict="active" if resets else "exposed",
            severity=SEVERITY if resets else "medium",
            message=_message(short, resets),
            evidence=_evidence(short, resets),
        ),
    )


def _message(short: tuple[Short, ...], resets: tuple[Reset, ...]) -> str:
    first = short[0]
    who = f", set by {'; '.join(first.set_by)}" if first.set_by else ""
    value = (
        f"{first.limit.key} is {first.value} s (kernel default {first.limit.default} s, at least "
        f"{first.limit.least} s for NAT){who}"
    )
    if not resets:
        return f"a connection that is idle for longer loses its NAT: {value}"
    count = sum(reset.count for reset in resets)
    end = resets[0]
    return (
        f"the host reset {count} segments of connections that conntrack has forgotten, the first "
        f"to {at(end.destination, end.destination_port)} from port {end.source_port}: {value}; "
        "raise it, or let the programs use TCP keep-alive more often than that"
    )


def _evidence(short: tuple[Short, ...], resets: tuple[Reset, ...]) -> tuple[Evidence, ...]:
    found = []
    for item in short:
        note = f"kernel default {item.limit.default}"
        found.append(Evidence("/proc/sys", item.limit.key, str(item.value), note))
        found += [Evidence("set by", item.limit.key, line) for line in item.set_by]
    found += [
        Evidence(
            "packet socket",
            "reset without a flow",
            both_ends(reset.source, reset.source_port, reset.destination, reset.destination_port),
            f"{reset.count} times",
        )
        for reset in resets[:_SHOWN]
    ]
    return tuple(found)
