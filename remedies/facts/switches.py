"""How interfaces are set to pass packets on, from rtnetlink, and who sets forwarding off at boot.

One dump holds what /proc/sys/net/ipv4/conf and ipv6/conf hold of every interface.
"""

from __future__ import annotations

import contextlib
from typing import Optional

from remedies.boot import sysctl_d
from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.facts.sysctl import Sysctl
from remedies.netlink import route
from remedies.netlink.links import Links
from remedies.netlink.socket import NETLINK_ROUTE, Netlink
from remedies.values import dataclass

AFTER = ("links", "sysctl")

FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
_FORWARDING, _RP_FILTER, _SRC_VMARK, _ROUTE_LOCALNET = 0, 7, 23, 25
"""IPV4_DEVCONF_* less one, include/uapi/linux/ip.h."""
_FORWARDING6, _ACCEPT_RA, _DEFAULT_ROUTER = 0, 3, 17  # DEVCONF_*, include/uapi/linux/ipv6.h


@dataclass(frozen=True)
class LinkSwitches:
    """The settings of one interface."""

    link: str
    forwarding: bool = False
    """IPv4."""
    rp_filter: int = 0
    """Its own; the greater of this and ``net.ipv4.conf.all.rp_filter`` counts."""
    src_valid_mark: bool = False
    route_localnet: bool = False
    forwarding6: bool = False
    accept_ra: int = 0
    accept_default_router: bool = False
    """``accept_ra_defrtr``: routers' announcements may bring a default route."""


@dataclass(frozen=True)
class Switches:
    """Those of all interfaces."""

    links: tuple[LinkSwitches, ...] = ()
    set_by: str = ""
    """The line of sysctl.d that switches IPv4 forwarding off at boot, as ``FILE:LINE``."""

    def of(self, link: str) -> Optional[LinkSwitches]:
        """Return those of an interface, None for none of that name."""
        return next((each for each in self.links if each.link == link), None)


def key_of(link: str, setting: str, family: int = 4) -> str:
    """Return the sysctl of an interface, in which dots of its name are slashes (sysctl(8))."""
    return f"net.ipv{family}.conf.{link.replace('.', '/')}.{setting}"


def read(asking: Asking) -> Switches:
    """Read the fact. Raises Unreadable where rtnetlink does not answer."""
    links = asking.earlier(Links) or Links()
    try:
        with Netlink(NETLINK_ROUTE, asking.deadline()) as client:
            settings = route.settings(client)
    except OSError as error:
        raise Unreadable(f"settings of links: {error.strerror}") from error
    sysctl = asking.earlier(Sysctl) or Sysctl()
    off = sysctl.values.get(FORWARDING[4]) == "0" and asking.host.netns == "host"
    return Switches(
        links=tuple(_switches(links.name(raw.number), raw) for raw in settings),
        set_by=_set_by(FORWARDING[4], "0") if off else "",
    )


def _switches(name: str, raw: route.RawSettings) -> LinkSwitches:
    def value(settings: tuple[int, ...], at: int) -> int:
        return settings[at] if at < len(settings) else 0

    return LinkSwitches(
        link=name,
        forwarding=bool(value(raw.four, _FORWARDING)),
        rp_filter=value(raw.four, _RP_FILTER),
        src_valid_mark=bool(value(raw.four, _SRC_VMARK)),
        route_localnet=bool(value(raw.four, _ROUTE_LOCALNET)),
        forwarding6=bool(value(raw.six, _FORWARDING6)),
        accept_ra=value(raw.six, _ACCEPT_RA),
        accept_default_router=bool(value(raw.six, _DEFAULT_ROUTER)),
    )


def _set_by(key: str, value: str) -> str:
    with contextlib.suppress(OSError):
        decision = sysctl_d.decides(key, sysctl_d.sources())
        if decision is not None and decision.value == value:
            return f"{decision.path}:{decision.line}"
    return ""
