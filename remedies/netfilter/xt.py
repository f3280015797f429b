"""The xtables matches and targets that our questions turn on, decoded from the kernel's structs.

Both stores carry them: legacy tables as entries, nf_tables in its ``match`` and ``target``
expressions. Layouts are those of include/uapi/linux/netfilter/xt_*.h on this machine's byte order,
except addresses and NAT's ports, which are big-endian. A match that is not decoded here becomes
``unmodelled`` by its name.
"""

from __future__ import annotations

import socket
import struct
from typing import Optional

from remedies.errors import Unreadable
from remedies.netfilter import referred_to, user_queues
from remedies.netfilter.referred_to import NOT_READ, ReferredTo
from remedies.netfilter.sets import narrow_by_set, set_match
from remedies.rules import header_words
from remedies.rules.decoded import MatchTerms, states_of
from remedies.rules.invalid_packet import flags_test, frame_test, owner_test, type_test
from remedies.rules.marks import mark_test
from remedies.rules.packet_words import port_test, state_test, xt_icmp_test
from remedies.rules.rule import Match
from remedies.rules.tcp_options import option_test

_HARMLESS = {"comment", "nfacct"}
_UNTRACKED = 256  # XT_CONNTRACK_STATE_UNTRACKED, include/uapi/linux/netfilter/xt_conntrack.h
_SNAT, _DNAT = 64, 128  # XT_CONNTRACK_STATE_SNAT, _DNAT: states that NAT makes, not conntrack
_ASKED_PORT = 1 << 9  # XT_CONNTRACK_ORIGDST_PORT
_STATE_ALIAS = 1 << 13  # XT_CONNTRACK_STATE_ALIAS: written as "-m state"
_MSS = 2  # TCPOPT_MSS, include/net/tcp.h
_LOCAL = 1 << 2  # XT_ADDRTYPE_LOCAL
_CONNTRACK = {"conntrack", "state", "connmark", "connbytes", "connlimit", "connlabel", "helper"}
_NAT = {"DNAT": "dnat", "SNAT": "snat", "MASQUERADE": "masquerade", "REDIRECT": "redirect"}
_TCP_RESET = {"ip": 7, "ip6": 6}
"""IPT_TCP_RESET, IP6T_TCP_RESET (ipt_REJECT.h, ip6t_REJECT.h in include/uapi/linux)."""
OWNER = {4: "socket", 1: "uid", 2: "gid", 8: "groups"}
"""XT_OWNER_SOCKET and so on, linux/netfilter/xt_owner.h, in the order of iptables-save."""
_BRIDGED = 0x16  # XT_PHYSDEV_OP_BRIDGED, _OUT and _ISOUT, linux/netfilter/xt_physdev.h
_RECENT_SET = 1 << 1  # XT_RECENT_SET alone, include/uapi/linux/netfilter/xt_recent.h
_NO_SET = b"\xff\xff"  # IPSET_INVALID_ID, include/uapi/linux/netfilter/ipset/ip_set.h
_POLICY_FLAGS = 4 * 76  # struct xt_policy_info: four of xt_policy_elem, then the flags
_POLICY_NONE = 4  # XT_POLICY_MATCH_NONE, include/uapi/linux/netfilter/xt_policy.h
_TERMINAL = {"REJECT": "reject", "TPROXY": "accept", "SYNPROXY": "drop"}


def comment(info: bytes) -> str:
    """Return the text of struct xt_comment_info."""
    return info.split(b"\0")[0].decode(errors="replace")


def tracks(name: str) -> bool:
    """Tell whether a match or target of this name makes the kernel track connections."""
    return name in _CONNTRACK or name in _NAT or name in ("CONNMARK", "NETMAP", "SYNPROXY")


def narrow(
    terms: MatchTerms,
    name: str,
    revision: int,
    info: bytes,
    family: str,
    host: ReferredTo = NOT_READ,
) -> None:
    """Add what one match demands; raise Unreadable where its struct is too short."""
    try:
        if name == "set":
            narrow_by_set(terms, set_match(revision, info), family, host.sets)
        else:
            _narrow(terms, name, revision, info, family, host)
    except (struct.error, IndexError, ValueError) as error:
        raise Unreadable(f"xt match {name} revision {revision} of {len(info)} bytes") from error


