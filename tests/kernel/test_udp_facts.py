"""What the UDP conditions read: sockets with an address, our redirects in force, the daemon."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import forked_cli
import pytest

from remedies.conditions import udp_reply_source
from remedies.facts import netfilter, processes
from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.facts.netfilter import Netfilter
from remedies.facts.sockets import Sockets
from remedies.fixes import udp_redirect
from remedies.lab.scenarios import udp_proxy_hairpin
from remedies.lab.world import Options, World
from remedies.model import Host
from remedies.namespaces.netns import inside
from remedies.netfilter.redirects import Redirect
from remedies.resources import ip6tables, iptables, nft

HOST = Host("h", "m", "6.1", "x", "b")


@pytest.fixture
def bridged(netns: Callable[..., str], run_in: Callable[..., object]) -> str:
    """A namespace with a bridge and another link, each with addresses of both families."""
    ns = netns()
    lines = (
        "link add br0 type bridge",
        "link add up0 type veth peer name up1",
        "link set br0 up",
        "link set up0 up",
        "link set up1 up",
        "addr add 172.17.0.1/16 dev br0",
        "addr add 10.21.17.99/24 dev up0",
        "addr add fd17::1/64 dev br0 nodad",
        "addr add fd10::99/64 dev up0 nodad",
    )
    run_in(ns, ["ip", "-batch", "-"], stdin="\n".join(lines))
    return ns


def read_sockets(ns: str) -> Sockets:
    with inside(ns):
        return read_facts(read_host(), (Sockets,)).get(Sockets)


Spec = tuple[tuple[str, int], tuple[str, int] | None]


@contextlib.contextmanager
def open_in(ns: str, *specs: Spec) -> Iterator[None]:
    """Hold UDP sockets with these local and remote addresses."""
    with contextlib.ExitStack() as stack:
        for local, remote in specs:
            family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
            with inside(ns):
                end = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            end.bind(local)
            if remote is not None:
                end.connect(remote)
        yield


def test_connected_sockets_are_told_with_peer_and_owner_mapped_ones_as_ipv4(bridged: str) -> None:
    with open_in(
        bridged,
        (("0.0.0.0", 4001), ("172.17.0.2", 9)),
        (("::", 4002), ("::ffff:172.17.0.3", 9)),
        (("::", 4003), ("fd17::2", 9)),
        (("0.0.0.0", 4004), ("10.21.17.1", 9)),
        (("127.0.0.1", 4005), ("127.0.0.1", 9)),
    ):
        found = {(s.address, s.port): s for s in read_sockets(bridged).connected}
    assert set(found) == {
        ("172.17.0.1", 4001),
        ("172.17.0.1", 4002),
        ("fd17::1", 4003),
        ("10.21.17.99", 4004),
    }
    mapped = found["172.17.0.1", 4002]
    assert (mapped.peer, mapped.peer_port) == ("172.17.0.3", 9)
    assert mapped.owner is not None
    assert mapped.owner.pid == os.getpid()
    assert found["10.21.17.99", 4004].owner is None  # not on a bridge: nobody looks it up


def test_bound_sockets_are_told_where_another_server_has_their_port(bridged: str) -> None:
    with open_in(
        bridged,
        (("0.0.0.0", 53), None),
        (("10.21.17.99", 53), None),
        (("fd10::99", 53), None),
        (("127.0.0.1", 53), None),
        (("10.21.17.99", 54), None),
    ):
        found = read_sockets(bridged)
    assert {(s.address, s.port) for s in found.bound} == {("10.21.17.99", 53), ("fd10::99", 53)}
    assert found.connected == ()


def redirects(ns: str) -> set[Redirect]:
    with inside(ns):
        fact = read_facts(HOST, (Netfilter,)).get(Netfilter)
    assert isinstance(fact, netfilter.Netfilter)
    assert fact.unread == ()
    return set(fact.redirects)


def test_our_redirects_are_read_back_from_the_nft_table(bridged: str) -> None:
    path = "inet/remedy_udp_redirect"
    ways = {("br0", 53), ("up0", 5060)}
    with inside(bridged):
        nft.write(path, udp_redirect._table(path, ways))
    assert redirects(bridged) == {
        Redirect(f"nft:{path}", "inet", name, port) for name, port in ways
    }
    with inside(bridged):
        nft.write(path, None)
    assert redirects(bridged) == set()


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_our_redirects_are_read_back_from_iptables_while_the_jump_stands(
    bridged: str, variant: str, run_in: Callable[..., object]
) -> None:
    path = udp_redirect.CHAIN
    with inside(bridged):
        iptables.write(path, udp_redirect._chain(variant, {("br0", 53)}))
        ip6tables.write(path, udp_redirect._chain(variant, {("br0", 54)}))
    assert redirects(bridged) == {
        Redirect(f"iptables:{path}", "ip", "br0", 53),
        Redirect(f"ip6tables:{path}", "ip6", "br0", 54),
    }
    tool = f"iptables-{variant}"
    run_in(bridged, [tool, "-t", "nat", "-D", "PREROUTING", "-j", "REMEDY-REDIRECT"])
    assert redirects(bridged) == {Redirect(f"ip6tables:{path}", "ip6", "br0", 54)}


def test_somebody_elses_redirect_is_not_ours(bridged: str, run_in: Callable[..., object]) -> None:
    rules = (
        "add table ip theirs\n"
        "add chain ip theirs c { type nat hook prerouting priority -105; policy accept; }\n"
        'add rule ip theirs c iifname "br0" udp dport 53 redirect\n'
    )
    run_in(bridged, ["nft", "-f", "-"], stdin=rules)
    assert redirects(bridged) == set()


@contextlib.contextmanager
def daemon(path: Path, body: object) -> Iterator[None]:
    """Answer every request on a Unix socket with ``body``, as the Docker daemon does."""
    head = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(4)

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(4096)
                    peer.sendall((head + json.dumps(body)).encode())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_the_hairpin_names_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {"net": {"IPAddress": "172.17.0.3", "GlobalIPv6Address": ""}}
    body = [
        {
            "Id": "0123456789abcdef0123",
            "Names": ["/web"],
            "NetworkSettings": {"Networks": networks},
        }
    ]
    with (
        daemon(tmp_path / "docker.sock", body),
        World("udp-proxy-hairpin", Options()) as world,
    ):
        udp_proxy_hairpin.build(world)
        assert not udp_proxy_hairpin.traffic(world).alive
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
        done = forked_cli.run(*world.remedy, "scan", "--window", "0s", "--json")
    (found,) = [f for f in json.loads(done.stdout)["findings"] if "udp" in f["condition"]]
    assert (found["condition"], found["verdict"]) == ("udp-proxy-hairpin", "proven")
    assert "docker-proxy of container web (its port 4000)" in found["message"]


def test_a_socket_of_the_kernels_own_is_told_from_one_that_may_not_be_looked_at(
    bridged: str, run_in: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_in(bridged, ["ip", "link", "add", "vx0", "type", "vxlan", "id", "1", "dstport", "4789"])
    run_in(bridged, ["ip", "link", "set", "vx0", "up"])
    with open_in(bridged, (("0.0.0.0", 5060), None)):
        # As on a host of its own: some machines hide a process or two even from root.
        look_up = processes.look_up
        monkeypatch.setattr(processes, "look_up", lambda *words: (look_up(*words)[0], ()))
        monkeypatch.setattr(processes, "_FIRST", os.readlink("/proc/self/ns/pid"))
        found = {item.port: item for item in read_sockets(bridged).wildcard if item.family == 4}
        assert (found[4789].kernel, found[4789].owner) == (True, None)
        assert not found[5060].kernel
        monkeypatch.setattr(processes, "_FIRST", "pid:[1]")  # as in a container's PID namespace
        assert not any(item.kernel for item in read_sockets(bridged).wildcard)
        monkeypatch.undo()
        monkeypatch.setattr(processes, "look_up", lambda *_: ({}, ("not permitted",)))
        assert not any(item.kernel for item in read_sockets(bridged).wildcard)


def test_a_server_with_a_socket_for_each_address_is_no_finding(bridged: str) -> None:
    addresses = ("0.0.0.0", "172.17.0.1", "10.21.17.99")
    for number, verdicts in ((2, ["exposed"]), (3, [])):
        held = open_in(bridged, *(((address, 123), None) for address in addresses[:number]))
        with held, inside(bridged):
            seen = read_facts(read_host(), udp_reply_source.NEEDS)
        assert [f.verdict for f in udp_reply_source.detect(seen, {})] == verdicts
