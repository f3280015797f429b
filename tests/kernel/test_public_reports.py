"""Twenty-five faults as people reported them, and variants: which test rebuilds each, and its twin.

``public_reports.py`` has a line for each: where it was reported, what went wrong, and the tests
that build it anew with the verdict and the words that it should get, beside what looks like it and
is in order. Most vary what the report had: another port, the other IP version, another backend.
What no other file builds is below.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from public_reports import REPORTS, VARIANTS
from test_notrack_kubernetes import verdicts
from udp_site import CONDITION, PORT, Asker, Site, judging, plainly, scan, site, standing

from remedies.namespaces.netns import inside
from remedies.netlink.flow import Tuple
from remedies.tap.lookups import Questions

__all__ = ["site", "standing"]

TESTS = Path(__file__).resolve().parent.parent


@functools.cache
def defined(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_each_report_is_rebuilt() -> None:
    assert len(REPORTS) == 25
    for report in (*REPORTS, *VARIANTS):
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
            assert asker.answered(within=10.0)
        assert (seen.verdicts, seen.events) == ([], [])


def publish(site: Site, target: str, port: int = PORT, protocol: str = "udp") -> None:
    """Let the uplink's port lead to an address of the container's network."""
    name = "ip6" if site.v6 else "ip"
    to = f"[{target}]:{port}" if site.v6 else f"{target}:{port}"
    chain = (
        f"table {name} kube {{\n chain pre {{\n  type nat hook prerouting priority dstnat\n"
        f"  {name} daddr {site.at.uplink} {protocol} dport {port} dnat to {to}\n }}\n}}\n"
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
    return bool(select.select([server], [], [], 10)[0]) and bool(server.recv(10))


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
        server.settimeout(10.0)
        server.bind(("", 69))
        client = site.udp("client")
        client.sendto(b"\0\1file\0octet\0", (site.at.server, 69))
        _, peer = server.recvfrom(100)
        data = site.world.socket("server", site.at.family, socket.SOCK_DGRAM)
        site.open.enter_context(data)
        data.sendto(b"\0\3\0\1data", peer)
        assert client.recvfrom(100)[1][0] == site.at.server
    assert (seen.verdicts, seen.events) == ([], [])


def connected(site: Site, role: str, listens: str, address: str) -> str:
    """Have a session of FTP that a client opened; return its address as the server sees it."""
    server = site.open.enter_context(site.world.socket(listens, site.at.family, socket.SOCK_STREAM))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", 21))
    server.listen()
    client = site.open.enter_context(site.world.socket(role, site.at.family, socket.SOCK_STREAM))
    client.settimeout(5)
    client.connect((address, 21))
    session, peer = server.accept()
    site.open.enter_context(session)
    return str(peer[0])


@pytest.mark.parametrize("case", ["active", "passive"])
def test_a_connection_for_the_data_of_a_session_of_ftp_is_known(site: Site, case: str) -> None:
    site.world.run("host", ["conntrack", "-F"])
    try:
        if case == "active":
            here = connected(site, "client", "server", site.at.server)
        else:
            publish(site, site.at.client, 21, "tcp")
            connected(site, "server", "client", site.at.uplink)
            here = site.at.uplink
        there = site.at.server
        asked = {
            Tuple(there, 20, here, 30000): "data" if case == "active" else None,
            Tuple(there, 41000, here, 45000): "data" if case == "active" else "passive",
            Tuple(there, 41000, here, 113): None,
            Tuple(f"{there}0", 41000, here, 45000): None,
        }
        with inside(site.world.namespace("host")), contextlib.closing(Questions()) as questions:
            found = {way: questions.awaited("tcp", way) for way in asked}
        assert {way: each and each.why for way, each in found.items()} == asked
    finally:
        site.open.close()


def test_a_server_of_one_link_is_named(site: Site) -> None:
    with judging(site) as seen:
        server = site.udp("host", "", PORT)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        asker = site.ask(server, "server", site.virtual)
        plainly(site, server, asker)
        assert not asker.answered()
    assert seen.proven is not None
    assert [(e.meaning.condition, e.process and e.process.pid) for e in seen.events] == [
        (CONDITION, int(seen.proven.details["pid"]))
    ]


def test_a_container_that_answers_from_its_other_address(site: Site) -> None:
    other, bits = site.at.client.removesuffix("2") + "77", 64 if site.v6 else 16
    flag = " nodad" if site.v6 else ""
    second = f"addr add {other}/{bits} dev eth0{flag}"
    with added(lambda line: site.world.ip("client", line), second):
        with site.world.socket("client", site.at.family, socket.SOCK_DGRAM) as probe:
            probe.connect((site.at.server, 9))
            source = probe.getsockname()[0]
        asked = next(a for a in (site.at.client, other) if a != source)
        with judging(site) as seen:
            publish(site, asked)
            server = site.udp("client")
            server.bind(("", PORT))
            asker = site.ask(server, "server", site.at.uplink)
            plainly(site, server, asker)
            assert not asker.answered()
            (own,) = (f for f in scan(site.world, role="client") if f.condition == CONDITION)
        assert seen.proven is None
        assert own.verdict == "exposed"
        assert own.subject.endswith(f":{PORT}")
        assert [e.meaning.condition for e in seen.events] == [None]
        assert f"has to answer from {asked}" in seen.events[0].meaning.text


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
            assert asker.answered(within=10.0)
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
                assert asker.answered(within=10.0 if bound else 0.2) == bound
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
