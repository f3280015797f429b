"""Default routes and routing rules: whether replies may take another way."""

from __future__ import annotations

import socket
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.netlink import route
from remedies.netlink.socket import NETLINK_ROUTE, Netlink
from remedies.values import dataclass

# What the kernel itself makes: local, main and, for IPv4, default (fib_default_rules_init(),
# net/ipv4/fib_rules.c; fib6_rules_net_init(), net/ipv6/fib6_rules.c).
_KERNEL_RULES = frozenset(((0, 255), (32766, 254), (32767, 253)))
_RTPROT_OWN = (2, 4)
"""RTPROT_KERNEL; RTPROT_STATIC, by which networkd marks rules of its own files."""
_IPVS_SERVICES = ("TCP ", "UDP ", "SCTP", "FWM ")


@dataclass(frozen=True)
class DefaultRoute:
    """One way out."""

    family: int
    """4 or 6."""
    links: tuple[str, ...]
    """Names of the links it leaves by (several: multipath)."""
    table: int
    metric: int
    gateway: Optional[str] = None


@dataclass(frozen=True)
class Routes:
    """What the guard against asymmetric routing looks at."""

    defaults: tuple[DefaultRoute, ...] = ()
    policy_rules: int = 0
    """Routing rules beyond local, main and default."""
    foreign_rules: tuple[str, ...] = ()
    """Those that neither the kernel nor systemd-networkd added, as ``PRIORITY lookup TABLE``."""
    ipvs: bool = False
    """IPVS holds at least one service here (direct routing answers past this host)."""
    unread: tuple[str, ...] = ()


def read(asking: Asking) -> Routes:
    """Read default routes of every table, the rules, and whether IPVS serves anything.

    Raises Unreadable where rtnetlink does not answer.
    """
    try:
        with Netlink(NETLINK_ROUTE, asking.deadline(), strict=True) as client:
            defaults = route.default_routes(client)
            rules = route.rules(client)
    except OSError as error:
        raise Unreadable(f"routes: {error.strerror}") from error
    unread: list[str] = []
    return Routes(
        defaults=tuple(
            DefaultRoute(
                family=6 if raw.family == socket.AF_INET6 else 4,
                links=tuple(_name(index) for index in raw.links),
                table=raw.table,
                metric=raw.metric,
                gateway=raw.gateway,
            )
            for raw in defaults
        ),
        policy_rules=sum(
            1 for raw in rules if raw.selective or (raw.priority, raw.table) not in _KERNEL_RULES
        ),
        foreign_rules=tuple(
            f"{raw.priority} lookup {raw.table}"
            for raw in rules
            if raw.protocol not in _RTPROT_OWN
            and (raw.selective or (raw.priority, raw.table) not in _KERNEL_RULES)
        ),
        ipvs=_ipvs(unread),
        unread=tuple(unread),
    )


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:  # the link went away in between
        return f"#{index}"


def _ipvs(unread: list[str]) -> bool:
    """Tell whether IPVS has a service here (ip_vs_info_seq_show(), ip_vs_ctl.c)."""
    try:
        with open("/proc/thread-self/net/ip_vs", encoding="utf-8", errors="replace") as file:
            return any(line.startswith(_IPVS_SERVICES) for line in file)
    except FileNotFoundError:
        return False
    except OSError as error:
        unread.append(f"/proc/net/ip_vs: {error.strerror}")
        return False
