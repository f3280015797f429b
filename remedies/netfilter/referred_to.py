"""What rules may ask for that is nothing of the packet's own: sets, groups of links, realms, IPsec.

Each is asked of the kernel where a rule that asks for it is decoded, once, and nowhere else.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import NoReturn

from remedies.errors import Unreadable
from remedies.netfilter import sets
from remedies.netfilter.sets import NO_SETS, IpSets
from remedies.netlink import labels, xfrm
from remedies.netlink.socket import NETLINK_ROUTE, Netlink
from remedies.rules import header_words
from remedies.rules.decoded import MatchTerms, Span
from remedies.rules.invalid_packet import GROUPED, ROUTED
from remedies.values import dataclass

_NET = "/proc/thread-self/net"


@dataclass(frozen=True)
class ReferredTo:
    """What a namespace has that its rules refer to. Calls raise OSError and Unreadable."""

    sets: IpSets
    groups: Callable[[], tuple[tuple[str, int], ...]]
    """Name and group of every link."""
    realms: Callable[[], bool]
    """Whether a route or a routing rule gives packets a realm: else that of each is 0. IPv6 has
    none (dst_init(), net/core/dst.c)."""
    ipsec: Callable[[], bool]
    """Whether packets may come or go by IPsec."""


def of_kernel(deadline: float) -> ReferredTo:
    """Return what the namespace the process is in has, each read once, until ``deadline``."""

    @functools.cache
    def groups() -> tuple[tuple[str, int], ...]:
        with Netlink(NETLINK_ROUTE, deadline) as client:
            return tuple(labels.groups(client))

    @functools.cache
    def realms() -> bool:
        with Netlink(NETLINK_ROUTE, deadline) as client:
            return labels.realms(client)

    @functools.cache
    def ipsec() -> bool:
        # Nothing is asked where the kernel has no socket for the question: it would load a module.
        with open(f"{_NET}/netlink", encoding="ascii", errors="replace") as file:
            kinds = [row.split()[1:2] for row in file]
        if [str(xfrm.NETLINK_XFRM)] not in kinds:
            return os.path.exists(f"{_NET}/pfkey")
        with Netlink(xfrm.NETLINK_XFRM, deadline) as client:
            return bool(xfrm.entries(client))

    return ReferredTo(sets.kernels(deadline), groups, realms, ipsec)


def _unread() -> NoReturn:
    raise Unreadable("a ruleset without its kernel")


NOT_READ = ReferredTo(NO_SETS, _unread, _unread, _unread)
"""Of a ruleset without its kernel."""


def narrow_group(
    terms: MatchTerms,
    side: str,
    groups: Sequence[Span],
    mask: int,
    host: ReferredTo,
    *,
    negate: bool,
) -> None:
    """Add "the link's group, masked, is (not) in one of these ranges"; ``side``: in or out."""
    try:
        names = [
            name
            for name, group in host.groups()
            if any(first <= group & mask <= last for first, last in groups)
        ]
    except (OSError, Unreadable):
        terms.unknown(f"the group of a link ({side})")
    else:
        terms.interfaces(side, names or [f"#group {first}" for first, _ in groups], negate=negate)
        if negate:
            terms.unknown(GROUPED[side])


def narrow_realm(terms: MatchTerms, host: ReferredTo, *, none: bool) -> None:
    """Add a condition on the realm; ``none``: 0 meets it, as it is where nothing gives one."""
    if _may_be(host.realms):
        terms.unknown("realm")
    elif none:
        terms.unknown(ROUTED)
    else:
        terms.match = None


def narrow_ipsec(terms: MatchTerms, host: ReferredTo, *, wanted: bool) -> None:
    """Add "comes, or goes, by IPsec", or the opposite: none does where there is none."""
    if _may_be(host.ipsec):
        terms.unknown(header_words.of_tunnel(wanted))
    elif wanted:
        terms.match = None


def _may_be(there: Callable[[], bool]) -> bool:
    """Tell whether there is any; True where it is not known."""
    try:
        return there()
    except (OSError, Unreadable):
        return True
