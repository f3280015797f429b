"""What is known of a segment that conntrack calls INVALID, and of the reset that answers it. Pure.

Such a packet has no conntrack entry, so that conditions on one (its status, direction, mark, zone)
fail: nft_ct_get_eval() ends the rule, xt_conntrack's conntrack_mt() matches the state alone. The
segment carries an acknowledgment and is no SYN; the reset that answers such a segment has RST and
no other flag (RFC 9293, 3.10.7.1; net/ipv4/tcp_ipv4.c, tcp_v4_send_reset()). Nobody has marked it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Optional

from remedies.rules.matching import ports_meet
from remedies.rules.rule import Match, PacketRule, PortRange
from remedies.values import dataclass, replace

SYN, RST, ACK = 0x02, 0x04, 0x10
EPHEMERAL: PortRange = (32768, 65535)
"""Where clients' own ports and those that NAT picks lie by default
(net.ipv4.ip_local_port_range begins at 32768); a port below belongs to a service."""

_TARGETS = 32
_TEST = re.compile(r"tcp flags & 0x([0-9a-f]+) (==|!=) 0x([0-9a-f]+)")
_SEGMENT = (SYN | RST | ACK, ACK)
_RESET = (0xFF, RST)
_OF_AN_ENTRY = ("ct key", "bits of ct key", "conn", "ctstate", "helper")
"""How the names of conditions begin that want a conntrack entry."""
_HOST = {"meta pkttype == 0": True, "meta pkttype != 0": False}
"""What arrives for a flow of NAT is a frame for this host: PACKET_HOST (linux/if_packet.h)."""
_MARK = re.compile(r"meta mark & 0x[0-9a-f]+ (==|!=) 0x([0-9a-f]+)")


def flags_test(mask: int, value: int, *, negate: bool) -> str:
    """Return the name of a condition on TCP flags, in nft's syntax."""
    return f"tcp flags & {mask:#x} {'!=' if negate else '=='} {value:#x}"


def mark_test(mask: int, value: int, *, negate: bool) -> str:
    """Return the name of a condition on the packet's mark, in nft's syntax."""
    return f"meta mark & {mask:#x} {'!=' if negate else '=='} {value:#x}"


def left_open(match: Match, reset: bool) -> Optional[Match]:
    """Return ``match`` without the conditions that the packet meets; None where it fails one.

    What stays in ``unmodelled`` is not known of the packet: the segment, or its ``reset``.
    """
    left = []
    for name in match.unmodelled:
        met = _meets(name, match, reset)
        if met is False:
            return None
        if met is None:
            left.append(name)
    return replace(match, unmodelled=tuple(left))


def _meets(name: str, match: Match, reset: bool) -> Optional[bool]:
    tested = _TEST.fullmatch(name)
    if tested:
        mask, value = int(tested[1], 16), int(tested[3], 16)
        known, flags = _RESET if reset else _SEGMENT
        if (value ^ flags) & mask & known or value & ~mask:
            return tested[2] == "!="
        return None if mask & ~known else tested[2] == "=="
    if name == "conntrack" and match.states:
        return True  # conntrack_mt() looks no further than the state
    marked = _MARK.fullmatch(name)
    if marked:
        return (int(marked[2], 16) == 0) == (marked[1] == "==")
    if name in _HOST:
        return None if reset else _HOST[name]
    if name.startswith(_OF_AN_ENTRY):
        return False
    return None


@dataclass(frozen=True)
class NatLinks:
    """The links that INVALID packets of NAT's flows pass at a hook. Empty means any."""

    come_by: tuple[str, ...] = ()
    not_by: tuple[str, ...] = ()
    leave_by: tuple[str, ...] = ()
    not_leave_by: tuple[str, ...] = ()

    def narrow(self, packet: Match) -> Match:
        """Return the packets of these links."""
        return replace(
            packet,
            in_interfaces=self.come_by,
            not_in_interfaces=(*packet.not_in_interfaces, *self.not_by),
            out_interfaces=self.leave_by,
            not_out_interfaces=(*packet.not_out_interfaces, *self.not_leave_by),
        )


def links_of(rules: Iterable[PacketRule], hook: str) -> NatLinks:
    """Return the links of the NAT rules that TCP can meet, for input (or prerouting) and forward.

    Answers to what leaves by a link come by it, and go to where requests came from.
    """
    met = [rule for rule in rules if not rule.match.protocols or "tcp" in rule.match.protocols]
    if hook == "forward":
        into = [rule.match for rule in met if rule.action == "dnat" and rule.hook == "prerouting"]
        by = _every([match.in_interfaces for match in into])
        no = _shared([match.not_in_interfaces for match in into])
        return NatLinks(leave_by=by, not_leave_by=no)
    out = [rule.match for rule in met if rule.hook == "postrouting"]
    if hook != "input" or len(out) != sum(rule.action != "dnat" for rule in met):
        return NatLinks()  # a redirect's requests come by other links
    return NatLinks(
        come_by=_every([match.out_interfaces for match in out]),
        not_by=_shared([match.not_out_interfaces for match in out]),
    )


def _every(lists: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return all names, or none (any) where one list is empty."""
    return tuple(dict.fromkeys(n for names in lists for n in names)) if all(lists) else ()


def _shared(lists: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the names that are in every list."""
    return tuple(n for n in lists[0] if all(n in names for names in lists)) if lists else ()


def one_service(met: Match) -> bool:
    """Tell whether these packets go to ports that NAT does not hand out."""
    return bool(met.destination_ports) and not any(
        ports_meet(ports, EPHEMERAL) for ports in met.destination_ports
    )


def resets_of(rules: Iterable[PacketRule]) -> tuple[Match, ...]:
    """Return the resets with which clients answer a container's own address, one for each target.

    They come by the links that requests come by. One for any where that cannot be told.
    """
    any_of_them = Match(protocols=("tcp",), not_in_interfaces=("lo",), not_out_interfaces=("lo",))
    found: dict[Match, None] = {}
    for rule in rules:
        match = rule.match
        if (
            rule.action != "dnat"
            or rule.hook != "prerouting"
            or "tcp" not in (match.protocols or ("tcp",))
        ):
            continue
        address, ports = target(rule.to)
        found[
            replace(
                any_of_them,
                destinations=address,
                destination_ports=ports or (match.destination_ports if address else ()),
                destination_local=False if address else None,
                in_interfaces=match.in_interfaces,
                not_in_interfaces=("lo", *match.not_in_interfaces),
            )
        ] = None
    if len(found) > _TARGETS or any(not match.destinations for match in found):
        return (any_of_them,)
    return tuple(found) or (any_of_them,)


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
