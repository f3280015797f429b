"""Packet fields that nf_tables registers hold, and what a comparison with one demands."""

from __future__ import annotations

import functools
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

from remedies.netfilter import referred_to
from remedies.netfilter.referred_to import ReferredTo
from remedies.rules import header_words
from remedies.rules.decoded import ADDRESS_BITS, ALTERNATIVES, STATES, MatchTerms, states_of
from remedies.rules.invalid_packet import flags_test, frame_test, type_test
from remedies.rules.marks import mark_test, marks_test
from remedies.rules.packet_words import (
    ASKED_PORT,
    ICMP_CODE,
    ICMP_TYPE,
    STATUS,
    icmp_test,
    port_test,
    status_test,
)
from remedies.rules.prefixes import parse, show
from remedies.rules.rule import Match
from remedies.rules.tcp_options import option_test, value_of
from remedies.values import NamedTuple

Keys = Sequence[tuple[bytes, bytes]]
"""Ranges of raw register contents, both ends included."""

_UNTRACKED = 64  # NF_CT_STATE_UNTRACKED_BIT
_RTN_LOCAL = 2  # include/uapi/linux/rtnetlink.h
_ETHERTYPES = {0x0800: "ip", 0x86DD: "ip6"}
_NFPROTO = {2: "ip", 10: "ip6"}
_META = {6: "in", 7: "out", 4: "iif", 5: "oif", 15: "nfproto", 16: "protocol", 1: "etherproto"}
_OTHER_META = {
    0: "length", 3: "mark", 8: "iiftype", 10: "skuid", 11: "skgid", 19: "pkttype", 21: "iifgroup",
    22: "oifgroup", 24: "random", 25: "secpath",
}  # fmt: skip
_RT = {0: "rt classid", 4: "rt xfrm"}
"""NFT_RT_CLASSID, NFT_RT_XFRM."""
_BOUNDS = {
    (1, "ip"): (0, 1, 2, 4, 6, 8, 9, 10, 12, 16, 20),
    (1, "ip6"): (4, 6, 7, 8, 24, 40),
    (2, ""): (0, 2, 4),
    (2, "icmp"): (0, 1, 2),
}
"""Where fields begin, by header and IP version: RFC 791, 3.1; RFC 8200, 3; ports; RFC 792."""
_IPSEC = ("meta secpath", "rt xfrm")
_GROUPS = {"meta iifgroup": "in", "meta oifgroup": "out"}
_OF_FRAGMENTS = (b"\x1f\xff", b"\x3f\xff")
"""Masks of the fragment offset, without and with the flag that more follow (RFC 791, 3.1)."""


class Field(NamedTuple):
    """What a register holds."""

    name: str
    """``protocol``, ``source``, ``destination``, ``sport``, ``dport``, ``in``, ``out``, ``iif``,
    ``oif``, ``state``, ``local``, ``nfproto``, ``etherproto``; anything else is not modelled."""
    size: int
    mask: bytes = b""
    family: str = ""
    """For an address: ``ip`` or ``ip6``."""
    turned: bool = False
    """A number of this machine's byte order, turned to that of the network."""
    parts: tuple[tuple[int, Any], ...] = ()
    """The fields that it is made of, each with its offset: nft loads neighbours in one."""


def _family_of(family: str, known: Optional[Match]) -> str:
    """Return the IP version that a rule of an ``inet`` table has been narrowed to, if any."""
    if family in ADDRESS_BITS:
        return family
    for prefix in (*known.sources, *known.destinations) if known else ():
        return "ip" if parse(prefix)[0] == 32 else "ip6"
    return ""


