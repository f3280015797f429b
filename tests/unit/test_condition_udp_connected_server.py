"""udp-connected-server: proven by a connected socket and its own client's request past it."""

from __future__ import annotations

import builder
from builder import flow

from remedies.conditions import udp_connected_server, udp_reply_source
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.flows import Flows
from remedies.facts.netfilter import Netfilter
from remedies.facts.process import Process
from remedies.facts.sockets import BoundSocket, Sockets
from remedies.facts.sysctl import Sysctl
from remedies.model import Finding
from remedies.netfilter.redirects import Redirect
from remedies.netlink.flow import Flow
from remedies.netlink.links import Address, Link, Links
from remedies.values import replace

LINKS = Links(
    links=(Link(2, "eth0", "", up=True), Link(3, "docker0", "bridge", up=True)),
    addresses=(
        Address("10.21.17.99", 24, 2, "global"),
        Address("172.17.0.1", 16, 3, "global"),
        Address("2001:db8:1::1", 64, 2, "global"),
        Address("2001:db8:2::1", 64, 3, "global"),
    ),
)
NC = BoundSocket("172.17.0.1", 56789, 7, "172.17.0.2", 40000, Process(9, "nc", ("nc", "-u", "-l")))
NC6 = replace(NC, address="2001:db8:2::1", peer="2001:db8:2::2")
OURS = Redirect("nft:inet/remedy_udp_redirect", "inet", "docker0", 56789)


ASKED = flow("172.17.0.2", 40000, "10.21.17.99", 56789)
ASKED6 = flow("2001:db8:2::2", 40000, "2001:db8:1::1", 56789)


def facts(*sockets: BoundSocket, flows: tuple[Flow, ...], ours: tuple[Redirect, ...] = ()) -> Facts:
    return builder.facts(
        LINKS,
        Sockets(connected=sockets),
        Flows(unreplied=flows),
        Netfilter(True, "none", redirects=ours),
        Sysctl(),
        Counters(),
    )


def detect(
    *sockets: BoundSocket, flows: tuple[Flow, ...] = (), ours: tuple[Redirect, ...] = ()
) -> tuple[Finding, ...]:
    return udp_connected_server.detect(facts(*sockets, flows=flows, ours=ours), {})


def test_clients_of_one_server_are_one_finding() -> None:
    other = replace(NC, peer="172.17.0.3", inode=8)
    asked = flow("172.17.0.3", 40000, "10.21.17.99", 56789)
    (found,) = detect(NC, other, flows=(ASKED, asked))
    assert len(found.details["stale"].split()) == 2


def test_its_mirrored_pair_is_not_reported_twice() -> None:
    answer = flow("172.17.0.1", 56789, "172.17.0.2", 40000)
    seen = facts(NC, flows=(ASKED, answer))
    assert udp_reply_source.detect(seen, {}) == ()
    assert len(udp_connected_server.detect(seen, {})) == 1
