"""What is known of a segment that conntrack calls INVALID, and of the reset that answers it. Pure.

Such a packet has no conntrack entry, so that conditions on one (its status, direction, mark, zone)
fail: nft_ct_get_eval() ends the rule, xt_conntrack's conntrack_mt() matches the state alone. The
segment carries an acknowledgment and is no SYN; the reset that answers such a segment has RST and
no other flag (RFC 9293, 3.10.7.1; net/ipv4/tcp_ipv4.c, tcp_v4_send_reset()). Nobody has marked it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Optional, TypeVar

from remedies.rules import marks, tcp_options
from remedies.rules.header_words import LINK
from remedies.rules.matching import conjoin, ports_meet
from remedies.rules.prefixes import contains, of_range, parse
from remedies.rules.rule import Match, PacketRule, PortRange
from remedies.values import replace

T = TypeVar("T")
Span = tuple[int, int]

SYN, RST, ACK = 0x02, 0x04, 0x10
EPHEMERAL: PortRange = (32768, 65535)
"""Where clients' own ports and those that NAT picks lie by default
(net.ipv4.ip_local_port_range begins at 32768); a port below belongs to a service."""

FLAGS_TEST = r"tcp flags & 0x([0-9a-f]+) (==|!=) ([0-9a-fx ]+)"
_MANY = 1024
"""Among so many ports are some that NAT hands out: it keeps those below 1024 below, and where one
is taken already, or at random, it gives any from 1024 on (net/netfilter/nf_nat_core.c,
nf_nat_l4proto_unique_tuple())."""
EVERY_PORT: PortRange = (0, 65535)
_SEGMENT = (SYN | RST | ACK, ACK)
_RESET = (0xFF, RST)
_OF_AN_ENTRY = (
    *("ct key", "bits of ct key", "ctstate", "helper"),
    *("connbytes", "connlabel", "connmark", "conntrack"),
)
"""How the names of conditions begin that want a conntrack entry. A limit of connections does not:
it counts by the packet's own addresses (net/netfilter/xt_connlimit.c, nft_connlimit.c)."""
_OF_A_SOCKET = ("socket", "meta skuid", "meta skgid", "cgroup", "meta 23")
"""And a socket: nobody here has one for such a segment, nor for the reset that answers it. 23 is
NFT_META_CGROUP (include/uapi/linux/netfilter/nf_tables.h)."""
_FRAME = r"meta pkttype (==|!=) ([0-9 ]+)"
"""What arrives for a flow of NAT is a frame for this host, PACKET_HOST (linux/if_packet.h): 0, as
for packets that begin here."""
_TYPE = r"fib (saddr|daddr) type (==|!=) ([0-9 ]+)"
_OWNER = r"owner (! )?(uid|gid|socket|groups)"
"""The socket that a reset is sent by exists, and no program holds it: whoever is asked for, it is
not theirs. What is forwarded has none (net/netfilter/xt_owner.c, owner_mt())."""
_NEVER = {
    "fragments": False,
    "! fragments": True,
    "bridged": False,
    "! bridged": True,
}
"""Conntrack puts fragments together before any rule that knows a state sees them
(net/netfilter/nf_conntrack_proto.c, nf_defrag_ipv4_enable()); and what NAT serves is routed."""
GROUPED = {"in": "a link that it came by", "out": "a link that it leaves by"}
"""A condition on a link's group ends the rule where there is no link (nft_meta_get_eval())."""
ROUTED = "routed"
"""Of a packet whose route is known: none is in prerouting (nft_rt_get_eval())."""
GENUINE = frozenset(("rpfilter", "fib"))
"""Conditions on the way back to a packet's sender: what lets packets pass is met."""


def flags_test(mask: int, *values: int, negate: bool) -> str:
    """Return the name of a condition on TCP flags, in nft's syntax; ``values``: any of these."""
    return f"tcp flags & {mask:#x} {'!=' if negate else '=='} {' '.join(map(hex, values))}"


def type_test(side: str, types: Iterable[int], *, negate: bool) -> str:
    """Return the name of a condition on the type of an address (``saddr``, ``daddr``): RTN_*."""
    return f"fib {side} type {'!=' if negate else '=='} {' '.join(map(str, sorted(types)))}"


