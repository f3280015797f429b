"""Where the INVALID segments of NAT's flows come and go: the host's links and addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Optional

from remedies.netlink.links import Address, Links
from remedies.rules.invalid_packet import loopback, target
from remedies.rules.matching import conjoin, name_covers
from remedies.rules.prefixes import contains
from remedies.rules.rule import Match, PacketRule
from remedies.values import replace

_SOURCES = 8
"""Addresses that masquerading may give: past that any of this host's."""


def with_sources(rules: Iterable[PacketRule], family: str, links: Links) -> Iterator[PacketRule]:
    """Yield NAT rules of an IP version, one that masquerades once for each address that it gives.

    Those are the global addresses of the links that packets leave by (inet_select_addr(),
    ipv6_dev_get_saddr()); not told where a link is not there or has none: then another's is given.
    """
    for rule in rules:
        given = _given(rule.match, family, links) if rule.action == "masquerade" else ()
        if given and not target(rule.to)[0]:
            form = "[{}]{}" if family == "ip6" and rule.to else "{}{}"
            yield from (replace(rule, to=form.format(each, rule.to)) for each in given)
        else:
            yield rule


def _given(match: Match, family: str, links: Links) -> tuple[str, ...]:
    wanted, version = match.out_interfaces, {"ip": 4, "ip6": 6}[family]
    by: dict[str, list[str]] = {
        link.name: []
        for link in links.links
        if not link.loopback
        and not any(name_covers(hole, link.name) for hole in match.not_out_interfaces)
        and (not wanted or any(name_covers(each, link.name) for each in wanted))
    }
    for each in links.addresses:
        if each.family == version and each.scope == "global" and links.name(each.link) in by:
            by[links.name(each.link)].append(each.address)
    if not all(by.values()) or not all(any(name_covers(w, n) for n in by) for w in wanted):
        return ()
    given = tuple(dict.fromkeys(address for near in by.values() for address in near))
    return given if len(given) <= _SOURCES else ()


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
    of a link say to each other does not come by here twice. What this host and a neighbour say to
    each other goes by the link in whose subnet it lies.
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
        told.append(Match(in_interfaces=_behind(packets.sources, near, links)))
    else:
        told.append(Match(not_destinations=own))
    if hook == "output":
        told.append(Match(out_interfaces=_behind(packets.destinations, near, links)))
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
        on = [links.name(a.link) for a in near if contains(a.subnet, prefix)]
        if not on:
            return ()
        found.update(dict.fromkeys(on))
    return tuple(found)
