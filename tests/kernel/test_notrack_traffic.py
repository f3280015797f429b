"""A notrack rule over NAT really takes the packets away; one beside it does not.

Two rules that meet are ``exposed``; ``proven`` is a packet that was heard to fail.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest
from run_in import RunIn

from remedies.conditions import notrack_breaks_nat
from remedies.facts import Asking, Facts, inputs, nat, netfilter, saved
from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.fixes import notrack
from remedies.model import Finding, Host, Terms
from remedies.namespaces import netns as namespaces
from remedies.netlink.links import Address, Link, Links

HOST = Host("", "", "", "", "")
SIDES = {
    4: ("192.0.2.1", "192.0.2.10", "172.17.0.1", "172.17.0.2"),
    6: ("2001:db8::1", "2001:db8::10", "fd17::1", "fd17::2"),
}
Make = Callable[..., str]


class World:
    """A client, a host that publishes port 5353 of a container, and the container."""

    def __init__(self, family: int, netns: Make, run_in: RunIn) -> None:
        self.family, self.run = family, run_in
        self.client_ip, self.uplink, self.bridge, self.container_ip = SIDES[family]
        self.client, self.host, self.container = netns("c"), netns("h"), netns("k")
        length = "24" if family == 4 else "64"
        for ns in (self.client, self.host, self.container):
            run_in(ns, ["sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"])
        for inner, name, peer_ip, host_ip in (
            (self.client, "eth0", self.client_ip, self.uplink),
            (self.container, "docker0", self.container_ip, self.bridge),
        ):
            run_in(
                self.host,
                ["ip", "link", "add", name, "type", "veth", "peer", "name", "up0", "netns", inner],
            )
            for ns, device, address in ((self.host, name, host_ip), (inner, "up0", peer_ip)):
                run_in(
                    ns,
                    [
                        "ip",
                        "addr",
                        "add",
                        f"{address}/{length}",
                        "dev",
                        device,
                        *(["nodad"] if family == 6 else []),
                    ],
                )
                run_in(ns, ["ip", "link", "set", device, "up"])
        run_in(self.container, ["ip", "route", "add", "default", "via", self.bridge])
        key = "net.ipv4.ip_forward" if family == 4 else "net.ipv6.conf.all.forwarding"
        run_in(self.host, ["sysctl", "-qw", f"{key}=1"])

    def rules(self, tool: str, *, notrack_port: int) -> None:
        """Publish 5353 and keep ``notrack_port`` untracked, with one of the tools."""
        to = f"[{self.container_ip}]:53" if self.family == 6 else f"{self.container_ip}:53"
        if tool == "nft":
            ip = "ip6" if self.family == 6 else "ip"
            text = f"""
