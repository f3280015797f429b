"""A reset that a firewall's REJECT sends in the middle of a NAT flow is no fault of the host's."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Optional

import pytest

from remedies.conditions import tcp_invalid_reset as condition
from remedies.conditions import tcp_invalid_stall
from remedies.facts import gather
from remedies.facts.tap import Tap
from remedies.lab.scenarios import tcp_invalid_reset as fault
from remedies.lab.segment import RST, Position, forge
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World
from remedies.model import Finding, Host
from remedies.namespaces.netns import inside
from remedies.tap.listener import Listener

BOTH = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
NFT = """\
table inet theirs {{
chain forward {{
type filter hook forward priority filter; policy accept;
meta l4proto tcp {ip} {side}addr {server} reject with tcp reset
}}
}}
"""


@pytest.fixture
def world(family: int) -> Iterator[World]:
    with World("tcp-invalid-reset", Options("nft", family)) as made:
        fault.build(made)
        yield made


def reject(world: World, tool: str, side: str) -> None:
    """Refuse what goes to the server (``d``) or comes from it (``s``), from now on."""
    at = addresses(world)
    six = world.options.family == 6
    if tool == "nft":
        rules = NFT.format(ip="ip6" if six else "ip", side=side, server=at.server)
        world.run("host", ["nft", "-f", "-"], rules)
    else:
        program = tool.replace("ip", "ip6", 1) if six else tool
        rule = ["-p", "tcp", f"-{side}", at.server, "-j", "REJECT", "--reject-with", "tcp-reset"]
        world.run("host", [program, "-w", "-I", "FORWARD", *rule])


def refused(world: World, tool: str, side: str) -> None:
    """Bring up a connection, refuse one direction of it, and send until its sender is reset."""
    at = addresses(world)
    with (
        world.socket("server", at.family, socket.SOCK_STREAM) as listener,
        world.socket("client", at.family, socket.SOCK_STREAM) as client,
    ):
        listener.bind((at.server, fault.PORT))
        listener.listen(1)
        client.connect((at.server, fault.PORT))
        server, _ = listener.accept()
        with server:
            client.sendall(b"request")
            assert server.recv(100) == b"request"
            reject(world, tool, side)
            sender = server if side == "s" else client
            sender.settimeout(10)
            sender.sendall(b"more")
            with pytest.raises(ConnectionResetError):
                sender.recv(1)


def scan(world: World, monkeypatch: pytest.MonkeyPatch, traffic: Callable[[], object]) -> Finding:
    """Return what is found of the condition when ``traffic`` is what happens in the window."""
    host = Host("h", "m", os.uname().release, "n", "b")
    with monkeypatch.context() as patch, inside(world.namespace("host")):
        patch.setattr(gather, "_listen", lambda _, window: traffic() if window else None)
        facts = gather.read_facts(host, condition.NEEDS, window=1.0)
    assert facts.get(Tap).resets, "no reset was heard"
    (found,) = condition.detect(facts, {})
    return found


def no_checksums(world: World) -> None:
    """Let the host's uplink compute no checksums, as some devices cannot: ETHTOOL_STXCSUM."""
    value = ctypes.create_string_buffer(struct.pack("=II", 0x17, 0))
    request = struct.pack("16sP", b"eth0", ctypes.addressof(value))
    with world.socket("host", socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8946, request)


@BOTH
@pytest.mark.parametrize("side", ["s", "d"], ids=["from-server", "to-server"])
@pytest.mark.parametrize("tool", ["nft", "iptables-legacy"])
def test_a_reject_is_no_proof(
    world: World, monkeypatch: pytest.MonkeyPatch, tool: str, side: str
) -> None:
    found = scan(world, monkeypatch, lambda: refused(world, tool, side))
    assert found.verdict == "exposed", found
    assert "packet socket" not in {item.source for item in found.evidence}


