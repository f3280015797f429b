"""Sets of ipset in rules of both variants: what is read is what the kernel looks packets up by."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import pytest
from rules_of_others import ASKING, table
from run_in import run_command

from remedies.conditions import notrack_breaks_nat as condition
from remedies.facts import netfilter
from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.namespaces import netns as namespaces
from remedies.rules.matching import conjoin
from remedies.rules.rule import Match, PacketRule

SETS = """\
create hip hash:ip
add hip 10.9.0.2
create masked hash:ip netmask 30
add masked 10.9.0.4
create hnet hash:net
add hnet 10.9.0.0/29
add hnet 10.9.0.2 nomatch
create timed hash:ip timeout 600
add timed 10.9.0.3
create gone hash:ip
create ipport hash:ip,port
add ipport 10.9.0.2,udp:5060
add ipport 10.9.0.3,tcp:80
add ipport 10.9.0.2,gre:0
create netport hash:net,port
add netport 10.9.0.0/30,udp:1000-1003
create ipportnet hash:ip,port,net
add ipportnet 10.9.0.2,udp:5060,10.9.0.0/30
create ipportip hash:ip,port,ip
add ipportip 10.9.0.2,udp:5060,10.9.0.3
create bports bitmap:port range 0-9000
add bports 1000-1010
add bports 5060
create bips bitmap:ip range 10.9.0.0/28
add bips 10.9.0.1
add bips 10.9.0.5
create links hash:net,iface
add links 10.9.0.0/30,lo
add links 10.9.0.4/30,eth9
create six hash:ip family inet6
add six fd09::2
create six-port hash:ip,port family inet6
add six-port fd09::2,udp:5060
create all list:set
add all hip
add all six
add all ipport
create nested hash:net
add nested 10.9.0.0/24
add nested 10.9.0.0/29 nomatch
add nested 10.9.0.2
create macs bitmap:ip,mac range 10.9.0.0/28
create many hash:net,port
"""
IPV4 = (
    "hip src", "hip dst", "! hip dst", "masked dst", "! masked src", "hnet src", "hnet dst",
    "timed src", "gone dst", "! gone dst", "ipport dst,dst", "ipport src,src", "ipport dst,src",
    "ipport dst", "netport dst,dst", "! netport dst,dst", "ipportnet dst,dst,src",
    "! ipportip dst,dst,src", "ipportip src,src,dst", "bports dst", "! bports src", "bips src",
    "! bips dst", "links dst,dst", "links src,src", "all dst,dst", "all src", "! all src",
)  # fmt: skip
IPV6 = ("six src", "! six dst", "six-port dst,dst", "six-port src,src", "all src", "all dst,dst")
NOT_READ = (
    "nested dst",
    "! hnet src",
    "! ipport dst,dst",
    "! all dst,dst",
    "macs src,src",
    "many dst",
)
RESTORE = {
    "iptables-nft": ("iptables-nft", "ip"),
    "iptables-legacy": ("iptables-legacy", "ip"),
    "ip6tables-nft": ("iptables-nft", "ip6"),
    "ip6tables-legacy": ("iptables-legacy", "ip6"),
}


def words(rule: str) -> str:
    """Return a rule as iptables-save prints it."""
    name = rule.removeprefix("! ")
    return f"-A OUTPUT -m set {'! ' * (name != rule)}--match-set {name} -j NOTRACK"


class Packet(NamedTuple):
    protocol: str
    source: str
    source_port: int
    destination: str
    port: int

    @property
    def match(self) -> Match:
        return Match(
            protocols=(self.protocol,),
            sources=(self.source,),
            destinations=(self.destination,),
            source_ports=((self.source_port, self.source_port),),
            destination_ports=((self.port, self.port),),
            out_interfaces=("lo",),
        )

    def send(self) -> None:
        kind = socket.SOCK_STREAM if self.protocol == "tcp" else socket.SOCK_DGRAM
        version = socket.AF_INET6 if ":" in self.source else socket.AF_INET
        with socket.socket(version, kind) as end:
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            end.bind((self.source, self.source_port))
            if self.protocol == "tcp":
                end.connect_ex((self.destination, self.port))
            else:
                end.sendto(b"x", (self.destination, self.port))


PACKETS = (
    Packet("udp", "10.9.0.1", 4000, "10.9.0.2", 5060),
    Packet("udp", "10.9.0.2", 5060, "10.9.0.3", 1001),
    Packet("udp", "10.9.0.3", 1000, "10.9.0.2", 5060),
    Packet("tcp", "10.9.0.1", 4001, "10.9.0.3", 80),
    Packet("udp", "10.9.0.5", 5061, "10.9.0.6", 9001),
    Packet("tcp", "10.9.0.2", 5060, "10.9.0.1", 5060),
    Packet("udp", "10.9.0.6", 80, "10.9.0.3", 80),
    Packet("udp", "fd09::1", 4000, "fd09::2", 5060),
    Packet("udp", "fd09::2", 5060, "fd09::1", 53),
)


@pytest.fixture(scope="module")
def ns(module_netns: Callable[..., str]) -> str:
    made = module_netns("is")
    addresses = [f"addr add 10.9.0.{n}/24 dev lo" for n in range(1, 7)]
    addresses += [f"addr add fd09::{n}/64 dev lo nodad" for n in (1, 2)]
    run_command(made, ["ip", "-batch", "-"], stdin="\n".join(addresses))
    full = "".join(f"add many 10.{n >> 8}.{n & 255}.0/24,udp:{n}\n" for n in range(2049))
    run_command(made, ["ipset", "restore"], stdin=SETS + full)
    for program in RESTORE:
        rules = (*IPV4, *NOT_READ) if program.startswith("iptables") else IPV6
        text = table("raw", *map(words, rules))
        run_command(made, [f"{program}-restore"], stdin=text)
    # What a packet would be answered with is sent by OUTPUT, too.
    sink = (
        "table inet sink { chain p { type filter hook prerouting priority -500; policy drop; }; }"
    )
    run_command(made, ["nft", sink])
    return made


def read(ns: str) -> dict[tuple[str, str, str], list[PacketRule]]:
    """Return the ways of each rule, by backend, family and text."""
    with namespaces.inside(ns):
        fact = netfilter.read(ASKING)
    assert fact.unread == fact.unread_notracks == ()
    found: dict[tuple[str, str, str], list[PacketRule]] = {}
    for rule in fact.notracks:
        found.setdefault((rule.backend, rule.family, rule.text), []).append(rule)
    return found


def counted(ns: str) -> Counter[tuple[str, str, str]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for program, place in RESTORE.items():
        saved = run_command(ns, [f"{program}-save", "-c", "-t", "raw"]).stdout
        for packets, text in re.findall(r"^\[(\d+):\d+\] (-A .*)$", saved, re.MULTILINE):
            found[(*place, text)] += int(packets)
    return found


def test_every_packet_that_a_rule_counts_is_in_what_was_read_and_no_other(ns: str) -> None:
    ways = read(ns)
    before, hits = counted(ns), 0
    for packet in PACKETS:
        with namespaces.inside(ns):
            packet.send()
        after = counted(ns)
        version = "ip6" if ":" in packet.source else "ip"
        for rule in IPV6 if version == "ip6" else IPV4:
            for backend in ("iptables-nft", "iptables-legacy"):
                key = (backend, version, words(rule))
                rules = ways.get(key, [])
                assert not [name for one in rules for name in one.match.unmodelled], key
                met = any(conjoin(one.match, packet.match) for one in rules)
                assert met == bool(after[key] - before[key]), (key, packet)
                hits += met
        before = after
    assert hits > 60


def test_what_is_not_understood_is_named(ns: str) -> None:
    ways = read(ns)
    reasons = [
        "ipset nested: nomatch",
        "not in ipset hnet",
        "not in ipset ipport",
        "not in ipset all",
        "ipset macs: type bitmap:ip,mac",
        "ipset many has over 2048 entries",
    ]
    for rule, reason in zip(NOT_READ, reasons):
        for backend in ("iptables-nft", "iptables-legacy"):
            (only,) = ways[backend, "ip", words(rule)]
            assert only.match == Match(unmodelled=(reason,))


PORTS = "create voip hash:ip,port\nadd voip 192.0.2.10,udp:5060\n"
RULES = table("raw", "-A PREROUTING -p udp -m set --match-set voip dst,dst -j CT --notrack")
RULES += table(
    "nat", "-A PREROUTING -d 192.0.2.10 -p udp --dport 5300 -j DNAT --to-destination 172.17.0.2:53"
)


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_a_notrack_rule_by_a_set_is_judged_by_what_the_set_holds(
    netns: Callable[..., str], variant: str
) -> None:
    ns = netns("isn")
    run_command(ns, ["ip", "addr", "add", "192.0.2.10/32", "dev", "lo"])
    run_command(ns, ["ipset", "restore"], stdin=PORTS)
    run_command(ns, [f"iptables-{variant}-restore"], stdin=RULES)
    with namespaces.inside(ns):
        assert condition.detect(read_facts(read_host(), condition.NEEDS), {}) == ()
        run_command(ns, ["ipset", "add", "voip", "192.0.2.10,udp:5300"])
        (found,) = condition.detect(read_facts(read_host(), condition.NEEDS), {})
        assert found.verdict in ("proven", "exposed")
        assert "--match-set voip dst,dst" in found.message
