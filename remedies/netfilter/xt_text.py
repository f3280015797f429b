"""xtables matches and targets as iptables-save writes them, from the kernel's structs.

Layouts are those of include/uapi/linux/netfilter/xt_*.h, words those of the ``save`` functions in
iptables' extensions/libxt_*.c and libipt_*.c. What is not known here exactly is None: a rule is
never shown with a part of its match missing and no sign of it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Optional

from remedies.netfilter.xt import OWNER

Words = Optional[list[str]]

_PLAIN = frozenset("_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TYPES = (
    "UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE",
    "PROHIBIT", "THROW", "NAT", "XRESOLVE",
)  # fmt: skip
_ALIAS = struct.pack("=H", 3)  # XT_CT_NOTRACK | XT_CT_NOTRACK_ALIAS
_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")
_REJECTS = {
    "ip": (
        "icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable",
        "icmp-port-unreachable", "", "icmp-net-prohibited", "icmp-host-prohibited", "tcp-reset",
        "icmp-admin-prohibited",
    ),
    "ip6": (
        "icmp6-no-route", "icmp6-adm-prohibited", "", "icmp6-addr-unreachable",
        "icmp6-port-unreachable", "", "tcp-reset",
    ),
}  # fmt: skip


def quoted(text: str) -> str:
    """Return a string as xtables_save_string() writes it."""
    if text and set(text) <= _PLAIN:
        return text
    escaped = "".join(f"\\{c}" if c in "\"\\'" else c for c in text)
    return f'"{escaped}"'


def _not(inverted: int) -> list[str]:
    return ["!"] if inverted else []


def _range(first: int, last: int, dash: str = ":") -> str:
    return str(first) if first == last else f"{first}{dash}{last}"


def ports(sides: tuple[int, int, int, int], inverted: int = 0) -> list[str]:
    """Return ``--sport`` and ``--dport`` of first and last port of both sides."""
    words = []
    for flag, (first, last), bit in (("sport", sides[:2], 1), ("dport", sides[2:], 2)):
        if (first, last) != (0, 65535) or inverted & bit:
            words += [*_not(inverted & bit), f"--{flag}", _range(first, last)]
    return words


def _tcp(info: bytes, _: int, family: str) -> Words:
    option, mask, wanted, inverted = info[8:12]
    words = ports(struct.unpack_from("=4H", info), inverted)
    if option:
        words += [*_not(inverted & 8), "--tcp-option", str(option)]
    if mask or inverted & 4:
        words += [*_not(inverted & 4), "--tcp-flags", flags(mask), flags(wanted)]
    return ["-m", "tcp", *words]


def flags(bits: int) -> str:
    """Return TCP flags as --tcp-flags writes them; raise ValueError for bits without a name."""
    if bits & ~63:
        raise ValueError(bits)
    return ",".join(name for at, name in enumerate(_FLAGS) if bits & 1 << at) or "NONE"


def _udp(info: bytes, _: int, family: str) -> Words:
    return ["-m", "udp", *ports(struct.unpack_from("=4H", info), info[8])]


def _multiport(info: bytes, revision: int, family: str) -> Words:
    if revision != 1:
        return None
    listed = struct.unpack_from("=15H", info, 2)[: info[1]]
    text = "".join(
        f"{port}{'' if at + 1 == len(listed) else ':' if info[32 + at] else ','}"
        for at, port in enumerate(listed)
    )
    flag = ("--sports", "--dports", "--ports")[info[0]]
    return ["-m", "multiport", *_not(info[47]), flag, text]


def _conntrack(info: bytes, revision: int, family: str) -> Words:
    flags, inverted = struct.unpack_from("=2H", info, 146)
    if revision < 2 or flags & ~(1 | 1 << 13):
        return None
    states = _states(struct.unpack_from("=H", info, 150)[0])
    if flags & 1 << 13:  # XT_CONNTRACK_STATE_ALIAS
        return ["-m", "state", *_not(inverted & 1), "--state", states]
    return ["-m", "conntrack", *_not(inverted & 1), "--ctstate", states]


def _states(mask: int) -> str:
    named = ((1, "INVALID"), (8, "NEW"), (4, "RELATED"), (2, "ESTABLISHED"), (256, "UNTRACKED"))
    return ",".join(name for bit, name in (*named, (64, "SNAT"), (128, "DNAT")) if mask & bit)


def _comment(info: bytes, _: int, family: str) -> Words:
    text = info.split(b"\0")[0].decode(errors="replace")
    return ["-m", "comment", "--comment", quoted(text)]


def mark(value: int, mask: int) -> str:
    """Return mark and mask as ``--mark`` writes them."""
    return f"{value:#x}" if mask == 0xFFFFFFFF else f"{value:#x}/{mask:#x}"


def _mark(info: bytes, revision: int, family: str, name: str = "mark") -> Words:
    value, mask, inverted = struct.unpack_from("=IIB", info)
    return ["-m", name, *_not(inverted), "--mark", mark(value, mask)] if revision == 1 else None


def _connmark(info: bytes, revision: int, family: str) -> Words:
    return _mark(info, revision, family, "connmark")


def _addrtype(info: bytes, revision: int, family: str) -> Words:
    source, destination, flags = struct.unpack_from("=2HI", info)
    if revision != 1:
        return None
    words = ["-m", "addrtype"]
    for flag, mask, bit in (("--src-type", source, 1), ("--dst-type", destination, 2)):
        if mask:
            names = ",".join(name for at, name in enumerate(_TYPES) if mask & 1 << at)
            words += [*_not(flags & bit), flag, names]
    words += ["--limit-iface-in"] if flags & 4 else []
    return [*words, "--limit-iface-out"] if flags & 8 else words


def _iprange(info: bytes, revision: int, family: str) -> Words:
    size, kind = (4, socket.AF_INET) if family == "ip" else (16, socket.AF_INET6)
    if revision != 1:
        return None
    first, last, to_first, to_last = (
        socket.inet_ntop(kind, info[at : at + size]) for at in (0, 16, 32, 48)
    )
    words = ["-m", "iprange"]
    if info[64] & 1:
        words += [*_not(info[64] & 16), "--src-range", f"{first}-{last}"]
    if info[64] & 2:
        words += [*_not(info[64] & 32), "--dst-range", f"{to_first}-{to_last}"]
    return words


def _pkttype(info: bytes, _: int, family: str) -> Words:
    kind, inverted = struct.unpack_from("=2i", info)
    return ["-m", "pkttype", *_not(inverted), "--pkt-type",
            ("unicast", "broadcast", "multicast")[kind]]  # fmt: skip


def _limit(info: bytes, _: int, family: str) -> Words:
    average, burst = struct.unpack_from("=2I", info)
    shown = ""
    for name, seconds in (("day", 86400), ("hour", 3600), ("min", 60), ("sec", 1)):
        whole = seconds * 10_000  # XT_LIMIT_SCALE
        if shown and (average > whole or whole // average < whole % average):
            break
        shown = f"{whole // average}/{name}"
    return ["-m", "limit", "--limit", shown, *(["--limit-burst", str(burst)] if burst != 5 else [])]


def _rpfilter(info: bytes, _: int, family: str) -> Words:
    named = ((1, "--loose"), (2, "--validmark"), (4, "--accept-local"), (8, "--invert"))
    return ["-m", "rpfilter", *(name for bit, name in named if info[0] & bit)]


def _icmp(info: bytes, _: int, family: str) -> Words:
    kind, low, high, inverted = info[:4]
    if kind == 0xFF:
        return None
    code = "" if (low, high) == (0, 0xFF) else f"/{low}"
    match, flag = ("icmp", "--icmp-type") if family == "ip" else ("icmp6", "--icmpv6-type")
    return ["-m", match, *_not(inverted), flag, f"{kind}{code}"]


def _owner(info: bytes, revision: int, family: str) -> Words:
    ids = struct.unpack_from("=4I", info)
    flags = {"socket": "--socket-exists", "groups": "--suppl-groups"}
    words = ["-m", "owner"]
    for bit, asked in OWNER.items():
        if info[16] & bit:
            words += [*_not(info[17] & bit), flags.get(asked, f"--{asked}-owner")]
        if info[16] & bit and asked not in flags:
            low, high = ids[:2] if asked == "uid" else ids[2:]
            words.append(str(low) if low == high else f"{low}-{high}")
    return words if revision == 1 else None


def _statistic(info: bytes, _: int, family: str) -> Words:
    mode, flags, first, second = struct.unpack_from("=HHII", info)
    words = ["-m", "statistic", "--mode", "nth" if mode else "random", *_not(flags & 1)]
    if mode:
        return [*words, "--every", str(first + 1), "--packet", str(second)]
    return [*words, "--probability", f"{first / 0x80000000:.11f}"]


_MATCHES: dict[str, Callable[[bytes, int, str], Words]] = {
    "tcp": _tcp,
    "udp": _udp,
    "multiport": _multiport,
    "conntrack": _conntrack,
    "comment": _comment,
    "mark": _mark,
    "owner": _owner,
    "connmark": _connmark,
    "addrtype": _addrtype,
    "iprange": _iprange,
    "pkttype": _pkttype,
    "limit": _limit,
    "rpfilter": _rpfilter,
    "icmp": _icmp,
    "icmp6": _icmp,
    "statistic": _statistic,
}


def match(name: str, revision: int, info: bytes, family: str) -> Words:
    """Return a match in words; None where it is not known exactly."""
    return _said(_MATCHES.get(name), revision, info, family)


def target(name: str, revision: int, info: bytes, family: str) -> Words:
    """Return an extension target in words; None where it is not known exactly."""
    if name == "CT" and info[:2] == _ALIAS and not any(info[2:28]):
        return ["-j", "NOTRACK"]
    words = _said(_TARGETS.get(name), revision, info, family)
    return None if words is None else ["-j", name, *words]


def _said(
    form: Optional[Callable[[bytes, int, str], Words]], revision: int, info: bytes, family: str
) -> Words:
    try:
        return None if form is None else form(info, revision, family)
    except (struct.error, IndexError, ValueError, ZeroDivisionError):
        return None


def _nat(flag: str, info: bytes, revision: int, family: str, *, plain: bool) -> Words:
    """Say a range; ``plain``: of REDIRECT and MASQUERADE, which IPv4 has in the older form."""
    if family == "ip" and (revision == 0 or plain):
        flags, first, last, low, high = struct.unpack_from("=I4s4s2H", info, 4)
    else:
        size = 4 if family == "ip" else 16
        (flags,) = struct.unpack_from("=I", info)
        first, last = info[4 : 4 + size], info[20 : 20 + size]
        low, high = struct.unpack_from("=2H", info, 36)
    low, high = socket.ntohs(low), socket.ntohs(high)
    if flags & ~0x1F:
        return None
    text = ""
    if flags & 1:
        kind = socket.AF_INET if family == "ip" else socket.AF_INET6
        text = socket.inet_ntop(kind, first)
        text += f"-{socket.inet_ntop(kind, last)}" if first != last else ""
        text = f"[{text}]" if family == "ip6" and flags & 2 else text
    if flags & 2:
        text += f"{':' if flags & 1 or not plain else ''}{_range(low, high, '-')}"
    named = ((4, "--random"), (16, "--random-fully"), (8, "--persistent"))
    return [*([flag, text] if text else []), *(word for bit, word in named if flags & bit)]


def _xmark(info: bytes, revision: int, family: str) -> Words:
    value, mask = struct.unpack_from("=2I", info)
    return ["--set-xmark", f"{value:#x}/{mask:#x}"] if revision == 2 else None


def _set_connmark(info: bytes, revision: int, family: str) -> Words:
    value, ctmask, nfmask, first, bits, third = struct.unpack_from("=3I3B", info)
    mode = third if revision == 2 else first  # revision 2 may shift
    if revision == 2 and (first or bits):
        return None
    if mode == 0:
        return ["--set-xmark", f"{value:#x}/{ctmask:#x}"]
    flag = "--save-mark" if mode == 1 else "--restore-mark"
    return [flag, "--nfmask", f"{nfmask:#x}", "--ctmask", f"{ctmask:#x}"]


def _ct(info: bytes, revision: int, family: str) -> Words:
    # flags, zone, two event masks, helper and (from revision 1 on) time-out policy by name
    return ["--notrack"] if info[:2] == struct.pack("=H", 1) and not any(info[2:28]) else None


def _reject(info: bytes, revision: int, family: str) -> Words:
    name = _REJECTS[family][struct.unpack_from("=I", info)[0]]
    return ["--reject-with", name] if name else None


def _log(info: bytes, revision: int, family: str) -> Words:
    prefix = info[2:32].split(b"\0")[0].decode(errors="replace")
    words = ["--log-prefix", quoted(prefix)] if prefix else []
    words += ["--log-level", str(info[0])] if info[0] != 4 else []
    named = ((1, "--log-tcp-sequence"), (2, "--log-tcp-options"), (4, "--log-ip-options"))
    return [*words, *(word for bit, word in (*named, (8, "--log-uid")) if info[1] & bit)]


def _queue(info: bytes, revision: int, family: str) -> Words:
    """Say struct xt_NFQ_info to xt_NFQ_info_v3: first queue, how many, and flags."""
    first, last, flags = struct.unpack_from("=HHH", info.ljust(6, b"\0"))
    size = {0: 2, 1: 4}.get(revision, 6)
    last, flags = last if size > 2 else 1, flags if size > 4 else 0
    many = first + last - 1
    words = ["--queue-balance", f"{first}:{many}"] if last > 1 else ["--queue-num", str(first)]
    named = ((1, "--queue-bypass"), (2, "--queue-cpu-fanout"))
    return [*words, *(word for bit, word in named if flags & bit)]


_TARGETS: dict[str, Callable[[bytes, int, str], Words]] = {
    "DNAT": lambda i, r, f: _nat("--to-destination", i, r, f, plain=False),
    "SNAT": lambda i, r, f: _nat("--to-source", i, r, f, plain=False),
    "MASQUERADE": lambda i, r, f: _nat("--to-ports", i, r, f, plain=True),
    "REDIRECT": lambda i, r, f: _nat("--to-ports", i, r, f, plain=True),
    "MARK": _xmark,
    "CONNMARK": _set_connmark,
    "CT": _ct,
    "NOTRACK": lambda i, r, f: [],
    "REJECT": _reject,
    "LOG": _log,
    "NFQUEUE": _queue,
}
