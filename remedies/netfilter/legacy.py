"""Legacy iptables tables, read from the kernel as one block of entries.

``getsockopt(IPT_SO_GET_INFO)`` and ``IPT_SO_GET_ENTRIES`` are what iptables-legacy-save itself
uses: no tool is run and no module is loaded, because only tables that
``/proc/net/ip_tables_names`` names are asked for. Layouts: struct ipt_entry and struct ip6t_entry
(include/uapi/linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h) of a 64-bit or 32-bit
process on a kernel of its own size.
"""

from __future__ import annotations

import os
import socket
import struct
import zlib
from collections.abc import Iterator

from remedies.errors import Unreadable
from remedies.netfilter import xt
from remedies.netfilter.referred_to import NOT_READ, ReferredTo
from remedies.rules.decoded import MatchTerms, Step
from remedies.rules.prefixes import show
from remedies.rules.rule import Match
from remedies.values import dataclass

_GET_INFO, _GET_ENTRIES = 64, 65
_INFO_SIZE = 84  # struct ipt_getinfo
_INTS = struct.Struct("=i")
_HEAD = struct.Struct("=HH")
_LEVELS = {"ip": (socket.AF_INET, socket.IPPROTO_IP), "ip6": (socket.AF_INET6, 41)}
_NAMES = {
    "ip": "/proc/thread-self/net/ip_tables_names",
    "ip6": "/proc/thread-self/net/ip6_tables_names",
}
_VERDICTS = {-1: "drop", -2: "accept", -4: "queue", -5: "return"}
_ANY_PORTS = struct.pack("=4H", 0, 65535, 0, 65535)
_VIA_IN, _VIA_OUT, _SRC, _DST, _FRAG, _PROTO = 1, 2, 8, 16, 32, 64
_GOTO = {"ip": 2, "ip6": 4}
_COUNTERS = 16  # struct xt_counters
_SUMMED = 1 << 19
"""Bytes of a table (some 2,000 rules): 2 ms each time it is read and summed."""


@dataclass(frozen=True)
class _EntryLayout:
    """Where the parts of an entry begin."""

    address: int
    names: int
    protocol: int
    flags: int
    inverted: int
    offsets: int
    size: int


_LAYOUTS = {
    "ip": _EntryLayout(4, 16, 80, 82, 83, 88, 112),
    "ip6": _EntryLayout(16, 64, 128, 131, 132, 140, 168),
}


def tables(family: str) -> tuple[str, ...]:
    """Return the legacy tables that exist in this namespace; asking loads nothing.

    Raises Unreadable where the list exists and may not be read.
    """
    try:
        with open(_NAMES[family], encoding="utf-8") as file:
            return tuple(file.read().split())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise Unreadable(
            f"cannot read {_NAMES[family]}: {error.strerror}", "run as root"
        ) from error


