"""Which notrack rules take packets from which NAT rules, on a Docker host's addresses."""

from __future__ import annotations

from typing import Any

import pytest
from builder import packet_rule

from remedies.netlink.links import Address, Link, Links
from remedies.rules.match_words import describe
from remedies.rules.overlap import _two_services, overlap
from remedies.rules.rule import Match, PacketRule
from remedies.values import replace

LINKS = Links(
    links=(
        Link(1, "lo", "", True, loopback=True),
        Link(2, "eth0", "", True),
        Link(3, "docker0", "bridge", True),
    ),
    addresses=(
        Address("127.0.0.1", 8, 1, "host"),
        Address("10.21.17.99", 24, 2, "global"),
        Address("2001:db8::10", 64, 2, "global"),
        Address("172.17.0.1", 16, 3, "global"),
    ),
)


def notrack(hook: str, **match: Any) -> PacketRule:
    return packet_rule(hook, "notrack", Match(**{"protocols": ("udp",), **match}))


def port(first: int, last: int = 0) -> tuple[tuple[int, int], ...]:
    return ((first, last or first),)


MASQUERADE = packet_rule(
    "postrouting",
    "masquerade",
    Match(sources=("172.17.0.0/16",), not_out_interfaces=("docker0",)),
)
PUBLISHED = packet_rule(
    "prerouting",
    "dnat",
    Match(
        ("udp",),
        destination_ports=port(5353),
        not_in_interfaces=("docker0",),
        destination_local=True,
    ),
    to="172.17.0.2:53",
)
PUBLISHED_OUTPUT = packet_rule(
    "output",
    "dnat",
    Match(
        ("udp",),
        not_destinations=("127.0.0.0/8",),
        destination_ports=port(5353),
        destination_local=True,
    ),
    to="172.17.0.2:53",
)
REDIRECT = packet_rule(
    "prerouting", "redirect", Match(("udp",), destination_ports=port(53)), to=":5300"
)
SNAT = packet_rule("postrouting", "snat", Match(out_interfaces=("eth0",)), to="10.21.17.99")
FROM_HERE = Match(source_local=True)
NEAR = packet_rule("postrouting", "masquerade", Match(sources=("172.17.0.0/16",)))
FAR = packet_rule("postrouting", "masquerade", Match(sources=("10.244.0.0/16",)))
DELIVERED = packet_rule("input", "snat", Match(destinations=("10.21.17.99",)), to="10.21.17.98")
ALL_OF_IPV4 = (Match(sources=("0.0.0.0/0",)),)
OF_TTL = replace(DELIVERED.match, unmodelled=("ttl",))
OUTSIDE, OTHER = "198.51.100.1", "198.51.100.2"
TO_OUTSIDE = packet_rule(
    "postrouting",
    "snat",
    Match(sources=("172.17.0.0/16",), destinations=(OUTSIDE,)),
    to="10.21.17.99",
)


def notrack6(**match: Any) -> PacketRule:
    return replace(notrack("prerouting", in_interfaces=("docker0",), **match), family="ip6")


def published6(to: str) -> PacketRule:
    match = Match(("udp",), destination_ports=port(5353), in_interfaces=("eth0",))
    return packet_rule("prerouting", "dnat", match, to=to, family="ip6")


SIP_IN = notrack("prerouting", destinations=("10.21.17.99",), destination_ports=port(5060))
SIP_OUT = notrack("output", sources=("10.21.17.99",), source_ports=port(5060))

FROM_CLIENTS = replace(
    PUBLISHED, match=replace(PUBLISHED.match, not_sources=("198.51.100.7",), in_interfaces=())
)
FROM_HERE_ON = replace(PUBLISHED, match=replace(PUBLISHED.match, source_local=True))
OF_CLIENT = replace(PUBLISHED, match=replace(PUBLISHED.match, source_ports=port(68)))
OF_TWO = replace(PUBLISHED, match=replace(PUBLISHED.match, source_ports=((68, 68), (1000, 1000))))
TO_THIS_HOST = packet_rule(
    "prerouting", "redirect", Match(("udp",), destinations=("10.21.17.99",)), to=":5300"
)
TO_ANOTHER = packet_rule(
    "prerouting", "dnat", Match(("udp",), destinations=(OUTSIDE,)), to="172.17.0.2"
)
OUT_OF_HERE = packet_rule(
    "output", "dnat", Match(("udp",), sources=("10.21.17.99",)), to="172.17.0.2"
)
SNAT_ANY = packet_rule("postrouting", "snat", Match(), to="10.21.17.99")
BY_UPLINK = packet_rule("postrouting", "masquerade", Match(out_interfaces=("eth0", "wlan0")))
NOT_BY_UPLINK = packet_rule("postrouting", "masquerade", Match(not_out_interfaces=("eth0",)))
DELIVERED_DNS = packet_rule(
    "input", "snat", Match(("udp",), destination_ports=port(53)), to="10.21.17.98"
)

