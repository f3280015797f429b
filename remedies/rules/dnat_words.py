"""Conditions on what DNAT did to a packet: their names, and whether a turned one meets them. Pure.

Such a condition is not modelled in a :class:`~remedies.rules.rule.Match`: conntrack's entry has it.
Where it is known of a packet that DNAT sent it where it goes, it can be judged all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Optional

from remedies.rules.rule import Match, PortRange
from remedies.values import replace

IPS_DST_NAT = 0x20  # include/uapi/linux/netfilter/nf_conntrack_common.h
STATUS = "ct key 2"
"""``ct status``, by its number (NFT_CT_STATUS, include/uapi/linux/netfilter/nf_tables.h)."""
ASKED_PORT = "ct key 12 original"
"""``ct original proto-dst`` (NFT_CT_PROTO_DST): the port that the sender asked."""

_STATUS = rf"{STATUS} & 0x([0-9a-f]+) (==|!=) 0x([0-9a-f]+)"
_PORTS = rf"{ASKED_PORT} (==|!=) ([0-9,-]+)"
_STATE = "ctstate "
_DNAT = "DNAT"


def status_test(mask: int, value: int, *, negate: bool) -> str:
    """Return the name of a condition on bits of conntrack's status."""
    return f"{STATUS} & {mask:#x} {'!=' if negate else '=='} {value:#x}"


def port_test(ranges: Iterable[PortRange], *, negate: bool) -> str:
    """Return the name of a condition on the port that the sender asked."""
    listed = ",".join(f"{first}-{last}" for first, last in ranges)
    return f"{ASKED_PORT} {'!=' if negate else '=='} {listed}"


def state_test(states: Sequence[str]) -> str:
    """Return the name of a condition that one of these states meets, or what DNAT turned."""
    return _STATE + ",".join((*(state.upper() for state in states), _DNAT))


def turned(match: Match, states: Sequence[str], port: int) -> Optional[Match]:
    """Return ``match`` without the conditions that a packet meets which DNAT turned; None: none.

    ``states``: what conntrack holds of it; ``port``: what its sender asked, 0 where that is not
    known. What stays in ``unmodelled`` is not known of it.
    """
    if not match.unmodelled:
        return match
    met = {name: _meets(name, states, port) for name in match.unmodelled}
    if False in met.values():
        return None
    return replace(match, unmodelled=tuple(name for name, known in met.items() if known is None))


def _meets(name: str, states: Sequence[str], port: int) -> Optional[bool]:
    if tested := re.fullmatch(_STATUS, name):
        mask, value = int(tested[1], 16), int(tested[3], 16)
        if mask != IPS_DST_NAT:
            return None
        return (value == IPS_DST_NAT) == (tested[2] == "==")
    if tested := re.fullmatch(_PORTS, name):
        if not port:
            return None
        spans = (each.split("-") for each in tested[2].split(","))
        within = any(int(first) <= port <= int(last) for first, last in spans)
        return within == (tested[1] == "==")
    if name.startswith(_STATE):
        words = name[len(_STATE) :].split(",")
        known = _DNAT in words or any(state.upper() in words for state in states)
        return True if known else None
    return None