def _getsockopt(family: str, option: int, buffer: bytes) -> bytes:
    """Call getsockopt(2) with a buffer that carries the question (Python's allows 1 KiB)."""
    import ctypes

    version, level = _LEVELS[family]
    libc = ctypes.CDLL(None, use_errno=True)
    memory = ctypes.create_string_buffer(buffer, len(buffer))
    length = ctypes.c_uint32(len(buffer))
    with socket.socket(version, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        call = libc.getsockopt(raw.fileno(), level, option, memory, ctypes.byref(length))
        if call != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    return memory.raw


@dataclass(frozen=True)
class Table:
    """One legacy table: its block of entries, and where its chains begin."""

    family: str
    name: str
    entries: bytes
    hooks: dict[int, int]
    """Hook number to the offset of its chain."""
    underflow: dict[int, int]
    """Hook number to the offset of the rule that is its policy."""
    chains: dict[int, str]
    """Offset of a user chain's first rule to its name."""


def _info(family: str, name: str) -> tuple[int, ...]:
    """Return what the kernel says of a table: hooks, offsets, number of entries, size."""
    question = name.encode().ljust(_INFO_SIZE, b"\0")
    found: tuple[int, ...] = struct.unpack_from(
        "=I5I5III", _getsockopt(family, _GET_INFO, question), 32
    )
    return found


def state(family: str, name: str) -> str:
    """Return what of a table that :func:`tables` names is the same until somebody changes it.

    That is its size, and a sum over its entries without their counters: the kernel announces no
    change of a legacy table. Of one larger than :data:`_SUMMED` bytes it is the size alone.
    Raises OSError and Unreadable.
    """
    *_, entries, octets = _info(family, name)
    said = f"{entries} entries, {octets} bytes"
    if octets > _SUMMED:
        return said
    return f"{said}, sum {summed(read(family, name)):08x}"


def summed(table: Table) -> int:
    """Return a sum over a table's entries without their counters, which end their fixed part.

    Raises Unreadable where an entry is impossible. Pure.
    """
    layout, content, offset, total = _LAYOUTS[table.family], table.entries, 0, 0
    while offset < len(content):
        _, following = _ends(content, offset + layout.offsets)
        if following < layout.size or offset + following > len(content):
            raise Unreadable(f"legacy table {table.name}: an entry of {following} bytes")
        body = offset + layout.size
        total = zlib.crc32(content[offset : body - _COUNTERS], total)
        total = zlib.crc32(content[body : offset + following], total)
        offset += following
    return total


def read(family: str, name: str) -> Table:
    """Read one table that :func:`tables` names.

    Raises Unreadable without CAP_NET_ADMIN, or where the table changes size time and again.
    """
    try:
        for _ in range(4):
            valid, *numbers = _info(family, name)
            size = numbers[11]
            head = name.encode().ljust(32, b"\0") + struct.pack("=I", size)
            try:
                entries = _getsockopt(family, _GET_ENTRIES, head.ljust(40 + size, b"\0"))[40:]
            except BlockingIOError:  # EAGAIN: it changed size since the first question
                continue
            present = [hook for hook in range(5) if valid & 1 << hook]
            return Table(
                family=family,
                name=name,
                entries=entries,
                hooks={hook: numbers[hook] for hook in present},
                underflow={hook: numbers[5 + hook] for hook in present},
                chains=_chains(family, entries),
            )
    except OSError as error:
        raise Unreadable(
            f"legacy table {name} ({family}): {error.strerror}",
            "run as root" if isinstance(error, PermissionError) else "",
        ) from error
    raise Unreadable(f"legacy table {name} ({family}) kept changing", "try again")


def _chains(family: str, entries: bytes) -> dict[int, str]:
    """Return the user chains: each begins behind an ERROR target that carries its name."""
    found, at = {}, entries.find(b"ERROR\0")
    head = _LAYOUTS[family].size + 2  # the target's name stands behind its size
    while at >= 0:
        start = at - head
        if start >= 0:
            _, following = _ends(entries, start + _LAYOUTS[family].offsets)
            label = entries[at + 30 : at + 60].split(b"\0")[0].decode(errors="replace")
            found[start + following] = label
        at = entries.find(b"ERROR\0", at + 60)
    return found


def _ends(entries: bytes, at: int) -> tuple[int, int]:
    """Return target_offset and next_offset of an entry; raise Unreadable where it is cut off."""
    try:
        target, following = _HEAD.unpack_from(entries, at)
    except struct.error:
        length = len(entries)
        raise Unreadable(f"a legacy table ends within an entry ({length} bytes)") from None
    return target, following


def rules(table: Table, offset: int) -> Iterator[bytes]:
    """Yield the entries of the chain that begins at ``offset``, its policy or end left out."""
    layout = _LAYOUTS[table.family]
    ends = set(table.underflow.values())
    entries = table.entries
    length, at, size = len(entries), layout.offsets, layout.size
    if offset >= length or offset in ends:
        return
    target, following = _ends(entries, offset + at)
    while not entries.startswith(b"ERROR\0", offset + target + 2):
        after = offset + following
        if following < size or after > length:
            raise Unreadable(f"legacy table {table.name}: an entry of {following} bytes")
        if after == length:
            return
        target, following = _ends(entries, after + at)
        if entries.startswith(b"ERROR\0", after + target + 2):
            return  # the implicit RETURN that ends a user chain
        yield entries[offset:after]
        if after in ends:
            return
        offset = after


def accepts(table: Table, hook: int) -> bool:
    """Tell whether the policy of a hook's chain is accept."""
    entry = table.entries[table.underflow[hook] :]
    (target, _) = _ends(entry, _LAYOUTS[table.family].offsets)
    return entry[target + 32 : target + 36] == _INTS.pack(-2)


def targets(table: Table, entry: bytes) -> tuple[str, ...]:
    """Return the chain that an entry leads to, if it leads to one."""
    target, _ = _ends(entry, _LAYOUTS[table.family].offsets)
    if len(entry) < target + 36:
        raise Unreadable(f"legacy table {table.name}: an entry of {len(entry)} bytes")
    if entry[target + 2]:  # a name
        return ()
    (code,) = _INTS.unpack_from(entry, target + 32)
    return (table.chains[code],) if code in table.chains else ()


def narrow(family: str, entry: bytes) -> bool:
    """Tell cheaply that an entry has an address mask, or ports as its first match."""
    layout = _LAYOUTS[family]
    if entry[2 * layout.address : 4 * layout.address].strip(b"\0"):
        return True
    name = entry[layout.size + 2 : layout.size + 6]
    ports = entry[layout.size + 32 : layout.size + 40]
    return name in (b"tcp\0", b"udp\0") and ports != _ANY_PORTS


def decode(table: Table, entry: bytes, host: ReferredTo = NOT_READ) -> tuple[Step, ...]:
    """Return the step of one entry; none for a rule that no packet can meet."""
    family, layout, terms = table.family, _LAYOUTS[table.family], MatchTerms()
    try:
        target, _ = _HEAD.unpack_from(entry, layout.offsets)
        _plain(terms, family, layout, entry)
        tracked, at, comment = False, layout.size, ""
        while at < target:
            (size,) = struct.unpack_from("=H", entry, at)
            if size < 32:
                raise Unreadable(f"legacy table {table.name}: a match of {size} bytes")
            name = entry[at + 2 : at + 31].split(b"\0")[0].decode(errors="replace")
            xt.narrow(terms, name, entry[at + 31], entry[at + 32 : at + size], family, host)
            if name == "comment":
                comment = xt.comment(entry[at + 32 : at + size])
            tracked, at = tracked or xt.tracks(name), at + size
        name = entry[target + 2 : target + 31].split(b"\0")[0].decode(errors="replace")
        mark = None
        if name:
            given = entry[target + 31], entry[target + 32 :]
            verdict, action, to = xt.target(name, *given, family)
            mark = xt.marked(name, *given)
            chain = ""
            tracked = tracked or xt.tracks(name)
        else:
            verdict, chain = _standard(table, entry, target)
            action = to = ""
    except (struct.error, IndexError) as error:
        raise Unreadable(f"legacy table {table.name}: an entry of {len(entry)} bytes") from error
    step = Step(Match(), verdict, chain, action, to, tracked, comment=comment, raw=entry, mark=mark)
    return terms.steps(step)


def extensions(family: str, entry: bytes) -> Iterator[tuple[str, str, int, bytes]]:
    """Yield ``match`` or ``target``, name, revision and struct of each extension of an entry.

    A verdict or a chain is no extension. The entry is one that :func:`decode` took.
    """
    layout = _LAYOUTS[family]
    target, _ = _HEAD.unpack_from(entry, layout.offsets)
    at = layout.size
    while at < target:
        (size,) = struct.unpack_from("=H", entry, at)
        name = entry[at + 2 : at + 31].split(b"\0")[0].decode(errors="replace")
        yield "match", name, entry[at + 31], entry[at + 32 : at + size]
        at += size
    name = entry[target + 2 : target + 31].split(b"\0")[0].decode(errors="replace")
    if name:
        yield "target", name, entry[target + 31], entry[target + 32 :]


def _standard(table: Table, entry: bytes, target: int) -> tuple[str, str]:
    (code,) = _INTS.unpack_from(entry, target + 32)
    if code < 0:
        return _VERDICTS.get(code, ""), ""
    layout = _LAYOUTS[table.family]
    kind = "goto" if entry[layout.flags] & _GOTO[table.family] else "jump"
    # A rule without a target is a jump to the rule behind it: no chain begins there.
    return (kind, table.chains[code]) if code in table.chains else ("", "")


def _plain(terms: MatchTerms, family: str, layout: _EntryLayout, entry: bytes) -> None:
    """Add what the fixed part of an entry demands: addresses, interfaces, protocol."""
    inverted, width = entry[layout.inverted], layout.address
    for index, (side, bit) in enumerate((("source", _SRC), ("destination", _DST))):
        address = entry[index * width : (index + 1) * width]
        mask = int.from_bytes(entry[(index + 2) * width : (index + 3) * width], "big")
        if not mask:
            continue
        length, bits = bin(mask).count("1"), width * 8
        if mask != ((1 << length) - 1) << (bits - length):
            terms.unknown(f"{side} mask")
            continue
        prefix = show((bits, int.from_bytes(address, "big"), length))
        terms.addresses(side, [prefix], negate=bool(inverted & bit))
    for index, (side, bit) in enumerate((("in", _VIA_IN), ("out", _VIA_OUT))):
        at = layout.names + index * 16
        mask_bytes = entry[at + 32 : at + 48]
        if any(mask_bytes):
            name = entry[at : at + 16].split(b"\0")[0].decode(errors="replace")
            compared = mask_bytes.count(b"\xff")  # the final NUL too, unless "+" ended the name
            names = [name if compared > len(name) else f"{name[:compared]}*"]
            terms.interfaces(side, names, negate=bool(inverted & bit))
    (protocol,) = struct.unpack_from("=H", entry, layout.protocol)
    if protocol:
        terms.protocol([protocol], negate=bool(inverted & _PROTO))
    if family == "ip" and entry[layout.flags] & 1:
        terms.unknown("! fragments" if inverted & _FRAG else "fragments")
