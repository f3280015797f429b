"""Twenty-five faults as people reported them: which test rebuilds each, and its healthy twin.

``REPORTS`` has a line for each: where it was reported, what went wrong, and the tests that build it
anew with the verdict and the words that it should get, beside what looks like it and is in order.
Most vary what the report had: another port, the other IP version, another backend. What no other
file builds is below.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from test_notrack_kubernetes import verdicts
from test_udp_answers import CONDITION, PORT, Asker, Site, judging, plainly, site, standing

from remedies.namespaces.netns import inside

__all__ = ["site", "standing"]

TESTS = Path(__file__).resolve().parent.parent
ANSWERS = "kernel/test_udp_answers.py::test_"
DAEMONS = "kernel/test_daemons.py::test_each_is_proven_named_and_mended_by_the_option_named"
MATRIX = "kernel/test_harm_matrix.py::test_"
HEARD = "kernel/test_harm_heard.py::test_"
STALL = "kernel/test_invalid_stall.py::test_"
CASES = "unit/test_condition_cases.py::test_case"
STORY = "kernel/test_lab_story.py::test_"
ADVICE = "unit/test_advice.py::test_"
HERE = "kernel/test_public_reports.py::test_"


class Report(NamedTuple):
    """One fault as people met it."""

    source: str
    what: str
    tests: tuple[str, ...]
    """The fault first; its twin may be in the same test."""


REPORTS = (
    Report(
        "firewalld/firewalld#1061, openwrt/openwrt#19359",
        "the host sees one direction of its network's connections; dropping INVALID ends them",
        (f"{MATRIX}dropping_every_invalid_segment_ends_what_lived",
         f"{MATRIX}the_liberal_conntrack_heals_everywhere_and_harms_nowhere",
         f"{HEARD}harm_is_undone"),
    ),
    Report(
        "cameronkerrnz.github.io, 2015, a published port",
        "a box moves sequence numbers but not SACK blocks; a reset becomes a hang",
        (f"{HEARD}a_hang_in_place_of_a_reset_is_no_success",
         f"{HEARD}what_lets_the_request_through_is_success"),
    ),
    Report(
        "the same, a service of the host itself",
        "the firewall's own drop of INVALID takes segments of a connection; no NAT",
        (f"{STALL}only_a_rule_that_drops_it_is_blamed_for_a_connection_that_stalls",
         f"{STALL}what_is_forwarded_to_a_bridge_is_led_by_its_links"),
    ),
    Report(
        "haproxy/haproxy#3503, XTLS/Xray-core#6716",
        "IP_PKTINFO is set, and some answers are sent without a source",
        (f"{ANSWERS}a_second_address_is_answered_from_another_one",
         f"{ANSWERS}the_healthy_twins_are_no_proof"),
    ),
    Report(
        "traefik/traefik#7430, AdguardTeam/AdGuardHome#1257",
        "a virtual IP beside the first address: it is asked, the first one answers",
        (f"{ANSWERS}a_second_address_is_answered_from_another_one",
         f"{ANSWERS}without_conntrack_the_packets_prove_it"),
    ),
    Report(
        "haproxy/haproxy#3503, the virtual IP on lo",
        "an address on the loopback that others are routed to",
        (f"{HERE}a_virtual_address_on_the_loopback", CASES),
    ),
    Report(
        "kubernetes/kubernetes#95565, kubernetes/kubernetes#94812",
        "a ClusterIP leads to a server of the same node, which answers from the bridge",
        (f"{ANSWERS}a_request_that_nat_turns_to_this_host",),
    ),
    Report(
        "eblocker/eblocker#320",
        "IPv6 DNS is turned to another port of the host, which answers from another address",
        (f"{ANSWERS}a_request_that_nat_turns_to_this_host", CASES),
    ),
    Report(
        "tftp-go-team/hooktftp#35",
        "the answer comes by a new socket, from the first address",
        (f"{ANSWERS}an_answer_from_a_port_of_its_own", CASES),
    ),
    Report(
        "containers/podman#23469, containers/netavark#1045",
        "a UDP flow is older than its DNAT rule and goes on without it",
        (f"{ANSWERS}a_flow_that_is_older_than_its_nat_rule_is_named_with_the_rule",
         f"{HERE}a_flow_that_was_deleted_meets_its_rule"),
    ),
    Report(
        "kubernetes/kubernetes#139628, containernetworking/plugins#123",
        "a UDP flow goes on to an address that is gone",
        (f"{HERE}a_flow_to_an_address_that_is_gone_accuses_nobody",),
    ),
    Report(
        "moby/moby#44688",
        "a flow that is older than the publishing passes docker-proxy; nobody else is accused",
        (f"{ANSWERS}a_flow_that_is_older_than_its_nat_rule_is_named_with_the_rule",
         f"{HERE}a_flow_that_was_deleted_meets_its_rule"),
    ),
    Report(
        "indifferentbroccoli/windrose-server-docker#23",
        "bound to the address asked, and it sends by another socket",
        (f"{ANSWERS}a_server_that_is_mended_is_mitigated_at_once",
         f"{ADVICE}a_server_that_is_bound_or_sets_the_option_is_not_told_to", CASES),
    ),
    Report(
        "kazu-yamamoto/quic#36",
        "127.0.0.2 is asked, 127.0.0.1 answers",
        (f"{ANSWERS}a_client_of_the_host_itself_that_asks_an_alias", CASES),
    ),
    Report(
        "moby/moby#22837, kubernetes/kubernetes#26718",
        "a TFTP server answers from another port, and NAT knows of no flow",
        (f"{ANSWERS}an_answer_from_another_port_to_a_client_behind_nat_asks_for_a_helper",
         f"{HERE}with_its_helper_tftp_is_answered"),
    ),
    Report(
        "hackerschoice/segfault#50",
        "a scanner in a container fills the table",
        (CASES, f"{ADVICE}what_makes_room_names_who_takes_it", f"{STORY}story_comes_out_as_told"),
    ),
    Report(
        "OpenVPN/openvpn#476",
        "a virtual IP of keepalived; the option is multihome or local",
        (DAEMONS,),
    ),
    Report(
        "esnet/iperf#637, esnet/iperf#2059",
        "an alias is asked; the server connects to its client; the option is -B",
        (DAEMONS,
         f"{ANSWERS}a_server_whose_udp_sockets_are_short_lived_is_known_by_its_tcp_listener",
         f"{ANSWERS}a_server_that_connects_to_its_client_is_that_and_nothing_else"),
    ),
    Report(
        "net-snmp/net-snmp#630, OpenVPN/openvpn#563",
        "IPv6 answers come from the temporary address",
        (f"{HERE}a_temporary_address_answers", DAEMONS, CASES),
    ),
    Report(
        "openSUSE/xinetd#16",
        "two uplinks; the second is asked, the first answers",
        (f"{HERE}the_other_uplink_answers",
         f"{ADVICE}two_uplinks_need_a_routing_rule_beside_the_address",
         "unit/test_fix_invalid_drop.py::test_several_ways_out_are_refused_with_the_alternative"),
    ),
    Report(
        "forum.snapcraft.io/t/775, imbstack.com, Debugging Docker Connection Reset",
        "a server ignores the window; the host resets the download",
        (f"{STORY}story_comes_out_as_told", f"{STORY}healthy_twin_calls_for_no_action",
         "kernel/test_shapes.py::test_a_well_known_ruleset"),
    ),
    Report(
        "openwrt/firewall4#14",
        "notrack for the host's own DNS takes forwarded DNS, too",
        (f"{HERE}notrack_of_the_hosts_own_dns",
         "kernel/test_notrack_traffic.py::test_what_becomes_of_each_kind_of_packet"),
    ),
    Report(
        "OpenSIPS/opensips#737",
        "the answer goes to the port that the client named; the host has no part in it",
        (f"{HERE}an_answer_to_another_port_of_the_client_accuses_nobody",),
    ),
    Report(
        "grokdatum.github.io, TCP RST after idle; moby/moby#34359",
        "conntrack forgot an idle connection; neither fix of NAT helps",
        ("kernel/test_forgotten_resets.py::test_what_conntrack_forgot_is_named_and_its_healthy_twin_"
         "is_silent", "unit/test_condition_idle_timeout.py::", f"{STORY}story_comes_out_as_told"),
    ),
    Report(
        "docker/for-linux#566",
        "docker-proxy answers a client outside from another IPv6 address of the host",
        (CASES, f"{ADVICE}clients_outside_are_not_told_to_ask_the_container_itself",
         f"{STORY}story_comes_out_as_told"),
    ),
)  # fmt: skip


@functools.cache
def defined(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_each_report_is_rebuilt() -> None:
    assert len(REPORTS) == 25
    for report in REPORTS:
        for test in report.tests:
            file, _, name = test.partition("::")
            assert not name or name in defined(file), (report.source, test)


@contextlib.contextmanager
def added(run: Callable[[str], object], *lines: str) -> Iterator[None]:
    """Have addresses, links and routes of ``ip`` in place until the block ends."""
    done = []
    try:
        for line in lines:
            run(line)
            done.append(line.replace(" add ", " del ", 1).partition(" type ")[0])
        yield
    finally:
        for line in reversed(done):
            run(line)


def test_a_virtual_address_on_the_loopback(site: Site) -> None:
    address, host = ("2001:db8:5::53", "fd10:21:17::99") if site.v6 else ("203.0.113.53", "")
    length = 128 if site.v6 else 32
    on_lo = added(lambda line: site.world.ip("host", line), f"addr add {address}/{length} dev lo")
    way = f"route add {address}/{length} via {host or site.at.uplink}"
    with on_lo, added(lambda line: site.world.ip("server", line), way):
        with judging(site) as seen:
            server = site.udp("host", "", PORT)
            asker = site.ask(server, "server", address)
            plainly(site, server, asker)
            assert not asker.answered()
        assert seen.proven is not None
        assert seen.proven.details["asked"] == address
        assert [e.meaning.condition for e in seen.events] == [CONDITION]
        with judging(site) as seen:
            server = site.udp("host", address, PORT)
            asker = site.ask(server, "server", address)
            plainly(site, server, asker)
            assert asker.answered()
        assert (seen.verdicts, seen.events) == ([], [])


def publish(site: Site, target: str) -> None:
    """Let the uplink's port lead to an address of the container's network."""
    name = "ip6" if site.v6 else "ip"
    to = f"[{target}]:{PORT}" if site.v6 else f"{target}:{PORT}"
    chain = (
        f"table {name} kube {{\n chain pre {{\n  type nat hook prerouting priority dstnat\n"
        f"  {name} daddr {site.at.uplink} udp dport {PORT} dnat to {to}\n }}\n}}\n"
    )
    anew = f"add table {name} kube\ndelete table {name} kube\n"
    site.world.run("host", ["nft", "-f", "-"], anew + chain)


@pytest.fixture
def sender(site: Site) -> Iterator[socket.socket]:
    """Give a client outside that keeps its port and has sent to the uplink's."""
    site.world.run("host", ["conntrack", "-F"])
    with site.world.socket("server", site.at.family, socket.SOCK_DGRAM) as made:
        made.connect((site.at.uplink, PORT))
        yield made


