"""Conditions beyond a match: their names, and whether a packet of which more is known meets them.

Pure. What DNAT did to a packet is asked of conntrack's entry, and ICMP's type has no field in a
:class:`~remedies.rules.rule.Match`. Where either is known of a packet, the condition is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Optional

from remedies.rules.match_words import port_list
from remedies.rules.rule import Match, PortRange
from remedies.values import NamedTuple, replace

IPS_DST_NAT = 0x20  # include/uapi/linux/netfilter/nf_conntrack_common.h
STATUS = "ct key 2"
"""``ct status``, by its number (NFT_CT_STATUS, include/uapi/linux/netfilter/nf_tables.h)."""
ASKED_PORT = "ct key 12 original"
"""``ct original proto-dst`` (NFT_CT_PROTO_DST): the port that the sender asked."""

ICMP_TYPE, ICMP_CODE = "payload 2,0,1", "payload 2,1,1"
"""The first two octets of ICMP's header, as :mod:`remedies.netfilter.fields` names them."""

_STATUS = rf"{STATUS} & 0x([0-9a-f]+) (==|!=) 0x([0-9a-f]+)"
_PORTS = rf"{ASKED_PORT} (==|!=) ([0-9,-]+)"
_ICMP = r"icmp (type|code) (==|!=) ([0-9,-]+)"
_XT_ICMP = r"icmp type (\d+) code (\d+)-(\d+) (==|!=)"
_STATE = "ctstate "
_DNAT, _NOT = "DNAT", "! "
NOT_TURNED = -1
"""In place of the port that was asked: DNAT did not turn the packet."""


def status_test(mask: int, value: int, *, negate: bool) -> str:
    """Return the name of a condition on bits of conntrack's status."""
    return f"{STATUS} & {mask:#x} {'!=' if negate else '=='} {value:#x}"


def port_test(ranges: Iterable[PortRange], *, negate: bool) -> str:
    """Return the name of a condition on the port that the sender asked."""
    listed = port_list(tuple(ranges)).replace(" ", "")
    return f"{ASKED_PORT} {'!=' if negate else '=='} {listed}"


def state_test(states: Sequence[str], *, negate: bool = False) -> str:
    """Return the name of a condition that one of these states meets, or what DNAT turned."""
    listed = ",".join((*(state.upper() for state in states), _DNAT))
    return f"{_STATE}{_NOT if negate else ''}{listed}"


def icmp_test(name: str, ranges: Iterable[PortRange], *, negate: bool) -> str:
    """Return the name of a condition on ICMP's ``type`` or ``code``."""
    listed = port_list(tuple(ranges)).replace(" ", "")
    return f"icmp {name} {'!=' if negate else '=='} {listed}"


def xt_icmp_test(kind: int, codes: PortRange, *, negate: bool) -> str:
    """Return the name of a condition on ICMP's type and code together; 255 is any type."""
    return f"icmp type {kind} code {codes[0]}-{codes[1]} {'!=' if negate else '=='}"


class PacketKnowledge(NamedTuple):
    """What is known of a packet beyond its match."""

    asked: Optional[int] = None
    """DNAT turned it, and its sender asked this port (0: not known which), or :data:`NOT_TURNED`;
    None: whether DNAT did is not known."""
    icmp: Optional[tuple[int, int]] = None
    """Type and code."""


def beyond(match: Match, states: Sequence[str], known: PacketKnowledge) -> Optional[Match]:
    """Return ``match`` without the conditions that such a packet meets; None where it fails one.

    ``states``: what conntrack holds of it. What stays in ``unmodelled`` is not known of it.
    """
    if not match.unmodelled or known == PacketKnowledge():
        return match
    met = {name: _meets(name, states, known) for name in match.unmodelled}
    if False in met.values():
        return None
    return replace(match, unmodelled=tuple(name for name, known in met.items() if known is None))


def _meets(name: str, states: Sequence[str], known: PacketKnowledge) -> Optional[bool]:
    met = None if known.asked is None else _turned(name, states, known.asked)
    return met if met is not None or known.icmp is None else _says(name, known.icmp)


def _says(name: str, icmp: tuple[int, int]) -> Optional[bool]:
    if tested := re.fullmatch(_ICMP, name):
        return _within(icmp[tested[1] == "code"], tested[3]) == (tested[2] == "==")
    if tested := re.fullmatch(_XT_ICMP, name):
        first, last = int(tested[2]), int(tested[3])
        met = tested[1] == "255" or (icmp[0] == int(tested[1]) and first <= icmp[1] <= last)
        return met == (tested[4] == "==")
    return None


def _within(value: int, spans: str) -> bool:
    ends = (span.partition("-") for span in spans.split(","))
    return any(int(first) <= value <= int(last or first) for first, _, last in ends)


def _turned(name: str, states: Sequence[str], port: int) -> Optional[bool]:
    turned = port != NOT_TURNED
    if tested := re.fullmatch(_STATUS, name):
        mask, value = int(tested[1], 16), int(tested[3], 16)
        if mask != IPS_DST_NAT:
            return None
        return ((value == IPS_DST_NAT) == turned) == (tested[2] == "==")
    if tested := re.fullmatch(_PORTS, name):
        if port <= 0:
            return None
        return _within(port, tested[2]) == (tested[1] == "==")
    if name.startswith(_STATE):
        words = name[len(_STATE) :].removeprefix(_NOT).split(",")
        if _DNAT not in words or "SNAT" in words[0]:
            return None
        met = turned or any(state.upper() in words for state in states)
        return met != name.startswith(_STATE + _NOT)
    return None
