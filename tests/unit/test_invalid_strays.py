"""The INVALID segments of flows that NAT rewrites, and their resets: rules in, packets out."""

from __future__ import annotations

from typing import Any

import pytest
from builder import packet_rule

from remedies.errors import Unreadable
from remedies.rules import invalid_packet, invalid_ways
from remedies.rules.invalid_packet import NOBODY, generic, resets_of, strays
from remedies.rules.rule import Match, PacketRule
from remedies.values import replace


def rule(hook: str, action: str, to: str = "", **match: Any) -> PacketRule:
    return packet_rule(hook, action, Match(**match), to=to)


@pytest.mark.parametrize(
    ("hook", "local"), [("input", True), ("forward", False), ("output", False)]
)
@pytest.mark.parametrize(("family", "everyone"), [("ip", "0.0.0.0/0"), ("ip6", "::/0")])
def test_a_generic_segment_is_as_its_hook_sees_it(
    hook: str, local: bool, family: str, everyone: str
) -> None:
    assert generic(family, hook) == Match(
        protocols=("tcp",),
        sources=(everyone,),
        not_sources=() if hook == "output" else NOBODY[family],
        not_in_interfaces=("lo",),
        not_out_interfaces=("lo",),
        destination_local=local,
        source_local=hook == "output",
        states=("invalid",),
    )


MASQUERADE = rule("postrouting", "masquerade", sources=("10.0.0.0/8",), out_interfaces=("eth0",))
PUBLISHED = rule(
    "prerouting", "dnat", "172.17.0.2:80", protocols=("tcp",), destination_ports=((8080, 8080),),
    in_interfaces=("eth0",), destination_local=True,
)  # fmt: skip
INPUT, FORWARD = generic("ip", "input"), generic("ip", "forward")


@pytest.mark.parametrize(
    ("hook", "rules", "found"),
    [
        # Nothing known: any segment.
        ("input", (), (INPUT,)),
        ("forward", (), (FORWARD,)),
        # What leaves by a link with another source is answered by that link.
        ("input", (MASQUERADE,), (replace(INPUT, in_interfaces=("eth0",)),)),
        ("forward", (MASQUERADE,), (FORWARD,)),
        (
            "input",
            (rule("postrouting", "snat", destinations=("198.51.100.0/24",), protocols=("tcp",),
                  destination_ports=((443, 443),)),),
            (replace(INPUT, sources=("198.51.100.0/24",), source_ports=((443, 443),)),),
        ),
        # Requests to a published port, and what the container answers.
        (
            "input", (PUBLISHED,),
            (replace(INPUT, in_interfaces=("eth0",), destination_ports=((8080, 8080),)),),
        ),
        (
            "forward", (PUBLISHED,),
            (replace(FORWARD, sources=("172.17.0.2",), source_ports=((80, 80),),
                     out_interfaces=("eth0",)),),
        ),
        (
            "forward",
            (rule("prerouting", "dnat", "172.17.0.2", destination_ports=((53, 53),)),),
            (replace(FORWARD, sources=("172.17.0.2",), source_ports=((53, 53),)),),
        ),
        # The address is not known: neither is the port.
        ("forward", (rule("prerouting", "dnat", "", destination_ports=((53, 53),)),), (FORWARD,)),
        # What this host itself asked for is answered on input, and not forwarded.
        (
            "input", (rule("output", "dnat", "10.0.0.1:1"),),
            (replace(INPUT, sources=("10.0.0.1",), source_ports=((1, 1),)),),
        ),
        (
            "input",
            (rule("output", "dnat", "10.0.0.1", destination_ports=((53, 53),)), PUBLISHED),
            (replace(INPUT, sources=("10.0.0.1",), source_ports=((53, 53),)),
             replace(INPUT, destination_ports=((8080, 8080),), in_interfaces=("eth0",))),
        ),
        ("forward", (rule("output", "dnat", "10.0.0.1:1"),), (FORWARD,)),
        # Not asked for: another protocol, what is redirected here, a container's to itself.
        ("input", (rule("postrouting", "masquerade", protocols=("udp",)),), (INPUT,)),
        ("input", (rule("output", "redirect", ":1", destination_ports=((53, 53),)),), (INPUT,)),
        (
            "input",
            (rule("postrouting", "masquerade", sources=("172.17.0.2",),
                  destinations=("172.17.0.2",), out_interfaces=("eth7",)),),
            (INPUT,),
        ),
        # Of another chain nothing is known on input; on forward it has no flows of its own.
        (
            "input", (MASQUERADE, rule("input", "snat", "10.0.0.1")),
            (replace(INPUT, in_interfaces=("eth0",)), INPUT),
        ),
        (
            "forward", (MASQUERADE, PUBLISHED),
            (replace(FORWARD, sources=("172.17.0.2",), source_ports=((80, 80),),
                     out_interfaces=("eth0",)),),
        ),
        # By one link they are one packet, by two they are two.
        (
            "forward",
            (PUBLISHED, replace(PUBLISHED, to="172.17.0.3:81")),
            (replace(FORWARD, sources=("172.17.0.2", "172.17.0.3"),
                     source_ports=((80, 80), (81, 81)), out_interfaces=("eth0",)),),
        ),
        (  # and nobody is left out of whom one of them comes
            "forward",
            tuple(
                replace(PUBLISHED, to=f"172.17.0.{n}:80",
                        match=replace(PUBLISHED.match, not_sources=not_from))
                for n, not_from in ((2, ("10.0.0.0/8", "192.0.2.0/24")), (3, ("10.0.0.0/8",)))
            ),
            (replace(FORWARD, sources=("172.17.0.2", "172.17.0.3"), source_ports=((80, 80),),
                     out_interfaces=("eth0",), not_destinations=("10.0.0.0/8",)),),
        ),
        (
            "input",
            (MASQUERADE, replace(MASQUERADE, match=Match(out_interfaces=("eth1",)))),
            (replace(INPUT, in_interfaces=("eth0",)), replace(INPUT, in_interfaces=("eth1",))),
        ),
    ],
)  # fmt: skip
def test_segments_of_flows_that_nat_rewrites(
    hook: str, rules: tuple[PacketRule, ...], found: tuple[Match, ...]
) -> None:
    assert strays(rules, "ip", hook) == found


