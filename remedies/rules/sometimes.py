"""Conditions that some INVALID segments surely meet, whatever else is known of them. Pure."""

from __future__ import annotations

import re

from remedies.rules import tcp_options
from remedies.rules.header_words import CHOSEN, SERVICE, kind
from remedies.rules.invalid_packet import ACK, FLAGS_TEST
from remedies.rules.rule import ONE_OF_ALL

_PSH = 0x08
_SOMETIMES = frozenset(
    (
        "limit",
        "connlimit",
        "hashlimit",
        "quota",
        "statistic",
        "cpu",
        "numgen",
        ONE_OF_ALL,
        "hash",
        "meta random",
        "length",
        "meta length",
        "payload 1,2,2",
        "time",
        "meta 20",
        "meta 30",
        "meta 31",
        "meta 32",
    )
)
"""Conditions that are not modelled, and that some of any packets meet and others do not. By number:
the length in an IPv4 header (RFC 791, 3.1), the processor, and the time, day and hour
(NFT_META_CPU, NFT_META_TIME_NS and what follows)."""


def sometimes(name: str, *, sent: bool) -> bool:
    """Tell whether some segments, or the resets that answer them, meet a condition so named.

    ``sent``: they are resets of this host, whose headers nobody chooses, but for the class of
    service: that is the segment's (tcp_v4_send_reset(), tcp_v6_send_reset()).

    Segments with data have PSH or not, as their sender's buffer is empty or not (RFC 9293,
    3.9.1.2); flags that are rarer than that are not counted on.
    """
    tested = re.fullmatch(FLAGS_TEST, name)
    if not tested:
        chosen = name in CHOSEN or tcp_options.sometimes(name)
        return name in _SOMETIMES or (chosen and (not sent or kind(name) == SERVICE))
    mask, values = int(tested[1], 16), [int(value, 16) for value in tested[3].split()]
    equal = (flags & mask in values for flags in (ACK, ACK | _PSH))
    return any(met == (tested[2] == "==") for met in equal)
