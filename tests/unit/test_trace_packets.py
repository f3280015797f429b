"""The tap's bytes: what the filter lets through, what a key keeps, and how a flood is counted."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.netlink.flow import Tuple
from remedies.tap import program as bpf
from remedies.tap.packets import REFUSAL, REFUSED, RESET, SYN, Heard, key, spell
from remedies.tap.tally import Tally, TallyEntry
from remedies.values import replace

HOST, OTHERHOST, OUTGOING = 0, 3, 4
RST, SYN_FLAG, ACK, FIN = 0x04, 0x02, 0x10, 0x01

V4 = Tuple("10.21.17.99", 47216, "10.21.17.1", 443)
V6 = Tuple("2001:db8::99", 47216, "2001:db8::1", 443)
both = pytest.mark.parametrize("way", [V4, V6], ids=["v4", "v6"])


def ip(source: str, destination: str, protocol: int, body: bytes, *, ttl: int = 64) -> bytes:
    """Build an IP packet; one of IPv4 has an option, as few packets do."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    if family == socket.AF_INET6:
        return struct.pack(">IHBB", 6 << 28, len(body), protocol, ttl) + ends + body
    head = struct.pack(">BBHHHBBH", 0x46, 0, 24 + len(body), 0, 0, ttl, protocol, 0)
    return head + ends + bytes(4) + body


def tcp(way: Tuple, flags: int, *, ttl: int = 64, sequence: int = 7) -> bytes:
    body = struct.pack(
        ">HHIIBBHHH", way.source_port, way.destination_port, sequence, 0, 0x50, flags, 0, 0, 0
    )
    return ip(way.source, way.destination, 6, body, ttl=ttl)


def udp(way: Tuple) -> bytes:
    body = struct.pack(">HHHH", way.source_port, way.destination_port, 8, 0)
    return ip(way.source, way.destination, 17, body)


def unreachable(source: str, destination: str, quoted: bytes, code: int | None = None) -> bytes:
    v6 = ":" in source
    kind = (1, 4 if code is None else code) if v6 else (3, 3 if code is None else code)
    body = struct.pack(">BBHI", *kind, 0, 0) + quoted
    return ip(source, destination, 58 if v6 else 1, body)


def run(code: bytes, packet: bytes, kind: int, link: int = 2) -> int:
    """Run a classic BPF program as the kernel does; return how many bytes it keeps."""
    lines = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    protocol = {4: 0x0800, 6: 0x86DD}.get(packet[0] >> 4, 0x0806) if packet else 0
    special = {bpf.PROTOCOL: protocol, bpf.PACKET_TYPE: kind, bpf.LINK: link}
    a = x = at = 0
    memory = [0] * 16

    def load(offset: int, size: int) -> int:
        if offset in special:
            return special[offset]
        if offset + size > len(packet):
            raise IndexError
        return int.from_bytes(packet[offset : offset + size], "big")

    try:
        while True:
            op, true, false, k = lines[at]
            at += 1
            if op in (bpf.LOAD_BYTE, bpf.LOAD_HALF, bpf.LOAD_WORD):
                a = load(k, {bpf.LOAD_BYTE: 1, bpf.LOAD_HALF: 2, bpf.LOAD_WORD: 4}[op])
            elif op in (bpf.LOAD_BYTE_X, bpf.LOAD_HALF_X):
                a = load(x + k, 1 if op == bpf.LOAD_BYTE_X else 2)
            elif op == bpf.HEADER_LENGTH:
                x = 4 * (load(k, 1) & 0xF)
            elif op == bpf.STORE:
                memory[k] = a
            elif op == bpf.LOAD_MEMORY:
                a = memory[k]
            elif op == 0x61:  # BPF_LDX | BPF_MEM
                x = memory[k]
            elif op == 0x0C:  # BPF_ALU | BPF_ADD | BPF_X
                a = (a + x) % (1 << 32)
            elif op == bpf.AND:
                a &= k
            elif op == bpf.JUMP_EQUAL:
                at += true if a == k else false
            elif op == bpf.JUMP_ANY:
                at += true if a & k else false
            elif op == 0x25:  # BPF_JMP | BPF_JGT
                at += true if a > k else false
            elif op == 0x35:  # BPF_JMP | BPF_JGE
                at += true if a >= k else false
            else:
                assert op == bpf.RETURN
                return int(k)
    except IndexError:  # a load behind the end of the packet ends the program with 0
        return 0


@both
def test_the_filter_takes_outgoing_resets_and_no_other_segment(way: Tuple) -> None:
    code = bpf.program()
    for flags in (RST, RST | ACK):
        assert run(code, tcp(way, flags), OUTGOING) == bpf.SNAP
        assert run(code, tcp(way, flags), HOST) == 0
        assert run(code, tcp(way, flags), OTHERHOST) == 0
    for flags in (0, SYN_FLAG, ACK, FIN | ACK):
        assert run(code, tcp(way, flags), OUTGOING) == 0
    assert run(code, udp(way), OUTGOING) == 0


@both
def test_the_filter_takes_first_syns_only_where_they_are_asked_for(way: Tuple) -> None:
    code = bpf.program(syn=True)
    assert run(code, tcp(way, SYN_FLAG), OUTGOING) == bpf.SNAP
    assert run(code, tcp(way, RST | ACK), OUTGOING) == bpf.SNAP
    assert run(code, tcp(way, SYN_FLAG), HOST) == 0
    assert run(code, tcp(way, SYN_FLAG | ACK), OUTGOING) == 0
    assert run(code, tcp(way, ACK), OUTGOING) == 0