table {ip} n {{
  chain pre {{ type nat hook prerouting priority dstnat; policy accept;
    {ip} daddr {self.uplink} udp dport 5353 dnat to {to}
  }}
  chain raw {{ type filter hook prerouting priority raw; policy accept;
    udp dport {notrack_port} notrack
  }}
}}"""
            self.run(self.host, ["nft", "-f", "-"], stdin=text)
            return
        v6 = "6" if self.family == 6 else ""
        text = (
            f"*raw\n-A PREROUTING -p udp --dport {notrack_port} -j CT --notrack\nCOMMIT\n"
            f"*nat\n-A PREROUTING -d {self.uplink} -p udp --dport 5353 -j DNAT"
            f" --to-destination {to}\nCOMMIT\n"
        )
        self.run(self.host, [f"ip{v6}tables-{tool.partition('-')[2]}-restore"], stdin=text)

    def answered(self) -> bool:
        """Tell whether a datagram to the published port reaches the container."""
        version = socket.AF_INET6 if self.family == 6 else socket.AF_INET
        with namespaces.inside(self.container):
            server = socket.socket(version, socket.SOCK_DGRAM)
            server.bind((self.container_ip, 53))
        with namespaces.inside(self.client):
            asking = socket.socket(version, socket.SOCK_DGRAM)
            asking.connect((self.uplink, 5353))
        with server, asking:
            server.settimeout(0.2)
            for _ in range(8):  # neighbour discovery may cost the first ones
                try:
                    asking.send(b"?")
                    return server.recv(10) == b"?"
                except ConnectionRefusedError:  # the host itself has no such socket
                    return False
                except socket.timeout:
                    continue
        return False

    def found(self, window: float = 0.0) -> list[Finding]:
        """Return what the condition finds within a window."""
        with namespaces.inside(self.host):
            facts = read_facts(read_host(), notrack_breaks_nat.NEEDS, window=window)
        assert saved.from_json(saved.to_json(facts), "facts") == facts
        return list(notrack_breaks_nat.detect(facts, {}))

    def facts(self, *ports: int) -> Facts:
        """Return what the condition and the fix need, for services of these ports."""
        with namespaces.inside(self.host):
            first = netfilter.read(Asking(host=HOST))
            known: dict[str, object] = {"netfilter": first}
            asked = frozenset(nat.service_topic("udp", self.uplink, port) for port in ports)
            known["nat"] = nat.read(Asking(host=HOST, known=known, topics=asked))
            known["inputs"] = inputs.read(Asking(host=HOST, topics=frozenset((inputs.TOPIC,))))
        known["links"] = Links(
            links=(Link(1, "eth0", "veth", True), Link(2, "docker0", "veth", True)),
            addresses=(
                Address(self.uplink, 24 if self.family == 4 else 64, 1, "global"),
                Address(self.bridge, 24 if self.family == 4 else 64, 2, "global"),
            ),
        )
        return Facts(host=HOST, time="", window=0, known=known)


WINDOW = 0.8


@contextlib.contextmanager
def asking(
    ns: str, to: tuple[str, int], kind: socket.SocketKind = socket.SOCK_DGRAM
) -> Iterator[None]:
    """Send datagrams from one socket, or try to connect; twenty times a second."""
    done = threading.Event()

    def send() -> None:
        with namespaces.inside(ns):
            family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as end:
                while not done.wait(0.05):
                    with contextlib.suppress(ConnectionRefusedError):
                        if kind == socket.SOCK_DGRAM:
                            end.sendto(b"?", to)
                        else:
                            socket.create_connection(to, 5).close()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def echoing(ns: str, port: int) -> Iterator[None]:
    """Answer each datagram to a port of every address."""
    with namespaces.inside(ns):
        end = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    end.bind(("::", port))
    end.settimeout(0.05)
    done = threading.Event()

    def answer() -> None:
        while not done.is_set():
            with contextlib.suppress(socket.timeout):
                end.sendto(*end.recvfrom(100))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        end.close()


MASQUERADE = """table ip n {{
  chain post {{ type nat hook postrouting priority srcnat;
    ip saddr 172.17.0.0/24 oifname "eth0" masquerade
  }}
  chain raw {{ type filter hook prerouting priority raw; {} notrack
  }}
}}"""
PUBLISH = """table ip n {{
  chain pre {{ type nat hook prerouting priority dstnat;
    ip daddr 192.0.2.10 udp dport 5353 {}
  }}
  chain raw {{ type filter hook {} priority raw; {} notrack
  }}
}}"""


def test_what_becomes_of_each_kind_of_packet(netns: Make, run_in: RunIn) -> None:
    """Each rule set in turn, with traffic that meets both rules."""
    world = World(4, netns, run_in)
    client, container, host = world.client, world.container, world.host

    def heard(
        rules: str,
        ns: str,
        to: tuple[str, int],
        serving: str = "",
        port: int = 0,
        kind: socket.SocketKind = socket.SOCK_DGRAM,
    ) -> str:
        with namespaces.inside(host):
            subprocess.run(
                ["nft", "-f", "-"], input=f"flush ruleset\n{rules}", text=True, check=True
            )
            subprocess.run(["conntrack", "-F"], capture_output=True, check=True)
        (before,) = world.found()
        assert before.verdict == "exposed", before
        served = echoing(serving, port) if serving else contextlib.nullcontext()
        with served, asking(ns, to, kind):
            (finding,) = world.found(WINDOW)
        return f"{finding.verdict}: {finding.message}"

    outside, uplink = (world.client_ip, 9999), (world.uplink, 5353)
    left = heard(MASQUERADE.format("udp dport 9999"), container, outside)
    assert left.startswith("proven: ")
    assert "left with an address" in left
    assert "172.17.0.2" in left

    to = "dnat to 172.17.0.2:53"
    undone = heard(PUBLISH.format(to, "prerouting", "udp sport 53"), client, uplink, container, 53)
    assert undone.startswith("proven: ")
    assert "answers a flow" in undone

    redirect = PUBLISH.format("redirect to :5300", "output", "udp sport 5300")
    undone = heard(redirect, client, uplink, host, 5300)
    assert undone.startswith("proven: ")
    assert "answers a flow" in undone

    web = PUBLISH.format("dnat to 172.17.0.2:80", "prerouting", "meta l4proto tcp")
    refused = heard(web.replace("udp", "tcp"), client, uplink, kind=socket.SOCK_STREAM)
    assert refused.startswith("proven: ")
    assert "this host refused it" in refused

    both = PUBLISH.format(to, "prerouting", "udp dport 5353")
    answered = heard(both, client, uplink, host, 5353)
    assert answered.startswith("active: ")
    assert "was answered" in answered


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("tool", ["nft", "iptables-nft", "iptables-legacy"])
def test_notrack_over_dnat_is_exposed_and_proven_by_a_packet(
    netns: Make, run_in: RunIn, family: int, tool: str
) -> None:
    world = World(family, netns, run_in)
    world.rules(tool, notrack_port=5353)
    assert not world.answered()
    (finding,) = world.found()
    assert finding.verdict == "exposed"
    assert "5353" in finding.message
    assert finding.details["nat"] in finding.message
    assert [f.verdict for f in world.found(WINDOW)] == ["exposed"], "nobody asks"
    with asking(world.client, (world.uplink, 5353)):
        (finding,) = world.found(WINDOW)
    assert (finding.verdict, "nobody answered" in finding.message) == ("proven", True)
    assert world.client_ip in finding.message
    assert finding.details["nat"] in finding.message


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("tool", ["nft", "iptables-nft", "iptables-legacy"])
def test_notrack_beside_nat_is_not_accused(
    netns: Make, run_in: RunIn, family: int, tool: str
) -> None:
    world = World(family, netns, run_in)
    world.rules(tool, notrack_port=5060)
    assert world.answered()
    assert notrack_breaks_nat.detect(world.facts(), {}) == ()


def test_the_fix_is_refused_over_dnat_and_allowed_beside_it(netns: Make, run_in: RunIn) -> None:
    world = World(4, netns, run_in)
    world.rules("nft", notrack_port=5060)
    facts = world.facts(5353, 5060)
    params: dict[str, object] = {"protocol": "udp", "addresses": [world.uplink]}
    refused = notrack.guard(None, facts, Terms(params={**params, "ports": [5353]}))
    assert refused is not None
    assert "dnat to 172.17.0.2:53" in refused
    assert notrack.guard(None, facts, Terms(params={**params, "ports": [5060]})) is None
    blind = notrack.guard(None, facts, Terms(params={**params, "ports": [5061]}))
    assert blind == "NAT rules could not be read: not asked for"