def _narrow(
    terms: MatchTerms, name: str, revision: int, info: bytes, family: str, host: ReferredTo
) -> None:
    if name in _HARMLESS:
        return
    if name in ("tcp", "udp"):
        first, last, to_first, to_last = struct.unpack_from("=4H", info)
        inverted = info[11] if name == "tcp" else info[8]
        terms.ports("source", [(first, last)], negate=bool(inverted & 1))
        terms.ports("destination", [(to_first, to_last)], negate=bool(inverted & 2))
        if name == "tcp" and info[9]:  # flg_mask, flg_cmp; XT_TCP_INV_FLAGS is 4
            terms.unknown(flags_test(info[9], info[10], negate=bool(inverted & 4)))
        if name == "tcp" and info[8]:
            terms.unknown(option_test(info[8], absent=bool(inverted & 8)))  # XT_TCP_INV_OPTION
    elif name == "tcpmss":  # struct xt_tcpmss_match_info; what has no such option meets "!" alone
        terms.unknown(option_test(_MSS, absent=bool(info[4])))
    elif name == "multiport" and revision == 1:
        _multiport(terms, info)
    elif name == "conntrack" and revision in (1, 2, 3):
        _conntrack(terms, revision, info)
    elif name == "state":
        terms.states(states_of(struct.unpack_from("=I", info)[0], _UNTRACKED))
    elif name == "mark" and revision == 1:  # struct xt_mark_mtinfo1
        value, mask = struct.unpack_from("=2I", info)
        terms.unknown(mark_test(mask, value, negate=bool(info[8])))
    elif name in ("icmp", "icmp6"):  # struct ipt_icmp, struct ip6t_icmp
        kind, first, last, inverted = struct.unpack_from("=4B", info)
        terms.unknown(xt_icmp_test(kind, (first, last), negate=bool(inverted & 1)))
    elif name == "addrtype":
        _addrtype(terms, revision, info)
    elif name == "iprange" and revision == 1:
        _iprange(terms, info, family)
    elif name == "pkttype":  # struct xt_pkttype_info
        kind, inverted = struct.unpack_from("=2i", info)
        terms.unknown(frame_test([kind], negate=bool(inverted)))
    elif name == "owner" and revision == 1:  # struct xt_owner_match_info
        for bit, asked in OWNER.items():
            if info[16] & bit:
                terms.unknown(owner_test(asked, negate=bool(info[17] & bit)))
    elif name == "physdev":
        _physdev(terms, info)
    elif name == "policy":
        referred_to.narrow_ipsec(terms, host, wanted=not info[_POLICY_FLAGS] & _POLICY_NONE)
    elif name == "realm":  # struct xt_realm_info
        referred_to.narrow_realm(terms, host, none=(not any(info[:4])) != bool(info[8]))
    elif name == "devgroup":
        _devgroup(terms, info, host)
    elif name == "recent" and info[8] & _RECENT_SET and not info[9]:  # xt_recent_mtinfo
        pass  # it notes the packet, and lets each go on
    else:
        terms.unknown(header_words.of_xt(name))


def _multiport(terms: MatchTerms, info: bytes) -> None:
    """Decode struct xt_multiport_v1: a flagged port opens a range that the next one ends."""
    ports = struct.unpack_from("=15H", info, 2)
    ranges, index = [], 0
    while index < min(info[1], 15):
        paired = bool(info[32 + index]) and index + 1 < 15
        ranges.append((ports[index], ports[index + 1] if paired else ports[index]))
        index += 2 if paired else 1
    if info[0] == 2:  # XT_MULTIPORT_EITHER
        if info[47]:
            terms.ports("source", ranges, negate=True)
            terms.ports("destination", ranges, negate=True)
        else:
            either = Match(source_ports=tuple(ranges)), Match(destination_ports=tuple(ranges))
            terms.any_of(either, name="multiport --ports")
    else:
        side = "source" if info[0] == 0 else "destination"
        terms.ports(side, ranges, negate=bool(info[47]))


