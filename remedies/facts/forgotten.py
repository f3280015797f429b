"""How long conntrack remembers idle TCP connections, and who set that.

Who set it is looked up only if it is shorter than a NAT may have it, because that walks /proc.
"""

from __future__ import annotations

import contextlib
from typing import Optional

from remedies.boot import sysctl_d
from remedies.facts import Asking, owners
from remedies.facts.sysctl import Sysctl
from remedies.values import dataclass

AFTER = ("sysctl",)


@dataclass(frozen=True)
class Limit:
    """One time-out of conntrack for TCP, in seconds."""

    key: str
    default: int
    """The kernel's own: tcp_timeouts, net/netfilter/nf_conntrack_proto_tcp.c."""
    least: int
    """Below this, connections in good health are forgotten."""


_KEY = "net.netfilter.nf_conntrack_tcp_timeout_"
LIMITS = (
    Limit(f"{_KEY}established", 432_000, 7_440),
    Limit(f"{_KEY}unacknowledged", 300, 120),
)
"""RFC 5382, REQ-5: a NAT keeps an idle established connection for at least 2 hours and 4 minutes,
so that TCP's keep-alive (7,200 s) is in time. Data that nobody acknowledged is sent again after at
most 120 s (TCP_RTO_MAX, include/net/tcp.h), and refreshes the entry."""


@dataclass(frozen=True)
class Short:
    """One time-out that is too short."""

    limit: Limit
    value: int
    set_by: tuple[str, ...] = ()
    """The sysctl.d line that sets this value at boot, and programs here that are known to set the
    key; empty if nothing of that kind was found."""


@dataclass(frozen=True)
class Forgotten:
    """The time-outs that are too short."""

    short: tuple[Short, ...] = ()
    unread: tuple[str, ...] = ()


def read(asking: Asking) -> Forgotten:
    """Read the fact; who set a value is looked up on the machine's own namespace alone."""
    sysctl = asking.earlier(Sysctl) or Sysctl()
    unread: list[str] = []
    short = []
    for limit in LIMITS:
        text = sysctl.values.get(limit.key, "")
        if text.isdigit() and int(text) < limit.least:
            short.append(Short(limit, int(text), _set_by(asking, limit.key, text, unread)))
    return Forgotten(tuple(short), tuple(unread))


def _set_by(asking: Asking, key: str, value: str, unread: list[str]) -> tuple[str, ...]:
    known = owners.read(asking)
    unread += known.unread
    lines = owners.concerning(f"sysctl:{key}", known)
    if asking.host.netns != "host":
        return lines
    decision: Optional[sysctl_d.Decision] = None
    with contextlib.suppress(OSError):
        decision = sysctl_d.decides(key, sysctl_d.sources())
    if decision is not None and decision.value == value:
        return (f"{decision.path}:{decision.line}", *lines)
    return lines
