"""What rules may ask for that is nothing of the packet's own: groups of links, realms, IPsec.

Each is asked of the kernel where a rule that asks for it is decoded, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from remedies.errors import Unreadable
from remedies.netlink import labels, xfrm
from remedies.netlink.socket import NETLINK_ROUTE, Netlink
from remedies.rules import header_words
from remedies.rules.decoded import MatchTerms, Span
from remedies.rules.invalid_packet import GROUPED, ROUTED

_NET = Path("/proc/thread-self/net")


def narrow_group(
    terms: MatchTerms, side: str, groups: Sequence[Span], mask: int, *, negate: bool
) -> None:
    """Add "the link's group, masked, is (not) in one of these ranges"; ``side``: in or out."""
    try:
        with Netlink(NETLINK_ROUTE) as client:
            names = [
                name
                for name, group in labels.groups(client)
                if any(first <= group & mask <= last for first, last in groups)
            ]
    except (OSError, Unreadable):
        terms.unknown(f"the group of a link ({side})")
    else:
        terms.interfaces(side, names or [f"#group {first}" for first, _ in groups], negate=negate)
        if negate:
            terms.unknown(GROUPED[side])


def narrow_realm(terms: MatchTerms, none: bool) -> None:
    """Add a condition on the realm; ``none``: 0 meets it, as it is where nothing gives one."""
    if _realms():
        terms.unknown("realm")
    elif none:
        terms.unknown(ROUTED)
    else:
        terms.match = None


def narrow_ipsec(terms: MatchTerms, wanted: bool) -> None:
    """Add "comes, or goes, by IPsec", or the opposite: none does where there is none."""
    if _ipsec():
        terms.unknown(header_words.of_tunnel(wanted))
    elif wanted:
        terms.match = None


def _realms() -> bool:
    """Tell whether a route or a routing rule gives packets a realm; True where it is not known.

    Without one the realm of every packet is 0. IPv6 has none (dst_init(), net/core/dst.c).
    """
    try:
        with Netlink(NETLINK_ROUTE) as client:
            return labels.realms(client)
    except (OSError, Unreadable):
        return True


def _ipsec() -> bool:
    """Tell whether packets may come or go by IPsec; True where it is not known.

    Nothing is asked where the kernel has no socket for the question: it would load a module.
    """
    try:
        rows = (_NET / "netlink").read_text(encoding="ascii", errors="replace").splitlines()
        if not any(row.split()[1:2] == [str(xfrm.NETLINK_XFRM)] for row in rows):
            return (_NET / "pfkey").exists()
        with Netlink(xfrm.NETLINK_XFRM) as client:
            return bool(xfrm.entries(client))
    except (OSError, Unreadable):
        return True
