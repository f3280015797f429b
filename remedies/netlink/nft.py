"""nf_tables over raw netlink: tables, chains, rules of one chain, elements of one set.

Numbers are those of include/uapi/linux/netfilter/nf_tables.h. Rules are handed on as the kernel
sent them: who reads them decides first, by their bytes, which are worth decoding. A caller may
leave an iterator early; the dump ends there. All numbers in attributes are big-endian.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Optional

from remedies.errors import Unreadable
from remedies.netlink.socket import (
    NETLINK_NETFILTER,
    SMALL,
    Interrupted,
    Message,
    Netlink,
    attribute,
    attributes,
)
from remedies.values import dataclass

_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GETTABLE, _GETCHAIN, _GETRULE, _GETSET, _GETSETELEM, _GETGEN = 1, 4, 7, 10, 13, 16
HEADER = 4  # struct nfgenmsg: family, version, resource id

FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
"""NFPROTO numbers of the families whose packets conntrack sees."""

_NUMBERS = {name: number for number, name in FAMILIES.items()}
_REPEATS = 4
_HANDLE, _EXPRESSIONS = 3, 4  # NFTA_RULE_*

DORMANT = 1
"""NFT_TABLE_F_DORMANT: the table is switched off, its chains are attached to no hook."""

_STITCHED = 16
"""Dumps of one chain, each of which adds what the others passed over; the deadline counts, too."""
_POSITION = struct.pack("=HH", 12, 6)
"""The head of NFTA_RULE_POSITION, which holds eight bytes."""
_SET_INTERVAL = 4  # NFT_SET_INTERVAL
_ELEMENT_INTERVAL_END, _ELEMENT_CATCHALL = 1, 2
_LEADS = (
    re.escape(struct.pack("=HH", 8, 1) + b"\xff\xff\xff")  # NFTA_VERDICT_CODE
    + b"[\xfc\xfd](..)"  # NFT_GOTO or NFT_JUMP, and the size of
    + re.escape(struct.pack("=H", 2))  # NFTA_VERDICT_CHAIN
)


_CODES = {0: "drop", 1: "accept", 3: "queue", -1: "", -3: "jump", -4: "goto", -5: "return"}
"""NF_DROP and so on (linux/netfilter.h), and NFT_CONTINUE, _JUMP, _GOTO, _RETURN."""


@dataclass(frozen=True)
class KernelChain:
    """One chain; ``hook`` and what follows only for base chains."""

    family: str
    table: str
    name: str
    use: int
    """Rules in it plus jumps to it."""
    hook: Optional[int] = None
    """``enum nf_inet_hooks``: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting."""
    priority: int = 0
    type: str = ""
    accepts: bool = True
    """The policy is accept."""


@dataclass(frozen=True)
class Element:
    """One element of a set or map: first and last key (as bytes), and what it maps to."""

    first: bytes
    last: bytes
    data: bytes
    """The attributes of NFTA_SET_ELEM_DATA; empty in a set."""
    others: bool = False
    """It stands for every key that no other element has (``*`` in nft); its keys are empty."""


def expressions(rule: bytes) -> Iterator[tuple[str, Mapping[int, bytes]]]:
    """Yield name and attributes of a raw rule's expressions, in order. Raises Unreadable."""
    return expressions_in(dict(attributes(rule, HEADER)))


def expressions_in(parts: Mapping[int, bytes]) -> Iterator[tuple[str, Mapping[int, bytes]]]:
    """Yield the same of a rule whose attributes are read already. Raises Unreadable."""
    for _, body in attributes(parts.get(_EXPRESSIONS, b"")):
        yield expression(body)


@functools.lru_cache(maxsize=1024)
def expression(body: bytes) -> tuple[str, Mapping[int, bytes]]:
    """Return one; the rules of a ruleset say the same over and over."""
    parts = dict(attributes(body))
    return _text(parts.get(1, b"")), dict(attributes(parts.get(2, b"")))


def handle_of(rule: bytes) -> int:
    """Return the kernel's number of a raw rule, 0 for none. Raises Unreadable."""
    return int.from_bytes(dict(attributes(rule, HEADER)).get(_HANDLE, b""), "big")


@functools.lru_cache(maxsize=1024)
def constant(data: bytes) -> bytes:
    """Return what an expression compares with or loads: NFTA_DATA_VALUE. Raises KeyError."""
    return dict(attributes(data))[1]


@functools.lru_cache(maxsize=1024)
def verdict_of(data: bytes) -> tuple[str, str]:
    """Return verdict and chain of NFTA_DATA_VERDICT. Raises KeyError and struct.error."""
    got = dict(attributes(dict(attributes(data))[2]))
    (code,) = struct.unpack(">i", got[1])
    return _CODES.get(code if code < 0 else code & 0xFF, ""), _text(got.get(2, b""))


def comment_of(userdata: bytes) -> str:
    """Return the comment in a rule's userdata (type 0, length, text), empty if there is none."""
    if len(userdata) > 2 and userdata[0] == 0:
        return userdata[2 : 2 + userdata[1]].rstrip(b"\0").decode(errors="replace")
    return ""


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _u32(value: bytes) -> int:
    if len(value) != 4:
        raise Unreadable(f"nf_tables: a number of {len(value)} bytes")
    return int.from_bytes(value, "big")


