"""A program does not read its UDP socket fast enough, and the kernel drops what has no room.

What it detects
    A UDP socket of this namespace whose counter of drops moved while scan watched, beyond the
    datagrams that were dropped for another reason: its receive buffer was full. ``active``: the
    namespace's ``RcvbufErrors`` moved, and the socket could not be told.

Why it matters
    Nobody is told: the sender has sent, the interface has received, no firewall has dropped. DNS
    answers late or never, syslog and metrics have gaps, QUIC and calls stutter, always in bursts.

Evidence
    The socket's drops (SK_MEMINFO_DROPS), the bytes that wait and their limit, by sock_diag;
    ``RcvbufErrors`` of UDP over IPv4 and IPv6; and who holds the socket. The advice depends on the
    limit: the kernel's default (the program has not asked for a buffer), the most that the kernel
    allows (it has asked for more), or one that the program chose.

False positives
    A program that has a socket and never reads it, because it only sends, loses answers that it
    does not want. Waive that socket. Wrong checksums, socket filters and the memory limit of all
    UDP sockets together (``MemErrors``) are not counted; what was lost before the scan is not,
    either.

References
    socket(7): SO_RCVBUF, rmem_default, rmem_max; udp_queue_rcv_one_skb() in net/ipv4/udp.c of the
    kernel; quic-go's wiki: UDP Buffer Sizes
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.queues import Queue, Queues
from remedies.model import Evidence, Finding, Severity

TITLE = "A UDP socket's receive buffer overflows"
SYMPTOM = "bursts of DNS, syslog, metrics or QUIC lose datagrams, and no firewall has dropped them"
SEVERITY: Severity = "medium"
AREA = "limits"
CONTROLS = ("NIST-800-53 SC-5",)
NEEDS = (Queues,)
PARAMS: Mapping[str, object] = {}

CONDITION = "udp-receive-buffer"
_ROOMY = 1 << 20
"""Bytes to ask for, at least: a burst of some hundred full-sized datagrams."""
_DEFAULT, _MOST = "net.core.rmem_default", "net.core.rmem_max"


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each socket that lost datagrams, or one for all if none is known.

    Raises Unreadable where the counters cannot be read.
    """
    queues = facts.get(Queues)
    lost = queues.lost("udp")
    found = queues.of("udp")
    counted = tuple(
        Evidence("/proc/net", key, f"+{queues.counted[key]}", f"in {facts.window:g} s")
        for key in ("Udp.RcvbufErrors", "Udp6.RcvbufErrors", "Udp.InErrors", "Udp6.InErrors")
        if queues.counted.get(key)
    )
    if lost and not found:
        return (
            Finding(
                condition=CONDITION,
                subject="udp",
                verdict="active",
                severity=SEVERITY,
                message=f"{lost} datagrams were dropped at the full receive buffer of a "
                "socket, and the socket is not known: it may be closed",
                evidence=counted,
            ),
        )
    return tuple(_finding(queue, queues, counted) for queue in found)


def _finding(queue: Queue, queues: Queues, counted: tuple[Evidence, ...]) -> Finding:
    limits = tuple(
        Evidence("/proc/sys", key, str(queues.limits[key]))
        for key in (_DEFAULT, _MOST)
        if key in queues.limits
    )
    return Finding(
        condition=CONDITION,
        subject=queue.place,
        verdict="proven",
        severity=SEVERITY,
        message=f"{queue.lost} datagrams for {queue.who} on {queue.place} were dropped while "
        f"remedy watched: its receive buffer of {queue.limit} bytes was full; "
        f"{_advice(queue, queues)}",
        evidence=(
            Evidence("sock_diag", f"{queue.place} drops", f"+{queue.lost}"),
            Evidence("sock_diag", "bytes waiting", f"{queue.waiting}", f"limit {queue.limit}"),
            *counted,
            *limits,
        ),
        details=queue.details,
    )


def _advice(queue: Queue, queues: Queues) -> str:
    """Return what makes room: setsockopt(SO_RCVBUF) doubles what it is given (socket(7))."""
    default, most = queues.limits.get(_DEFAULT), queues.limits.get(_MOST)
    wanted = max(2 * queue.limit, _ROOMY)
    if most is not None and queue.limit >= 2 * most:
        return (
            f"it has the most that {_MOST} allows: 'sysctl -w {_MOST}={wanted}' in the "
            "machine's own namespace, then restart it"
        )
    more = f"an option of the program for its receive buffer (SO_RCVBUF), {wanted} bytes"
    if most is not None and wanted > most:
        more += f", after 'sysctl -w {_MOST}={wanted}' in the machine's own namespace"
    if queue.limit == default:
        return f"that is {_DEFAULT}, it has not asked for more: set {more}"
    return f"set {more}"
