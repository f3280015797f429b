"""``--packet``: what can be written, and what it takes."""

from __future__ import annotations

import pytest

from remedies.errors import UsageError
from remedies.namespaces import containers
from remedies.namespaces.find import Namespace
from remedies.netlink.flow import Tuple
from remedies.trace import packet_ends
from remedies.trace.packet_filter import PacketFilter, parse

WAY = Tuple("172.17.0.2", 5000, "10.21.17.99", 4000)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("udp", PacketFilter("udp")),
        ("from 172.17.0.2", PacketFilter(source="172.17.0.2")),
        ("udp from 172.17.0.2:5000", PacketFilter("udp", "172.17.0.2", 5000)),
        (
            "tcp from 172.17.0.2 to 10.21.17.99:4000",
            PacketFilter("tcp", "172.17.0.2", None, "10.21.17.99", 4000),
        ),
        ("to [fd17::2]:53", PacketFilter(destination="fd17::2", destination_port=53)),
        (
            "tcp from web to db.internal-1:5432",
            PacketFilter("tcp", "", None, "", 5432, "web", "db.internal-1"),
        ),
        ("from 0a1b2c3d4e5f:80", PacketFilter(source_port=80, source_name="0a1b2c3d4e5f")),
        ("icmpv6 to fd17::2", PacketFilter("icmpv6", destination="fd17::2")),
    ],
)
def test_a_text_is_read_and_written_alike(text: str, wanted: PacketFilter) -> None:
    assert parse(text) == wanted
    assert str(wanted) == text


def test_addresses_are_written_in_one_way() -> None:
    assert str(parse("  udp   to [FD17:0:0::2]:53 ")) == "udp to [fd17::2]:53"
    assert parse("from docker://web to docker://db:80") == parse("from web to db:80")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sctp",
        "udp 172.17.0.2",
        "from",
        "from web:65536",
        "from web:80:90",
        "from -web",
        "from 12345",
        "from 172.17.0.2:65536",
        "from 172.17.0.256",
        "to 10.0.0.1 from 10.0.0.2",
        "from 10.0.0.1 to fd17::2",
    ],
)
def test_what_is_not_understood_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(UsageError, match="from ADDRESS"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "protocol", "way", "taken"),
    [
        ("udp from 172.17.0.2 to 10.21.17.99:4000", "udp", WAY, True),
        ("udp from 172.17.0.2 to 10.21.17.99:4000", "udp", WAY.reversed, True),
        ("udp from 172.17.0.2 to 10.21.17.99:4000", "tcp", WAY, False),
        ("udp from 172.17.0.2 to 10.21.17.99:4001", "udp", WAY, False),
        ("from 10.21.17.99", "udp", WAY, True),
        ("from 10.21.17.98", "udp", WAY, False),
        ("udp", "udp", None, False),
    ],
)
def test_packets_of_both_directions_are_taken(
    text: str, protocol: str, way: Tuple, taken: bool
) -> None:
    assert parse(text).takes(protocol, way) is taken


ENDS = {
    "web": ("172.17.0.2", "fd17::2"),
    "db": ("172.17.0.3", "fd17::3"),
    "six": ("fd17::4",),
    "two": ("172.17.0.5", "172.18.0.5"),
    "none": (),
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from web", "from 172.17.0.2"),
        ("tcp from web to db:80", "tcp from 172.17.0.2 to 172.17.0.3:80"),
        ("from web to [fd10::1]:80", "from fd17::2 to [fd10::1]:80"),
        ("from 10.0.0.1 to web:80", "from 10.0.0.1 to 172.17.0.2:80"),
        ("from web to six", "from fd17::2 to fd17::4"),
        ("from six to web", "from fd17::4 to fd17::2"),
        ("from 10.0.0.1", "from 10.0.0.1"),
    ],
)
def test_a_name_becomes_the_address_that_fits_the_other_end(text: str, found: str) -> None:
    assert str(packet_ends.with_addresses(parse(text), ENDS.__getitem__)) == found


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("from two", ["172.17.0.5", "172.18.0.5"]),
        ("from six to 10.0.0.1", ["fd17::4"]),
        ("from none", ["none"]),
    ],
)
def test_a_name_that_leaves_a_choice_is_refused_with_it(text: str, candidates: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        packet_ends.with_addresses(parse(text), ENDS.__getitem__)
    for each in candidates:
        assert each in str(refused.value.hint)


def test_a_name_is_a_containers_or_a_namespaces() -> None:
    pod = Namespace(1, 4, ("/proc/7/ns/net",), containers=("aaaaaaaaaaaa", "bbbbbbbbbbbb"))
    named = Namespace(2, 4, ("/run/netns/blue",), name="blue")
    sandbox = Namespace(3, 4, ("/run/docker/netns/1",), name="/run/docker/netns/1")
    own = Namespace(4, 4, ("/proc/1/ns/net",), name="home", own=True)
    found = packet_ends.by_name((pod, named, sandbox, own), {"aaaaaaaaaaaa": "web"})
    assert found == {"web": pod, "bbbbbbbbbbbb": pod, "blue": named}


def test_an_unknown_name_lists_those_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    blue = Namespace(2, 4, ("/run/netns/blue",), name="blue")
    monkeypatch.setattr(packet_ends, "find", lambda: ((blue,), ()))
    monkeypatch.setattr(containers, "names", lambda _unread: {})
    with pytest.raises(UsageError, match="'blu'") as refused:
        packet_ends.addresses_of("blu")
    assert "blue" in str(refused.value.hint)