TO_80 = replace(
    FORWARD, destinations=("172.17.0.2",), destination_ports=((80, 80),), in_interfaces=("eth0",)
)


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ((), (FORWARD,)),
        ((MASQUERADE,), (FORWARD,)),
        ((PUBLISHED,), (TO_80,)),
        ((PUBLISHED, PUBLISHED), (TO_80,)),
        ((replace(PUBLISHED, action="redirect"),), (FORWARD,)),
        ((replace(PUBLISHED, hook="output"),), (FORWARD,)),
        ((replace(PUBLISHED, match=Match(protocols=("udp",))),), (FORWARD,)),
        (
            (PUBLISHED, replace(PUBLISHED, to="10.0.0.1-10.0.0.9:80")),
            (replace(TO_80, destinations=()),),
        ),
        (
            (replace(PUBLISHED, match=replace(PUBLISHED.match, not_in_interfaces=("docker0",))),),
            (replace(TO_80, not_in_interfaces=("lo", "docker0")),),
        ),
        (
            tuple(replace(PUBLISHED, to=f"172.17.0.{n}:80") for n in range(2, 35)),
            (replace(TO_80, destinations=tuple(f"172.17.0.{n}" for n in range(2, 35))),),
        ),
    ],
)
def test_resets_go_to_what_a_port_is_published_for(
    rules: tuple[PacketRule, ...], found: tuple[Match, ...]
) -> None:
    assert resets_of(rules, "ip") == found


@pytest.mark.parametrize(
    ("text", "addresses", "ports"),
    [
        ("", (), ()),
        ("172.17.0.2", ("172.17.0.2",), ()),
        ("172.17.0.2:80", ("172.17.0.2",), ((80, 80),)),
        ("172.17.0.2:80-90", ("172.17.0.2",), ((80, 90),)),
        (":5300", (), ((5300, 5300),)),
        ("172.17.0.2:http", ("172.17.0.2",), ()),
        ("172.17.0.2-172.17.0.9:80", (), ((80, 80),)),
        ("fd00::2", ("fd00::2",), ()),
        ("[fd00::2]:80", ("fd00::2",), ((80, 80),)),
    ],
)
def test_a_target_is_an_address_and_ports(
    text: str, addresses: tuple[str, ...], ports: tuple[tuple[int, int], ...]
) -> None:
    assert invalid_packet.target(text) == (addresses, ports)