def owner_test(asked: str, *, negate: bool) -> str:
    """Return the name of a condition on ``uid``, ``gid``, ``socket`` or ``groups`` of a sender."""
    return f"owner {'! ' if negate else ''}{asked}"


def frame_test(kinds: Iterable[int], *, negate: bool) -> str:
    """Return the name of a condition on the kind of frame, by numbers (PACKET_*)."""
    return f"meta pkttype {'!=' if negate else '=='} {' '.join(map(str, sorted(kinds)))}"


def left_open(
    match: Match, hook: str, *, reset: bool = False, mark: Optional[int] = 0
) -> Optional[Match]:
    """Return ``match`` without the conditions that the packet meets; None where it fails one.

    What stays in ``unmodelled`` is not known of the packet: the segment, or its ``reset``. It has
    no link that it came by on output, and none that it leaves by in prerouting and on input
    (net/netfilter/nft_meta.c, nft_meta_get_eval()). ``hook``: output for all that begins here,
    also in postrouting. ``mark``: what rules set; None: not known.
    """
    nowhere = {"output": match.in_interfaces, "prerouting": match.out_interfaces}
    if any(name != "*" for name in nowhere.get("prerouting" if hook == "input" else hook, ())):
        return None
    if hook == "output" and match.not_in_interfaces:
        match = replace(match, not_in_interfaces=())
    if hook in ("prerouting", "input") and match.not_out_interfaces:
        match = replace(match, not_out_interfaces=())
    if not match.unmodelled:
        return match
    left = []
    for name in match.unmodelled:
        met = _meets(name, match, reset, mark, hook)
        if met is False:
            return None
        if met is None:
            left.append(name)
    if len(left) == len(match.unmodelled):  # most rules: no copy for each
        return match
    return replace(match, unmodelled=tuple(left))


def _meets(name: str, match: Match, reset: bool, mark: Optional[int], hook: str) -> Optional[bool]:
    tested = re.fullmatch(FLAGS_TEST, name)
    if tested:
        mask, values = int(tested[1], 16), [int(value, 16) for value in tested[3].split()]
        known, flags = _RESET if reset else _SEGMENT
        if all((value ^ flags) & mask & known or value & ~mask for value in values):
            return tested[2] == "!="
        return None if mask & ~known else tested[2] == "=="
    option = tcp_options.met(name, reset=reset)
    if option is not None:
        return option
    if name == "conntrack" and match.states:
        return True  # conntrack_mt() looks no further than the state
    marked = marks.read(name) or marks.spans(name)
    if marked:
        return None if mark is None else marked.met(mark)
    framed = re.fullmatch(_FRAME, name)
    if framed:
        return ("0" in framed[2].split()) == (framed[1] == "==")
    typed = re.fullmatch(_TYPE, name)
    if typed:
        met_by = {number in typed[3].split() for number in _types(typed[1], hook)}
        return met_by.pop() == (typed[2] == "==") if len(met_by) == 1 else None
    if name == ROUTED:
        return hook != "prerouting"
    if name in GROUPED.values():
        return hook not in (("output",) if name == GROUPED["in"] else ("prerouting", "input"))
    if name in _NEVER:
        return _NEVER[name]
    if hook == "output" and name in LINK:
        return False  # what begins here came by no link (net/netfilter/nft_payload.c, nft_meta.c)
    owned = re.fullmatch(_OWNER, name)
    if owned:
        here = bool(owned[1]) == (owned[2] in ("uid", "gid"))
        forwarded = bool(owned[1])
        sent = here if hook == "output" else forwarded if not reset else None
        return here if here == forwarded else sent
    if name.startswith((*_OF_AN_ENTRY, *_OF_A_SOCKET)):
        return False
    return None


def _types(side: str, hook: str) -> tuple[str, ...]:
    """Return what the type of an address of TCP may be at a hook: RTN_UNICAST, RTN_LOCAL."""
    unicast, local = "1", "2"
    here = "input" if side == "daddr" else "output"
    if hook == here:
        return (local,)
    asked = ("prerouting",) if side == "daddr" else ("postrouting",)
    return (unicast, local) if hook in asked else (unicast,)


