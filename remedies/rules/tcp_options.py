"""Conditions on TCP's options: their names, and what is known of a segment or a reset. Pure."""

from __future__ import annotations

import re
from typing import Optional

_TEST = r"(no |value of |)tcp option (\d+)"
_NOP, _OFFER_ONLY, _SOMETIMES = 1, (2, 3, 4), (5, 8)
"""Segment size, window scale and leave to send SACK stand in a SYN alone (RFC 9293, 3.2; RFC 7323,
2.2; RFC 2018, 2); SACK and time stamps in segments of some connections (RFC 2018, 3; RFC 7323,
3.2), behind NOPs that fill the word."""


def option_test(kind: int, *, absent: bool = False) -> str:
    """Return the name of a condition that a segment has an option, or has it not."""
    return f"{'no ' if absent else ''}tcp option {kind}"


def value_of(kind: int) -> str:
    """Return the name of a condition on an option's content: met by none that lacks the option."""
    return f"value of tcp option {kind}"


def met(name: str, *, reset: bool) -> Optional[bool]:
    """Tell whether a segment in mid stream meets such a condition; or the ``reset`` as its answer.

    None: some do, or the name is another condition's. What TCP answers without a socket has no
    option (tcp_v4_send_reset(), tcp_v6_send_response()).
    """
    tested = re.fullmatch(_TEST, name)
    if tested and (reset or int(tested[2]) in _OFFER_ONLY):
        return tested[1] == "no "
    return None


def sometimes(name: str) -> bool:
    """Tell whether segments of some connections surely meet a condition."""
    tested = re.fullmatch(_TEST, name)
    if not tested or tested[1] == "value of ":
        return False
    return int(tested[2]) in (_NOP, *_SOMETIMES)