CASES = [
    # a local service beside a container network's masquerade
    (SIP_IN, MASQUERADE, "no"),
    (SIP_OUT, MASQUERADE, "no"),
    (SIP_IN, PUBLISHED, "no"),
    (SIP_OUT, PUBLISHED_OUTPUT, "no"),
    # the published port itself
    (notrack("prerouting", destination_ports=port(5353)), PUBLISHED, "yes"),
    (notrack("prerouting", destination_ports=port(5000, 6000)), PUBLISHED, "yes"),
    (notrack("prerouting"), PUBLISHED, "yes"),
    (
        notrack("prerouting", destinations=("10.21.17.99",), destination_ports=port(5353)),
        PUBLISHED,
        "yes",
    ),
    (
        notrack("prerouting", destinations=("198.51.100.1",), destination_ports=port(5353)),
        PUBLISHED,
        "no",
    ),
    (
        notrack("prerouting", in_interfaces=("docker0",), destination_ports=port(5353)),
        PUBLISHED,
        "no",
    ),
    (
        packet_rule("prerouting", "notrack", Match(("tcp",), destination_ports=port(5353))),
        PUBLISHED,
        "no",
    ),
    (notrack("output", destination_ports=port(5353)), PUBLISHED, "no"),
    (notrack("output", destination_ports=port(5353)), PUBLISHED_OUTPUT, "yes"),
    # replies of what was sent to a container
    (notrack("prerouting", source_ports=port(53)), PUBLISHED, "yes"),
    (notrack("prerouting", sources=("172.17.0.0/16",)), PUBLISHED, "yes"),
    (notrack("prerouting", source_ports=port(54)), PUBLISHED, "no"),
    (notrack("output", source_ports=port(53)), PUBLISHED, "no"),
    # a redirect is answered by this host
    (notrack("output", source_ports=port(5300)), REDIRECT, "yes"),
    (notrack("output", source_ports=port(53)), REDIRECT, "no"),
    (notrack("prerouting", destination_ports=port(53)), REDIRECT, "yes"),
    # masquerade: requests of containers, and what comes back to the host
    (notrack("prerouting", destination_ports=port(53)), MASQUERADE, "yes"),
    (notrack("prerouting", source_ports=port(53)), MASQUERADE, "yes"),
    (notrack("prerouting"), MASQUERADE, "yes"),
    (notrack("prerouting", in_interfaces=("docker0",)), MASQUERADE, "yes"),
    (
        notrack("prerouting", in_interfaces=("eth0",), destinations=("198.51.100.0/24",)),
        MASQUERADE,
        "no",
    ),
    (notrack("prerouting", in_interfaces=("eth0",), source_ports=port(53)), MASQUERADE, "yes"),
    (notrack("prerouting", destinations=("10.21.17.99",)), MASQUERADE, "yes"),
    (
        notrack("prerouting", destinations=("10.21.17.99",), destination_ports=port(40000, 50000)),
        MASQUERADE,
        "maybe",
    ),
    (notrack("output", source_ports=port(5060)), MASQUERADE, "no"),
    # source NAT of everything that leaves concerns the host's own packets
    (notrack("output", destination_ports=port(53)), SNAT, "yes"),
    (notrack("prerouting", destination_local=True, destination_ports=port(53)), SNAT, "no"),
    # what comes back to a masquerading host has an address of the host
    (notrack("prerouting", destination_local=False, source_ports=port(53)), MASQUERADE, "yes"),
    (
        notrack("prerouting", destination_local=False, in_interfaces=("eth0",)),
        MASQUERADE,
        "no",
    ),
    # what this host sends has an address of its own: of the masqueraded it has 172.17.0.1 alone
    (notrack("output", source_local=True, destination_ports=port(4789)), NEAR, "yes"),
    (notrack("output", source_local=True, destination_ports=port(4789)), MASQUERADE, "no"),
    (notrack("output", source_local=True, source_ports=port(4789)), FAR, "no"),
    (notrack("output", source_local=False), MASQUERADE, "no"),
    (notrack("output", source_local=True), replace(SNAT, match=FROM_HERE), "yes"),
    (notrack("prerouting", destination_local=False), replace(NEAR, match=FROM_HERE), "no"),
    (notrack("prerouting", source_local=True), MASQUERADE, "no"),
    (notrack("output", source_local=True, source_ports=port(53)), REDIRECT, "no"),
    (notrack("output", source_local=True, source_ports=port(5300)), REDIRECT, "yes"),
    (notrack("output", source_local=False, source_ports=port(5300)), REDIRECT, "no"),
    (notrack("prerouting", source_local=True, source_ports=port(53)), PUBLISHED, "no"),
    (notrack("prerouting", source_local=False, source_ports=port(53)), PUBLISHED, "yes"),
    # replies come to the address that source NAT put in, and to no other
    (notrack("prerouting", sources=(OUTSIDE,)), TO_OUTSIDE, "yes"),
    (notrack("prerouting", sources=(OUTSIDE,), destinations=("10.21.17.99",)), TO_OUTSIDE, "yes"),
    (
        notrack("prerouting", sources=(OUTSIDE,), not_destinations=("10.21.17.99",)),
        TO_OUTSIDE,
        "no",
    ),
    # where an IPv6 rule sends packets: with a port, without one
    (notrack6(source_ports=port(53)), published6("[fd00::2]:53"), "yes"),
    (notrack6(source_ports=port(5353)), published6("[fd00::2]:53"), "no"),
    (notrack6(source_ports=port(5353)), published6("fd00::2"), "yes"),
    (notrack6(sources=("fd00::3",)), published6("fd00::2"), "no"),
    # source NAT of what is delivered here
    (notrack("prerouting", destinations=("10.21.17.99",)), DELIVERED, "yes"),
    (notrack("prerouting", destinations=("172.17.0.1",)), DELIVERED, "no"),
    (notrack("output", sources=("10.21.17.99",)), DELIVERED, "yes"),
    (notrack("output", sources=("172.17.0.1",)), DELIVERED, "no"),
    # what the rule itself says of its packets decides whether a reply can be one of them
    (notrack("prerouting", sources=("172.17.0.3",)), PUBLISHED, "no"),
    (notrack("prerouting", source_ports=port(53)), FROM_CLIENTS, "yes"),
    (
        notrack("prerouting", source_ports=port(53), destinations=("198.51.100.7",)),
        FROM_CLIENTS,
        "no",
    ),
    (
        notrack("prerouting", source_ports=port(53), destinations=("198.51.100.8",)),
        FROM_CLIENTS,
        "yes",
    ),
    (notrack("prerouting", source_ports=port(53), destination_local=True), FROM_HERE_ON, "yes"),
    (notrack("prerouting", source_ports=port(53), destination_local=False), FROM_HERE_ON, "no"),
    (
        packet_rule("prerouting", "notrack", Match(("tcp",), source_ports=port(53))),
        replace(PUBLISHED, match=replace(PUBLISHED.match, protocols=("udp", "tcp"))),
        "yes",
    ),
    # replies come to the client's own port, unless the rule has named it
    (notrack("prerouting", source_ports=port(53), destination_ports=port(68)), PUBLISHED, "no"),
    (
        notrack("prerouting", source_ports=port(53), destination_ports=port(40000)),
        PUBLISHED,
        "maybe",
    ),
    (notrack("prerouting", source_ports=port(53), destination_ports=port(68)), OF_CLIENT, "yes"),
    (notrack("prerouting", source_ports=port(53), destination_ports=port(69)), OF_CLIENT, "no"),
    (notrack("prerouting", source_ports=port(53), destination_ports=port(67, 68)), OF_TWO, "yes"),
    # replies of a container come by its bridge alone
    (
        notrack("prerouting", source_ports=port(53), in_interfaces=("eth0",)),
        PUBLISHED,
        "no",
    ),
    (
        notrack("prerouting", source_ports=port(53), in_interfaces=("docker*",)),
        PUBLISHED,
        "yes",
    ),
    (
        notrack("prerouting", source_ports=port(53), not_in_interfaces=("docker0",)),
        PUBLISHED,
        "no",
    ),
    (
        notrack("prerouting", source_ports=port(53), in_interfaces=("eth0", "docker0")),
        PUBLISHED,
        "yes",
    ),
    # a rule that names no address: where it sends packets is not known
    (notrack("prerouting", source_ports=port(53)), replace(PUBLISHED, to=":53"), "maybe"),
    # what is for this host, or is not, is decided by the addresses it has
    (notrack("prerouting", destination_local=False), TO_THIS_HOST, "no"),
    (notrack("prerouting", destination_local=True), TO_THIS_HOST, "yes"),
    (notrack("prerouting", sources=(OTHER,), destination_local=True), TO_ANOTHER, "no"),
    (notrack("prerouting", sources=(OTHER,), destination_local=False), TO_ANOTHER, "yes"),
    (notrack("output", source_local=False), OUT_OF_HERE, "no"),
    (notrack("output", source_local=True), OUT_OF_HERE, "yes"),
    # what this host sends by one link does not leave by the address of another
    (notrack("output", sources=("172.17.0.1",)), MASQUERADE, "no"),
    (notrack("output", sources=("172.17.0.1",)), NEAR, "yes"),
    (notrack("output", sources=("198.51.100.9",)), SNAT_ANY, "no"),
    (notrack("output", in_interfaces=("lo",)), SNAT_ANY, "yes"),
    (notrack("output", destinations=("10.21.17.99",)), SNAT_ANY, "yes"),
    # replies to what is masqueraded come to an address of the link it left by
    (notrack("prerouting", destinations=("172.17.0.1",)), BY_UPLINK, "no"),
    (notrack("prerouting", destinations=("10.21.17.99",)), BY_UPLINK, "yes"),
    (notrack("prerouting", destinations=("172.17.0.1",)), NOT_BY_UPLINK, "yes"),
    (notrack("prerouting", destinations=("10.21.17.99",)), NOT_BY_UPLINK, "no"),
    # replies of what is delivered here, as this host sends them
    (notrack("output", source_ports=port(53)), DELIVERED_DNS, "yes"),
    (notrack("output", source_ports=port(54)), DELIVERED_DNS, "no"),
    (notrack("output", sources=("10.21.17.99",), not_sources=("10.21.17.99",)), DELIVERED, "no"),
    (notrack("output", unmodelled=("meta mark",)), DELIVERED, "maybe"),
    (notrack("prerouting", source_local=True, sources=("10.21.17.5",)), DELIVERED, "no"),
    (notrack("prerouting", source_local=True, sources=("10.21.17.99",)), DELIVERED, "yes"),
    # conditions that are not modelled
    (notrack("prerouting", unmodelled=("ttl",)), DELIVERED, "yes"),  # some senders choose it
    (notrack("prerouting"), replace(DELIVERED, match=OF_TTL), "yes"),
    (notrack("prerouting", unmodelled=("ttl",)), replace(DELIVERED, match=OF_TTL), "maybe"),
    (
        notrack("prerouting", destination_ports=port(5353), unmodelled=("meta mark",)),
        PUBLISHED,
        "maybe",
    ),
]