EVERYONE = {"ip": "0.0.0.0/0", "ip6": "::/0"}
NOBODY = {
    "ip": ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255"),
    "ip6": ("::", "::1", "ff00::/8"),
}
"""Sources of which nothing comes in by a link, whatever rules say: ip_route_input_slow()
(net/ipv4/route.c) and ip6_rcv_core() (net/ipv6/ip6_input.c); of ``::`` comes no TCP."""


def generic(family: str, hook: str) -> Match:
    """Return INVALID segments of which no more is known than that they come to a hook.

    ``hook``: ``input``, ``forward``, or ``output`` for the resets that answer them.
    """
    return Match(
        protocols=("tcp",),
        sources=(EVERYONE[family],),
        not_sources=() if hook == "output" else NOBODY[family],
        not_in_interfaces=("lo",),
        not_out_interfaces=("lo",),
        destination_local=hook == "input",
        source_local=hook == "output",
        states=("invalid",),
    )


def strays(rules: Iterable[PacketRule], family: str, hook: str) -> tuple[Match, ...]:
    """Return the INVALID segments of flows that these NAT rules rewrite, as they come to a hook.

    On input: answers to what leaves with another source, by the links that it leaves by, and
    requests to a published port, by the links that those come by. On forward: what a container
    answers to such requests, with its own address; on input, where the host itself asked. What this
    host sends is in order, and not asked for; no more are masqueraded requests of a container to
    itself: they, and what answers them, come by the link that its other requests come by. One for
    any segment where nothing is known.
    """
    every = generic(family, hook)
    alike: dict[tuple[object, ...], list[Match]] = {}
    for rule in rules:
        seen = _stray(rule, hook)
        met = None if seen is None else conjoin(every, seen)
        if met is not None:
            come_by = met.in_interfaces, met.not_in_interfaces
            leave_by = met.out_interfaces, met.not_out_interfaces
            key = rule.hook, bool(met.destination_ports), *come_by, *leave_by
            alike.setdefault(key, []).append(met)
    return tuple(_together(each) for each in alike.values()) or (every,)


def resets_sent(segments: Iterable[Match], family: str) -> tuple[Match, ...]:
    """Return the resets with which this host answers such segments on input.

    They leave by the links that the segments come by, as everywhere here: for answers those that
    masquerading leaves by, for requests to a published port those that they come by.
    """
    return tuple(
        replace(
            generic(family, "output"),
            destinations=each.sources,
            not_destinations=each.not_sources,
            destination_ports=each.source_ports,
            source_ports=each.destination_ports,
            out_interfaces=each.in_interfaces,
            not_out_interfaces=each.not_in_interfaces,
        )
        for each in segments
    )


def _stray(rule: PacketRule, hook: str) -> Optional[Match]:
    """Return what INVALID segments of the flows of one NAT rule look like; None: none come."""
    match = rule.match
    published = rule.hook == "prerouting"
    if "tcp" not in (match.protocols or ("tcp",)):
        return None
    if rule.hook == "output":
        addresses, ports = target(rule.to)
        return (
            Match(
                sources=addresses,
                source_ports=ports or (match.destination_ports if addresses else ()),
                destination_ports=match.source_ports,
            )
            if hook == "input" and rule.action == "dnat"
            else None
        )
    if hook == "input" and rule.hook == "postrouting":
        if match.sources and match.sources == match.destinations:
            return None
        addresses, ports = target(rule.to)
        return Match(
            sources=match.destinations,
            not_sources=match.not_destinations,
            source_ports=match.destination_ports,
            destinations=addresses,
            destination_ports=ports,
            in_interfaces=match.out_interfaces,
            not_in_interfaces=match.not_out_interfaces,
        )
    if hook == "input" and published:
        ports = match.destination_ports or (EVERY_PORT,)
        requests = replace(match, destination_ports=ports, states=(), unmodelled=())
        return None if match.destination_local is False else requests
    if hook == "forward" and published and rule.action == "dnat":
        addresses, ports = target(rule.to)
        return Match(
            sources=addresses,
            source_ports=ports or (match.destination_ports if addresses else ()),
            destinations=match.sources,
            not_destinations=match.not_sources,
            destination_ports=match.source_ports,
            out_interfaces=match.in_interfaces,
            not_out_interfaces=match.not_in_interfaces,
        )
    return Match() if hook == "input" else None


