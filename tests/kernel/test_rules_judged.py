"""Small firewalls beside NAT: the verdict on INVALID segments is what the kernel does with one."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml_cases
from judged_site import CONTAINER, FAR, HOST, SERVER, Site, Stray, built, judged, judged_in, load
from rules_of_others import table
from run_in import run_command

from remedies.namespaces import netns as namespaces
from remedies.netlink.socket import NETLINK_NETFILTER, Netlink, attribute

Case = Mapping[str, Any]


@pytest.fixture(scope="module")
def site(module_netns: Callable[..., str]) -> Iterator[Site]:
    with built(module_netns) as made:
        yield made


def judge(site: Site, tool: str, text: str) -> tuple[str, str]:
    """Return verdict and message on a ruleset; no finding: ``-``."""
    load(site, tool, text)
    return judged(site)


ANSWER = Stray((SERVER[0], 443), (HOST["eth0"][0], 40000))
"""To what left by masquerading."""
_HEADERS: tuple[dict[str, Any], ...] = (
    {},
    {"hops": 255},
    {"hops": 1},
    {"service": 0xB8},
    {"service": 2},
    {"data": b"still here"},
    {"options": bytes((1, 1, 8, 10)) + bytes(8)},
    {"options": bytes((1, 1, 5, 10)) + bytes(8)},
    {"mac": bytes.fromhex("020000000103")},
    {"source": (SERVER[0], 22)},
    {"source": ("127.0.0.1", 443)},
    {"destination": (HOST["eth0"][0], 700)},
    {"destination": (HOST["eth0"][0], 20000)},
)
ANSWERS = [
    ANSWER._replace(**{"destination": (HOST["eth0"][0], 40000 + at), **header})
    for at, header in enumerate(_HEADERS)
]
"""And as other senders, or by other ways, send it; and to other ports that NAT hands out."""
REQUEST = Stray((SERVER[0], 50000), (HOST["eth0"][0], 8080))
"""To a published port, of which the next is the answer."""
PUBLISHED_ANSWER = Stray((CONTAINER[0], 80), (SERVER[0], 50000))
INVALID = "-A INPUT -m conntrack --ctstate INVALID -j DROP"
MASQUERADE = table("nat", "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE")
SITE = """
table ip site { chain post { type nat hook postrouting priority srcnat;
  oifname "eth0" ip saddr 172.17.0.0/16 masquerade
  }
}
table inet f {
"""


CASES: dict[str, dict[str, Case]] = yaml_cases.read(
    Path(__file__).with_name("shapes_invalid.yaml").read_text()
)
"""By what the segments are about, then by name: what that file says in its first lines."""


def ruleset(case: Case, nat: str = MASQUERADE) -> tuple[str, str]:
    """Return the tool that loads a case, and what it loads."""
    if "rules" in case:
        chain = {"hook": "input", "priority": "filter", **case}
        return "nft", nft([chain], case.get("beside", ""))
    if "chains" in case:
        return "nft", nft(case["chains"], case.get("beside", ""))
    tables = [table(name, *case[name]) for name in ("raw", "mangle") if name in case]
    lines = [*case.get("filter", ()), *(f"-A INPUT {rule}" for rule in case.get("input", ()))]
    lines += [INVALID] if "input" in case else []
    return "iptables-nft-restore", "".join([nat, *tables, table("filter", *lines)])


def nft(chains: Iterable[Case], beside: str) -> str:
    """Return masquerading and base chains, for nft."""
    bases = [
        f"chain c{at} {{ type filter hook {each['hook']} priority {each['priority']}; "
        f"policy {each.get('policy', 'accept')};\n" + "\n".join(each["rules"]) + "\n}"
        for at, each in enumerate(chains)
    ]
    return "\n".join([SITE, beside, *bases, "}\n"])


@pytest.mark.parametrize("case", CASES["masqueraded"])
def test_the_verdict_is_what_the_kernel_does(site: Site, case: str) -> None:
    verdict, message = judge(site, *ruleset(CASES["masqueraded"][case]))
    if case == "a mark made of addresses":  # somebody else's arithmetic
        assert (verdict, "INPUT -m mark --mark 0x1 -j ACCEPT" in message) == ("unknown", True)
        return
    assert verdict == ("exposed" if site.server.answered(ANSWERS) else "mitigated"), message


POOL = (HOST["eth0"][0], 2500)
OWN_PORTS = table("nat", "-A POSTROUTING -s 172.17.0.0/16 -o eth0 -p tcp -j SNAT --to-source "
                  "10.21.17.99:2000-2999")  # fmt: skip
OWN_ADDRESS = table("nat", "-A POSTROUTING -s 172.17.0.0/16 -o eth0 -p tcp -j MASQUERADE "
                    "--to-ports 2000-2999")  # fmt: skip


@pytest.mark.parametrize("case", CASES["given"])
def test_addresses_and_ports_that_a_rule_gives_out(site: Site, case: str) -> None:
    answer = Stray((SERVER[0], 443), POOL)
    for nat in (OWN_PORTS, OWN_ADDRESS):
        verdict, message = judge(site, *ruleset(CASES["given"][case], nat))
        assert verdict == ("exposed" if site.server.answered([answer]) else "mitigated"), message


LEAVES = "-A POSTROUTING -s 172.17.0.0/16 -o eth0"
NOBODYS = {
    "all are let by first": ("-A POSTROUTING -j RETURN", f"{LEAVES} -j MASQUERADE"),
    "these are let by first": (
        "-A POSTROUTING -s 172.16.0.0/12 -j ACCEPT", f"{LEAVES} -j MASQUERADE"
    ),
    "others are let by first": (
        "-A POSTROUTING -s 172.18.0.0/16 -j ACCEPT", f"{LEAVES} -j MASQUERADE"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(NOBODYS))
def test_a_rule_that_no_packet_gets_to_is_no_nat(site: Site, case: str) -> None:
    verdict, message = judge(site, "iptables-nft-restore", table("nat", *NOBODYS[case]))
    assert verdict == ("exposed" if case.startswith("others") else "-"), message


AWAY = {
    "a pool of a router": ("-A POSTROUTING -s 172.17.0.0/16 -j SNAT --to-source 198.51.100.7"
                           "-198.51.100.9",),
    "a network for a network": (
        "-A PREROUTING -d 198.51.100.0/24 -j NETMAP --to 172.17.0.0/24",
        "-A POSTROUTING -s 172.17.0.0/24 -j NETMAP --to 198.51.100.0/24",
    ),
    "an address of a service": (
        "-A PREROUTING -d 198.51.100.7/32 -p tcp -j DNAT --to-destination 172.17.0.2:80",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", AWAY)
def test_nat_that_stands_for_addresses_of_nobody_here(site: Site, case: str) -> None:
    """Nobody here answers what is not translated back; a container's own is another matter."""
    nat = table("nat", *AWAY[case])
    publishes = any("PREROUTING" in line for line in AWAY[case])
    verdict, message = judge(site, "iptables-nft-restore", nat)
    assert verdict == ("exposed" if publishes else "-"), message
    to_it = [Stray((SERVER[0], 443), ("198.51.100.7", port)) for port in (80, 40000)]
    assert not site.server.answered(to_it)
    if publishes:
        assert site.container.answered([PUBLISHED_ANSWER])
        denied = table("filter", "-A FORWARD -m conntrack --ctstate INVALID -j DROP")
        assert judge(site, "iptables-nft-restore", nat + denied)[0] == "mitigated"
        assert not site.container.answered([PUBLISHED_ANSWER])
        assert not site.server.answered(to_it)


def mapped(hook: str, nat: str, forward: Iterable[str]) -> str:
    """Return NAT by a map, a drop on input where it publishes, and rules on forward."""
    base = "chain {0} {{ type {1} hook {0} priority {2}; {3}\n}}"
    chains = [base.format(hook, "nat", 0, nat)]
    if hook == "prerouting":
        chains.append(base.format("input", "filter", 0, "ct state invalid drop"))
    chains.append(base.format("forward", "filter", 0, "\n".join(forward)))
    none = "map none { type ipv4_addr : ipv4_addr; }"
    return "\n".join(["table ip n {", none, *chains, "}"])


@pytest.mark.parametrize("case", CASES["leaving"])
def test_sources_that_a_map_gives(site: Site, case: str) -> None:
    nat, *forward = CASES["leaving"][case]
    verdict, message = judge(site, "nft", mapped("postrouting", nat, forward))
    given = [address for address in (HOST["eth0"][0], "198.51.100.7") if address in nat]
    asked = [
        Stray((SERVER[0], 443), (address, port)) for address in given for port in (2500, 40000)
    ]
    assert verdict == ("exposed" if site.server.answered(asked) else "-"), message


@pytest.mark.parametrize("case", CASES["entering"])
def test_destinations_that_a_map_gives(site: Site, case: str) -> None:
    nat, *forward = CASES["entering"][case]
    verdict, message = judge(site, "nft", mapped("prerouting", nat, forward))
    assert verdict == ("exposed" if dies(site) else "mitigated"), message


@pytest.mark.parametrize("accepts", ["", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"])
def test_each_port_of_a_machine_behind(site: Site, accepts: str) -> None:
    """A service of it may have a number that one of this host has."""
    nat = table("nat", f"-A PREROUTING -d {HOST['eth0'][0]}/32 -i eth0 -p tcp -j DNAT "
                f"--to-destination {CONTAINER[0]}")  # fmt: skip
    denied = "-A FORWARD -m conntrack --ctstate INVALID -j DROP"
    lines = [line for line in (denied, accepts, INVALID) if line]
    verdict, message = judge(site, "iptables-nft-restore", nat + table("filter", *lines))
    requests = [Stray((SERVER[0], 50000), (HOST["eth0"][0], port)) for port in (22, 80)]
    assert verdict == ("exposed" if site.server.answered(requests) else "mitigated"), message


def test_what_a_program_decides_is_unknown(site: Site) -> None:
    header, bind = struct.pack(">BBH", 0, 0, 7), attribute(1, bytes([1, 0, 0, 0]))
    with namespaces.inside(site.host), Netlink(NETLINK_NETFILTER) as program:
        program.request(3 << 8 | 2, header + bind)  # NFQNL_MSG_CONFIG: bind to queue 7
        for bypass in ("", " --queue-bypass"):
            rule = f"-j NFQUEUE --queue-num 7{bypass}"
            for rules in ([rule, "-j DROP"], [rule]):
                verdict, message = judge(site, *ruleset({"input": rules}))
                assert (verdict, rule in message) == ("unknown", True), message


DOCKER = table("nat", "-A PREROUTING ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT "
               "--to-destination 172.17.0.2:80")  # fmt: skip


def dies(site: Site) -> bool:
    """Tell whether a connection to the published port dies of its own segments, either way."""
    return bool(site.server.answered([REQUEST]) or site.container.answered([PUBLISHED_ANSWER]))


@pytest.mark.parametrize("case", CASES["published"])
def test_a_published_port(site: Site, case: str) -> None:
    verdict, message = judge(site, *ruleset(CASES["published"][case], DOCKER))
    assert verdict == ("exposed" if dies(site) else "mitigated"), message


OWN_ANSWERS = [Stray((CONTAINER[0], 80), (HOST[link][0], 40000)) for link in HOST]
"""To the host's own connections to its published port: from the container, NAT not undone."""
OWN = DOCKER.replace(
    "COMMIT",
    "-A OUTPUT ! -d 127.0.0.0/8 -p tcp -m tcp --dport 8080 -m addrtype --dst-type LOCAL -j DNAT "
    "--to-destination 172.17.0.2:80\nCOMMIT",
)


@pytest.mark.parametrize("case", CASES["asked"])
def test_a_published_port_that_the_host_itself_asks(site: Site, case: str) -> None:
    verdict, message = judge(site, *ruleset(CASES["asked"][case], OWN))
    ends = dies(site) or bool(site.container.answered(OWN_ANSWERS))
    assert verdict == ("exposed" if ends else "mitigated"), message


def test_the_accept_is_named(site: Site) -> None:
    verdict, message = judge(site, *ruleset({"input": ["-i eth0 -j ACCEPT"]}))
    assert verdict == "exposed"
    assert "'-A INPUT -i eth0 -j ACCEPT'" in message
    assert "input (IPv4)" in message
    verdict, message = judge(site, *ruleset({"input": ["-i docker0 -j ACCEPT"]}))
    assert (verdict, "docker0 -j ACCEPT" in message) == ("mitigated", False)


@pytest.mark.parametrize("condition", ["@nh,64,8 64", "tcp option sack left 1-99"])
def test_what_is_not_understood_is_unknown(site: Site, condition: str) -> None:
    """Unless it concerns others, stands behind the drop, or all is open anyway."""
    accept, drop = f"{condition} accept", "ct state invalid drop"
    verdict, message = judge(site, *ruleset({"rules": [accept, drop]}))
    assert (verdict, " f c0)" in message) == ("unknown", True)
    for rules, known in (
        ((drop, accept), "mitigated"),
        ((f"tcp dport 22 {accept}", drop), "mitigated"),
        ((f'iifname "docker0" {accept}', drop), "mitigated"),
        ((f"ct state established {accept}", drop), "mitigated"),
        ((accept,), "exposed"),
        ((accept, "tcp flags ack accept", drop), "exposed"),
        ((f"{condition} drop",), "exposed"),
    ):
        assert judge(site, *ruleset({"rules": rules}))[0] == known, rules


SOME = {
    "route {} 203.0.113.0/24 dev eth0 realm 9": ("rt classid 7", "rt classid 0"),
    "route {} 203.0.113.0/24 nexthop dev eth0 realm 9 nexthop dev docker0": ("rt classid 7",),
    "rule {} to 203.0.113.0/24 table main realm 9 priority 77": ("rt classid 7",),
    "xfrm policy {} src 203.0.113.0/24 dir in": ("meta secpath exists", "ipsec in reqid 3"),
}


@pytest.mark.parametrize("made", SOME)
def test_where_there_are_realms_or_ipsec_it_is_not_told_which_packets_have_them(
    site: Site, made: str
) -> None:
    added, deleted = ("add", "delete") if "policy" in made else ("add", "del")
    run_command(site.host, ["ip", *made.format(added).split()])
    try:
        for condition in SOME[made]:
            rules = [f"{condition} accept", "ct state invalid drop"]
            assert judge(site, *ruleset({"rules": rules}))[0] == "unknown"
    finally:
        run_command(site.host, ["ip", *made.format(deleted).split()])


def test_nat_of_udp_behind_a_jump_rewrites_no_tcp(site: Site) -> None:
    lines = (
        ":HIJACK - [0:0]",
        "-A PREROUTING -i docker0 -p udp -m udp --dport 53 -j HIJACK",
        "-A HIJACK -j DNAT --to-destination 172.17.0.1",
    )
    assert judge(site, "iptables-nft-restore", table("nat", *lines)) == ("-", "")


OUTPUT = "-A OUTPUT -p tcp -m tcp --dport 80 -j"
HERE = {
    "redirect": table("nat", f"{OUTPUT} REDIRECT --to-ports 15001"),
    "to the loopback address": table("nat", f"{OUTPUT} DNAT --to-destination 127.0.0.1:15001"),
    "docker's own resolver": table(
        "nat",
        "-A OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination "
        "127.0.0.11:34000",
        "-A POSTROUTING -s 127.0.0.11/32 -p tcp -m tcp --sport 34000 -j SNAT --to-source :53",
    ),
}
ELSEWHERE = {
    "to another machine": table("nat", f"{OUTPUT} DNAT --to-destination 192.0.2.77:80"),
    "redirect of what comes in": table(
        "nat", f"{OUTPUT} REDIRECT --to-ports 15001",
        "-A PREROUTING -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 15006",
    ),
}  # fmt: skip


@pytest.mark.parametrize("tool", ["iptables-nft-restore", "iptables-legacy-restore"])
def test_nat_of_what_never_leaves_this_host_is_no_exposure(
    netns: Callable[..., str], tool: str
) -> None:
    ns = netns("own")
    for text in HERE.values():
        run_command(ns, [tool], stdin=text)
        assert judged_in(ns) == ("-", ""), text


@pytest.mark.parametrize("case", list(ELSEWHERE))
def test_nat_of_what_leaves_this_host_is_one(site: Site, case: str) -> None:
    verdict, message = judge(site, "iptables-nft-restore", ELSEWHERE[case])
    strays = [REQUEST, Stray((FAR[0], 80), (HOST["eth0"][0], 40000))]
    assert site.server.answered(strays)
    assert verdict == "exposed", message


@pytest.mark.parametrize("loose", [0, 1])
@pytest.mark.parametrize("version", [0, 1], ids=["v4", "v6"])
def test_nobody_outside_ends_a_connection_that_is_redirected_here(
    site: Site, version: int, loose: int
) -> None:
    """What answers a segment from outside is no end of the connection: it lives on."""
    ip = ("ip", "ip6")[version]
    rules = "tcp dport 80 redirect to :15001"
    chain = f"chain o {{ type nat hook output priority -100; {rules}\n}}"
    load(site, "nft", f"table {ip} r {{ {chain}\n}}")
    key = f"net.netfilter.nf_conntrack_tcp_loose={loose}"
    run_command(site.host, ["sysctl", "-qw", key])
    server, here = SERVER[version], HOST["eth0"][version]
    loopback = ("127.0.0.1", "::1")[version]
    family = (socket.AF_INET, socket.AF_INET6)[version]
    try:
        with namespaces.inside(site.host):
            proxy = socket.create_server((loopback, 15001), family=family)
            program = socket.create_connection((server, 80), 5)
        with proxy, program, proxy.accept()[0] as taken:
            own = program.getsockname()[1]
            proxy.settimeout(5)
            sources = [(server, 80), (server, 15001)]
            strays = [Stray(at, (here, port)) for at in sources for port in (own, 15001)]
            site.server.answered(strays * 20)
            for one, other in ((program, taken), (taken, program)):
                one.settimeout(5)
                one.sendall(b"still here")
                assert other.recv(100) == b"still here"
    finally:
        run_command(site.host, ["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0"])
