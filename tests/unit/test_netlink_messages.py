"""What conntrack, sock_diag and rtnetlink messages mean once they are parsed."""

from __future__ import annotations

import socket as so
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.netlink import conntrack, conntrack_entry, conntrack_shares, diag, route
from remedies.netlink.conntrack_entry import Entry
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import attribute, nested

ports = st.integers(0, 65535)
v4 = st.binary(min_size=4, max_size=4).map(lambda b: so.inet_ntop(so.AF_INET, b))
v6 = st.binary(min_size=16, max_size=16).map(lambda b: so.inet_ntop(so.AF_INET6, b))
ways = st.one_of(st.builds(Tuple, v4, ports, v4, ports), st.builds(Tuple, v6, ports, v6, ports))


def message(protocol: int, original: Tuple, reply: Tuple, status: int) -> bytes:
    family = so.AF_INET6 if ":" in original.source else so.AF_INET
    return (
        conntrack._header(family)
        + conntrack._tuple(1, protocol, original)
        + conntrack._tuple(2, protocol, reply)
        + attribute(3, struct.pack(">I", status))
    )


@given(ways, ways, st.integers(0, 0xFFFFFFFF))
def test_an_entry_comes_back_as_it_was_built(original: Tuple, reply: Tuple, status: int) -> None:
    payload = message(so.IPPROTO_UDP, original, reply, status)
    assert conntrack_entry.entry(payload) == Entry("udp", original, reply, status)


@given(ways, ways)
def test_the_fast_path_reads_what_the_slow_one_reads(original: Tuple, reply: Tuple) -> None:
    payload = message(so.IPPROTO_UDP, original, reply, 8)
    family = so.AF_INET6 if ":" in original.destination else so.AF_INET
    expected = so.inet_pton(family, original.destination) + struct.pack(
        ">H", original.destination_port
    )
    assert conntrack_entry.service(payload) == expected
    unusual = payload[:4] + attribute(24, b"zone") + payload[4:]
    assert conntrack_entry.service(unusual) == expected


def test_other_protocols_are_no_entries() -> None:
    way = Tuple("10.0.0.1", 1, "10.0.0.2", 2)
    tcp = message(so.IPPROTO_TCP, way, way, 0)
    assert conntrack_entry.service(tcp) is None
    assert conntrack_entry.entry(message(so.IPPROTO_ICMP, way, way, 0)) is None


def test_of_a_large_table_the_first_entries_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = [Tuple(f"10.0.0.{n}", 9, "10.0.1.1", 53) for n in (1, 1, 2)]
    entries = [message(so.IPPROTO_UDP, way, way, 0) for way in ways]
    monkeypatch.setattr(conntrack_shares, "everything", lambda client: iter(entries))
    for most, (counted, service, source) in ((2, (2, 2, 2)), (3, (3, 3, 2)), (9, (3, 3, 2))):
        monkeypatch.setattr(conntrack_shares, "MOST_COUNTED", most)
        found = conntrack_shares.shares(None)  # type: ignore[arg-type]
        assert (found.counted, found.stopped) == (counted, "")
        assert found.services[0] == ("10.0.1.1", 53, service)
        assert found.sources[0] == ("10.0.0.1", "udp", "", source)


def test_a_wildcard_socket_and_one_that_is_none() -> None:
    def answer(address: bytes, v6only: bytes) -> bytes:
        head = struct.pack("=BBBB", so.AF_INET6, 7, 0, 0) + struct.pack(">HH", 514, 0)
        body = address + bytes(16) + struct.pack("=I8s", 3, bytes(8))
        return head + body + struct.pack("=IIIII", 0, 0, 0, 1000, 4242) + attribute(11, v6only)

    found = diag.wildcard(answer(bytes(16), b"\1"))
    assert found == diag.Wildcard(so.AF_INET6, 514, 4242, 1000, 3, True)
    assert diag.wildcard(answer(bytes(15) + b"\1", b"\0")) is None


@pytest.mark.parametrize(("dst_len", "kind"), [(24, 1), (0, 7), (0, 2)])
def test_only_a_unicast_route_to_everywhere_is_a_default_route(dst_len: int, kind: int) -> None:
    head = struct.pack("=BBBBBBBBI", so.AF_INET, dst_len, 0, 0, 254, 3, 0, kind, 0)
    assert route.default_route(head) is None