@both
def test_the_filter_takes_port_unreachables_both_ways(way: Tuple) -> None:
    code = bpf.program()
    packet = unreachable(way.destination, way.source, udp(way))
    assert run(code, packet, HOST) == run(code, packet, OUTGOING) == bpf.SNAP
    assert run(code, packet, OTHERHOST) == 0
    assert run(code, packet, HOST, link=1) == 0  # heard as it left, on the loopback
    assert run(code, packet, OUTGOING, link=1) == bpf.SNAP
    for code_ in (0, 1):
        assert run(code, unreachable(way.destination, way.source, udp(way), code_), HOST) == 0


def test_the_filter_leaves_later_fragments_and_what_is_cut_short() -> None:
    packet = bytearray(tcp(V4, RST))
    for syn in (False, True):
        code = bpf.program(syn=syn)
        assert run(code, bytes(packet[:30]), OUTGOING) == 0
    packet[7] = 1
    assert run(bpf.program(), bytes(packet), OUTGOING) == 0


@given(st.binary(max_size=200), st.sampled_from([HOST, OUTGOING]), st.booleans())
def test_any_packet_is_spelled_out_or_left(packet: bytes, kind: int, syn: bool) -> None:
    run(bpf.program(syn=syn), packet, kind)
    made = key(packet, kind == OUTGOING)
    if made is not None:
        spell(made)


@both
def test_a_key_holds_what_its_packet_is_about(way: Tuple) -> None:
    back = (way.destination, way.source)
    made = key(tcp(way, RST, ttl=61), True)
    assert made is not None
    assert spell(made) == Heard(RESET, 61, way.source, way.destination, "tcp", way)
    made = key(tcp(way, SYN_FLAG), True)
    assert made is not None
    assert spell(made).event == SYN
    assert made != key(tcp(way, SYN_FLAG, sequence=8), True)
    for outgoing, event in ((True, REFUSAL), (False, REFUSED)):
        made = key(unreachable(*back, udp(way)), outgoing)
        assert made is not None
        assert spell(made) == Heard(event, 64, *back, "udp", way)
        made = key(unreachable(*back, tcp(way, 0)), outgoing)
        assert made is not None
        assert spell(made).protocol == "tcp"


@both
def test_a_packet_that_is_cut_short_has_no_key(way: Tuple) -> None:
    whole = unreachable(way.destination, way.source, udp(way))
    assert key(whole[:-5], False) is None
    assert key(tcp(way, RST)[:30], True) is None
    assert key(b"", True) is None
    # A header that says it is shorter than one can be: frames are heard before IP looks at them.
    assert key(bytes.fromhex("4000000040060000c02d64000000"), True) is None
    assert key(b"\x44" + tcp(V4, RST)[1:], True) is None
    other = V6 if way is V4 else V4
    assert key(unreachable(way.destination, way.source, udp(other)), False) is None


def entry(tally: Tally, made: bytes, time: float = 0.0) -> TallyEntry | None:
    """Do as a listener does; None where a new key is not admitted."""
    found = tally.find(made)
    if found is None:
        if not tally.admit(made[0], time):
            return None
        found = TallyEntry(spell(made), RESET, time)
        tally.add(made, found)
    return found


def keys(number: int) -> list[bytes]:
    made = [key(tcp(replace(V4, source_port=1 + n), RST), True) for n in range(number)]
    return [each for each in made if each is not None]


def test_a_packet_heard_on_a_bridge_and_on_its_port_is_one_packet() -> None:
    tally = Tally(10, 10)
    (made,) = keys(1)
    found = entry(tally, made)
    assert found is not None
    said = [tally.take(found, link, 1.0) for link in (5, 7, 5, 7, 5)]
    assert said == [True, False, True, False, True]
    assert (found.count, tally.totals) == (3, {RESET: 3})


def test_a_flood_of_tuples_is_counted_in_bounded_memory() -> None:
    tally = Tally(100, rate=50.0)
    for number, made in enumerate(keys(5000)):
        found = entry(tally, made, time=1000 + number / 500)  # 500 a second, for 10 s
        if found is not None:
            tally.take(found, 1, 0.0)
    assert len(list(tally.entries())) <= 200
    assert tally.totals[RESET] + tally.unexamined == 5000
    assert 100 + 500 - 1 <= tally.totals[RESET] <= 100 + 500 + 1  # one credit, then its rate


def test_a_tuple_that_repeats_needs_no_admission() -> None:
    tally = Tally(2, rate=0.0)
    first, second, third = keys(3)
    for made in (first, second, first, third, second):
        found = entry(tally, made)
        if found is not None:
            tally.take(found, 1, 0.0)
    assert [e.count for e in tally.entries()] == [2, 2]
    assert tally.unexamined == 1


def test_a_key_that_costs_more_leaves_less_for_others() -> None:
    tally = Tally(100, rate=10.0)
    assert [tally.admit(70, 0.0, cost=40.0) for _ in range(3)] == [True, True, False]
    assert [tally.admit(70, 2.0, cost=40.0) for _ in range(2)] == [True, False]
    assert tally.unexamined == 2


def test_a_port_scan_does_not_hide_a_reset_in_the_middle_of_a_connection() -> None:
    tally = Tally(100, rate=1.0)
    for port in range(5000):
        made = key(tcp(replace(V4, source_port=port), RST | ACK), True)
        assert made is not None
        entry(tally, made, time=1.0)
    assert tally.unexamined == 4900
    (bare,) = keys(1)
    assert entry(tally, bare, time=1.0) is not None
