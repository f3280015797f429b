"""udp-reply-source: exposed by shape, proven by the mirrored pair, silent for the healthy twin."""

from __future__ import annotations

from fnmatch import fnmatchcase

import builder
import pytest
from builder import flow
from hypothesis import given
from hypothesis import strategies as st

from remedies.conditions import udp_reply_source
from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.flows import Flows
from remedies.facts.netfilter import Netfilter
from remedies.facts.pairs import mirrored
from remedies.facts.process import Process
from remedies.facts.sockets import BoundSocket, Sockets, UdpSocket
from remedies.facts.sysctl import Sysctl
from remedies.fixes import bind_advice
from remedies.model import Advice, Finding, Terms
from remedies.netfilter.redirects import Redirect
from remedies.netlink.flow import Flow
from remedies.netlink.links import Address, Link, Links
from remedies.values import replace

LINKS = Links(
    links=(
        Link(1, "lo", "", up=True, loopback=True),
        Link(2, "eth0", "", up=True),
        Link(3, "docker0", "bridge", up=True),
    ),
    addresses=(
        Address("127.0.0.1", 8, 1, "host"),
        Address("10.21.17.99", 24, 2, "global"),
        Address("172.17.0.1", 16, 3, "global"),
        Address("2001:db8:1::1", 64, 2, "global"),
        Address("2001:db8:2::1", 64, 3, "global"),
    ),
)
POD = "6d2b0f3a-8a3e-4d0e-9f0a-1b2c3d4e5f60"
SERVER = UdpSocket(
    4,
    "0.0.0.0",
    56789,
    77,
    0,
    pktinfo=False,
    owner=Process(9, "sipd", ("sipd", "-f"), "sipd.service"),
)
SERVER6 = replace(SERVER, family=6, address="::", v6only=False)


PAIR = (
    flow("172.17.0.2", 57275, "10.21.17.99", 56789),
    flow("172.17.0.1", 56789, "172.17.0.2", 57275),
)
PAIR6 = (
    flow("2001:db8:2::2", 57275, "2001:db8:1::1", 56789),
    flow("2001:db8:2::1", 56789, "2001:db8:2::2", 57275),
)


def facts(
    *sockets: UdpSocket,
    flows: tuple[Flow, ...] = (),
    links: Links = LINKS,
    unread: str = "",
    redirects: tuple[Redirect, ...] = (),
) -> Facts:
    return builder.facts(
        Netfilter(True, "none", redirects=redirects),
        links,
        Sockets(sockets),
        Flows(unreplied=flows, unread=(unread,) if unread else ()),
        Sysctl({"net.ipv4.ip_local_port_range": "32768 60999"}),
        Counters({"Icmp.InDestUnreachs": 1}, {"Icmp.InDestUnreachs": 4}),
    )


def detect(
    *sockets: UdpSocket, flows: tuple[Flow, ...] = (), links: Links = LINKS, unread: str = ""
) -> tuple[Finding, ...]:
    return udp_reply_source.detect(facts(*sockets, flows=flows, links=links, unread=unread), {})


def test_a_wildcard_server_without_pktinfo_is_exposed() -> None:
    (found,) = detect(replace(SERVER, port=514))
    assert (found.subject, found.verdict, found.severity) == (
        "udp 0.0.0.0:514",
        "exposed",
        "medium",
    )
    assert "sipd (sipd.service)" in found.message
    assert found.details["addresses"] == "10.21.17.99 172.17.0.1"
    assert fnmatchcase(found.subject, "udp *:514*")


def test_a_port_that_the_kernel_gives_out_is_exposed_with_low_severity() -> None:
    (found,) = detect(SERVER)
    assert (found.verdict, found.severity) == ("exposed", "low")


@pytest.mark.parametrize(("server", "pair"), [(SERVER, PAIR), (SERVER6, PAIR), (SERVER6, PAIR6)])
def test_the_mirrored_pair_is_the_proof(server: UdpSocket, pair: tuple[Flow, Flow]) -> None:
    for flows in (pair, pair[::-1]):
        (found,) = detect(server, flows=flows)
        assert (found.verdict, found.severity) == ("proven", "high")
        assert found.details["addresses"] == pair[0].original.destination
        texts = [item.value for item in found.evidence if item.source == "conntrack"]
        way = pair[0].original
        assert texts[0] == (
            f"udp src={way.source} dst={way.destination} sport=57275 dport=56789 [UNREPLIED]"
        )
        assert f"src={pair[1].original.source}" in texts[1]


def test_a_proof_stands_without_the_socket_and_keeps_its_id() -> None:
    (found,) = detect(flows=PAIR)
    (before,) = detect(SERVER, flows=PAIR)
    assert found.verdict == "proven"
    assert found.id == before.id


