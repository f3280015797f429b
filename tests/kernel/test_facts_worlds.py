"""The probes against a real kernel: a host that masquerades for a container, v4 and v6."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from tracked import await_flow

from remedies.conditions import udp_reply_source
from remedies.facts import Asking, Facts, counters, flows, links, routes, sockets, sysctl, tap
from remedies.facts.host import read_host
from remedies.namespaces import netns
from remedies.netlink import conntrack, conntrack_entry
from remedies.netlink.flow import Tuple
from remedies.netlink.links import Links
from remedies.netlink.socket import NETLINK_NETFILTER, Netlink
from remedies.values import replace

Make = Callable[..., str]
Run = Callable[..., object]

NFT = """
table inet t {
  chain post {
    type nat hook postrouting priority srcnat;
    ip saddr 172.17.0.0/16 oifname "uplink" masquerade
    ip6 saddr 2001:db8:17::/64 oifname "uplink" masquerade
  }
}
"""


class Ends(NamedTuple):
    """The addresses of a world in one family."""

    family: socket.AddressFamily
    container: str
    bridge: str
    uplink: str
    server: str
    wildcard: str


V4 = Ends(socket.AF_INET, "172.17.0.2", "172.17.0.1", "10.21.17.99", "10.21.17.1", "0.0.0.0")
V6 = Ends(
    socket.AF_INET6, "2001:db8:17::2", "2001:db8:17::1", "2001:db8:21::99", "2001:db8:21::1", "::"
)


class World(NamedTuple):
    """Three namespaces: a container behind a bridge, the host, a server on its uplink."""

    container: str
    host: str
    server: str


@pytest.fixture
def world(netns: Make, run_in: Run) -> World:
    """Build a host with bridge, uplink and masquerade."""
    made = World(netns("c"), netns("h"), netns("s"))

    def ip(ns: str, *words: str) -> None:
        run_in(ns, ["ip", *words])

    for ns in made:  # a forwarding host solicits from an address that must not be tentative
        run_in(ns, ["sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"])
    ip(made.host, "link", "add", "docker0", "type", "bridge")
    for ns, end, peer in ((made.container, "eth0", "veth0"), (made.server, "eth0", "uplink")):
        ip(made.host, "link", "add", peer, "type", "veth", "peer", "name", end, "netns", ns)
        ip(ns, "link", "set", end, "up")
    for (ns, link), prefixes in (
        ((made.container, "eth0"), ("172.17.0.2/16", "2001:db8:17::2/64")),
        ((made.host, "docker0"), ("172.17.0.1/16", "2001:db8:17::1/64")),
        ((made.host, "uplink"), ("10.21.17.99/24", "2001:db8:21::99/64")),
        ((made.server, "eth0"), ("10.21.17.1/24", "2001:db8:21::1/64")),
    ):
        for prefix in prefixes:
            nodad = ("nodad",) if ":" in prefix else ()
            ip(ns, "addr", "add", prefix, "dev", link, *nodad)
    ip(made.host, "link", "set", "veth0", "master", "docker0")
    for name in ("veth0", "docker0", "uplink"):
        ip(made.host, "link", "set", name, "up")
    ip(made.container, "route", "add", "default", "via", "172.17.0.1")
    ip(made.container, "-6", "route", "add", "default", "via", "2001:db8:17::1")
    run_in(
        made.host,
        ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"],
    )
    run_in(made.host, ["nft", "-f", "-"], stdin=NFT)
    return made


@contextlib.contextmanager
def made_in(ns: str, family: int, kind: int, protocol: int = 0) -> Iterator[socket.socket]:
    """Give a socket that lives in namespace ``ns``."""
    with netns.inside(ns):
        made = socket.socket(family, kind, protocol)
    made.settimeout(10.0)
    with made:
        yield made


@contextlib.contextmanager
def connection(world: World, ends: Ends) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give the container's and the server's end of a TCP connection through the host."""
    with (
        made_in(world.server, ends.family, socket.SOCK_STREAM) as listener,
        made_in(world.container, ends.family, socket.SOCK_STREAM) as client,
    ):
        listener.bind((ends.server, 443))
        listener.listen(1)
        client.connect((ends.server, 443))
        server, _ = listener.accept()
        with server:
            yield client, server


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send_far_above_the_window(world: World, ends: Ends, server: socket.socket) -> None:
    """Send a segment of the connection whose SEQ is 100 MB above the window."""
    peer_port = server.getpeername()[1]
    with made_in(world.server, socket.AF_PACKET, socket.SOCK_DGRAM) as sniffer:
        sniffer.bind(("eth0", 3))  # ETH_P_ALL
        server.sendall(b"data")
        start = 40 if ends.family == socket.AF_INET6 else 20
        while True:
            packet, sender = sniffer.recvfrom(2048)
            if sender[2] == socket.PACKET_OUTGOING and packet[start : start + 2] == b"\x01\xbb":
                break
    sequence, acknowledged = struct.unpack_from(">II", packet, start + 4)
    segment = struct.pack(
        ">HHIIBBHHH4s",
        443,
        peer_port,
        (sequence + 100_000_000) & 0xFFFFFFFF,
        acknowledged,
        5 << 4,
        0x18,
        512,
        0,
        0,
        b"evil",
    )
    pseudo = b"".join(socket.inet_pton(ends.family, end) for end in (ends.server, ends.uplink))
    pseudo += struct.pack(">II", len(segment), socket.IPPROTO_TCP)
    value = checksum(pseudo + segment)
    with made_in(world.server, ends.family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.sendto(segment[:16] + struct.pack(">H", value) + segment[18:], (ends.uplink, 0))


def heard(watch: object) -> None:
    """Let the tap hear one batch, which comes."""
    assert isinstance(watch, tap._TapListener)
    assert select.select([watch], [], [], 10.0)[0]
    watch.hear()


@pytest.mark.parametrize("ends", [V4, V6], ids=["v4", "v6"])
def test_the_tap_ties_a_reset_to_the_nat_flow_that_owns_its_tuple(world: World, ends: Ends) -> None:
    with connection(world, ends) as (client, server):
        port = server.getpeername()[1]
        with netns.inside(world.host):
            watch = tap.watch(Asking(read_host(), window=1.0))
            seen = counters.watch(Asking(read_host(), window=1.0))
            try:
                send_far_above_the_window(world, ends, server)
                heard(watch)
                fact = watch.finish()
            finally:
                watch.close()
            # Where it has arrived it is counted, too: the kernel sends it before.
            with pytest.raises(ConnectionResetError):
                server.recv(1)
            moved = seen.finish()
        (reset,) = fact.resets
        assert (reset.source, reset.source_port) == (ends.uplink, port)
        assert (reset.destination, reset.destination_port) == (ends.server, 443)
        assert (reset.count, fact.heard, fact.lost, fact.unread) == (1, 1, 0, ())
        assert reset.flow is not None
        assert reset.flow.nat
        assert reset.flow.original.source == ends.container
        assert reset.flow.reply == Tuple(ends.server, 443, ends.uplink, port)
        assert fact.listened > 0
        assert (moved.delta("nf_conntrack.invalid") or 0) >= 1
        assert moved.delta("Tcp.OutRsts") == 1
        client.close()


@pytest.mark.parametrize("ends", [V4, V6], ids=["v4", "v6"])
def test_a_containers_own_reset_that_is_forwarded_is_not_the_hosts(
    world: World, ends: Ends
) -> None:
    with connection(world, ends) as (client, server):
        with netns.inside(world.host):
            watch = tap.watch(Asking(read_host(), window=1.0))
            try:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                heard(watch)
                fact = watch.finish()
            finally:
                watch.close()
        with pytest.raises(ConnectionResetError):
            server.recv(1)
    assert fact.resets == ()
    assert (fact.heard, fact.forwarded) == (0, 1)


def test_a_window_of_nothing_opens_no_packet_socket() -> None:
    watch = tap.watch(Asking(read_host(), window=0))
    assert watch.fileno() == -1
    assert watch.finish() == tap.Tap()


@contextlib.contextmanager
def asked_and_answered(
    world: World, ends: Ends, port: int, *, pktinfo: bool
) -> Iterator[socket.socket]:
    """Give a wildcard server on the host that a container asked by the uplink's address."""
    asker = socket.AF_INET6 if ":" in ends.uplink else socket.AF_INET
    with (
        made_in(world.host, ends.family, socket.SOCK_DGRAM) as server,
        made_in(world.container, asker, socket.SOCK_DGRAM) as client,
    ):
        if pktinfo and ends.family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif pktinfo:
            server.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
        server.bind((ends.wildcard, port))
        client.connect((ends.uplink, port))
        client.send(b"ask")
        _, sender = server.recvfrom(16)
        server.sendto(b"answer", sender)
        yield server


def read_all(host: str) -> Facts:
    """Read what udp-reply-source asks for, in namespace ``host``."""
    with netns.inside(host):
        me = read_host()
        known: dict[str, object] = {}
        asking = Asking(me, known=known)
        watch = counters.watch(asking)
        for probe in (links, sysctl, sockets, flows):
            known[probe.__name__.rpartition(".")[2]] = probe.read(asking)
        known["counters"] = watch.finish()
    return Facts(me, "", 0.0, known)


DUAL = V4._replace(family=socket.AF_INET6, wildcard="::")


@pytest.mark.parametrize("ends", [V4, V6, DUAL], ids=["v4", "v6", "dual"])
def test_the_mirrored_pair_proves_a_wrong_source(world: World, ends: Ends) -> None:
    with asked_and_answered(world, ends, 56789, pktinfo=False):
        facts = read_all(world.host)
    (socket_,) = facts.get(sockets.Sockets).wildcard
    assert socket_.pktinfo is False
    assert socket_.owner is not None
    assert socket_.owner.pid == os.getpid()
    assert socket_.owner.argv
    (found,) = udp_reply_source.detect(facts, {})
    assert found.verdict == "proven"
    assert found.subject == f"udp {'[::]' if ends.wildcard == '::' else '0.0.0.0'}:56789"
    assert found.details["addresses"] == ends.uplink
    assert ends.bridge in found.message


@pytest.mark.parametrize("ends", [V4, V6, DUAL], ids=["v4", "v6", "dual"])
def test_pktinfo_is_seen_from_outside(world: World, ends: Ends) -> None:
    with asked_and_answered(world, ends, 5060, pktinfo=True):
        facts = read_all(world.host)
    (socket_,) = facts.get(sockets.Sockets).wildcard
    assert socket_.pktinfo is True
    (found,) = udp_reply_source.detect(facts, {})  # it does not use the option
    assert (found.verdict, found.details["sends"]) == ("proven", "unsourced")
    silent = replace(facts, known={**facts.known, "flows": flows.Flows()})
    assert udp_reply_source.detect(silent, {}) == ()


def test_a_connected_or_specific_socket_is_no_wildcard(world: World) -> None:
    with (
        made_in(world.host, socket.AF_INET, socket.SOCK_DGRAM) as connected,
        made_in(world.host, socket.AF_INET, socket.SOCK_DGRAM) as specific,
        made_in(world.host, socket.AF_INET6, socket.SOCK_DGRAM) as v6only,
        made_in(world.host, socket.AF_INET, socket.SOCK_DGRAM) as device,
    ):
        connected.connect((V4.container, 9))
        specific.bind((V4.bridge, 9))
        v6only.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        v6only.bind(("::", 10))
        device.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"uplink\0")
        device.bind(("0.0.0.0", 11))
        found = read_all(world.host).get(sockets.Sockets).wildcard
    assert [(item.address, item.port) for item in found] == [("0.0.0.0", 11), ("::", 10)]
    assert (found[0].device, found[1].v6only) == ("uplink", True)


