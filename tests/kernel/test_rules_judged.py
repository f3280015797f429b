"""Small firewalls beside NAT: the verdict on INVALID segments is what the kernel does with one.

Container, host and server. With ``nf_conntrack_tcp_loose = 0`` an acknowledgment of no known
connection is INVALID, as a segment outside the window is, and no rule can tell the two apart:
neither has a conntrack entry. A reset that is heard is the fault: from the host on its own address,
or from the server at what the host forwarded with a container's address.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from rules_of_others import facts_of, table
from run_in import run_command

from remedies.conditions import tcp_invalid_reset
from remedies.facts import Facts, name_of
from remedies.facts.counters import Counters
from remedies.facts.sysctl import Sysctl
from remedies.facts.tap import Tap
from remedies.lab.segment import checksum
from remedies.model import Host
from remedies.namespaces import netns as namespaces

_ACK, _RST = 0x10, 0x04
_WAIT = 0.3
"""Seconds; each way is three hops in one machine."""


def segment(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """Return an acknowledgment of no known connection."""
    ports = source[1], destination[1]
    ends = b"".join(socket.inet_aton(a) for a, _ in (source, destination))

    def header(total: int) -> bytes:
        return struct.pack(">HHIIBBHHH", *ports, 1000, 2000, 5 << 4, _ACK, 65000, total, 0)

    return header(checksum(ends + struct.pack(">HH", 6, 20) + header(0)))


class Peer(NamedTuple):
    """Who sends a segment, from and to where, and whom it would be answered by."""

    sends: socket.socket
    source: tuple[str, int]
    destination: tuple[str, int]

    def reset(self) -> bool:
        """Send an INVALID segment; tell whether a reset answers it."""
        while select.select([self.sends], [], [], 0)[0]:
            self.sends.recv(2000)
        ports = self.source[1], self.destination[1]
        self.sends.sendto(segment(self.source, self.destination), (self.destination[0], 0))
        while select.select([self.sends], [], [], _WAIT)[0]:
            packet = self.sends.recv(2000)
            body = packet[4 * (packet[0] & 15) :]
            if struct.unpack_from(">HH", body) == ports[::-1] and body[13] & _RST:
                return True
        return False


class Site(NamedTuple):
    """The host's namespace, and who sends to and through it."""

    host: str
    server_ns: str
    server: Peer
    container: Peer


@pytest.fixture(scope="module")
def site(module_netns: Callable[..., str]) -> Iterator[Site]:
    host, server, container = (module_netns(name) for name in ("jh", "js", "jc"))
    for other, link, ours, theirs in (
        (server, "eth0", "10.21.17.99/24", "10.21.17.1/24"),
        (container, "docker0", "172.17.0.1/16", "172.17.0.2/16"),
    ):
        pair = ["link", "add", link, "type", "veth", "peer", "name", "up0", "netns", other]
        run_command(host, ["ip", *pair])
        for ns, name, address in ((host, link, ours), (other, "up0", theirs)):
            run_command(ns, ["ip", "address", "add", address, "dev", name])
            run_command(ns, ["ip", "link", "set", name, "up"])
        route = ["route", "add", "default", "via", ours.partition("/")[0]]
        run_command(other, ["ip", *route])
    run_command(host, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    run_command(host, ["nft", "add table ip warm; add chain ip warm c { type nat hook input "
                       "priority 0; }; delete table ip warm"])  # fmt: skip
    run_command(host, ["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0"])
    sockets = []
    for ns in (server, container):
        with namespaces.inside(ns):
            sockets.append(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))
    peer = Peer(sockets[0], ("10.21.17.1", 443), ("10.21.17.99", 40000))
    inner = Peer(sockets[1], ("172.17.0.2", 80), ("10.21.17.1", 50000))
    yield Site(host, server, peer, inner)
    for opened in sockets:
        opened.close()