@pytest.mark.parametrize(("mine", "nat", "expected"), CASES)
def test_overlap(mine: PacketRule, nat: PacketRule, expected: str) -> None:
    answer = overlap(mine, nat, LINKS)
    assert (answer.answer, bool(answer.reason)) == (expected, True), answer.reason


def test_reason_names_the_dimension_and_both_values() -> None:
    answer = overlap(notrack("prerouting", destination_ports=port(5060)), PUBLISHED, LINKS)
    assert answer.reason == "different destination ports: 5060 and 5353"


@pytest.mark.parametrize(("earlier", "expected"), [((), "yes"), (ALL_OF_IPV4, "no")])
def test_what_all_of_one_version_takes_first_counts_for_a_rule_of_both(
    earlier: tuple[Match, ...], expected: str
) -> None:
    mine = packet_rule("output", "notrack", Match(("udp",)), family="inet")
    nat = packet_rule("postrouting", "snat", Match(), to="10.21.17.98", after=earlier)
    assert overlap(mine, nat, LINKS).answer == expected


def test_different_ip_versions() -> None:
    mine = packet_rule("prerouting", "notrack", Match(("udp",)), family="ip6")
    assert overlap(mine, PUBLISHED, LINKS).answer == "no"


def test_what_an_earlier_rule_takes_is_no_overlap() -> None:
    spared = replace(MASQUERADE, after=(Match(("udp",), destination_ports=port(53)),))
    mine = notrack("prerouting", in_interfaces=("docker0",), destination_ports=port(53))
    assert overlap(mine, MASQUERADE, LINKS).answer == "yes"
    assert overlap(mine, spared, LINKS).answer == "no"


