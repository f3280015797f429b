"""ctnetlink against a real kernel: exact look-ups and exact deletion, v4 and v6."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from remedies import netns as namespaces
from remedies.netlink import conntrack
from remedies.netlink.conntrack import Way
from remedies.netlink.socket import NETLINK_NETFILTER, Netlink

Make = Callable[..., str]
Run = Callable[..., object]

TRACKING = """
table inet t {
  chain out {
    type filter hook output priority 0;
    ct state new accept
  }
}
"""


@pytest.fixture
def tracked(netns: Make, run_in: Run) -> Iterator[str]:
    """Give a namespace whose loopback traffic is tracked; the test works inside it."""
    ns = netns("flows")
    run_in(ns, ["nft", "-f", "-"], stdin=TRACKING)
    with namespaces.inside(ns):
        yield ns


def unanswered(address: str, port: int) -> Way:
    """Send one datagram to a socket that never answers; return its direction."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_DGRAM) as receiver,
        socket.socket(family, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((address, port))
        sender.connect((address, port))
        sender.send(b"x")
        return Way(address, sender.getsockname()[1], address, port)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_delete_takes_exactly_the_entry_of_that_original_direction(
    tracked: str, address: str
) -> None:
    first, second = unanswered(address, 5001), unanswered(address, 5002)
    back = Way(first.destination, first.destination_port, first.source, first.source_port)
    with Netlink(NETLINK_NETFILTER) as client:
        assert {e.original for e in conntrack.unreplied_udp(client)} == {first, second}
        assert not conntrack.delete(client, "udp", back)  # its reply is not its original
        assert not conntrack.delete(client, "tcp", first)
        assert conntrack.delete(client, "udp", first)
        assert not conntrack.delete(client, "udp", first)
        assert {e.original for e in conntrack.unreplied_udp(client)} == {second}