@BOTH
def test_the_fault_is_proven_beside_a_rule_that_rejects(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run("host", ["nft", "-f", "-"], NFT.format(ip="ip", side="d", server="192.0.2.77"))
    found = scan(world, monkeypatch, lambda: fault.transfer(world, sequence=fault.ABOVE))
    assert found.verdict == "proven"


@BOTH
def test_a_reject_of_the_invalid_segment_itself_is_the_fault(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall that ends with a reset for all else, and drops nothing INVALID before."""
    rules = "ct state established accept\nmeta l4proto tcp reject with tcp reset"
    text = (
        f"table inet theirs {{\nchain input {{\ntype filter hook input priority 0\n{rules}\n}}\n}}"
    )
    world.run("host", ["nft", "-f", "-"], text + "\n")
    found = scan(world, monkeypatch, lambda: fault.transfer(world, sequence=fault.ABOVE))
    assert found.verdict == "proven"


@BOTH
@pytest.mark.parametrize("offload", ["on", "off"])
def test_who_made_a_reset_is_read_from_its_checksum(
    world: World, monkeypatch: pytest.MonkeyPatch, offload: str
) -> None:
    if offload == "off":
        no_checksums(world)

    def heard(traffic: Callable[[], object]) -> set[Optional[bool]]:
        with inside(world.namespace("host")):
            tap = Listener(blocks=4, limit=100, rate=100.0)
        try:
            traffic()
            with inside(world.namespace("host")):
                at = addresses(world)
                return {e.answers for e in tap.drain() if e.heard.source == at.uplink}
        finally:
            tap.close()

    answered, rejected = ({True}, {False}) if offload == "on" else ({None}, {None})
    assert heard(lambda: fault.transfer(world, sequence=fault.ABOVE)) == answered
    assert heard(lambda: refused(world, "nft", "s")) == rejected


@BOTH
def test_where_the_device_computes_no_checksum_the_counters_tell(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_checksums(world)
    found = scan(world, monkeypatch, lambda: fault.transfer(world, sequence=fault.ABOVE))
    assert found.verdict == "proven"
    found = scan(world, monkeypatch, lambda: refused(world, "nft", "s"))
    assert found.verdict == "exposed"


@pytest.mark.parametrize("family", [4])
def test_a_containers_own_reset_whose_time_to_live_a_rule_sets_is_no_proof(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = "chain post {\ntype filter hook postrouting priority mangle\nip ttl set 64\n}\n"
    world.run("host", ["nft", "-f", "-"], f"table ip theirs {{\n{rules}}}\n")
    at = addresses(world)

    def closed() -> None:
        """Send to a program that is gone: its own kernel answers with a reset."""
        with world.socket("server", at.family, socket.SOCK_STREAM) as listener:
            listener.bind((at.server, fault.PORT))
            listener.listen(1)
            with world.socket("client", at.family, socket.SOCK_STREAM) as client:
                client.connect((at.server, fault.PORT))
                server, _ = listener.accept()
            with server:
                server.sendall(b"more")
                ended = select.poll()
                ended.register(server, 0)
                assert ended.poll(10_000), "no reset came"

    assert scan(world, monkeypatch, closed).verdict == "exposed"


ROUTED = """\
table inet theirs {{
chain forward {{
type filter hook forward priority 0; policy drop
{before}
ct state established,related accept
iifname "docker0" accept
meta l4proto ipv6-icmp accept
jump refuse
}}
chain refuse {{
meta l4proto tcp reject with tcp reset
}}
}}
"""


@BOTH
def test_a_reset_for_what_is_only_out_of_the_window_is_a_firewalls_fault(
    family: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenWrt does without NAT: be_liberal heals it, and another rule's reset is no fault."""
    with World("tcp-invalid-reset", Options("nft", family)) as world:
        container_host(world, nat=False)
        at = addresses(world)
        world.ip("server", f"route add {at.subnet} via {at.uplink}")

        def off() -> bool:
            return fault.transfer(world, sequence=fault.ABOVE).alive

        def found(traffic: Callable[[], object]) -> list[Finding]:
            host = Host("h", "m", os.uname().release, "n", "b")
            with monkeypatch.context() as patch, inside(world.namespace("host")):
                patch.setattr(gather, "_listen", lambda _, window: traffic() if window else None)
                facts = gather.read_facts(host, tcp_invalid_stall.NEEDS, window=1.0)
            return list(tcp_invalid_stall.detect(facts, {}))

        world.run("host", ["nft", "-f", "-"], ROUTED.format(before=""))
        assert not off()
        (stall,) = found(off)
        assert stall.verdict == "proven"
        assert "answered with a reset" in stall.message
        assert "(nft inet theirs refuse) rejects it" in stall.message
        assert at.server in stall.message
        world.sysctl("host", "net.netfilter.nf_conntrack_tcp_be_liberal", "1")
        assert off()
        world.sysctl("host", "net.netfilter.nf_conntrack_tcp_be_liberal", "0")
        by_port = f"tcp sport {fault.PORT} ct state established reject with tcp reset"

        def refused_and_stray() -> None:
            fault.transfer(world)
            with world.socket("server", at.family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
                for port in range(30000, 30005):
                    stray = forge(
                        (at.server, port), (at.client, port), Position(1, 1), b"", flags=RST
                    )
                    raw.sendto(stray, (at.client, 0))

        text = "delete table inet theirs\n" + ROUTED.format(before=by_port)
        world.run("host", ["nft", "-f", "-"], text)
        assert found(refused_and_stray) == []