def test_a_proof_needs_no_second_address_that_others_can_ask() -> None:
    one = replace(
        LINKS,
        addresses=(Address("10.0.0.5", 24, 2, "global"), Address("10.0.0.6", 24, 4, "global")),
    )
    flows = (flow("10.0.0.9", 7, "10.0.0.6", 53), flow("10.0.0.5", 53, "10.0.0.9", 7))
    assert detect(replace(SERVER, port=53), links=one) == ()
    (found,) = detect(replace(SERVER, port=53), flows=flows, links=one)
    assert found.verdict == "proven"


def test_a_pair_that_is_answered_from_the_right_address_is_none() -> None:
    right = flow("10.21.17.99", 56789, "172.17.0.2", 57275)
    assert detect(flows=(PAIR[0], right)) == ()
    foreign = flow("192.0.2.9", 56789, "172.17.0.2", 57275)
    assert detect(flows=(PAIR[0], foreign)) == ()
    assert detect(flows=(PAIR[0],)) == ()


def test_an_unknown_fact_passes_on() -> None:
    with pytest.raises(Unreadable):
        udp_reply_source.detect(builder.facts(), {})


OURS = Redirect("nft:inet/remedy_udp_redirect", "inet", "docker0", 56789)


def test_what_our_redirect_covers_is_mitigated_and_keeps_its_way() -> None:
    (found,) = udp_reply_source.detect(facts(SERVER, redirects=(OURS,)), {})
    assert (found.verdict, found.mitigated_by) == ("mitigated", f"remedy {OURS.resource}")
    assert found.details["redirect"] == "docker0/172.17.0.1"
    (other,) = udp_reply_source.detect(
        facts(SERVER, redirects=(replace(OURS, port=53), replace(OURS, family="ip6"))), {}
    )
    assert (other.verdict, other.details["redirect"]) == ("exposed", "")


def test_what_is_covered_keeps_its_way_while_its_bridge_is_away() -> None:
    gone = replace(LINKS, links=LINKS.links[:2], addresses=LINKS.addresses[:2])
    second = (Link(7, "br-1", "bridge", up=True),)
    gone = replace(
        gone,
        links=gone.links + second,
        addresses=(*gone.addresses, Address("172.18.0.1", 16, 7, "global")),
    )
    (found,) = udp_reply_source.detect(facts(SERVER, links=gone, redirects=(OURS,)), {})
    assert (found.verdict, found.details["redirect"]) == ("mitigated", "docker0/0.0.0.0")


@pytest.mark.parametrize(
    ("server", "pair", "way"),
    [
        (SERVER, PAIR, "docker0/172.17.0.1"),
        (SERVER6, PAIR, "docker0/172.17.0.1"),
        (SERVER6, PAIR6, "docker0/2001:db8:2::1"),
    ],
)
def test_a_proof_names_the_way_in_and_the_stale_flows(
    server: UdpSocket, pair: tuple[Flow, Flow], way: str
) -> None:
    (found,) = detect(server, flows=pair)
    assert found.details["redirect"] == way
    ways = [flow.original for flow in pair]
    assert found.details["stale"].split() == [
        f"udp/{w.source}/{w.source_port}/{w.destination}/{w.destination_port}" for w in ways
    ]
    assert found.details["server"] == "wildcard"


def test_a_client_that_is_no_neighbour_has_no_known_way_in() -> None:
    far = (
        flow("192.0.2.7", 57275, "10.21.17.99", 56789),
        flow("172.17.0.1", 56789, "192.0.2.7", 57275),
    )
    (found,) = detect(SERVER, flows=far)
    assert (found.verdict, found.details["redirect"]) == ("proven", "")


addresses = st.sampled_from(("10.21.17.99", "172.17.0.1", "172.17.0.2", "192.0.2.9"))
ports = st.integers(1, 3)


@given(st.lists(st.builds(flow, addresses, ports, addresses, ports), max_size=12))
def test_a_pair_always_has_two_local_ends_and_a_client(flows: list[Flow]) -> None:
    local = {"10.21.17.99", "172.17.0.1"}
    for request, reply, source in mirrored(flows, local):
        assert reply is not None
        assert source == reply.original.source
        assert {request.original.destination, reply.original.source} == local
        assert request.original.source == reply.original.destination
        client = request.original
        assert client.source not in local or client.source_port != client.destination_port
        assert request.original.source_port == reply.original.destination_port
        assert request.original.destination_port == reply.original.source_port