def judge(site: Site, tool: str, text: str) -> tuple[str, str]:
    """Return verdict and message on a ruleset; no finding: ``-``."""
    run_command(site.host, ["nft", "flush ruleset"])
    run_command(site.host, ["nft", "-f", "-"] if tool == "nft" else [tool], stdin=text)
    fact, _ = facts_of(site.host)
    assert fact.unread == ()
    moved = {"nf_conntrack.invalid": 0, "Tcp.OutRsts": 0}
    probes = (fact, Sysctl(), Counters(first=moved, last=moved), Tap())
    known: dict[str, object] = {name_of(type(probe)): probe for probe in probes}
    found = tcp_invalid_reset.detect(Facts(Host("", "", "", "", ""), "", 1.0, known), {})
    return (found[0].verdict, found[0].message) if found else ("-", "")


STATE = "-m conntrack --ctstate"
MASQUERADE = table("nat", "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE")
SITE = """
table ip site { chain post { type nat hook postrouting priority srcnat;
  oifname "eth0" ip saddr 172.17.0.0/16 masquerade
  }
}
table inet f {
"""


def inputs(*rules: str) -> tuple[str, str]:
    lines = [f"-A INPUT {rule}" for rule in rules]
    drop = f"-A INPUT {STATE} INVALID -j DROP"
    return "iptables-nft-restore", MASQUERADE + table("filter", *lines, drop)


def native(policy: str, *rules: str, chains: str = "", hook: str = "input") -> tuple[str, str]:
    body = "\n".join(rules)
    base = f"type filter hook {hook} priority filter; policy {policy};"
    return "nft", f"{SITE}{chains}\nchain base {{ {base}\n{body}\n}}\n}}\n"