def payload_field(
    family: str, known: Optional[Match], base: int, offset: int, length: int
) -> Field:
    """Return the field at ``offset`` of the link (0), network (1) or transport (2) header.

    RFC 791 and RFC 8200 say where addresses and protocol lie; ports are the first two pairs of
    bytes of every transport header that has them.
    """
    version = _family_of(family, known) or ("ip6" if length > 4 else "ip")
    if base == 1 and version == "ip":
        if (offset, length) == (9, 1):
            return Field("protocol", 1)
        if (offset, length) == (6, 2):
            return Field("fragment offset", 2)
        if offset in (12, 16) and length <= 4:
            return Field("source" if offset == 12 else "destination", length, family="ip")
    elif base == 1:
        if (offset, length) == (6, 1):
            return Field("protocol", 1)
        if offset in (8, 24) and length <= 16:
            return Field("source" if offset == 8 else "destination", length, family="ip6")
    elif base == 2 and offset in (0, 2) and length == 2 and not _icmp(known):
        return Field("sport" if offset == 0 else "dport", 2)
    if (base, offset, length) == (2, 13, 1) and known and known.protocols == ("tcp",):
        return Field("tcp flags", 1)
    named = header_words.at(_family_of(family, known), base, offset, length)
    if named:
        return Field(named, length)
    parts = tuple(_parts(family, known, base, offset, length))
    return Field(f"payload {base},{offset},{length}", length, parts=parts)


def _icmp(known: Optional[Match]) -> bool:
    return known is not None and known.protocols in (("icmp",), ("icmpv6",))


def _parts(
    family: str, known: Optional[Match], base: int, offset: int, length: int
) -> Iterator[tuple[int, Field]]:
    """Yield the fields that are known of a span of a header; none unless they fill it."""
    header = _family_of(family, known) if base == 1 else "icmp" if _icmp(known) else ""
    bounds = _BOUNDS.get((base, header), ())
    inside = [at for at in bounds if offset <= at <= offset + length]
    if len(inside) > 2 and (inside[0], inside[-1]) == (offset, offset + length):
        for first, last in zip(inside, inside[1:]):
            yield first - offset, payload_field(family, known, base, first, last - first)


def _name(value: bytes, last: bytes) -> str:
    """Return an interface name; one without its final NUL, or a range, is a prefix (``eth*``)."""
    if value != last:
        return value.rstrip(b"\0").decode(errors="replace") + "*"
    text = value.split(b"\0")[0].decode(errors="replace")
    return text if b"\0" in value or len(value) >= 16 else f"{text}*"


def _one(keys: Keys) -> bool:
    return len(keys) == 1 and keys[0][0] == keys[0][1]


def _spans(keys: Keys, order: str = "big") -> list[tuple[int, int]]:
    if order == "big":
        return [(int.from_bytes(a, "big"), int.from_bytes(b, "big")) for a, b in keys]
    return [(int.from_bytes(a, "little"), int.from_bytes(b, "little")) for a, b in keys]


@functools.cache
def meta_field(key: int) -> Field:
    """Return what a meta expression loads; ``key``: NFT_META_*."""
    name = _META.get(key) or f"meta {_OTHER_META.get(key, key)}"
    return Field(name, 16 if key in (6, 7) else 4)  # IFNAMSIZ


def rt_field(key: int) -> Field:
    """Return what an rt expression loads; ``key``: NFT_RT_*."""
    return Field(_RT.get(key, f"rt {key}"), 4)


def option_field(got: Mapping[int, bytes]) -> Field:
    """Return what an exthdr expression loads; ``got``: its attributes (NFTA_EXTHDR_*)."""
    kind = got.get(2, b"\0")[0]
    if int.from_bytes(got.get(6, b""), "big") != 1:  # NFT_EXTHDR_OP_TCPOPT
        return Field("exthdr", 4)
    present = int.from_bytes(got.get(5, b""), "big") & 1  # NFT_EXTHDR_F_PRESENT
    return Field(option_test(kind) if present else value_of(kind), 4)