@pytest.mark.parametrize(
    ("ports", "one"),
    [
        ((), False),
        (((80, 80),), True),
        (((32767, 32767),), True),
        (((32768, 32768),), False),
        (((80, 80), (40000, 40000)), False),
        (((1, 65535),), False),
        (((30000, 31000),), True),
        (((0, 1022),), True),
        (((0, 1023),), False),
        (((1024, 1535), (2000, 2511)), False),
    ],
)
def test_a_service_has_a_port_that_nat_does_not_hand_out(
    ports: tuple[tuple[int, int], ...], one: bool
) -> None:
    assert invalid_packet.one_service(Match(destination_ports=ports), "destination") is one
    assert invalid_packet.one_service(Match(source_ports=ports), "source") is one
    assert not invalid_packet.one_service(Match(source_ports=ports), "destination")
    assert not invalid_packet.one_service(Match(source_ports=ports, destination_ports=ports), "")


@pytest.mark.parametrize(
    ("hook", "action", "match", "to", "stays"),
    [
        ("output", "redirect", {}, ":53", True),
        ("output", "dnat", {}, "127.0.0.11:53", True),
        ("output", "dnat", {}, "[::1]:53", True),
        ("output", "dnat", {}, "172.17.0.2:53", False),
        ("prerouting", "dnat", {}, "127.0.0.1:53", False),
        ("postrouting", "snat", {"sources": ("127.0.0.11",)}, ":53", True),
        ("postrouting", "snat", {"sources": ("127.0.0.11",)}, "127.0.0.1", True),
        ("postrouting", "snat", {"sources": ("127.0.0.11",)}, "10.0.0.1", False),
        ("postrouting", "masquerade", {"out_interfaces": ("lo",)}, "", True),
        ("postrouting", "masquerade", {"out_interfaces": ("lo", "eth0")}, "", False),
        ("postrouting", "masquerade", {}, "", False),
    ],
)
def test_flows_that_stay_on_the_loopback(
    hook: str, action: str, match: dict[str, Any], to: str, stays: bool
) -> None:
    assert invalid_packet.stays_here(hook, action, Match(**match), to) is stays


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("198.51.100.7", ("198.51.100.7",)),
        ("198.51.100.6-198.51.100.9:2000-2999", ("198.51.100.6/31", "198.51.100.8/31")),
        ("[fd17::2]:80", ("fd17::2",)),
        ("fd17::2", ("fd17::2",)),
        (":2000-2999", ()),
        ("", ()),
    ],
)
def test_addresses_that_a_rule_gives_out(text: str, found: tuple[str, ...]) -> None:
    assert invalid_packet.translated(text) == found


BOTH = {("ip", "input"), ("ip", "forward")}


@pytest.mark.parametrize(
    ("uses", "unread", "ways"),
    [
        ([], [], BOTH | {("ip6", "input"), ("ip6", "forward")}),
        ([], ["ip"], BOTH),
        ([("ip", "masquerade", "postrouting", False)], [], {("ip", "input")}),
        ([("ip", "masquerade", "postrouting", True)], [], set()),
        ([("ip", "dnat", "prerouting", False)], [], BOTH),
        ([("ip", "dnat", "output", False)], [], {("ip", "input")}),
        ([("ip6", "snat", "postrouting", False)], ["ip"], BOTH | {("ip6", "input")}),
    ],
)
def test_the_ways_of_flows_that_nat_rewrites(
    uses: list[tuple[str, str, str, bool]], unread: list[str], ways: invalid_ways.Ways
) -> None:
    assert invalid_ways.needed(uses, unread) == ways


def test_a_family_that_nobody_knows_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="'arp'"):
        invalid_ways.needed([], ["arp"])


def test_requests_to_what_is_published_with_every_port_are_told_from_answers() -> None:
    published = packet_rule("prerouting", "dnat", Match(("tcp",)), to="172.17.0.2")
    (requests,) = strays([published], "ip", "input")
    assert requests.destination_ports == (invalid_packet.EVERY_PORT,)