def send(sender: socket.socket) -> None:
    with contextlib.suppress(ConnectionRefusedError):
        sender.send(b"one")


def heard(server: socket.socket) -> bool:
    return bool(select.select([server], [], [], 1)[0]) and bool(server.recv(10))


def test_a_flow_that_was_deleted_meets_its_rule(site: Site, sender: socket.socket) -> None:
    send(sender)
    with judging(site) as seen:  # which empties the flow table
        publish(site, site.at.client)
        server = site.udp("client")
        server.bind((site.at.client, PORT))
        send(sender)
        send(sender)
        assert heard(server)
    assert (seen.verdicts, [e for e in seen.events if e.meaning.condition]) == ([], [])


def test_a_flow_to_an_address_that_is_gone_accuses_nobody(
    site: Site, sender: socket.socket
) -> None:
    gone = site.at.client.removesuffix("2") + "9"
    publish(site, gone)
    send(sender)
    with judging(site, flush=False) as seen:
        publish(site, site.at.client)
        server = site.udp("client")
        server.bind((site.at.client, PORT))
        send(sender)
        assert not select.select([server], [], [], 0.2)[0]
    assert seen.proven is None


def test_an_answer_to_another_port_of_the_client_accuses_nobody(site: Site) -> None:
    with judging(site) as seen:
        publish(site, site.at.client)
        server = site.udp("client")
        server.bind((site.at.client, PORT))
        asker = site.ask(server, "server", site.at.uplink)
        server.sendto(b"answer", (asker.peer[0], asker.peer[1] ^ 1))
        assert not asker.answered()
    assert seen.proven is None
    assert [e.meaning.condition for e in seen.events if e.meaning.condition] == []