def apply(
    terms: MatchTerms, field: Field, family: str, keys: Keys, host: ReferredTo, *, negate: bool
) -> None:
    """Add "``field`` is (not) in one of these ranges" to ``terms``; ``host``: what it refers to."""
    name = field.name
    if not field.mask and name in _WHOLE:
        _WHOLE[name](terms, name, keys, negate=negate)
    elif field.parts and not negate and not field.mask and _one(keys):
        for at, part in field.parts:
            apply(terms, part, family, [(keys[0][0][at : at + part.size],) * 2], host, negate=False)
    elif name in ("source", "destination"):
        _addresses(terms, field, keys, negate=negate)
    elif name == "state":
        _states(terms, field, keys, negate=negate)
    elif name == "tcp flags" and all(low == high for low, high in keys):
        mask = field.mask[0] if field.mask else 0xFF
        terms.unknown(flags_test(mask, *(low[0] for low, _ in keys), negate=negate))
    elif name == "meta mark" and len(keys) <= ALTERNATIVES:
        _marks(terms, field, keys, negate=negate)
    elif name == "fragment offset" and field.mask in _OF_FRAGMENTS:
        _fragments(terms, keys, negate=negate)
    elif name == "meta pkttype" and not field.mask and all(low == high for low, high in keys):
        terms.unknown(frame_test([low[0] for low, _ in keys], negate=negate))
    elif name == "meta iiftype" and not field.mask:
        types = [low for low, _ in _spans([(a[:2], b[:2]) for a, b in keys], sys.byteorder)]
        terms.unknown(header_words.of_link(types, negate=negate))
    elif name in _IPSEC and keys and keys[0][0] == keys[0][1]:
        referred_to.narrow_ipsec(terms, host, wanted=any(keys[0][0]) != negate)
    elif name == "xfrm":  # without IPsec it ends the rule, whatever is asked (nft_xfrm_get_eval())
        referred_to.narrow_ipsec(terms, host, wanted=True)
    elif name in _GROUPS:
        bits = int.from_bytes(field.mask, sys.byteorder) if field.mask else 0xFFFFFFFF
        groups = _spans(keys, sys.byteorder)
        referred_to.narrow_group(terms, _GROUPS[name], groups, bits, host, negate=negate)
    elif name == "rt classid" and keys:
        none = any(low <= 0 <= high for low, high in _spans(keys)) != negate
        referred_to.narrow_realm(terms, host, none=none)
    elif name.startswith("tcp option ") and keys and keys[0][0] == keys[0][1]:
        there = any(keys[0][0]) != negate
        terms.unknown(option_test(int(name.rpartition(" ")[2]), absent=not there))
    elif name == STATUS and field.mask and _one(keys):
        mask, value = (int.from_bytes(v[:4], sys.byteorder) for v in (field.mask, keys[0][0]))
        terms.unknown(status_test(mask, value, negate=negate))
    elif name == ASKED_PORT and not field.mask:
        terms.unknown(port_test(_spans([(a[:2], b[:2]) for a, b in keys]), negate=negate))
    elif name in (ICMP_TYPE, ICMP_CODE) and not field.mask:
        part = "type" if name == ICMP_TYPE else "code"
        terms.unknown(icmp_test(part, _spans([(a[:1], b[:1]) for a, b in keys]), negate=negate))
    else:
        terms.unknown(f"bits of {name}" if field.mask else name)


def _ports(terms: MatchTerms, name: str, keys: Keys, *, negate: bool) -> None:
    side = "source" if name == "sport" else "destination"
    terms.ports(side, _spans([(a[:2], b[:2]) for a, b in keys]), negate=negate)


def _protocols(terms: MatchTerms, name: str, keys: Keys, *, negate: bool) -> None:
    spans = _spans([(a[:1], b[:1]) for a, b in keys])
    numbers = [number for low, high in spans for number in range(low, high + 1)]
    terms.protocol(numbers, negate=negate)


def _interfaces(terms: MatchTerms, name: str, keys: Keys, *, negate: bool) -> None:
    terms.interfaces(name, [_name(low, high) for low, high in keys], negate=negate)


