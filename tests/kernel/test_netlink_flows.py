"""The netlink client against a real kernel: flows, sockets and routes by exact tuple, v4 and v6."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from remedies.errors import Unreadable
from remedies.namespaces import netns as namespaces
from remedies.netlink import conntrack, conntrack_entry, conntrack_stats, diag, route
from remedies.netlink.conntrack import TupleMatch
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import (
    NETLINK_NETFILTER,
    NETLINK_ROUTE,
    NETLINK_SOCK_DIAG,
    Netlink,
    attribute,
)

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


def unanswered(address: str, port: int) -> Tuple:
    """Send one datagram to a socket that never answers; return its direction."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_DGRAM) as receiver,
        socket.socket(family, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((address, port))
        sender.connect((address, port))
        sender.send(b"x")
        return Tuple(address, sender.getsockname()[1], address, port)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_delete_takes_exactly_the_entry_of_that_original_direction(
    tracked: str, address: str
) -> None:
    first, second = unanswered(address, 5001), unanswered(address, 5002)
    back = Tuple(first.destination, first.destination_port, first.source, first.source_port)
    with Netlink(NETLINK_NETFILTER) as client:
        assert {e.original for e in conntrack.unreplied_udp(client)} == {first, second}
        assert not conntrack.delete(client, "udp", back)  # its reply is not its original
        assert not conntrack.delete(client, "tcp", first)
        assert conntrack.delete(client, "udp", first)
        assert not conntrack.delete(client, "udp", first)
        assert {e.original for e in conntrack.unreplied_udp(client)} == {second}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_flows_are_narrowed_by_protocol_status_and_tuple(tracked: str, address: str) -> None:
    first, second = unanswered(address, 5001), unanswered(address, 5002)
    other = unanswered("::1" if address == "127.0.0.1" else "127.0.0.1", 5001)
    with Netlink(NETLINK_NETFILTER) as client:

        def found(protocol: str, match: TupleMatch = conntrack.ANY, **bits: int) -> set[Tuple]:
            return {e.original for e in conntrack.flows(client, protocol, match, **bits)}

        assert found("udp") == {first, second, other}
        assert found("tcp") == set()
        assert found("udp", TupleMatch(destination_port=5001)) == {first, other}
        assert found("udp", TupleMatch(destination=address)) == {first, second}
        assert found("udp", TupleMatch(source=address, source_port=second.source_port)) == {second}
        assert found("udp", TupleMatch(*first.parts)) == {first}
        assert found("udp", mask=conntrack_entry.IPS_SEEN_REPLY) == {first, second, other}
        seen = conntrack_entry.IPS_SEEN_REPLY
        assert found("udp", status=seen, mask=seen) == set()
        entry = conntrack.flow_by_tuple(client, "udp", first)
        assert entry is not None
        assert conntrack.flow_by_tuple(client, "udp", entry.reply) == entry
        assert conntrack.flow_by_reply(client, "udp", first) is None


def test_a_kernel_that_refuses_to_narrow_is_asked_for_everything(
    tracked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = unanswered("127.0.0.1", 5001), unanswered("127.0.0.1", 5002)
    # A filter flag that no kernel knows is refused as an old kernel refuses the whole filter.
    monkeypatch.setattr(conntrack, "_BY_PROTOCOL", 1 << 31)
    with Netlink(NETLINK_NETFILTER) as client:
        narrow = conntrack._by_tuple("udp", conntrack.ANY)
        with pytest.raises(OSError, match="Invalid argument"):
            list(
                client.dump(
                    conntrack.IPCTNL_MSG_CT_GET,
                    conntrack._header(socket.AF_INET) + b"".join(narrow),
                )
            )
    with Netlink(NETLINK_NETFILTER) as client:
        entries = conntrack.flows(client, "udp", TupleMatch(destination_port=5001))
        assert [e.original for e in entries] == [first]


def test_counters_are_those_of_proc(tracked: str) -> None:
    unanswered("127.0.0.1", 5001)
    with Netlink(NETLINK_NETFILTER) as client:
        values = conntrack_stats.counters(client)
        assert conntrack_stats.count(client) == 1
    with open("/proc/thread-self/net/stat/nf_conntrack", encoding="ascii") as file:
        names, *rows = (line.split() for line in file)
    for name in ("invalid", "insert_failed", "drop", "search_restart"):
        column = names.index(name)
        assert values[name] == sum(int(row[column], 16) for row in rows)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("wildcard", [True, False])
def test_a_udp_socket_is_found_by_the_tuple_of_a_packet(
    netns: Make, address: str, wildcard: bool
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        namespaces.inside(netns("udp")),
        socket.socket(family, socket.SOCK_DGRAM) as server,
        socket.socket(family, socket.SOCK_DGRAM) as client,
        Netlink(NETLINK_SOCK_DIAG) as ask,
    ):
        server.bind((("::" if ":" in address else "0.0.0.0") if wildcard else address, 53))
        client.connect((address, 53))
        port = client.getsockname()[1]
        here = diag.by_tuple(ask, "udp", (address, port), (address, 53))
        assert here is not None
        assert (here.local, here.remote) == ((address, port), (address, 53))
        assert here.inode == os.fstat(client.fileno()).st_ino
        there = diag.by_tuple(ask, "udp", (address, 53), (address, port))
        assert there is not None
        assert there.inode == os.fstat(server.fileno()).st_ino
        assert there.remote[1] == 0
        assert diag.by_tuple(ask, "udp", (address, 54), (address, port)) is None
        (only,) = diag.by_local_port(ask, "udp", 53, memory=True)
        assert only.inode == there.inode
        assert only.memory is not None
        assert only.memory.drops == 0
        assert only.memory.receive_limit > 0


def test_a_dual_stack_server_is_found_by_an_ipv4_packet(netns: Make) -> None:
    with (
        namespaces.inside(netns("udp")),
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server,
        Netlink(NETLINK_SOCK_DIAG) as ask,
    ):
        server.bind(("::", 53))
        found = diag.by_tuple(ask, "udp", ("127.0.0.1", 53), ("127.0.0.1", 4000))
        assert found is not None
        assert found.inode == os.fstat(server.fileno()).st_ino


def test_the_kernel_sends_no_sockets_of_loopback_to_who_asks_for_some_addresses(
    netns: Make, run_in: Run
) -> None:
    loopback = ["127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.9"]
    others = ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.8"]
    name = netns("udp")
    for words in ("192.0.2.7", "192.0.2.8", "2001:db8::7 nodad"):
        run_in(name, ["ip", "addr", "add", *words.split(), "dev", "lo"])
    with contextlib.ExitStack() as opened, namespaces.inside(name):
        for port, address in enumerate((*loopback, *others, "0.0.0.0", "::"), 7000):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            server = opened.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            server.bind((address, port))
        packed = {a: _packed(a) for a in (*loopback, *others)}
        ask = opened.enter_context(Netlink(NETLINK_SOCK_DIAG))
        assert {found.address for found in diag.bound_udp(ask)} == set(packed.values())
        found = {found.address for found in diag.bound_udp(ask, set(packed.values()))}
        assert found == {packed[address] for address in others}


def _packed(address: str) -> bytes:
    address = address.rpartition(":")[2] if "." in address else address
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_tcp_sockets_by_tuple_and_by_port(netns: Make, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        namespaces.inside(netns("tcp")),
        socket.socket(family, socket.SOCK_STREAM) as listener,
        socket.socket(family, socket.SOCK_STREAM) as client,
        Netlink(NETLINK_SOCK_DIAG) as ask,
    ):
        listener.bind((address, 443))
        listener.listen(3)
        client.connect((address, 443))
        end = client.getsockname()[:2]
        # The end of the handshake is on its way when connect returns.
        assert select.select([listener], [], [], 10)[0]
        found = diag.by_tuple(ask, "tcp", (address, 443), end)
        assert found is not None
        assert (found.state, found.remote) == (1, end)
        free = diag.by_tuple(ask, "tcp", (address, 443), (address, 9))
        assert free is not None
        assert (free.state, free.inode) == (10, os.fstat(listener.fileno()).st_ino)
        assert diag.by_tuple(ask, "tcp", (address, 444), (address, 9)) is None
        on_port = list(diag.by_local_port(ask, "tcp", 443))
        assert sorted(item.state for item in on_port) == [1, 10]
        (waiting,) = [item for item in on_port if item.state == 10]
        assert (waiting.receive_queue, waiting.send_queue) == (1, 3)


def test_a_route_is_looked_up_by_source_and_interface(netns: Make, run_in: Run) -> None:
    ns = netns("route")
    for words in (
        "link add a0 type veth peer name a1",
        "link add b0 type veth peer name b1",
        "addr add 10.1.0.1/24 dev a0",
        "addr add 10.2.0.1/24 dev b0",
        "addr add 2001:db8:1::1/64 dev a0 nodad",
        "link set a1 up",
        "link set b1 up",
        "link set a0 up",
        "link set b0 up",
        "route add default via 10.1.0.254",
        "route add default via 10.2.0.254 table 77",
        "rule add from 10.2.0.1 table 77",
        "route add unreachable 10.9.0.0/16",
    ):
        run_in(ns, ["ip", *words.split()])
    run_in(ns, ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"])
    with namespaces.inside(ns), Netlink(NETLINK_ROUTE) as client:
        a0, b0 = (socket.if_nametoindex(name) for name in ("a0", "b0"))
        plain = route.route_get(client, "192.0.2.1")
        assert plain == route.Route(1, 254, a0, "10.1.0.254", "10.1.0.1")
        ruled = route.route_get(client, "192.0.2.1", source="10.2.0.1")
        assert (ruled.link, ruled.gateway, ruled.table) == (b0, "10.2.0.254", 77)
        through = route.route_get(client, "192.0.2.1", source="10.2.0.7", in_interface=b0)
        assert (through.kind, through.link) == (1, a0)
        assert route.route_get(client, "10.1.0.1").kind == route.RTN_LOCAL
        v6 = route.route_get(client, "2001:db8:1::5")
        assert (v6.link, v6.gateway, v6.source) == (a0, None, "2001:db8:1::1")
        with pytest.raises(OSError, match="No route") as refused:
            route.route_get(client, "10.9.1.1")
        assert refused.value.errno == errno.EHOSTUNREACH
        with pytest.raises(OSError, match="unreachable"):
            route.route_get(client, "2001:db8:99::1")


def test_a_refused_request_carries_the_kernels_sentence(netns: Make) -> None:
    ask = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(3, b"no-such-link\0")
    with (
        namespaces.inside(netns()),
        Netlink(NETLINK_ROUTE) as client,
        pytest.raises(OSError, match="No such device"),
    ):
        client.request(route.RTM_GETLINK, ask)


def test_an_answer_that_is_there_is_taken_though_its_time_is_over(netns: Make) -> None:
    """As to a process that got no processor for longer than it waits. It asks no more."""
    loopback = struct.pack("=BxHiII", 0, 0, 1, 0, 0)
    with namespaces.inside(netns()), Netlink(NETLINK_ROUTE) as client:
        client._send(route.RTM_GETLINK, 0, loopback)
        client.deadline = time.monotonic() - 1
        assert b"lo\0" in client._receive()
        for asked in (client.ask, client.request, client.table):
            with pytest.raises(Unreadable, match="took too long"):
                asked(route.RTM_GETLINK, loopback)