def test_with_its_helper_tftp_is_answered(site: Site) -> None:
    name = "ip6" if site.v6 else "ip"
    rules = (
        f'table {name} kube {{\n ct helper t {{ type "tftp" protocol udp\n }}\n'
        " chain pre {\n  type filter hook prerouting priority 0\n"
        '  udp dport 69 ct helper set "t"\n }\n}\n'
    )
    with judging(site) as seen:
        site.world.run("host", ["nft", "-f", "-"], rules)
        server = site.world.socket("server", site.at.family, socket.SOCK_DGRAM)
        site.open.enter_context(server)
        server.settimeout(3.0)
        server.bind(("", 69))
        client = site.udp("client")
        client.sendto(b"\0\1file\0octet\0", (site.at.server, 69))
        _, peer = server.recvfrom(100)
        data = site.world.socket("server", site.at.family, socket.SOCK_DGRAM)
        site.open.enter_context(data)
        data.sendto(b"\0\3\0\1data", peer)
        assert client.recvfrom(100)[1][0] == site.at.server
    assert (seen.verdicts, seen.events) == ([], [])


V6 = pytest.mark.parametrize("standing", [6], ids=["v6"], indirect=True)


@V6
def test_a_temporary_address_answers(site: Site) -> None:
    site.world.run("host", ["sysctl", "-qw", "net.ipv6.conf.eth0.use_tempaddr=2",
                            "net.ipv6.conf.eth0.accept_dad=0"])  # fmt: skip
    asked = "2001:db8:6::99"
    with (
        added(lambda line: site.world.ip("server", line), "addr add 2001:db8:6::1/64 dev eth0"),
        added(lambda line: site.world.ip("host", line), f"addr add {asked}/64 dev eth0 mngtmpaddr"),
    ):
        with judging(site) as seen:
            server = site.udp("host", "", PORT)
            asker = site.ask(server, "server", asked)
            plainly(site, server, asker)
            assert not asker.answered()
        assert seen.proven is not None
        assert seen.proven.details["asked"] == asked
        assert [e.meaning.condition for e in seen.events] == [CONDITION]
        with judging(site) as seen:
            server = site.udp("host", asked, PORT)
            asker = site.ask(server, "server", asked)
            plainly(site, server, asker)
            assert asker.answered()
        assert (seen.verdicts, seen.events) == ([], [])