def test_links_and_addresses_are_those_of_the_namespace(world: World) -> None:
    fact = read_all(world.host).get(Links)
    kinds = {item.name: (item.kind, item.up) for item in fact.links}
    assert kinds["docker0"] == ("bridge", True)
    assert kinds["veth0"] == ("veth", True)
    (bridge,) = [item.index for item in fact.links if item.name == "docker0"]
    (port,) = [item for item in fact.links if item.name == "veth0"]
    assert port.master == bridge
    assert {V4.bridge, V4.uplink, V6.bridge, V6.uplink} <= {a.address for a in fact.addresses}
    assert [len(each) for each in fact.askable().values()] == [2, 2]


def test_routes_know_every_way_out(world: World, run_in: Run) -> None:
    for words in (
        ["ip", "route", "add", "default", "via", "10.21.17.1"],
        ["ip", "route", "add", "default", "table", "77", "nexthop", "via", "10.21.17.1",
         "nexthop", "via", "172.17.0.2"],
        ["ip", "-6", "route", "add", "default", "via", "2001:db8:21::1", "metric", "50"],
        ["ip", "rule", "add", "fwmark", "7", "table", "77"],
    ):  # fmt: skip
        run_in(world.host, words)
    with netns.inside(world.host):
        fact = routes.read(Asking(read_host()))
    assert set(fact.defaults) == {
        routes.DefaultRoute(4, ("uplink",), 254, 0, "10.21.17.1"),
        routes.DefaultRoute(4, ("uplink", "docker0"), 77, 0, "10.21.17.1"),
        routes.DefaultRoute(6, ("uplink",), 254, 50, "2001:db8:21::1"),
    }
    assert (fact.policy_rules, fact.ipvs, fact.unread) == (1, False, ())