def _together(packets: list[Match]) -> Match:
    """Return the packets of all of these, which come and go by the same links."""
    first = packets[0]
    return replace(
        first,
        sources=_every([p.sources for p in packets]),
        not_sources=_shared([p.not_sources for p in packets]),
        destinations=_every([p.destinations for p in packets]),
        not_destinations=_shared([p.not_destinations for p in packets]),
        source_ports=_every([p.source_ports for p in packets]),
        destination_ports=_every([p.destination_ports for p in packets]),
    )


def _every(lists: list[tuple[T, ...]]) -> tuple[T, ...]:
    """Return all alternatives, or none (any) where one list is empty."""
    return tuple(dict.fromkeys(n for each in lists for n in each)) if all(lists) else ()


def _shared(lists: list[tuple[T, ...]]) -> tuple[T, ...]:
    """Return what is in every list."""
    return tuple(n for n in lists[0] if all(n in each for each in lists))


def stays_here(hook: str, action: str, match: Match, to: str) -> bool:
    """Tell whether the flows of a NAT rule run over the loopback alone, both ways.

    What this host sends and REDIRECT turns to it does: there that means a loopback address
    (nf_nat_redirect_ipv4() and _ipv6(), net/netfilter/nf_nat_redirect.c). A segment that somebody
    sends from outside is of no such flow: a socket, or nobody, takes it for what it says.
    """
    target_stays = loopback(target(to)[0])
    if hook == "output":
        return action == "redirect" or target_stays
    if hook == "postrouting" and loopback(match.sources):  # Docker's resolver: a port alone
        return target_stays or to.startswith(":")
    return hook == "postrouting" and match.out_interfaces == ("lo",)


def loopback(prefixes: tuple[str, ...]) -> bool:
    """Tell whether all prefixes are of the loopback; none is any."""
    return bool(prefixes) and all(
        contains("::1/128" if ":" in each else "127.0.0.0/8", each) for each in prefixes
    )


def one_service(met: Match, side: str) -> bool:
    """Tell whether these packets have ports that neither NAT nor a client is likely to pick.

    ``side``: ``source`` or ``destination``; never where it is empty.
    """
    ports = {"source": met.source_ports, "destination": met.destination_ports}.get(side, ())
    few = sum(last - first + 1 for first, last in ports) < _MANY
    return bool(ports) and few and not any(ports_meet(each, EPHEMERAL) for each in ports)


def resets_of(rules: Iterable[PacketRule], family: str) -> tuple[Match, ...]:
    """Return the resets with which clients answer a container's own address.

    They come by the links that requests come by. One for any where nothing is known.
    """
    every = generic(family, "forward")
    alike: dict[tuple[tuple[str, ...], ...], list[Match]] = {}
    for rule in rules:
        answer = _stray(rule, "forward")
        if answer is None:
            continue
        seen = Match(
            sources=answer.destinations,
            not_sources=answer.not_destinations,
            destinations=answer.sources,
            destination_ports=answer.source_ports,
            source_ports=answer.destination_ports,
            in_interfaces=answer.out_interfaces,
            not_in_interfaces=answer.not_out_interfaces,
        )
        met = conjoin(every, seen)
        if met is not None:
            alike.setdefault((met.in_interfaces, met.not_in_interfaces), []).append(met)
    return tuple(_together(each) for each in alike.values()) or (every,)


def target(text: str) -> tuple[tuple[str, ...], tuple[PortRange, ...]]:
    """Return addresses and ports that ``PacketRule.to`` names; a range of addresses is unknown."""
    ports: tuple[PortRange, ...] = ()
    bare = text.count(":") > 1 and not text.startswith("[")
    if ":" in text and not bare:
        text, _, tail = text.rpartition(":")
        first, _, last = tail.partition("-")
        ports = ((int(first), int(last or first)),) if first.isdigit() else ()
    address = text.strip("[]")
    return ((address,) if address and "-" not in address else ()), ports


def translated(text: str) -> tuple[str, ...]:
    """Return the addresses that ``PacketRule.to`` names as prefixes; a range as those it is of."""
    bare = text.count(":") > 1 and not text.startswith("[")
    address = (text if bare else text.rpartition(":")[0] or text).strip("[]")
    if text.startswith(":") or not address:
        return ()
    first, _, last = address.partition("-")
    bits, lowest, _ = parse(first)
    return tuple(of_range(bits, lowest, parse(last or first)[1]))
