"""Which rule drops a segment because it is INVALID, and which connections that stall it is for.

The rules are read back from the kernel; the world is that of the lab, with a client that asks on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_host import Cli
from run_in import RunIn

from remedies.facts.netfilter import open_stores
from remedies.lab.scenarios import tcp_invalid_stall
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World
from remedies.namespaces.netns import inside
from remedies.netfilter.lost import takers
from remedies.rules.rule import Match

HOST = Match(
    protocols=("tcp",), sources=("192.0.2.7/32",), destinations=("192.0.2.1/32",),
    source_ports=((40000, 40000),), destination_ports=((80, 80),), in_interfaces=("eth0",),
    destination_local=True,
)  # fmt: skip
CHAIN = "type filter hook input priority 0"
DROP = "ct state invalid drop"
KNOWN = "ct state established,related accept"
RULES: dict[str, tuple[str, str | None]] = {
    "as many have it": (f"{CHAIN}; {KNOWN}; {DROP}; tcp dport 80 accept", f"{DROP} # handle 3"),
    "by one link": (f"{CHAIN}; iifname eth0 {DROP}", f'iifname "eth0" {DROP} # handle 2'),
    "by another link": (f"{CHAIN}; iifname eth1 {DROP}", None),
    "of one port": (f"{CHAIN}; tcp dport 80 {DROP}", f"tcp dport 80 {DROP} # handle 2"),
    "accepted before": (f"{CHAIN}; tcp dport 80 accept; {DROP}", None),
    "perhaps accepted before": (f"{CHAIN}; limit rate 9/second accept; {DROP}", None),
    "perhaps dropped": (f"{CHAIN}; ct state invalid limit rate 9/second drop", None),
    "perhaps accepted in any state": (f"{CHAIN}; limit rate 9/second accept; drop", None),
    "of translated flows alone": (f"{CHAIN}; ct status dnat accept; {DROP}", f"{DROP} # handle 3"),
    "only counted before": (f"{CHAIN}; limit rate 9/second counter; {DROP}", f"{DROP} # handle 3"),
    "dropped in any state": (f"{CHAIN}; tcp dport 80 drop; {DROP}", None),
    "refused": (f"{CHAIN}; ct state invalid reject", "ct state invalid reject # handle 2"),
    "by the policy": (f"{CHAIN}; policy drop; {KNOWN}", "policy drop"),
    "by the policy, as all is": (f"{CHAIN}; policy drop", None),
    "before the route is looked up": (
        f"type filter hook prerouting priority -150; {DROP}", f"{DROP} # handle 2",
    ),
    "before conntrack": (f"type filter hook prerouting priority -300; {DROP}", None),
    "forwarded alone": (f"type filter hook forward priority 0; {DROP}", None),
}  # fmt: skip


DOUBTFUL = ("perhaps accepted before", "perhaps dropped")


@pytest.mark.parametrize("name", RULES)
def test_the_rule_that_takes_it_is_named_and_no_other(
    netns: Callable[..., str], run_in: RunIn, name: str
) -> None:
    text, taker = RULES[name]
    ns = netns("lost")
    run_in(ns, ["nft", "-f", "-"], stdin=f"table inet f {{ chain c {{ {text}; }}; }}")
    with inside(ns):
        stores, unread = open_stores(time.monotonic() + 5)
        found = list(takers(stores, HOST, "ip"))
    assert unread == []
    assert [each.rule.text for each in found if not each.doubts] == (
        [] if taker is None else [taker]
    )
    assert [each.doubts for each in found if each.doubts] == (
        [("limit",)] if name in DOUBTFUL else []
    )


def test_only_a_rule_that_drops_it_is_blamed_for_a_connection_that_stalls(tmp_path: Path) -> None:
    with World("tcp-invalid-stall", Options("iptables-nft", 4)) as world:
        tcp_invalid_stall.build(world)
        cli = Cli(world, tmp_path)

        def found(code: int) -> list[tuple[str, str]]:
            scanned = cli.json("scan", "--window", "800ms", code=code)
            return [(f["condition"], f["verdict"]) for f in scanned["findings"]]

        proven = [("tcp-invalid-stall", "proven")]
        assert found(2) == proven
        world.sysctl("host", "net.netfilter.nf_conntrack_tcp_be_liberal", "1")
        assert found(0) == []
        world.run("host", ["iptables-nft", "-D", "INPUT", "2"])
        world.sysctl("host", "net.netfilter.nf_conntrack_tcp_be_liberal", "0")
        assert found(0) == [], "what is INVALID arrives, and is acknowledged"
        world.stop_all()


FORWARD = """\
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -o docker0 -m conntrack --ctstate INVALID -j DROP
-A FORWARD -i eth0 -o docker0 -p tcp --dport 8080 -j ACCEPT
-A FORWARD -p ipv6-icmp -j ACCEPT
COMMIT
"""


def test_what_is_forwarded_to_a_bridge_is_led_by_its_links(tmp_path: Path) -> None:
    with World("tcp-invalid-stall", Options("iptables-legacy", 6)) as world:
        container_host(world, nat=False)
        at = addresses(world)
        world.ip("server", f"route add {at.subnet} via {at.uplink}")
        world.run("host", ["ip6tables-legacy-restore", "--noflush"], FORWARD)
        world.start("client", ["remedies.lab.renumbered", "serve", at.client, "8080"])
        world.start("server", ["remedies.lab.renumbered", "ask", at.client, "8080", "900000000"])
        (found,) = Cli(world, tmp_path).json("scan", "--window", "800ms", code=2)["findings"]
        assert (found["condition"], found["verdict"]) == ("tcp-invalid-stall", "proven")
        rule = "-A FORWARD -i eth0 -o docker0 -m conntrack --ctstate INVALID -j DROP"
        assert rule in found["message"]