def _request(family: str, *names: bytes) -> bytes:
    head = struct.pack("=BBH", _NUMBERS.get(family, 0), 0, 0)
    return head + b"".join(attribute(n, name + b"\0") for n, name in enumerate(names, 1) if name)


def _dump(kind: int, payload: bytes, deadline: float) -> Iterator[Message]:
    with Netlink(NETLINK_NETFILTER, deadline) as client:
        yield from client.dump(_SUBSYSTEM | kind, payload)


def generation(deadline: float) -> int:
    """Return the number of this namespace's ruleset, which every commit changes (NFTA_GEN_ID).

    Raises as :func:`chains` does.
    """
    with Netlink(NETLINK_NETFILTER, deadline, largest=SMALL, explained=False) as client:
        body = client.ask(_SUBSYSTEM | _GETGEN, _request(""))
    # The attributes after it name who asks.
    return _u32(next((value for number, value in attributes(body, HEADER) if number == 1), b""))


def chains(deadline: float) -> list[KernelChain]:
    """Return every chain of the families in :data:`FAMILIES`.

    Raises OSError with the kernel's number (EPERM; EINVAL where nf_tables is missing) and
    Unreadable when the answer is malformed or late.
    """
    with Netlink(NETLINK_NETFILTER, deadline) as client:
        answers = client.table(_SUBSYSTEM | _GETCHAIN, _request(""))
    return [chain(body) for _, body in answers if len(body) >= HEADER and body[0] in FAMILIES]


def tables(deadline: float) -> list[tuple[str, str]]:
    """Return family and name of every table of the families in :data:`FAMILIES`.

    Raises as :func:`chains` does.
    """
    return [(family, name) for family, name, _ in _tables(deadline)]


def dormant(deadline: float) -> frozenset[tuple[str, str]]:
    """Return family and name of each table that is switched off (``flags dormant``).

    Raises as :func:`chains` does.
    """
    return frozenset((family, name) for family, name, off in _tables(deadline) if off)


def _tables(deadline: float) -> Iterator[tuple[str, str, bool]]:
    with Netlink(NETLINK_NETFILTER, deadline) as client:
        answers = client.table(_SUBSYSTEM | _GETTABLE, _request(""))
    for _, body in answers:
        if len(body) >= HEADER and body[0] in FAMILIES:
            got = dict(attributes(body, HEADER))
            off = bool(_u32(got.get(2, bytes(4))) & DORMANT)  # NFTA_TABLE_FLAGS
            yield FAMILIES[body[0]], _text(got.get(1, b"")), off


def chain(body: bytes) -> KernelChain:
    """Return the chain that a message describes, which begins with its header."""
    got = dict(attributes(body, HEADER))
    hook, priority = None, 0
    if 4 in got:  # NFTA_CHAIN_HOOK
        inner = dict(attributes(got[4]))
        hook = _u32(inner.get(1, b""))
        priority = (_u32(inner.get(2, b"")) ^ 1 << 31) - (1 << 31)  # signed
    return KernelChain(
        family=FAMILIES[body[0]],
        table=_text(got.get(1, b"")),
        name=_text(got.get(3, b"")),
        use=_u32(got.get(6, bytes(4))),
        hook=hook,
        priority=priority,
        type=_text(got.get(7, b"")),
        accepts=got.get(5, b"\0\0\0\1") != bytes(4),  # NF_DROP is 0
    )


def rules(family: str, table: str, chain: str, deadline: float) -> Iterator[bytes]:
    """Yield the rules of one chain in order, each as the message behind its header.

    Where the ruleset changed meanwhile, ends in :class:`Interrupted`.
    """
    for _, body in _dump(_GETRULE, _request(family, table.encode(), chain.encode()), deadline):
        yield body


def table_rules(family: str, table: str, deadline: float) -> list[tuple[str, bytes]]:
    """Return chain and rule, as :func:`rules` has it, of every rule of a table, by one dump.

    Raises :class:`Interrupted` where the ruleset changes each time.
    """
    request = _request(family, table.encode())
    at = HEADER + len(attribute(1, table.encode() + b"\0"))

    def read() -> Iterator[tuple[str, bytes]]:
        for _, body in _dump(_GETRULE, request, deadline):
            (size,) = struct.unpack_from("=H", body, at)  # NFTA_RULE_CHAIN
            yield _text(body[at + 4 : at + size]), body

    for left in range(_REPEATS - 1, -1, -1):
        try:
            return list(read())
        except Interrupted:
            if not left:
                raise
    return []


