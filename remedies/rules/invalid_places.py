"""Where the INVALID segments of NAT's flows come and go: the host's links and addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from remedies.netlink.links import Address, Links
from remedies.rules.invalid_packet import loopback
from remedies.rules.matching import conjoin, name_covers
from remedies.rules.prefixes import contains
from remedies.rules.rule import Match
from remedies.values import replace


def all_placed(packets: Iterable[Match], hook: str, links: Links) -> list[Match]:
    """Return packets as they come to a hook; all as they are where none comes to this host."""
    given = list(packets)
    found = [placed(each, hook, links) for each in given]
    return [each for each in found if each is not None] or given


def placed(packets: Match, hook: str, links: Links) -> Optional[Match]:
    """Return packets as they come to a hook of a host with these links and addresses.

    None for what is for this host, but for none of its addresses.
    What is for this host goes to an address of its own, and nothing else does. A container behind a
    published port is reached by the link in whose subnet it lies, its clients by another: what two
    of a link say to each other does not come by here twice.
    """
    names = tuple(link.name for link in links.links if not link.loopback)
    near = [a for a in links.addresses if links.name(a.link) in names]
    version = 6 if any(":" in prefix for prefix in packets.sources) else 4
    own = tuple(
        each.address
        for each in links.addresses
        if each.family == version and not loopback((each.address,))
    )
    told = []
    if hook == "input":
        here = conjoin(packets, Match(destinations=own))
        if here is None:
            return None
        packets = here
    else:
        told.append(Match(not_destinations=own))
    if hook == "forward":
        behind = _behind(packets.destinations, near, links)
        told += [Match(out_interfaces=behind), Match(not_in_interfaces=behind)]
        behind = _behind(packets.sources, near, links)
        told += [Match(in_interfaces=behind), Match(not_out_interfaces=behind)]
    for each in told:
        packets = conjoin(packets, each) or packets

    def left(holes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(n for n in names if not any(name_covers(hole, n) for hole in holes))

    return replace(
        packets,
        in_interfaces=packets.in_interfaces or left(packets.not_in_interfaces),
        out_interfaces=packets.out_interfaces or left(packets.not_out_interfaces),
    )


def _behind(prefixes: Iterable[str], near: Sequence[Address], links: Links) -> tuple[str, ...]:
    """Return the links in whose subnets all of these lie; none where one lies in no subnet."""
    found: dict[str, None] = {}
    for prefix in prefixes:
        on = [links.name(a.link) for a in near if contains(f"{a.address}/{a.prefix}", prefix)]
        if not on:
            return ()
        found.update(dict.fromkeys(on))
    return tuple(found)
