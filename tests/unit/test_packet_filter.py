"""``--packet``: what can be written, and what it takes."""

from __future__ import annotations

import pytest

from remedies.errors import UsageError
from remedies.netlink.flow import Tuple
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
        ("icmpv6 to fd17::2", PacketFilter("icmpv6", destination="fd17::2")),
    ],
)
def test_a_text_is_read_and_written_alike(text: str, wanted: PacketFilter) -> None:
    assert parse(text) == wanted
    assert str(wanted) == text


def test_addresses_are_written_in_one_way() -> None:
    assert str(parse("  udp   to [FD17:0:0::2]:53 ")) == "udp to [fd17::2]:53"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sctp",
        "udp 172.17.0.2",
        "from",
        "from host.example",
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