def all_rules(family: str, table: str, chain: str, deadline: float) -> Iterator[bytes]:
    """Yield every rule of a chain, as :func:`rules` does, though others write all the time.

    The kernel goes on by count after each datagram, so a rule that is deleted meanwhile makes it
    pass one over. But each rule names the one before it (NFTA_RULE_POSITION, __nf_tables_dump_rules
    in nf_tables_api.c): where all that are named were read, in this dump or in one before, none
    that was there all the time is missing. Else the chain is dumped again, and rules that were seen
    come again. Raises :class:`Interrupted` where that does not end.
    """
    at = HEADER + len(attribute(1, table.encode() + b"\0") + attribute(2, chain.encode() + b"\0"))
    before = {b"": b""}
    for left in range(_STITCHED - 1, -1, -1):
        try:
            for body in rules(family, table, chain, deadline):
                # NFTA_RULE_HANDLE, and NFTA_RULE_POSITION where there is a rule before it
                named = body[at + 16 : at + 24] if body[at + 12 : at + 16] == _POSITION else b""
                before[body[at + 4 : at + 12]] = named
                yield body
            return
        except Interrupted as error:
            if not error.at_end and before.keys() >= set(before.values()):
                return
            if not left:
                raise


def elements(family: str, table: str, name: str, limit: int, deadline: float) -> list[Element]:
    """Return the elements of a set or map as key ranges.

    What stands for every other key comes last. Raises Unreadable where there are more than
    ``limit``.
    """
    for _ in range(_REPEATS):
        try:
            raw = _raw_elements(family, table, name, limit, deadline)
            break
        except Interrupted:
            continue
    else:
        raise Unreadable(f"set {name} of table {family} {table} kept changing", "try again")
    # Intervals from 0 on that leave no gap have no end. Nor have elements that are no intervals.
    open_ended = any(end is None and not any(key) for key, end, _, _ in raw)
    return _ranges(raw, name, open_ended and _has_intervals(family, table, name, deadline))


def _has_intervals(family: str, table: str, name: str, deadline: float) -> bool:
    with Netlink(NETLINK_NETFILTER, deadline) as client:
        request = _request(family, table.encode(), name.encode())
        answers = client.request(_SUBSYSTEM | _GETSET, request)
    flags = (dict(attributes(body, HEADER)).get(3, bytes(4)) for _, body in answers)
    return any(_u32(each) & _SET_INTERVAL for each in flags)


_Raw = tuple[bytes, Optional[bytes], bytes, int]  # key, key_end, data, flags


def _raw_elements(family: str, table: str, name: str, limit: int, deadline: float) -> list[_Raw]:
    found: list[_Raw] = []
    request = _request(family, table.encode(), name.encode())
    for _, body in _dump(_GETSETELEM, request, deadline):
        listed = dict(attributes(body, HEADER)).get(3, b"")
        for _, element in attributes(listed):
            got = dict(attributes(element))
            end = dict(attributes(got[10])).get(1, b"") if 10 in got else None
            key = dict(attributes(got.get(1, b""))).get(1, b"")
            found.append((key, end, got.get(2, b""), _u32(got.get(3, bytes(4)))))
        if len(found) > 2 * limit:
            raise Unreadable(f"set {name} of table {family} {table} has over {limit} elements")
    return found


def map_targets(family: str, table: str, name: str, limit: int, deadline: float) -> tuple[str, ...]:
    """Return the chains that a map of verdicts leads to, each once, by its elements' bytes.

    Raises OSError with the kernel's number, and Unreadable where there are more than ``limit``.
    """
    found: dict[bytes, None] = {}
    request = _request(family, table.encode(), name.encode())
    try:
        for _, body in _dump(_GETSETELEM, request, deadline):
            for leads in re.finditer(_LEADS, body, re.DOTALL):
                (size,) = struct.unpack("=H", leads[1])
                found[body[leads.end() : leads.end() + size - 4].rstrip(b"\0")] = None
            if len(found) > limit:
                raise Unreadable(f"map {name} of table {family} {table}: over {limit} chains")
    except Interrupted:
        raise Unreadable(
            f"map {name} of table {family} {table} kept changing", "try again"
        ) from None
    return tuple(chain.decode(errors="replace") for chain in found)


def _ranges(raw: list[_Raw], name: str, interval: bool = False) -> list[Element]:
    """Join the start and end elements of an interval set; an end is the first key not in it."""
    others = [Element(b"", b"", each[2], True) for each in raw if each[3] & _ELEMENT_CATCHALL]
    raw = [each for each in raw if not each[3] & _ELEMENT_CATCHALL]
    if len({len(key) for key, _, _, _ in raw}) > 1:
        raise Unreadable(f"set {name} has keys of several lengths")
    ends = sorted(key for key, _, _, flags in raw if flags & _ELEMENT_INTERVAL_END)
    starts = sorted(key for key, _, _, flags in raw if not flags & _ELEMENT_INTERVAL_END)
    interval = interval or bool(ends)
    found = []
    for key, end, data, flags in raw:
        if flags & _ELEMENT_INTERVAL_END:
            continue
        last = key if end is None else end
        if interval and end is None:
            after = next((other for other in ends if other > key), None)
            following = next((other for other in starts if other > key), None)
            if following is not None and (after is None or following < after):
                after = following
            if after is None:
                last = b"\xff" * len(key)
            else:
                last = (int.from_bytes(after, "big") - 1).to_bytes(len(key), "big")
        found.append(Element(key, last, data))
    return found + others