TRUSTED = "chain trusted { ip saddr 192.0.2.0/24 accept\n accept\n }"
REFUSE = "chain refuse { counter drop\n }"
ZONES = "chain wan { ct state invalid drop\n }\nchain lan { accept\n }"
RULESETS = {
    # what accepts them before the drop
    "the uplink is trusted": inputs("-i eth0 -j ACCEPT"),
    "uplinks are trusted": inputs("-i eth+ -j ACCEPT"),
    "ports of replies": inputs("-p tcp -m tcp --dport 32768:60999 -j ACCEPT"),
    "all high ports": inputs("-p tcp -m tcp --dport 1024:65535 -j ACCEPT"),
    "an acknowledgment": inputs("-p tcp -m tcp --tcp-flags ACK ACK -j ACCEPT"),
    "no SYN": inputs("-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT"),
    "the server's network": inputs("-s 10.21.0.0/16 -j ACCEPT"),
    "everything": inputs("-p tcp -j ACCEPT"),
    "a chain that accepts": native(
        "accept", 'iifname "eth0" jump trusted', "ct state invalid drop", chains=TRUSTED
    ),
    "a zone that accepts": native(
        "drop", 'iifname vmap { "eth0" : jump lan, "docker0" : jump wan }', chains=ZONES
    ),
    "a mark that is set first": native(
        "accept", "ct state invalid meta mark set 0", "meta mark 0 accept", "ct state invalid drop"
    ),
    # what concerns others
    "the bridge is trusted": inputs("-i docker0 -j ACCEPT"),
    "one service": inputs("-p tcp -m tcp --dport 22 -j ACCEPT"),
    "services": inputs("-p tcp -m multiport --dports 22,80,443 -j ACCEPT"),
    "only SYN": inputs("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT"),
    "UDP": inputs("-p udp -j ACCEPT"),
    "a mark that nobody sets": inputs("-m mark --mark 0x4000/0x4000 -j ACCEPT"),
    "translated flows": native("accept", "ct status dnat accept", "ct state invalid drop"),
    "connmarks": inputs("-m connmark --mark 0x1 -j ACCEPT"),
    # drops
    "by link": native("accept", 'iifname "eth0" ct state invalid drop'),
    "frames for this host": native("accept", "meta pkttype host ct state invalid drop"),
    "by another link": native("accept", 'iifname "docker0" ct state invalid drop'),
    "by zone": native(
        "accept", 'iifname vmap { "eth0" : jump wan, "docker0" : jump lan }', chains=ZONES
    ),
    "default deny": native(
        "drop", "ct state established,related accept", "tcp dport 22 accept",
        "meta pkttype != host jump refuse", chains=REFUSE,
    ),
    "a jump to what drops": native("accept", "ct state invalid jump refuse", chains=REFUSE),
    "on output": native("accept", "ct state invalid drop", hook="output"),
    "on output, by flags": native(
        "accept", "tcp flags & (rst | ack) == rst ct state invalid drop", hook="output"
    ),
    "on output, by other flags": native(
        "accept", "tcp flags & (rst | ack) == ack ct state invalid drop", hook="output"
    ),
    "IPv6 alone, in an inet table": native(
        "accept", "meta nfproto ipv6 accept", "ct state invalid drop"
    ),
    "every state but": native(
        "accept", "ct state != { established, related, new, untracked } drop"
    ),
    "nothing": native("accept", "counter"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(RULESETS))
def test_the_verdict_is_what_the_kernel_does(site: Site, case: str) -> None:
    verdict, message = judge(site, *RULESETS[case])
    assert verdict == ("exposed" if site.server.reset() else "mitigated"), message


DOCKER = table("nat", "-A PREROUTING ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT "
               "--to-destination 172.17.0.2:80")  # fmt: skip
FORWARDS = {
    "docker's accept first": ("-i docker0 ! -o docker0 -j ACCEPT", f"{STATE} INVALID -j DROP"),
    "docker's accepts first": (
        "-i docker0 ! -o docker0 -j ACCEPT",
        "-d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT",
        f"{STATE} INVALID -j DROP",
    ),
    "the drop first": (f"{STATE} INVALID -j DROP", "-i docker0 ! -o docker0 -j ACCEPT"),
    "accepts between containers": ("-i docker0 -o docker0 -j ACCEPT", f"{STATE} INVALID -j DROP"),
    "direct access is dropped": ("-d 172.17.0.2/32 ! -i docker0 -j DROP",),
    "direct access from elsewhere": ("-d 172.17.0.2/32 -i docker0 -j DROP",),
    "accepts what comes in": ("-o docker0 -j ACCEPT", f"{STATE} INVALID -j DROP"),
}


@pytest.mark.parametrize("case", list(FORWARDS))
def test_what_is_forwarded_too(site: Site, case: str) -> None:
    lines = [f"-A FORWARD {rule}" for rule in FORWARDS[case]]
    text = DOCKER + table("filter", *lines)
    if case.startswith("direct"):
        text = DOCKER + table("raw", *(f"-A PREROUTING {rule}" for rule in FORWARDS[case]))
    verdict, message = judge(site, "iptables-nft-restore", text)
    assert verdict == ("exposed" if site.container.reset() else "mitigated"), message


def test_the_accept_is_named(site: Site) -> None:
    verdict, message = judge(site, *inputs("-i eth0 -j ACCEPT"))
    assert verdict == "exposed"
    assert "'-A INPUT -i eth0 -j ACCEPT'" in message
    assert "input (IPv4)" in message
    verdict, message = judge(site, *inputs("-i docker0 -j ACCEPT"))
    assert (verdict, "docker0 -j ACCEPT" in message) == ("mitigated", False)


def test_nat_of_udp_behind_a_jump_rewrites_no_tcp(site: Site) -> None:
    lines = (
        ":HIJACK - [0:0]",
        "-A PREROUTING -i docker0 -p udp -m udp --dport 53 -j HIJACK",
        "-A HIJACK -j DNAT --to-destination 172.17.0.1",
    )
    assert judge(site, "iptables-nft-restore", table("nat", *lines)) == ("-", "")
