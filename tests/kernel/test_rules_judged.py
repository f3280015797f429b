"""Small firewalls beside NAT: the verdict on INVALID segments is what the kernel does with one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from judged_site import CONTAINER, FAR, HOST, SERVER, Site, Stray, built, judged, judged_in, load
from rules_of_others import table
from run_in import run_command

from remedies.namespaces import netns as namespaces


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
REQUEST = Stray((SERVER[0], 50000), (HOST["eth0"][0], 8080))
"""To a published port, of which the next is the answer."""
PUBLISHED_ANSWER = Stray((CONTAINER[0], 80), (SERVER[0], 50000))
STATE = "-m conntrack --ctstate"
INVALID = f"-A INPUT {STATE} INVALID -j DROP"
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
    return "iptables-nft-restore", MASQUERADE + table("filter", *lines, INVALID)


def resets(owner: str, chain: str = "OUTPUT") -> tuple[str, str]:
    """Return a drop of resets by their owner, and nothing on input."""
    drop = f"-A {chain} -m owner {owner} {STATE} INVALID -j DROP"
    return "iptables-nft-restore", MASQUERADE + table("mangle", drop)


def chains(*bodies: tuple[str, str, str]) -> tuple[str, str]:
    """Return base chains by hook, priority and rules."""
    return "nft", SITE + "\n".join(
        f"chain c{at} {{ type filter hook {hook} priority {priority};\n{rules}\n}}"
        for at, (hook, priority, rules) in enumerate(bodies)
    ) + "\n}\n"  # fmt: skip


OBJECTS = """limit some { rate over 1/day }
quota little { over 900 mbytes }
counter each { }
"""


def native(policy: str, *rules: str, chains: str = "", hook: str = "input") -> tuple[str, str]:
    body = "\n".join(rules)
    base = f"type filter hook {hook} priority filter; policy {policy};"
    return "nft", f"{SITE}{chains}\nchain base {{ {base}\n{body}\n}}\n}}\n"


TRUSTED = "chain trusted { ip saddr 192.0.2.0/24 accept\n accept\n }"
IDLE = "chain idle { counter\n }"
REFUSE = "chain refuse { counter drop\n }"
SEEN = "set seen { type ipv4_addr; flags dynamic,timeout; timeout 1m; size 99\n }"
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
    "a mark of another chain": chains(
        ("prerouting", "mangle", 'iifname "eth0" meta mark set 0x10'),
        ("input", "filter", "meta mark & 0xf0 == 0x10 accept\nct state invalid drop"),
    ),
    "a mark that is taken away": chains(
        ("prerouting", "mangle", 'iifname "eth0" meta mark set 0x11'),
        ("input", "mangle", "meta mark set meta mark & 0xffffffef"),
        ("input", "filter", "meta mark & 0xf0 == 0x10 accept\nct state invalid drop"),
    ),
    "a mark of a connection": chains(
        ("prerouting", "mangle", 'meta mark set 0x1\nmeta mark set ct mark'),
        ("input", "filter", "meta mark 0x1 accept\nct state invalid drop"),
    ),
    "a mark by iptables": (
        "iptables-nft-restore",
        MASQUERADE
        + table("mangle", "-A PREROUTING -i eth0 -j MARK --set-xmark 0x1/0x1")
        + table("filter", "-A INPUT -m mark --mark 0x1/0x1 -j ACCEPT", INVALID),
    ),
    "some of them": inputs("-m limit --limit 1000/sec --limit-burst 1000 -j ACCEPT"),
    "a limit of connections": inputs("-p tcp -m connlimit --connlimit-upto 100 -j ACCEPT"),
    "a count of connections": native(
        "accept", "tcp dport > 0 ct count 100 accept", "ct state invalid drop"
    ),
    "no flag but an acknowledgment": native(
        "accept", "tcp flags == ack accept", "ct state invalid drop"
    ),
    "a goto that comes back": native(
        "accept", 'iifname "eth0" goto idle', "ct state invalid drop", chains=IDLE
    ),
    # whose a reset is: the kernel's own has a socket, which no program holds
    "resets of a program": resets("--uid-owner 0"),
    "resets of no such program": resets("! --uid-owner 1337"),
    "resets of a program's group": resets("--gid-owner 0-1000"),
    "resets of no such group": resets("! --gid-owner 1337"),
    "resets with a socket": resets("--socket-exists"),
    "resets without a socket": resets("! --socket-exists"),
    "resets of a socket of no such program": resets("! --uid-owner 1337 --socket-exists"),
    "resets of a program by all its groups": resets("--gid-owner 0 --suppl-groups"),
    "resets of a program, on postrouting": resets("--uid-owner 0", "POSTROUTING"),
    "resets of no such program, on postrouting": resets("! --uid-owner 1337", "POSTROUTING"),
    "resets of nobody are accepted": (
        "iptables-nft-restore",
        MASQUERADE + table("filter", "-A OUTPUT -m owner ! --uid-owner 1337 -j ACCEPT",
                           f"-A OUTPUT {STATE} INVALID -j DROP"),
    ),
    "resets of a program are accepted": (
        "iptables-nft-restore",
        MASQUERADE + table("filter", "-A OUTPUT -m owner --uid-owner 0 -j ACCEPT",
                           f"-A OUTPUT {STATE} INVALID -j DROP"),
    ),
    # what concerns others
    "a chain that decides nothing": native(
        "accept", 'iifname "eth0" jump idle', "ct state invalid drop", chains=IDLE
    ),
    "what has a socket": native("accept", "socket mark 0 accept", "ct state invalid drop"),
    "the loopback": native("drop", 'iif "lo" accept', "ct state established,related accept"),
    "a container on output": native(
        "accept", 'iifname "eth0" accept', "ct state invalid drop", hook="output"
    ),
    "the bridge is trusted": inputs("-i docker0 -j ACCEPT"),
    "one service": inputs("-p tcp -m tcp --dport 22 -j ACCEPT"),
    "services": inputs("-p tcp -m multiport --dports 22,80,443 -j ACCEPT"),
    "only SYN": inputs("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT"),
    "UDP": inputs("-p udp -j ACCEPT"),
    "a mark that nobody sets": inputs("-m mark --mark 0x4000/0x4000 -j ACCEPT"),
    "translated flows": native("accept", "ct status dnat accept", "ct state invalid drop"),
    "connmarks": inputs("-m connmark --mark 0x1 -j ACCEPT"),
    # drops
    "by ports, in two": native(
        "accept",
        "tcp dport 0-32767 ct state invalid drop",
        "tcp dport 32768-65535 ct state invalid drop",
    ),
    "by addresses, in two chains": chains(
        ("input", "mangle", "ip saddr 10.21.0.0/16 ct state invalid drop"),
        ("input", "filter", "ip saddr != 10.21.0.0/16 ct state invalid drop"),
    ),
    "in a later chain": chains(
        ("input", "mangle", "accept"), ("input", "filter", "ct state invalid drop")
    ),
    "behind routing": chains(("prerouting", "mangle", 'iifname "eth0" ct state invalid drop')),
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
    "a drop beyond a named limit": native(
        "accept", 'limit name "some" ct state invalid drop', chains=OBJECTS
    ),
    "a drop beyond a named quota": native(
        "accept", 'quota name "little" ct state invalid drop', chains=OBJECTS
    ),
    "a drop with a named counter": native(
        "accept", 'counter name "each" ct state invalid drop', chains=OBJECTS
    ),
    "the uplink keeps resets in": native(
        "accept", 'oifname "eth0" ct state invalid drop', hook="output"
    ),
    "the bridge keeps resets in": native(
        "accept", 'oifname "docker0" ct state invalid drop', hook="output"
    ),
    "nothing": native("accept", "counter"),
    # what is met by all of them, by some, or by none
    "a set that remembers who sent one": native(
        "accept", "ct state invalid update @seen { ip saddr } drop", chains=SEEN
    ),
    "a set that remembers whom to let by": native(
        "accept", "add @seen { ip saddr } accept", "ct state invalid drop", chains=SEEN
    ),
    "a rate for each sender": native(
        "accept", "ct state invalid add @seen { ip saddr limit rate 9/second } accept",
        "ct state invalid drop", chains=SEEN,
    ),
    "a list of who sent one": inputs("-m recent --set --name some -j ACCEPT"),
    "the type of their address": inputs("-m addrtype --src-type UNICAST -j ACCEPT"),
    "another type of address": inputs("-m addrtype --dst-type BROADCAST -j ACCEPT"),
    "types of address": native(
        "accept", "fib daddr type { broadcast, multicast } accept", "ct state invalid drop"
    ),
    "their type of address": native(
        "accept", "fib saddr type != { local, broadcast } accept", "ct state invalid drop"
    ),
    "frames for many": native(
        "accept", "meta pkttype { broadcast, multicast } accept", "ct state invalid drop"
    ),
    "frames for this host or for many": native(
        "accept", "meta pkttype { host, multicast } accept", "ct state invalid drop"
    ),
    "a range of marks": native("accept", "meta mark < 16 accept", "ct state invalid drop"),
    "other marks": native("accept", "meta mark { 1, 16-31 } accept", "ct state invalid drop"),
    "marks by chain": native(
        "accept", "meta mark vmap { 0-15 : jump refuse, 16-31 : accept }", chains=REFUSE
    ),
    "a mark made of addresses": (
        "iptables-nft-restore",
        MASQUERADE
        + table("mangle", "-A PREROUTING -j HMARK --hmark-tuple src,dst --hmark-mod 1 "
                "--hmark-offset 1 --hmark-rnd 5")
        + table("filter", "-A INPUT -m mark --mark 0x1 -j ACCEPT", INVALID),
    ),
    "flags by set": native(
        "accept", "tcp flags { ack, ack | psh } accept", "ct state invalid drop"
    ),
    "other flags by set": native(
        "accept", "tcp flags { syn, syn | ack } accept", "ct state invalid drop"
    ),
    "fragments": inputs("-f -j ACCEPT"),
    "no fragments": native(
        "accept", "ip frag-off & 0x1fff == 0 accept", "ct state invalid drop"
    ),
    "a port at either end": inputs("-p tcp -m multiport --ports 443,80 -j ACCEPT"),
    "what a bridge forwards": inputs("-m physdev --physdev-is-bridged -j ACCEPT"),
    "what no bridge forwards": inputs("-m physdev ! --physdev-is-bridged -j ACCEPT"),
    "all addresses, as a set": native(
        "accept", "ip saddr @every accept", "ct state invalid drop",
        chains="set every { type ipv4_addr; flags interval; elements = { 0.0.0.0/0 }\n }",
    ),
    "all addresses, in two": native(
        "accept", "ip saddr { 0.0.0.0/1, 128.0.0.0/1 } accept", "ct state invalid drop"
    ),
    "the first of all ports": native(
        "accept", "tcp dport { 0, 22 } accept", "ct state invalid drop"
    ),
    "ports of services aside": native(
        "accept", "tcp dport vmap { 0-1023 : accept, 1024-65535 : jump refuse }", chains=REFUSE
    ),
    # elements that stand for every other key
    "every other link is refused": native(
        "accept", 'iifname vmap { "docker0" : accept, * : jump refuse }', chains=REFUSE
    ),
    "every other link is let by": native(
        "accept", 'iifname vmap { "docker0" : jump refuse, * : accept }',
        "ct state invalid drop", chains=REFUSE,
    ),
    "their link, and every other": native(
        "accept", 'iifname vmap { "eth0" : jump refuse, * : accept }', chains=REFUSE
    ),
    "every other port": native("accept", "tcp dport vmap { 22 : accept, 80-90 : drop, * : drop }"),
    "every other protocol": native(
        "accept", "meta l4proto vmap { tcp : jump refuse, * : accept }", chains=REFUSE
    ),
    "any protocol": native("accept", "meta l4proto vmap { * : jump refuse }", chains=REFUSE),
    "every other state": native(
        "accept", "ct state vmap { established : accept, new : accept, * : drop }"
    ),
    "every other pair": native(
        "accept", "ip saddr . tcp dport vmap { 192.0.2.1 . 22 : accept, * : drop }"
    ),
    "a set of all": native(
        "accept", "ip saddr @whole accept", "ct state invalid drop",
        chains="set whole { type ipv4_addr; flags interval; elements = { *, 192.0.2.1 }\n }",
    ),
    "no address but those of a set of all": native(
        "accept", "ip saddr != @whole accept", "ct state invalid drop",
        chains="set whole { type ipv4_addr; flags interval; elements = { * }\n }",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(RULESETS))
def test_the_verdict_is_what_the_kernel_does(site: Site, case: str) -> None:
    verdict, message = judge(site, *RULESETS[case])
    if case == "a mark made of addresses":  # somebody else's arithmetic
        assert (verdict, "INPUT -m mark --mark 0x1 -j ACCEPT" in message) == ("unknown", True)
        return
    assert verdict == ("exposed" if site.server.answered([ANSWER]) else "mitigated"), message


POOL = (HOST["eth0"][0], 2500)
OWN_PORTS = table("nat", "-A POSTROUTING -s 172.17.0.0/16 -o eth0 -p tcp -j SNAT --to-source "
                  "10.21.17.99:2000-2999")  # fmt: skip
OWN_ADDRESS = table("nat", "-A POSTROUTING -s 172.17.0.0/16 -o eth0 -p tcp -j MASQUERADE "
                    "--to-ports 2000-2999")  # fmt: skip


@pytest.mark.parametrize(
    "rules",
    [
        ("-A INPUT -p tcp -m tcp --dport 1024:4096 -j ACCEPT", INVALID),
        ("-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT", INVALID),
        (f"-A INPUT -p tcp -m tcp --dport 2000:2999 {STATE} INVALID -j DROP",),
        (f"-A INPUT -d 172.17.0.1/32 {STATE} INVALID -j DROP",),
        (f"-A INPUT -d 10.21.17.99/32 {STATE} INVALID -j DROP",),
        ("-A INPUT -d 172.17.0.1/32 -j ACCEPT", INVALID),
    ],
)
def test_addresses_and_ports_that_a_rule_gives_out(site: Site, rules: tuple[str, ...]) -> None:
    answer = Stray((SERVER[0], 443), POOL)
    for nat in (OWN_PORTS, OWN_ADDRESS):
        verdict, message = judge(site, "iptables-nft-restore", nat + table("filter", *rules))
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
        denied = table("filter", f"-A FORWARD {STATE} INVALID -j DROP")
        assert judge(site, "iptables-nft-restore", nat + denied)[0] == "mitigated"
        assert not site.container.answered([PUBLISHED_ANSWER])
        assert not site.server.answered(to_it)


def test_what_a_program_decides_is_unknown(site: Site) -> None:
    for rules in (["-j NFQUEUE --queue-num 7", "-j DROP"], ["-j NFQUEUE --queue-num 7"]):
        verdict, message = judge(site, *inputs(*rules))
        assert (verdict, "NFQUEUE --queue-num 7" in message) == ("unknown", True), message


DOCKER = table("nat", "-A PREROUTING ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT "
               "--to-destination 172.17.0.2:80")  # fmt: skip
DENIED = f"-A FORWARD {STATE} INVALID -j DROP"
DIRECT = "-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP"
PUBLISHED = {
    "nothing": (),
    "a drop on forward alone": (DENIED,),
    "a drop on input alone": (INVALID,),
    "a drop on both": (DENIED, INVALID),
    "a drop of resets on output": (DENIED, f"-A OUTPUT {STATE} INVALID -j DROP"),
    "docker's accept first": (INVALID, "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT", DENIED),
    "docker's accepts first": (
        INVALID,
        "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
        "-A FORWARD -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT",
        DENIED,
    ),
    "the drop first": (INVALID, DENIED, "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT"),
    "accepts between containers": (INVALID, "-A FORWARD -i docker0 -o docker0 -j ACCEPT", DENIED),
    "accepts what comes in": (INVALID, "-A FORWARD -o docker0 -j ACCEPT", DENIED),
    "a drop of this container's": (
        INVALID, f"-A FORWARD -s 172.17.0.2/32 {STATE} INVALID -j DROP"
    ),
    "a reset is rejected by a reset": (
        INVALID,
        "-A FORWARD -i docker0 -j ACCEPT",
        "-A FORWARD -d 172.17.0.2/32 -p tcp -j REJECT --reject-with tcp-reset",
    ),
    "an INVALID segment is rejected by a reset": (
        INVALID, f"-A FORWARD -p tcp {STATE} INVALID -j REJECT --reject-with tcp-reset"
    ),
    "an INVALID segment is rejected by a reset on input": (
        f"-A INPUT -p tcp {STATE} INVALID -j REJECT --reject-with tcp-reset", DENIED
    ),
    "the end of forward rejects by a reset": (
        INVALID, f"-A FORWARD {STATE} RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -p tcp -j REJECT --reject-with tcp-reset",
    ),
    "a drop of another container's": (
        INVALID, f"-A FORWARD -s 172.17.0.3/32 {STATE} INVALID -j DROP"
    ),
    "the published port is open on input": (
        DENIED, "-A INPUT -p tcp -m tcp --dport 8080 -j ACCEPT", INVALID
    ),
    "another port is open on input": (
        DENIED, "-A INPUT -p tcp -m tcp --dport 8443 -j ACCEPT", INVALID
    ),
    "ports of clients are open on input": (
        DENIED, "-A INPUT -p tcp -m tcp --dport 32768:60999 -j ACCEPT", INVALID
    ),
    "default deny on input": (
        DENIED, ":INPUT DROP [0:0]", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"
    ),
    "default deny but for the bridge": (
        DENIED, ":INPUT DROP [0:0]", "-A INPUT -i docker0 -j ACCEPT"
    ),
    "a drop of the published port": (
        DENIED, f"-A INPUT -p tcp -m tcp --dport 8080 {STATE} INVALID -j DROP"
    ),
    "a drop of the container's port": (
        DENIED, f"-A INPUT -p tcp -m tcp --dport 80 {STATE} INVALID -j DROP"
    ),
}  # fmt: skip
RAW = {
    "direct access is dropped": (DIRECT, INVALID),
    "direct access is dropped, requests are not": (DIRECT,),
    "direct access from elsewhere": ("-A PREROUTING -d 172.17.0.2/32 -i docker0 -j DROP", INVALID),
}


def dies(site: Site) -> bool:
    """Tell whether a connection to the published port dies of its own segments, either way."""
    return bool(site.server.answered([REQUEST]) or site.container.answered([PUBLISHED_ANSWER]))


@pytest.mark.parametrize("case", [*PUBLISHED, *RAW])
def test_a_published_port(site: Site, case: str) -> None:
    first, *rest = RAW.get(case, ("",))
    text = DOCKER + table("raw", first) if first else DOCKER
    verdict, message = judge(
        site, "iptables-nft-restore", text + table("filter", *PUBLISHED.get(case, rest))
    )
    assert verdict == ("exposed" if dies(site) else "mitigated"), message


OWN_ANSWERS = [Stray((CONTAINER[0], 80), (HOST[link][0], 40000)) for link in HOST]
"""To the host's own connections to its published port: from the container, NAT not undone."""
OWN = DOCKER.replace(
    "COMMIT",
    "-A OUTPUT ! -d 127.0.0.0/8 -p tcp -m tcp --dport 8080 -m addrtype --dst-type LOCAL -j DNAT "
    "--to-destination 172.17.0.2:80\nCOMMIT",
)
OF_THE_HOST = {
    "input is closed": (INVALID,),
    "input is closed for the uplink": (f"-A INPUT -i eth0 {STATE} INVALID -j DROP",),
    "input is closed for each link": (
        f"-A INPUT -i eth0 {STATE} INVALID -j DROP", f"-A INPUT -i docker0 {STATE} INVALID -j DROP"
    ),
    "the bridge is trusted": ("-A INPUT -i docker0 -j ACCEPT", INVALID),
    "the container is trusted": ("-A INPUT -s 172.17.0.2/32 -j ACCEPT", INVALID),
    "another container is trusted": ("-A INPUT -s 172.17.0.3/32 -i docker0 -j ACCEPT", INVALID),
    "resets are dropped": (f"-A OUTPUT {STATE} INVALID -j DROP",),
}  # fmt: skip