MARKED = Match(unmodelled=("meta mark",))


def test_an_earlier_rule_that_is_not_understood_may_take_the_packets() -> None:
    sip = notrack("output", sources=("10.21.17.99",), source_ports=port(5060))
    everything = packet_rule("postrouting", "masquerade", Match())
    assert overlap(sip, everything, LINKS).answer == "yes"
    after = replace(everything, after=(MARKED,))
    found = overlap(sip, after, LINKS)
    assert (found.answer, "meta mark" in found.reason) == ("maybe", True)
    other = replace(everything, after=(replace(MARKED, protocols=("tcp",)),))
    assert overlap(sip, other, LINKS).answer == "yes"


OUT_BY_ETH0 = packet_rule("postrouting", "masquerade", Match(out_interfaces=("eth0",)))
ONE_ARM = replace(LINKS, links=LINKS.links[:2])


@pytest.mark.parametrize(
    ("links", "seen", "answer"),
    [
        (LINKS, {"in_interfaces": ("eth0",)}, "no"),
        (LINKS, {"not_in_interfaces": ("docker*",)}, "no"),
        (LINKS, {"in_interfaces": ("docker0",)}, "yes"),
        (LINKS, {"in_interfaces": ("eth0", "docker0")}, "yes"),
        (LINKS, {}, "yes"),
        (ONE_ARM, {"in_interfaces": ("eth0",)}, "yes"),
        (replace(LINKS, links=()), {"in_interfaces": ("eth0",)}, "yes"),
    ],
)
def test_nothing_leaves_by_the_link_that_it_came_by(
    links: Links, seen: dict[str, tuple[str, ...]], answer: str
) -> None:
    seen_by = notrack("prerouting", destination_ports=port(53), **seen)
    assert overlap(seen_by, OUT_BY_ETH0, links).answer == answer


