"""``-m set --match-set NAME src,dst``: which packets are in a set of ipset(8).

How the kernel looks a packet up: net/netfilter/ipset/ip_set_core.c (ip_set_test), and
ip_set_hash_gen.h, ip_set_bitmap_gen.h and ip_set_list_set.c beside it. A set of the other IP
version, or one of more parts than the rule names directions, holds no packet.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, Optional

from remedies.errors import Unreadable
from remedies.netlink import ipset
from remedies.netlink.ipset import IpSet, IpSetEntry
from remedies.rules.decoded import PROTOCOLS, MatchTerms, protocol_name
from remedies.rules.matching import conjoin, ports_except
from remedies.rules.prefixes import contains
from remedies.rules.rule import Match, PortRange
from remedies.values import dataclass

_LIMIT = 2048
_PARTS = {
    "bitmap:ip": ("address",),
    "bitmap:port": ("port",),
    "hash:ip": ("address",),
    "hash:net": ("address",),
    "hash:ip,port": ("address", "port"),
    "hash:net,port": ("address", "port"),
    "hash:ip,port,ip": ("address", "port", "second"),
    "hash:ip,port,net": ("address", "port", "second"),
    "hash:net,port,net": ("address", "port", "second"),
    "hash:net,net": ("address", "second"),
    "hash:net,iface": ("address", "interface"),
}
"""What each direction of a rule is about, by the set's type."""
_PORTED = ("tcp", "udp")
"""What a bitmap of ports is about (ip_set_get_ip_port(), net/netfilter/ipset/ip_set_getport.c)."""
_NUMBERED = (6, 17, 132, 136)
"""Protocols whose port is one; of ICMP it is type and code, of others 0."""
_INVERTED, _NO_MATCH = 1, 1 << 7  # IPSET_INV_MATCH, IPSET_RETURN_NOMATCH
_RETURN_NO_MATCH = 1 << 7  # IPSET_FLAG_RETURN_NOMATCH
_SOURCE = (1 << 1, 1 << 2, 1 << 3)  # IPSET_DIM_ONE_SRC ...


@dataclass(frozen=True)
class IpSets:
    """How the sets of a namespace are read; both raise Unreadable."""

    named: Callable[[int], str]
    """The name of the set with a number."""
    read: Callable[[str], IpSet]
    """The set with a name."""


def kernels(deadline: float) -> IpSets:
    """Return the sets of the namespace the process is in, each read once, until ``deadline``."""

    @functools.lru_cache(maxsize=256)
    def named(index: int) -> str:
        try:
            return ipset.set_name(index, deadline)
        except OSError as error:
            raise Unreadable(f"ipset {index}: {error.strerror}") from error

    @functools.lru_cache(maxsize=256)
    def read(name: str) -> IpSet:
        try:
            return ipset.contents(name, _LIMIT, deadline)
        except OSError as error:
            raise Unreadable(f"ipset {name}: {error.strerror}") from error

    return IpSets(named, read)


def _unread(which: object) -> NoReturn:
    raise Unreadable(f"ipset {which} was not read")


NO_SETS = IpSets(_unread, _unread)
"""Of a ruleset without its kernel."""


@dataclass(frozen=True)
class SetMatch:
    """What a rule says of a set: struct xt_set_info_match_v1 to v4."""

    index: int
    sources: tuple[bool, ...]
    """For each direction, whether it is ``src``."""
    inverted: bool
    more: bool
    """It looks at counters, or at what is excluded, too."""


def set_match(revision: int, info: bytes) -> SetMatch:
    """Decode a rule's match; raise struct.error and IndexError where it is too short."""
    if revision == 0:  # struct xt_set_info_v0: what the kernel filled in stands behind six words
        (index,) = struct.unpack_from("=H", info)
        size, flags = info[28], info[29]
    else:
        index, size, flags = struct.unpack_from("=HBB", info)
    more = bool(flags & _NO_MATCH)
    if revision >= 3:  # two struct ip_set_counter_match, then the flags of the command
        (command,) = struct.unpack_from("=I", info, 40)
        more = more or bool(info[8] or info[24] or command & _RETURN_NO_MATCH)
    sides = tuple(bool(flags & bit) for bit in _SOURCE[:size])
    return SetMatch(index, sides, bool(flags & _INVERTED), more)


def narrow_by_set(terms: MatchTerms, asked: SetMatch, family: str, sets: IpSets) -> None:
    """Add "the packet is (not) in this set"; where that cannot be told, its name and why."""
    try:
        name = sets.named(asked.index)
    except Unreadable as error:
        terms.unknown(error.what)
        terms.note(())
        return
    words = ",".join("src" if source else "dst" for source in asked.sources)
    terms.note(["-m", "set", *(["!"] if asked.inverted else []), "--match-set", name, words])
    try:
        held = alternatives(sets, sets.read(name), asked.sources, family)
        if asked.more:
            raise Unreadable(f"ipset {name} with counters or nomatch")
        terms.any_of(_others(held, name) if asked.inverted else held, f"ipset {name}")
    except Unreadable as error:
        terms.unknown(error.what)