@pytest.mark.parametrize("case", OF_THE_HOST)
def test_a_published_port_that_the_host_itself_asks(site: Site, case: str) -> None:
    rules = table("filter", DENIED, *OF_THE_HOST[case])
    verdict, message = judge(site, "iptables-nft-restore", OWN + rules)
    ends = dies(site) or bool(site.container.answered(OWN_ANSWERS))
    assert verdict == ("exposed" if ends else "mitigated"), message


def test_the_accept_is_named(site: Site) -> None:
    verdict, message = judge(site, *inputs("-i eth0 -j ACCEPT"))
    assert verdict == "exposed"
    assert "'-A INPUT -i eth0 -j ACCEPT'" in message
    assert "input (IPv4)" in message
    verdict, message = judge(site, *inputs("-i docker0 -j ACCEPT"))
    assert (verdict, "docker0 -j ACCEPT" in message) == ("mitigated", False)


@pytest.mark.parametrize("condition", ["ip ttl 64", "@nh,64,8 64", "tcp option mss size 1-9999"])
def test_what_is_not_understood_is_unknown(site: Site, condition: str) -> None:
    """Unless it concerns others, stands behind the drop, or all is open anyway."""
    accept, drop = f"{condition} accept", "ct state invalid drop"
    verdict, message = judge(site, *native("accept", accept, drop))
    assert (verdict, " f base)" in message) == ("unknown", True)
    for rules, known in (
        ((drop, accept), "mitigated"),
        ((f"tcp dport 22 {accept}", drop), "mitigated"),
        ((f'iifname "docker0" {accept}', drop), "mitigated"),
        ((f"ct state established {accept}", drop), "mitigated"),
        ((accept,), "exposed"),
        ((accept, "tcp flags ack accept", drop), "exposed"),
        ((f"{condition} drop",), "exposed"),
    ):
        assert judge(site, *native("accept", *rules))[0] == known, rules


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
