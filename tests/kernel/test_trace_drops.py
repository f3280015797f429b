"""Dropped packets in ``remedy trace``: the kernel's reason, the packet, its flow and its place."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from tracing import Line, Trace, families, rule, trace

from remedies.bpf import kernel
from remedies.bpf.types import FILE, KernelTypes
from remedies.lab.firewall import Firewall
from remedies.lab.scenarios import tcp_invalid_reset, tcp_invalid_stall
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World
from remedies.trace.drop_reasons import REASONS

FORWARD = "type filter hook forward priority 0"
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
IPV6_MTU_DISCOVER = 23


@contextlib.contextmanager
def host(family: int) -> Iterator[World]:
    """Give a container host with NAT for its container."""
    with World("drops", Options(family=family)) as world:
        container_host(world)
        yield world


def dropped(seen: Trace, reason: str, port: int, **wanted: object) -> Line:
    """Return the next line about a drop for this reason of a packet to this port."""
    return seen.await_event(
        kind="trace-drop", reason=reason, destination_port=port, protocol="udp", **wanted
    )


def sender(world: World, role: str) -> socket.socket:
    """Return a datagram socket of a role."""
    return world.socket(role, addresses(world).family, socket.SOCK_DGRAM)


@families
def test_a_rule_that_drops_is_told_with_the_flow_and_the_kernels_place(family: int) -> None:
    with host(family) as world, trace(world) as seen, sender(world, "client") as client:
        at = addresses(world)
        rule(world, "host", "udp dport 4000 drop", FORWARD)
        for _ in range(3):
            client.sendto(b"ask", (at.server, 4000))
        told = dropped(seen, "NETFILTER_DROP", 4000)
        summary = seen.end()
    assert (told["source"], told["destination"]) == (at.client, at.server)
    assert told["source_port"] > 0
    assert told["conntrack"] == "new"
    assert told["namespace"] == ""
    assert told["link"] in ("docker0", "eth0")
    assert told["place"].startswith("nft_do_chain")
    assert "udp dport 4000 drop" in told["rule"]
    table = "ip" if family == 4 else "ip6"
    accept = f"{table} daddr {at.server} udp dport 4000 accept"
    assert told["fix"].endswith(f"nft insert rule {table} lab_trace c {accept}")
    (kind,) = [drop for drop in summary["drops"] if drop["destination_port"] == 4000]
    assert kind["count"] == 3
    assert (summary["drops_lost"], summary["drops_source"]) == (0, "bpf: kfree_skb")


@families
def test_an_answer_that_is_dropped_is_told_from_its_request(family: int) -> None:
    with (
        host(family) as world,
        trace(world) as seen,
        sender(world, "client") as client,
        sender(world, "server") as server,
    ):
        at = addresses(world)
        rule(world, "host", "udp sport 4000 drop", FORWARD)
        server.bind((at.server, 4000))
        server.settimeout(10.0)
        client.sendto(b"ask", (at.server, 4000))
        _, asker = server.recvfrom(16)
        server.sendto(b"answer", asker)
        told = seen.await_event(kind="trace-drop", reason="NETFILTER_DROP", source_port=4000)
    assert told["conntrack"] == "established, reply"
    assert "udp sport 4000 drop" in told["rule"]
    assert told["condition"] == "reply-dropped"
    assert told["fix"].endswith("ct state established,related accept")
    assert (told["source"], told["destination"]) == (at.server, at.client)


def test_a_legacy_rule_that_drops_is_told_as_well() -> None:
    with host(4) as world, trace(world) as seen, sender(world, "client") as client:
        world.run(
            "host",
            ["iptables-legacy-restore", "--noflush"],
            "*filter\n-A FORWARD -p udp --dport 4000 -j DROP\nCOMMIT\n",
        )
        client.sendto(b"ask", (addresses(world).server, 4000))
        told = dropped(seen, "NETFILTER_DROP", 4000)
    assert told["place"] == "nf_hook_slow"
    assert "-p udp --dport 4000 -j DROP" in told["rule"].replace("-m udp ", "")
    assert "iptables-legacy -t filter -I FORWARD -d" in told["fix"]


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ("chain i { type filter hook input priority 0; policy drop; tcp dport 22 accept; }",
         "policy drop"),
        ("chain i { type filter hook input priority 0; ct state new jump j; }\n"
         "chain j { iifname docker0 drop; }", "iifname"),
        ("chain r { type filter hook prerouting priority raw; udp dport 4000 drop; }",
         "udp dport 4000 drop"),
        ("chain i { type filter hook input priority 0; limit rate 1/day counter; "
         "tcp dport 22 accept; drop; }", "drop"),
    ],
)  # fmt: skip
def test_the_rule_is_found_in_whatever_chain_it_stands(rules: str, named: str) -> None:
    with host(4) as world, trace(world) as seen, sender(world, "client") as client:
        world.run("host", ["nft", "-f", "-"], f"table inet filter {{\n{rules}\n}}\n")
        client.sendto(b"ask", (addresses(world).bridge, 4000))
        told = dropped(seen, "NETFILTER_DROP", 4000)
    assert named in told["rule"]
    assert "(nft inet filter " in told["rule"]
    assert "nft insert rule inet filter " in told["fix"]


@pytest.mark.parametrize("nat", ["nft", "iptables-legacy"])
def test_the_rule_that_refuses_a_published_port_is_named(nat: str) -> None:
    with World("drops", Options(nat)) as world:
        container_host(world)
        at, firewall = addresses(world), Firewall(world)
        firewall.publish(at.uplink, 4000, at.client)
        firewall.refuses_published(healthy=False)
        firewall.admits(4001)
        with trace(world) as seen, sender(world, "server") as client:
            client.sendto(b"ask", (at.uplink, 4000))
            told = dropped(seen, "NETFILTER_DROP", 4000)
    assert "reject" in told["rule"].lower()
    assert "dnat" in told["about"][0].lower()


def test_no_rule_is_named_where_an_unknown_condition_stands_before() -> None:
    with host(4) as world, trace(world) as seen, sender(world, "client") as client:
        world.run(
            "host",
            ["nft", "-f", "-"],
            "table inet filter {\nchain i { type filter hook input priority 0;\n"
            "meta length 31 drop\nudp dport 4000 drop\n}\n}\n",
        )
        client.sendto(b"ask", (addresses(world).bridge, 4000))
        told = dropped(seen, "NETFILTER_DROP", 4000)
    assert told["rule"] == ""


@families
def test_reasons_that_are_no_rules_are_told_each_by_its_name(family: int) -> None:
    """Each by a trace of its own: beside much other work the next look waits for what one took."""
    with host(family) as world, sender(world, "client") as client:
        at = addresses(world)
        loopback = "127.0.0.1" if family == 4 else "::1"
        world.ip("host", "link set lo up")
        with trace(world) as seen, sender(world, "host") as elsewhere:
            elsewhere.bind((loopback, 4001))
            client.sendto(b"ask", (at.bridge, 4001))
            told = dropped(seen, "NO_SOCKET", 4001, link="docker0")
        (about,) = told["about"]
        assert loopback in about
        assert f"[{os.getpid()}]" in about
        assert at.bridge in told["fix"]

        with trace(world) as seen, sender(world, "host") as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            slow.bind((at.bridge, 4002))
            for _ in range(16):
                client.sendto(b"x" * 900, (at.bridge, 4002))
            told = dropped(seen, "SOCKET_RCVBUFF", 4002, namespace="")
        assert f"[{os.getpid()}]" in told["about"][0]

        world.ip("host", "link set eth0 mtu 1280")
        level, option = (
            (socket.IPPROTO_IP, IP_MTU_DISCOVER)
            if family == 4
            else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
        )
        client.setsockopt(level, option, IP_PMTUDISC_PROBE)
        with trace(world) as seen:
            client.sendto(b"x" * 1400, (at.server, 4003))
            told = dropped(seen, "PKT_TOO_BIG", 4003)
        assert "eth0, whose MTU is 1280" in told["about"][0]

        key = "net.ipv4.neigh" if family == 4 else "net.ipv6.neigh"
        for name, value in (("mcast_solicit", "1"), ("retrans_time_ms", "50")):
            world.sysctl("host", f"{key}.eth0.{name}", value)
        nobody = at.server[:-1] + "77"
        # A timer drops it, on top of whatever runs then. A sandbox's kernel may run no program over
        # the threads of its process 1 (none of their system calls is heard, either), while its own
        # trace event has the packet: seen for 20 of 2,000, each over such a thread.
        with trace(world) as seen:
            seen.patience = 5.0
            for _ in range(3):
                client.sendto(b"ask", (nobody, 4004))
                with contextlib.suppress(AssertionError):
                    seen.await_event(kind="trace-drop", destination_port=4004, destination=nobody)
                    break
        told = seen.lines[-1]
        assert (told["kind"], told.get("destination")) == ("trace-drop", nobody)
        assert f"get {nobody}" in told["look"]
        assert nobody in told["about"][0]

        with trace(world) as seen:
            world.ip("host", f"route del {_net(at.server, family)} dev eth0")
            client.sendto(b"ask", (at.server, 4005))
            told = seen.await_event(kind="trace-drop", destination_port=4005)
        assert told["reason"] == "IP_INNOROUTES"

        forwards = "net.ipv4.ip_forward" if family == 4 else "net.ipv6.conf.all.forwarding"
        with trace(world) as seen:
            world.sysctl("host", forwards, "0")
            client.sendto(b"ask", (at.server, 4006))
            told = seen.await_event(kind="trace-drop", destination_port=4006)
        if family == 4:  # for IPv6 the kernel drops it elsewhere, without a route
            assert told["fix"] == "sysctl -w net.ipv4.ip_forward=1"


def _net(address: str, family: int) -> str:
    return "10.21.17.0/24" if family == 4 else "fd10:21:17::/64"


def test_the_reverse_path_filter_is_told() -> None:
    with host(4) as world, sender(world, "client") as client:
        at = addresses(world)
        world.sysctl("host", "net.ipv4.conf.docker0.rp_filter", "1")
        world.ip("client", "addr add 10.9.9.9/32 dev lo")
        with trace(world) as seen, sender(world, "client") as first:
            first.sendto(b"ask", (at.bridge, 4000))  # a question of ARP has the packet's source
            dropped(seen, "NO_SOCKET", 4000)
        client.bind(("10.9.9.9", 0))
        with trace(world) as seen:
            client.sendto(b"ask", (at.server, 4000))
            told = dropped(seen, "IP_RPFILTER", 4000)
    assert told["source"] == "10.9.9.9"
    assert "rp_filter" in told["look"]
    assert "no way back to 10.9.9.9" in told["about"][0]
    assert told["fix"].startswith("sysctl -w net.ipv4.conf.docker0.rp_filter=2")


@families
def test_traffic_that_arrives_drops_nothing(family: int) -> None:
    with (
        host(family) as world,
        sender(world, "client") as client,
        sender(world, "server") as server,
        world.socket("server", addresses(world).family, socket.SOCK_STREAM) as listener,
        world.socket("client", addresses(world).family, socket.SOCK_STREAM) as stream,
        trace(world) as seen,
    ):
        at = addresses(world)
        server.bind((at.server, 4000))
        listener.bind((at.server, 4000))
        listener.listen(1)
        for each in (client, server, stream, listener):
            each.settimeout(10.0)
        client.sendto(b"ask", (at.server, 4000))
        _, asker = server.recvfrom(16)
        server.sendto(b"answer", asker)
        assert client.recv(16) == b"answer"
        stream.connect((at.server, 4000))
        peer, _ = listener.accept()
        with peer:
            stream.sendall(b"x" * 100_000)
            left = 100_000
            while left:
                left -= len(peer.recv(left))
        summary = seen.end()
    assert seen.lines == [summary]


def test_a_trace_of_the_machine_names_the_namespace_of_a_drop() -> None:
    with host(4) as world, sender(world, "host") as asking:
        where = world.namespace("client")
        # Of all that the machine drops meanwhile only so much is told in a second.
        with trace(None, "--packet", f"udp to {addresses(world).client}:4471") as seen:
            asking.sendto(b"ask", (addresses(world).client, 4471))
            told = dropped(seen, "NO_SOCKET", 4471, namespace=where)
    assert told["link"] == "eth0"
    assert "UDP port 4471" in told["about"][0]


def test_without_permission_the_trace_goes_on_and_says_what_it_lacks() -> None:
    with (
        host(4) as world,
        sender(world, "client") as client,
        trace(world, drop="sys_admin,-bpf,-perfmon") as seen,
    ):
        client.sendto(b"ask", (addresses(world).bridge, 9))
        seen.await_event(event="refusal")
        summary = seen.end()
    assert summary["drops_source"].startswith("none: bpf map: not permitted")
    assert summary["drops"] == []


def test_a_program_that_the_kernel_refuses_is_shown_with_the_verifiers_words() -> None:
    code = struct.pack("=BBhi", 0x95, 0, 0, 0)  # an exit without a result
    with pytest.raises(Exception, match="R0 !read_ok"):
        kernel.attach("kfree_skb", code)


def test_every_reason_of_the_table_is_one_of_this_kernels() -> None:
    with open(FILE, "rb") as file:
        numbers = KernelTypes(file.read()).numbers("skb_drop_reason")
    known = {name.removeprefix("SKB_DROP_REASON_") for name in numbers}
    assert sorted(REASONS.keys() - known) == []


@families
def test_the_rule_that_drops_a_segment_as_invalid_is_named(family: int) -> None:
    """Of a connection that conntrack knows; a stray's is only dropped."""
    with World("tcp-invalid-stall", Options(family=family)) as world:
        tcp_invalid_stall.build(world)
        at = addresses(world)
        with trace(world) as seen:
            told = seen.await_event(kind="trace-drop", reason="NETFILTER_DROP", protocol="tcp")
            summary = seen.end()
    assert (told["source"], told["destination"]) == (at.server, at.uplink)
    table = "ip" if family == 4 else "ip6"
    assert told["condition"] == "tcp-invalid-stall"
    place = f"(nft {table} lab_filter input)"
    assert told["rule"] == f"'ct state invalid counter drop # handle 3' {place}"
    (kind,) = [drop for drop in summary["drops"] if drop["rule"]]
    assert kind["count"] > 1


@families
def test_the_rule_that_rejects_a_segment_as_invalid_is_proven(family: int) -> None:
    with World("tcp-invalid-reset", Options(family=family)) as world:
        container_host(world, nat=False)
        at = addresses(world)
        world.ip("server", f"route add {at.subnet} via {at.uplink}")
        rule(world, "host", "ct state established accept", FORWARD)
        rule(world, "host", 'iifname "eth0" meta l4proto tcp reject with tcp reset', FORWARD)
        with trace(world) as seen:
            assert not tcp_invalid_reset.transfer(world, sequence=tcp_invalid_reset.ABOVE).alive
            told = seen.await_event(condition="tcp-invalid-stall")
            seen.end()
    assert (told["verdict"], told["destination"]) == ("proven", at.server)
    assert "rejects it" in told["message"]