def test_a_multipath_default_route_has_every_link() -> None:
    def hop(link: int, gateway: str) -> bytes:
        inside = attribute(5, so.inet_pton(so.AF_INET, gateway))
        return struct.pack("=HBBi", 8 + len(inside), 0, 0, link) + inside

    head = struct.pack("=BBBBBBBBI", so.AF_INET, 0, 0, 0, 252, 3, 0, 1, 0)
    table = attribute(15, struct.pack("=I", 1000)) + attribute(6, struct.pack("=I", 50))
    hops = attribute(9, hop(2, "192.0.2.1") + hop(3, "198.51.100.1"))
    found = route.default_route(head + table + hops)
    assert found == route.RawDefault(so.AF_INET, 1000, 50, (2, 3), "192.0.2.1")


def test_the_local_end_of_a_point_to_point_link_is_its_address() -> None:
    head = struct.pack("=BBBBI", so.AF_INET, 32, 0, 0, 9)
    peer = attribute(1, so.inet_pton(so.AF_INET, "10.0.0.2"))
    mine = attribute(2, so.inet_pton(so.AF_INET, "10.0.0.1"))
    found = route.address(head + peer + mine)
    assert found is not None
    assert found.address == "10.0.0.1"


def test_the_kind_of_a_link_is_read_from_its_nest() -> None:
    head = struct.pack("=BxHiII", 0, 1, 5, 1, 0)
    named = attribute(3, b"docker0\0") + attribute(10, struct.pack("=I", 4))
    found = route.link(head + named + nested(18, attribute(1, b"bridge\0")))
    assert found == route.RawLink(5, "docker0", "bridge", 1, 4)


def test_a_rule_with_a_mark_is_selective() -> None:
    head = struct.pack("=BBBBBxxBI", so.AF_INET, 0, 0, 0, 254, 1, 0)
    plain = attribute(6, struct.pack("=I", 32766))
    assert not route.rule(head + plain).selective
    assert route.rule(head + plain + attribute(10, struct.pack("=I", 1))).selective


def said_of_link(*, mtu: int = 1500, localnet: int = 0, timer: int = 1) -> tuple[int, bytes]:
    """Return a link's message; ``timer`` is what the kernel's clock changes in it."""
    four = nested(so.AF_INET, attribute(1, struct.pack("=26i", *[0] * 25, localnet)))
    six = nested(
        so.AF_INET6,
        attribute(2, struct.pack("=4i", 0, 0, 0, 0)),
        attribute(5, struct.pack("=IIII", 65535, timer, timer, timer)),  # IFLA_INET6_CACHEINFO
    )
    head = route._IFINFO.pack(0, 772, 1, 0x49, 0)
    kind = nested(18, attribute(1, b"bridge"), nested(2, attribute(18, struct.pack("=Q", timer))))
    parts = attribute(3, b"lo\0"), attribute(4, struct.pack("=I", mtu)), kind, nested(26, four, six)
    return 16, head + b"".join(parts)


def said_of_address(*, last: int = 1, lifetime: int = 100) -> tuple[int, bytes]:
    head = route._IFADDR.pack(so.AF_INET, 24, 0x80, 0, 1)
    valid = attribute(6, struct.pack("=4I", lifetime, lifetime, 0, 0))  # IFA_CACHEINFO
    return 20, head + attribute(1, bytes((192, 0, 2, last))) + valid


@pytest.mark.parametrize(
    ("now", "same"),
    [
        ((said_of_link(timer=9), said_of_address(lifetime=3)), True),
        ((said_of_address(), said_of_link()), True),
        ((said_of_link(mtu=1400), said_of_address()), False),
        ((said_of_link(localnet=1), said_of_address()), False),
        ((said_of_link(), said_of_address(last=2)), False),
        ((said_of_link(),), False),
    ],
)
def test_what_lasts_of_links_and_addresses(now: tuple[tuple[int, bytes], ...], same: bool) -> None:
    """Timers, lifetimes and the order are nothing that somebody has changed."""
    before = route.lasting((said_of_link(), said_of_address()))
    assert (route.lasting(now) == before) is same