def _devgroup(terms: MatchTerms, info: bytes, host: ReferredTo) -> None:
    """Decode struct xt_devgroup_info: what is asked, then group and mask of both links."""
    asked, *values = struct.unpack_from("=5I", info)
    for at, side in enumerate(("in", "out")):
        if asked >> 2 * at & 1:  # XT_DEVGROUP_MATCH_SRC, _DST; the next bit inverts
            value, mask = values[2 * at : 2 * at + 2]
            negate = bool(asked >> 2 * at & 2)
            referred_to.narrow_group(terms, side, [(value & mask,) * 2], mask, host, negate=negate)


def _physdev(terms: MatchTerms, info: bytes) -> None:
    """Decode struct xt_physdev_info: two names with masks, then what is inverted, and asked.

    What is routed leaves by no port of a bridge (net/netfilter/xt_physdev.c, physdev_mt()).
    """
    inverted, asked = info[64], info[65]
    if asked & ~inverted & _BRIDGED:
        terms.unknown("bridged")
    else:
        terms.unknown("physdev" if asked & ~_BRIDGED else "! bridged")


def _conntrack(terms: MatchTerms, revision: int, info: bytes) -> None:
    """Decode struct xt_conntrack_mtinfo1 to 3: the state, and the port that was asked."""
    flags, inverted = struct.unpack_from("=2H", info, 146)
    mask = info[150] if revision == 1 else struct.unpack_from("=H", info, 150)[0]
    if flags & 1:  # XT_CONNTRACK_STATE
        names = states_of(mask, 64 if revision == 1 else _UNTRACKED)
        if mask & (_SNAT | _DNAT) == _DNAT and revision > 1:
            terms.unknown(state_test(names, negate=bool(inverted & 1)))
        elif mask & (_SNAT | _DNAT) and revision > 1:
            terms.unknown("ctstate SNAT/DNAT")
        else:
            terms.states(names, negate=bool(inverted & 1))
    known = 1 | _STATE_ALIAS
    if flags & _ASKED_PORT and revision == 3 and not flags & 1:  # INVALID: the state alone counts
        ports = struct.unpack_from("=H", info, 140)[0], struct.unpack_from("=H", info, 156)[0]
        terms.unknown(port_test([ports], negate=bool(inverted & _ASKED_PORT)))
        known |= _ASKED_PORT
    if flags & ~known:
        # Without an entry a match that asks for the state looks no further, and others fail.
        terms.unknown("conntrack" if flags & 1 else "conntrack entry")


def _addrtype(terms: MatchTerms, revision: int, info: bytes) -> None:
    source, destination, third = struct.unpack_from("=2HI", info)
    if revision == 0:
        not_source, not_destination = bool(third), bool(struct.unpack_from("=I", info, 8)[0])
        limits = 0
    else:
        not_source, not_destination = bool(third & 1), bool(third & 2)
        limits = third & ~3
    # "not an address of that link" says nothing of the others'
    if source == _LOCAL and not (limits and not_source):
        terms.local("source", not not_source)
    if destination == _LOCAL and not (limits and not_destination):
        terms.local("destination", not not_destination)
    if limits:
        terms.unknown("addrtype")
    for side, mask, negate in (
        ("saddr", source, not_source),
        ("daddr", destination, not_destination),
    ):
        if mask not in (0, _LOCAL) and not limits:
            terms.unknown(type_test(side, bits_of(mask), negate=negate))


