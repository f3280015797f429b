"""A server accepts its connections too slowly, and the kernel drops those that come.

What it detects
    A TCP listener of this namespace whose counter of drops moved while scan watched, beyond the
    SYNs and handshakes that listeners lost for another reason: as many connections waited to be
    accepted as the listener allows. ``active``: the namespace's ``ListenOverflows`` moved, and the
    listener could not be told.

Why it matters
    The kernel drops the SYN, or the end of the handshake, and says nothing: clients try again after
    one, three and seven seconds, or believe that they are connected and hear nothing. Health checks
    of load balancers fail for a second and take servers away that are well.

Evidence
    The listener's drops (SK_MEMINFO_DROPS), how many connections wait and how many may, by
    sock_diag; ``ListenOverflows`` and ``ListenDrops``; and who listens. The advice depends on the
    limit: ``net.core.somaxconn`` of the namespace in which the program listens, or one that the
    program chose.

False positives
    A program that is to refuse connections by a full queue while it is overloaded. ``ListenDrops``
    without ``ListenOverflows`` (no memory, a SYN queue that is full) is not counted; what was lost
    before the scan is not, either.

References
    listen(2); ip-sysctl.rst of the kernel: somaxconn; tcp_conn_request() in net/ipv4/tcp_input.c
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.queues import Queue, Queues
from remedies.model import Evidence, Finding, Severity

TITLE = "A TCP listener's accept queue overflows"
SYMPTOM = "new connections to one server take one, three or seven seconds, or time out"
SEVERITY: Severity = "high"
AREA = "limits"
CONTROLS = ("NIST-800-53 SC-5",)
NEEDS = (Queues,)
PARAMS: Mapping[str, object] = {}

CONDITION = "accept-queue-overflow"
_MOST = "net.core.somaxconn"
_COUNTERS = ("TcpExt.ListenOverflows", "TcpExt.ListenDrops")


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each listener that lost connections, or one for all if none is known.

    Raises Unreadable where the counters cannot be read.
    """
    queues = facts.get(Queues)
    lost = queues.lost("tcp")
    found = queues.of("tcp")
    counted = tuple(
        Evidence("/proc/net/netstat", key, f"+{queues.counted[key]}", f"in {facts.window:g} s")
        for key in _COUNTERS
        if queues.counted.get(key)
    )
    if lost and not found:
        return (
            Finding(
                condition=CONDITION,
                subject="tcp",
                verdict="active",
                severity=SEVERITY,
                message=f"{lost} SYNs or handshakes were dropped at the full accept queue of a "
                "listener, and the listener is not known: it may be closed",
                evidence=counted,
            ),
        )
    return tuple(_finding(queue, queues, counted) for queue in found)


def _finding(queue: Queue, queues: Queues, counted: tuple[Evidence, ...]) -> Finding:
    known = _MOST in queues.limits
    return Finding(
        condition=CONDITION,
        subject=queue.place,
        verdict="proven",
        severity=SEVERITY,
        message=f"{queue.lost} SYNs or handshakes for {queue.who} on {queue.place} were dropped "
        f"while remedy watched: {queue.waiting} connections wait to be accepted, the limit "
        f"is {queue.limit}; {_advice(queue, queues)}",
        evidence=(
            Evidence("sock_diag", f"{queue.place} drops", f"+{queue.lost}"),
            Evidence("sock_diag", "connections waiting", f"{queue.waiting}", f"of {queue.limit}"),
            *counted,
            *((Evidence("/proc/sys", _MOST, str(queues.limits[_MOST])),) if known else ()),
        ),
        details=queue.details,
    )


def _advice(queue: Queue, queues: Queues) -> str:
    """Return what to do: the kernel takes the smaller of both limits when a program listens."""
    first = "see why it accepts so slowly"
    if queue.limit == queues.limits.get(_MOST):
        wanted = max(4 * queue.limit, 4096)
        return (
            f"{first}; {_MOST} is its limit: 'sysctl -w {_MOST}={wanted}' in its network "
            "namespace raises it, once the program is restarted with a backlog that long"
        )
    return f"{first}, or give it a longer backlog by its own option (listen(2))"
