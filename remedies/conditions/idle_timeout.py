"""conntrack forgets TCP connections that are only idle, and the host resets what they send next.

What it detects
    This namespace rewrites the source addresses of TCP connections, and a time-out of conntrack is
    shorter than a NAT may have it: ``nf_conntrack_tcp_timeout_established`` below 7440 s (RFC 5382,
    REQ-5), or ``nf_conntrack_tcp_timeout_unacknowledged`` below 120 s. ``exposed``: no more than
    that was seen. ``active``: the host sent resets for segments in the middle of connections of
    which conntrack has no entry, to a port that NAT gives to clients.

Why it matters
    A connection that is idle for longer loses its entry, and its NAT with it. When the end outside
    speaks first, its segment is addressed to the host itself, no socket has the port, and the host
    answers with a reset: "Connection reset by peer" on database notifications, MQTT, SSH and
    connection pools. No fix of this tool brings back an entry that is gone: a longer time-out or
    TCP keep-alive does.

Evidence
    The time-outs, with the kernel's defaults; the line of sysctl.d that sets them at boot, and
    programs on this host that are known to (kube-proxy); the resets heard on a packet socket, and
    that conntrack has no entry for any of their connections.

False positives
    A SYN-ACK that answers somebody else's forged SYN, and a scan by bare ACKs, are answered with
    the same resets. They are not counted on ports below 32768, and not at all while the time-outs
    are long enough. Entries that were deleted (``conntrack -D``, ``-F``) or lost in a failover look
    the same.

References
    RFC 5382, REQ-5; net/netfilter/nf_conntrack_proto_tcp.c (tcp_timeouts); the kernel's
    Documentation/networking/nf_conntrack-sysctl.rst; moby/moby#34359
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.forgotten import Forgotten, Short
from remedies.facts.netfilter import Netfilter
from remedies.facts.tap import Reset, Tap
from remedies.model import Evidence, Finding, Severity
from remedies.printable import at, both_ends
from remedies.rules.invalid_packet import EPHEMERAL

TITLE = "conntrack forgets idle TCP connections, and the host resets them"
SYMPTOM = "connections that are idle for a while are dead when they are used again"
SEVERITY: Severity = "high"
AREA = "conntrack"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-5")
NEEDS = (Netfilter, Forgotten, Tap)
PARAMS: Mapping[str, object] = {}

_HIDES = ("snat", "masquerade")
_SHOWN = 3


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return one finding if a time-out is too short for the NAT here, none elsewhere.

    Raises Unreadable if rulesets or sysctls cannot be read.
    """
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