@pytest.mark.parametrize(
    ("match", "words"),
    [
        (Match(), "packets"),
        (Match(("udp",), destinations=("192.0.2.10",), destination_ports=port(5060)),
         "udp to 192.0.2.10 port 5060"),
        (Match(("tcp", "udp"), source_ports=port(1, 9)), "tcp/udp from port 1-9"),
        (Match(sources=("10.0.0.0/8",)), "packets from 10.0.0.0/8"),
    ],
)  # fmt: skip
def test_packets_in_a_few_words(match: Match, words: str) -> None:
    assert describe(match) == words


def test_what_comes_in_by_the_loopback_is_not_forwarded() -> None:
    for link, answer in (("lo", "no"), ("eth1", "yes")):
        assert overlap(notrack("prerouting", in_interfaces=(link,)), SNAT, LINKS).answer == answer


@pytest.mark.parametrize(
    ("sources", "after", "answer"),
    [
        (("::/0",), (), "no"),
        (("0.0.0.0/0",), (), "yes"),
        ((), ("::/0",), "yes"),
        ((), ("0.0.0.0/0",), "no"),
        (("::/0", "198.51.100.0/24"), (), "yes"),
    ],
)
def test_a_rule_of_both_ip_versions_is_judged_by_that_of_the_other(
    sources: tuple[str, ...], after: tuple[str, ...], answer: str
) -> None:
    earlier = (Match(sources=after),) if after else ()
    made = replace(notrack("prerouting", sources=sources), family="inet", after=earlier)
    assert overlap(made, REDIRECT, LINKS).answer == answer
    both = replace(REDIRECT, family="inet", match=replace(REDIRECT.match, sources=("0.0.0.0/0",)))
    assert overlap(made, both, LINKS).answer == answer


@pytest.mark.parametrize(
    ("source", "destination", "apart"),
    [
        (port(53), port(53), False),
        (port(53), port(54), True),
        (port(53), port(1, 100), False),
        (port(53), port(32767), True),
        (port(53), port(32768), False),  # a client's own
        (port(32768), port(53), False),
        (port(53), (), False),
        ((), port(53), False),
    ],
)
def test_nothing_goes_from_one_service_to_another(
    source: tuple[tuple[int, int], ...], destination: tuple[tuple[int, int], ...], apart: bool
) -> None:
    one, other = Match(source_ports=source), Match(destination_ports=destination)
    assert _two_services(one, other) is apart
    assert _two_services(other, one) is apart
    both = replace(one, destination_ports=port(1)) if source else one
    assert not _two_services(both, other), "both ports are said"