def test_a_namespace_with_kernel_rules_only_has_no_policy_rules(netns: Make) -> None:
    from remedies.namespaces import netns as namespaces

    with namespaces.inside(netns()):
        assert routes.read(Asking(read_host())) == routes.Routes()


def test_flows_are_found_by_their_reply_and_counted_by_service(world: World) -> None:
    with asked_and_answered(world, V4, 56789, pktinfo=False), netns.inside(world.host):
        fact = flows.read(Asking(read_host(), topics=frozenset((flows.SHARES_TOPIC,))))
        pair = next(f for f in fact.unreplied if f.original.destination == V4.uplink)
        back = Tuple(V4.uplink, 56789, V4.container, pair.original.source_port)
        with Netlink(NETLINK_NETFILTER) as client:
            found = conntrack.flow_by_reply(client, "udp", back)
            # The tuple of the original direction is no reply, and a stranger's is nothing.
            forth = Tuple(back.destination, back.destination_port, back.source, back.source_port)
            assert conntrack.flow_by_reply(client, "udp", forth) is None
            assert conntrack.flow_by_reply(client, "tcp", back) is None
            assert conntrack.flow_by_reply(client, "udp", Tuple("::1", 1, "::2", 2)) is None
    assert found is not None
    assert conntrack_entry.flow_of(found) == pair
    assert flows.Share("udp", V4.uplink, 56789, 1) in fact.shares
    assert fact.count >= 2
    assert fact.counted >= 2
    assert flows.FlowSource("udp", V4.container, 1) in fact.sources