def alternatives(
    sets: IpSets, held: IpSet, sources: Sequence[bool], family: str
) -> tuple[Match, ...]:
    """Return the packets in a set: those of any of these matches. Raises Unreadable."""
    if held.type == "list:set":
        members = [sets.read(entry.name) for entry in held.entries]
        if any(member.type == "list:set" for member in members):
            raise Unreadable(f"ipset {held.name} holds a list of sets")
        each = [alternatives(sets, member, sources, family) for member in members]
        return tuple(dict.fromkeys(match for matches in each for match in matches))
    parts = _PARTS.get(held.type)
    if parts is None or held.masked:
        raise Unreadable(f"ipset {held.name}: type {held.type}{' with a mask' * held.masked}")
    if held.family not in ("", family) or len(sources) < len(parts):
        return ()
    wanted = [getattr(entry, part) for entry in held.entries for part in parts if part != "port"]
    if not all(wanted):
        raise Unreadable(f"ipset {held.name}: an entry without its {' or '.join(parts)}")
    holes = tuple(entry.address for entry in held.entries if entry.excluded)
    entries = [entry for entry in held.entries if not entry.excluded]
    if any(entry.bridged for entry in held.entries):
        raise Unreadable(f"ipset {held.name}: an entry for a bridge's port")
    if holes and (
        len(parts) > 1 or any(contains(hole, e.address) for e in entries for hole in holes)
    ):
        raise Unreadable(f"ipset {held.name}: nomatch")
    made = [_match(parts, sources, entry) for entry in _merged(entries)]
    found = [match for match in made if match is not None]
    if holes and found:  # of one part: all entries are one match
        outside = Match(not_sources=holes) if sources[0] else Match(not_destinations=holes)
        found = [met for match in found for met in (conjoin(match, outside),) if met is not None]
    return tuple(found)


@dataclass(frozen=True)
class _Joined:
    """Entries that differ in addresses or ports alone."""

    addresses: tuple[str, ...]
    protocol: int
    ports: tuple[int, ...]
    second: str
    interface: str


def _merged(entries: Iterable[IpSetEntry]) -> list[_Joined]:
    """Return entries joined: addresses that share the rest, then ports that share addresses."""
    by_rest: dict[tuple[int, int, str, str], list[str]] = {}
    for e in entries:
        by_rest.setdefault((e.protocol, e.port, e.second, e.interface), []).append(e.address)
    by_addresses: dict[tuple[tuple[str, ...], int, str, str], list[int]] = {}
    for (protocol, port, second, interface), addresses in by_rest.items():
        key = (tuple(addresses), protocol, second, interface)
        by_addresses.setdefault(key, []).append(port)
    return [
        _Joined(addresses, protocol, tuple(sorted(ports)), second, interface)
        for (addresses, protocol, second, interface), ports in by_addresses.items()
    ]


def _match(parts: Sequence[str], sources: Sequence[bool], entry: _Joined) -> Optional[Match]:
    match: Optional[Match] = Match()
    for part, source in zip(parts, sources):
        if part == "port":
            more = _ports(entry, source, parts == ("port",))
        elif part == "interface":
            names = (entry.interface,)
            more = Match(in_interfaces=names) if source else Match(out_interfaces=names)
        else:
            prefixes = entry.addresses if part == "address" else (entry.second,)
            more = Match(sources=prefixes) if source else Match(destinations=prefixes)
        match = None if match is None else conjoin(match, more)
    return match


def _ports(entry: _Joined, source: bool, bare: bool) -> Match:
    protocols = _PORTED if bare else (protocol_name(entry.protocol),)
    if not bare and entry.protocol not in _NUMBERED:
        icmp = ("icmp type",) if entry.protocol in (1, 58) else ()
        return Match(protocols=protocols, unmodelled=icmp)
    return _on_side(protocols, source, _ranges(entry.ports))


def _on_side(protocols: tuple[str, ...], source: bool, ports: tuple[PortRange, ...]) -> Match:
    if source:
        return Match(protocols=protocols, source_ports=ports)
    return Match(protocols=protocols, destination_ports=ports)


def _ranges(ports: Iterable[int]) -> tuple[PortRange, ...]:
    found: list[PortRange] = []
    for port in ports:
        if found and port <= found[-1][1] + 1:
            found[-1] = (found[-1][0], port)
        else:
            found.append((port, port))
    return tuple(found)


def _others(held: Sequence[Match], name: str) -> tuple[Match, ...]:
    """Return the packets that meet none of these matches: those that miss a part of the one.

    Raises Unreadable where there are several, or one that is not made of entries alone.
    """
    if not held:
        return (Match(),)
    only = held[0]
    if len(held) > 1 or only.unmodelled or only.not_sources or only.not_destinations:
        raise Unreadable(f"not in ipset {name}")
    rest = tuple(p for p in PROTOCOLS.values() if p not in only.protocols)
    missed = [
        Match(not_sources=only.sources),
        Match(not_destinations=only.destinations),
        Match(not_in_interfaces=only.in_interfaces),
        Match(not_out_interfaces=only.out_interfaces),
        Match(protocols=rest if only.protocols else ()),
    ]
    for source, ports in ((True, only.source_ports), (False, only.destination_ports)):
        left = ports_except(ports) if ports else ()
        missed += [_on_side(only.protocols, source, left)] if left else []
    return tuple(match for match in missed if match != Match())