def test_the_advice_names_process_unit_port_and_address() -> None:
    asked = facts(SERVER, flows=PAIR)
    (found,) = udp_reply_source.detect(asked, {})
    assert bind_advice.guard(found, asked, Terms()) is None
    advice = bind_advice.desired(found, asked, Terms())
    assert isinstance(advice, Advice)
    assert advice.template == "bind"
    assert advice.finding == found.id
    assert advice.values == {
        "protocol": "udp",
        "port": "56789",
        "family": "4",
        "process": "sipd",
        "pid": "9",
        "unit": "sipd.service",
        "container": "",
        "container_name": "",
        "pod": "",
        "container_address": "",
        "container_port": "",
        "sends": "",
        "uplink": "",
        "clients": "",
        "addresses": ("10.21.17.99",),
        "asked": True,
        "argv": ("sipd", "-f"),
        "connects": False,
        "place": "unit",
    }
    assert bind_advice.impact(found, asked, Terms()).startswith("none")


def test_a_pod_of_the_hosts_network_is_named_and_one_of_its_own_is_not() -> None:
    owner = Process(9, "coredns", container="0123456789ab", pod=POD)
    asked = facts(replace(SERVER, owner=owner), flows=PAIR)
    for netns, named in (("host", POD), ("a-pods-own", "")):
        there = replace(asked, host=replace(asked.host, netns=netns))
        (found,) = udp_reply_source.detect(there, {})
        advice = bind_advice.desired(found, there, Terms())
        assert isinstance(advice, Advice)
        assert (advice.values["pod"], advice.values["place"]) == (named, "container")


def test_the_advice_cannot_be_required_by_itself() -> None:
    nothing = facts()
    assert "finding" in (bind_advice.guard(None, nothing, Terms()) or "")
    assert bind_advice.desired(None, nothing, Terms()) == ()
    portless = Finding("udp-reply-source", "udp", "exposed", "low", "m")
    assert "port" in (bind_advice.guard(portless, nothing, Terms()) or "")


def test_a_server_that_is_asked_and_answers_nobody_is_a_receiver() -> None:
    asked = (flow("172.17.0.2", 40000, "10.21.17.99", SERVER.port),)
    assert udp_reply_source.detect(facts(SERVER, flows=asked), udp_reply_source.PARAMS) == ()
    elsewhere = (flow("172.17.0.2", 40000, "10.21.17.99", SERVER.port + 1),)
    assert udp_reply_source.detect(facts(SERVER, flows=elsewhere), udp_reply_source.PARAMS)
    leaving = (flow("10.21.17.99", 40000, "192.0.2.1", SERVER.port),)
    assert udp_reply_source.detect(facts(SERVER, flows=leaving), udp_reply_source.PARAMS)


@pytest.mark.parametrize("pktinfo", [False, None])
def test_protocols_without_answers_are_known_by_their_port(pktinfo: bool | None) -> None:
    syslog = replace(SERVER, port=514, pktinfo=pktinfo)
    assert udp_reply_source.detect(facts(syslog), udp_reply_source.PARAMS) == ()
    assert udp_reply_source.detect(facts(syslog), {"silent_ports": []})


def test_proof_outweighs_the_port() -> None:
    pair = (
        flow("172.17.0.2", 57275, "10.21.17.99", 514),
        flow("172.17.0.1", 514, "172.17.0.2", 57275),
    )
    syslog = replace(SERVER, port=514)
    (finding,) = udp_reply_source.detect(facts(syslog, flows=pair), udp_reply_source.PARAMS)
    assert finding.verdict == "proven"


def test_a_socket_for_each_address_answers_from_the_right_one() -> None:
    each = tuple(BoundSocket(a, 56789, 80 + n) for n, a in enumerate(("10.21.17.99", "172.17.0.1")))
    found = facts(SERVER)
    every = replace(found, known={**found.known, "sockets": Sockets((SERVER,), each)})
    assert udp_reply_source.detect(every, {}) == ()
    some = replace(found, known={**found.known, "sockets": Sockets((SERVER,), each[:1])})
    (finding,) = udp_reply_source.detect(some, {})
    assert finding.verdict == "exposed"
    both = replace(found, known={**found.known, "sockets": Sockets((SERVER6,), each)})
    (finding,) = udp_reply_source.detect(both, {})
    assert finding.verdict == "exposed", "IPv6 has no such sockets"


def test_the_kernels_own_sockets_are_no_servers() -> None:
    own = replace(SERVER, port=4789, owner=None, pktinfo=None, kernel=True)
    assert udp_reply_source.detect(facts(own), {}) == ()
    assert udp_reply_source.detect(facts(replace(own, kernel=False)), {})[0].verdict == "unknown"