def test_sources_are_counted_by_protocol_and_state(world: World) -> None:
    """A SYN that nobody answers, from the container through the host's NAT."""
    with netns.inside(world.container):
        knock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with knock:
        knock.setblocking(False)
        nobody = ("10.21.17.77", 7)
        knock.connect_ex(nobody)
        await_flow(world.host, "tcp", Tuple(V4.container, knock.getsockname()[1], *nobody))
        with netns.inside(world.host):
            fact = flows.read(Asking(read_host(), topics=frozenset((flows.SHARES_TOPIC,))))
    assert flows.FlowSource("tcp", V4.container, 1, "SYN_SENT") in fact.sources


def test_an_answered_flow_is_not_among_the_unreplied(world: World) -> None:
    right = V4._replace(uplink=V4.bridge)
    with asked_and_answered(world, right, 53, pktinfo=False):
        facts = read_all(world.host)
    assert [f for f in facts.get(flows.Flows).unreplied if f.original.destination_port == 53] == []
    (found,) = udp_reply_source.detect(facts, {})
    assert found.verdict == "exposed"


def test_leaving_a_dump_early_closes_the_client_and_says_so(world: World) -> None:
    with (
        asked_and_answered(world, V4, 56789, pktinfo=False),
        netns.inside(world.host),
        Netlink(NETLINK_NETFILTER) as client,
    ):
        for _ in conntrack.unreplied_udp(client):
            break
        with pytest.raises(OSError, match="Bad file descriptor"):
            list(conntrack.unreplied_udp(client))