def test_the_other_uplink_answers(site: Site) -> None:
    at, bits = site.at, 128 if site.v6 else 32
    asked, there, far = (
        ("fd98::99", "fd98::1", "2001:db8:9::9")
        if site.v6
        else ("10.98.0.99", "10.98.0.1", "198.51.100.9")
    )
    flag = " nodad" if site.v6 else ""
    pair = f"link add up2 type veth peer name down2 netns {site.world.namespace('server')}"
    site.world.ip("host", pair)
    site.world.ip("server", f"addr add {there}/{bits - 8} dev down2{flag}", "link set down2 up",
                  f"addr add {far}/{bits} dev lo{flag}")  # fmt: skip
    site.world.ip("host", f"addr add {asked}/{bits - 8} dev up2{flag}", "link set up2 up",
                  f"route add default via {at.server} metric 10",
                  f"route add default via {there} metric 20")  # fmt: skip
    try:
        for bound in (False, True):
            with judging(site) as seen:
                server = site.udp("host", asked if bound else "", PORT)
                client = site.udp("server")
                client.bind((far, 0))
                client.connect((asked, PORT))
                client.send(b"question")
                asker = Asker(client, server.recvfrom(100)[1])
                plainly(site, server, asker)
                assert asker.answered() == bound
            assert (seen.proven is None) == bound
            if seen.proven:
                assert seen.proven.details["asked"] == asked
                assert "uplink" in seen.proven.details
    finally:
        site.world.ip("server", f"addr del {far}/{bits} dev lo")
        site.world.ip("host", f"route del default via {at.server}", "link del up2")


DNS = {
    "nft": (
        "table ip l {{\n"
        " chain a {{ type filter hook prerouting priority raw; {} udp dport 53 notrack\n }}\n"
        " chain b {{ type filter hook output priority raw; {} udp sport 53 notrack\n }}\n"
        ' chain p {{ type nat hook postrouting priority srcnat; oifname "eth0" masquerade\n }}\n'
        "}}\n"
    ),
    "iptables-nft-restore": "*raw\n-A PREROUTING {} -p udp --dport 53 -j CT --notrack\n"
    "-A OUTPUT {} -p udp --sport 53 -j CT --notrack\nCOMMIT\n"
    "*nat\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n",
}
OWN = {
    "nft": ("iifname \"br-lan\" fib daddr type local", "oifname \"br-lan\" fib saddr type local"),
    "iptables-nft-restore": ("-i br-lan -m addrtype --dst-type LOCAL",
                             "-o br-lan -m addrtype --src-type LOCAL"),
    "iptables-legacy-restore": ("-i br-lan -m addrtype --dst-type LOCAL",
                                "-o br-lan -m addrtype --src-type LOCAL"),
}  # fmt: skip
DNS["iptables-legacy-restore"] = DNS["iptables-nft-restore"]


@pytest.mark.parametrize("tool", DNS)
def test_notrack_of_the_hosts_own_dns(load: Callable[[str, str], str], tool: str) -> None:
    all_of_the_link = [words.partition(" fib ")[0].partition(" -m ")[0] for words in OWN[tool]]
    with inside(load(tool, DNS[tool].format(*all_of_the_link))):
        assert verdicts() == {"exposed"}
    with inside(load(tool, DNS[tool].format(*OWN[tool]))):
        assert verdicts() == set()