def bits_of(mask: int) -> list[int]:
    """Return the numbers of the bits of a mask: of XT_ADDRTYPE_UNICAST it is RTN_UNICAST."""
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def _iprange(terms: MatchTerms, info: bytes, family: str) -> None:
    """Decode struct xt_iprange_mtinfo: four 16-byte addresses and a flag byte."""
    size = 4 if family == "ip" else 16
    bounds = [int.from_bytes(info[at : at + size], "big") for at in (0, 16, 32, 48)]
    if info[64] & 1:
        terms.spans("source", family, [(bounds[0], bounds[1])], negate=bool(info[64] & 16))
    if info[64] & 2:
        terms.spans("destination", family, [(bounds[2], bounds[3])], negate=bool(info[64] & 32))


def _queues(revision: int, info: bytes) -> tuple[int, int, bool]:
    """Decode struct xt_NFQ_info to xt_NFQ_info_v3: the first queue, how many, and bypass."""
    first, total, flags = struct.unpack_from("=HHH", info.ljust(6, b"\0"))
    return first, total if revision else 1, bool(revision > 1 and flags & 1)


def target(name: str, revision: int, info: bytes, family: str) -> tuple[str, str, str]:
    """Return verdict, action and destination (``to``) of an extension target.

    All are empty for one that lets the packet go on (LOG, MARK, CT without notrack). Raises
    Unreadable where its struct is too short.
    """
    try:
        if name == "NOTRACK":
            return "", "notrack", ""
        if name == "CT":
            return "", "notrack" if struct.unpack_from("=H", info)[0] & 1 else "", ""
        if name in _NAT:
            return "accept", _NAT[name], _nat_range(name, revision, info, family)
        if name == "NETMAP":
            return "accept", "dnat", _nat_range(name, revision, info, family)
        if name == "NFQUEUE":
            first, total, bypass = _queues(revision, info)
            return user_queues.verdict(first, total, bypass=bypass), "", ""
        if name == "REJECT" and struct.unpack_from("=I", info)[0] == _TCP_RESET[family]:
            return "reset", "", ""
    except (struct.error, IndexError, ValueError) as error:
        raise Unreadable(f"xt target {name} revision {revision} of {len(info)} bytes") from error
    return _TERMINAL.get(name, ""), "", ""


def marked(name: str, revision: int, info: bytes) -> Optional[tuple[int, Optional[int]]]:
    """Return how a target sets the packet's mark: bits that stay, bits that are turned then.

    ``struct xt_mark_tginfo2``; CONNMARK does nothing for a packet without an entry. SET takes a
    mark from its map (``struct xt_set_info_target_v3``), HMARK makes one of the packet's ends.
    """
    if name == "HMARK" or (name == "SET" and revision == 3 and info[8:10] != _NO_SET):
        return 0, None
    if name != "MARK":
        return None
    if revision != 2 or len(info) < 8:
        return 0, None
    value, mask = struct.unpack_from("=2I", info)
    return ~mask & 0xFFFFFFFF, value


def _nat_range(name: str, revision: int, info: bytes, family: str) -> str:
    """Decode nf_nat_ipv4_multi_range_compat (revision 0 of IPv4) or nf_nat_range."""
    if family == "ip" and (revision == 0 or name in ("REDIRECT", "MASQUERADE")):
        flags, first, last = struct.unpack_from("=I4s4s", info, 4)
        low, high = struct.unpack_from(">2H", info, 16)
    else:
        size = 4 if family == "ip" else 16
        (flags,) = struct.unpack_from("=I", info)
        first, last = info[4 : 4 + size], info[20 : 20 + size]
        low, high = struct.unpack_from(">2H", info, 36)
    return endpoint(first if flags & 1 else b"", last, (low, high) if flags & 2 else None)


def endpoint(first: bytes, last: bytes, ports: tuple[int, int] | None) -> str:
    """Return ``address:port`` as iptables writes it; an empty ``first`` is no address."""
    text = ""
    if first:
        version = socket.AF_INET if len(first) == 4 else socket.AF_INET6
        text = socket.inet_ntop(version, first)
        if last and last != first:
            text += f"-{socket.inet_ntop(version, last)}"
        if ports and len(first) == 16:
            text = f"[{text}]"
    if ports:
        text += f":{ports[0]}" if ports[0] == ports[1] else f":{ports[0]}-{ports[1]}"
    return text