def _addresses(terms: MatchTerms, field: Field, keys: Keys, *, negate: bool) -> None:
    bits = ADDRESS_BITS[field.family]
    if not field.mask and field.size * 8 == bits:
        terms.spans(field.name, field.family, _spans(keys), negate=negate)
        return
    mask = int.from_bytes(field.mask, "big") if field.mask else (1 << field.size * 8) - 1
    width = len(field.mask) * 8 if field.mask else field.size * 8
    length = bin(mask).count("1")
    if mask != ((1 << length) - 1) << (width - length) or any(a != b for a, b in keys):
        terms.unknown(f"bits of {field.name}")
        return
    prefixes = [show((bits, low << (bits - width), length)) for low, _ in _spans(keys)]
    terms.addresses(field.name, prefixes, negate=negate)


def _states(terms: MatchTerms, field: Field, keys: Keys, *, negate: bool) -> None:
    values = [low for low, _ in _spans([(a[:4], b[:4]) for a, b in keys], sys.byteorder)]
    if field.mask:
        mask = int.from_bytes(field.mask, sys.byteorder)
        if values == [0]:  # "state & mask == 0" is none of them, "!= 0" one of them
            terms.states(states_of(mask, _UNTRACKED), negate=not negate)
        else:
            terms.unknown("ct state")
        return
    known = {**STATES, _UNTRACKED: "untracked"}
    terms.states([known[v] for v in values if v in known], negate=negate)


def _indices(terms: MatchTerms, name: str, keys: Keys, *, negate: bool) -> None:
    names = []
    for index, _ in _spans(keys, sys.byteorder):
        try:
            names.append(socket.if_indextoname(index))
        except (OSError, OverflowError):
            names.append(f"#{index}")
    terms.interfaces("in" if name == "iif" else "out", names, negate=negate)


def _local(terms: MatchTerms, name: str, keys: Keys, *, negate: bool) -> None:
    side = "source" if name == "saddr type" else "destination"
    types = {low for low, _ in _spans(keys, sys.byteorder)}
    if types == {_RTN_LOCAL}:
        terms.local(side, not negate)
        return
    if (_RTN_LOCAL in types) == negate:
        terms.local(side, False)
    terms.unknown(type_test(name[:5], types, negate=negate))


def _versions(terms: MatchTerms, name: str, keys: Keys, *, negate: bool) -> None:
    if name == "nfproto":
        known, numbers = _NFPROTO, [low for low, _ in _spans([(a[:1], b[:1]) for a, b in keys])]
    else:
        known, numbers = _ETHERTYPES, [low for low, _ in _spans([(a[:2], b[:2]) for a, b in keys])]
    named = {known[number] for number in numbers if number in known}
    left = set(ADDRESS_BITS) - named if negate else named
    if len(left) == 1:
        terms.family(left.pop())
    elif not left:
        terms.match = None


_WHOLE = {
    "sport": _ports,
    "dport": _ports,
    "protocol": _protocols,
    "in": _interfaces,
    "out": _interfaces,
    "iif": _indices,
    "oif": _indices,
    "saddr type": _local,
    "daddr type": _local,
    "nfproto": _versions,
    "etherproto": _versions,
}
"""What a comparison with all bits of a field demands: of the fields that most rules look at."""


def _marks(terms: MatchTerms, field: Field, keys: Keys, *, negate: bool) -> None:
    mask = int.from_bytes(field.mask, sys.byteorder) if field.mask else 0xFFFFFFFF
    spans = _spans([(a[:4], b[:4]) for a, b in keys], "big" if field.turned else sys.byteorder)
    if len(spans) == 1 and spans[0][0] == spans[0][1]:
        terms.unknown(mark_test(mask, spans[0][0], negate=negate))
    else:
        terms.unknown(marks_test(mask, spans, negate=negate))


def _fragments(terms: MatchTerms, keys: Keys, *, negate: bool) -> None:
    if any(low != high for low, high in keys):
        terms.unknown("fragment offset")
        return
    whole = any(not any(low) for low, _ in keys) != negate
    terms.unknown("! fragments" if whole else "fragments")
