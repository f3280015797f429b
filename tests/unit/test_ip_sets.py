"""Sets of ipset as matches: what no kernel of the tests has, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from remedies.errors import Unreadable
from remedies.netfilter import sets
from remedies.netlink import ipset
from remedies.netlink.ipset import IpSet, IpSetEntry
from remedies.netlink.socket import attribute, nested
from remedies.rules.rule import Match

UDP = 17


def packets(
    kind: str, *entries: IpSetEntry, sources: Sequence[bool] = (False,) * 3, family: str = "ip"
) -> tuple[Match, ...]:
    return sets.alternatives(sets.NO_SETS, IpSet("s", kind, "ip", entries), sources, family)


def test_parts_of_each_direction() -> None:
    entry = IpSetEntry("10.0.0.0/8", UDP, 53, "192.0.2.0/24")
    (whole,) = packets("hash:net,port,net", entry, sources=(True, False, False))
    assert whole == Match(
        protocols=("udp",),
        sources=("10.0.0.0/8",),
        destinations=("192.0.2.0/24",),
        destination_ports=((53, 53),),
    )
    (pair,) = packets("hash:net,net", entry, sources=(False, True))
    assert (pair.destinations, pair.sources) == (("10.0.0.0/8",), ("192.0.2.0/24",))
    (link,) = packets(
        "hash:net,iface", IpSetEntry("10.0.0.0/8", interface="eth*"), sources=(True, True)
    )
    assert link == Match(sources=("10.0.0.0/8",), in_interfaces=("eth*",))
    assert packets("hash:net,net", entry, sources=(True, True)) == ()  # one source, two nets


def test_entries_that_share_the_rest_are_one_match() -> None:
    entries = [
        IpSetEntry(address, UDP, port)
        for address in ("10.0.0.1", "10.0.0.2")
        for port in (53, 55, 54, 5060)
    ]
    (joined,) = packets("hash:ip,port", *entries)
    assert joined.destinations == ("10.0.0.1", "10.0.0.2")
    assert joined.destination_ports == ((53, 55), (5060, 5060))
    apart = packets("hash:ip,port", *entries, IpSetEntry("10.0.0.3", 6, 80))
    assert [match.protocols for match in apart] == [("udp",), ("tcp",)]


def test_icmp_has_a_type_where_others_have_a_port() -> None:
    (ping,) = packets("hash:ip,port", IpSetEntry("10.0.0.1", 1, 0x0800))
    assert (ping.protocols, ping.unmodelled) == (("icmp",), ("icmp type",))
    (tunnel,) = packets("hash:ip,port", IpSetEntry("10.0.0.1", 47, 0))
    assert (tunnel.protocols, tunnel.destination_ports) == (("gre",), ())


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        ("hash:mac", IpSetEntry()),
        ("hash:ip,port", IpSetEntry("10.0.0.1", UDP, 53, excluded=True)),
        ("hash:net,iface", IpSetEntry("10.0.0.0/8", interface="eth0", bridged=True)),
        ("hash:net", IpSetEntry()),
        ("hash:net", IpSetEntry(excluded=True)),
        ("hash:ip,port,ip", IpSetEntry("10.0.0.1", UDP, 53)),
        ("list:set", IpSetEntry(name="other")),
    ],
)
def test_what_is_not_understood_is_refused(kind: str, entry: IpSetEntry) -> None:
    with pytest.raises(Unreadable, match=r"ipset (s|other)"):
        packets(kind, entry)


def test_a_set_that_masks_addresses_and_ports_is_refused() -> None:
    masked = IpSet("s", "hash:ip,port", "ip", (), masked=True)
    with pytest.raises(Unreadable, match="with a mask"):
        sets.alternatives(sets.NO_SETS, masked, (True, True), "ip")


def test_a_list_in_a_list_is_refused() -> None:
    inner = IpSet("inner", "list:set", "")
    held = sets.IpSets(lambda _: "", lambda _: inner)
    with pytest.raises(Unreadable, match="list of sets"):
        sets.alternatives(
            held, IpSet("s", "list:set", "", (IpSetEntry(name="inner"),)), (True,), "ip"
        )


def listing(*entries: bytes, kind: bytes = b"hash:ip\0", head: bytes = b"") -> bytes:
    data = b"".join(nested(7, entry) for entry in entries)
    return bytes(4) + attribute(3, kind) + attribute(5, b"\2") + nested(7, head) + nested(8, data)


ONE = nested(1, attribute(1, b"\x0a\0\0\1"))


def test_a_listing_of_several_messages_is_one_set() -> None:
    read = ipset.decode("s", [listing(ONE), listing(ONE + attribute(8, b"\0\0\0\4"))], 10)
    assert read == IpSet(
        "s", "hash:ip", "ip", (IpSetEntry("10.0.0.1"), IpSetEntry("10.0.0.1", excluded=True))
    )


def test_a_big_set_is_left_by_its_first_message() -> None:
    def bodies() -> Iterator[bytes]:
        yield listing(ONE, head=attribute(24, b"\0\0\x10\0"))
        raise AssertionError("read on")

    with pytest.raises(Unreadable, match="over 10 entries"):
        ipset.decode("s", bodies(), 10)
    with pytest.raises(Unreadable, match="over 1 entries"):  # an old kernel gives no number
        ipset.decode("s", [listing(ONE), listing(ONE)], 1)


@pytest.mark.parametrize("entry", [nested(1, attribute(1, b"\1\2\3")), ONE + attribute(3, b"\x40")])
def test_addresses_that_are_none_are_refused(entry: bytes) -> None:
    with pytest.raises(Unreadable, match="ipset: "):
        ipset.decode("s", [listing(entry, kind=b"hash:net\0")], 10)
