"""What is known of an INVALID segment and of the reset that answers it: rules in, packets out."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from builder import packet_rule

from remedies.netlink.links import Address, Link, Links
from remedies.rules import header_words, invalid_packet, invalid_places
from remedies.rules.invalid_packet import (
    NOBODY,
    flags_test,
    generic,
    owner_test,
    resets_of,
    strays,
)
from remedies.rules.marks import mark_test, marks_test
from remedies.rules.rule import Match, PacketRule
from remedies.rules.sometimes import sometimes
from remedies.values import replace

SYN, RST, ACK = invalid_packet.SYN, invalid_packet.RST, invalid_packet.ACK
PSH, URG = 0x08, 0x20
FIN = 0x01
KEPT, MET, FAILED = "kept", "met", "failed"


def rule(hook: str, action: str, to: str = "", **match: Any) -> PacketRule:
    return packet_rule(hook, action, Match(**match), to=to)


@pytest.mark.parametrize(
    ("condition", "segment", "reset"),
    [
        # A segment has ACK and is no SYN, no RST; of FIN and PSH nothing is known.
        (flags_test(SYN, SYN, negate=False), FAILED, FAILED),
        (flags_test(SYN, SYN, negate=True), MET, MET),
        (flags_test(SYN, 0, negate=False), MET, MET),
        (flags_test(ACK, ACK, negate=False), MET, FAILED),
        (flags_test(ACK, ACK, negate=True), FAILED, MET),
        (flags_test(RST, RST, negate=False), FAILED, MET),
        (flags_test(RST, RST, negate=True), MET, FAILED),
        (flags_test(FIN, FIN, negate=False), KEPT, FAILED),
        (flags_test(FIN, 0, negate=False), KEPT, MET),
        (flags_test(FIN | ACK, ACK, negate=False), KEPT, FAILED),
        (flags_test(FIN | SYN, SYN, negate=True), MET, MET),
        (flags_test(SYN, SYN | ACK, negate=False), FAILED, FAILED),  # no packet has it
        (flags_test(SYN, SYN | ACK, negate=True), MET, MET),
        (mark_test(0xFF, 0, negate=False), MET, MET),
        (mark_test(0xFF, 1, negate=False), FAILED, FAILED),
        (mark_test(0xFF, 1, negate=True), MET, MET),
        (mark_test(0xFF, 0, negate=True), FAILED, FAILED),
        ("meta pkttype == 0", MET, MET),
        ("meta pkttype != 0", FAILED, FAILED),
        ("ct key 5 == 1", FAILED, FAILED),
        ("connmark", FAILED, FAILED),
        ("connbytes", FAILED, FAILED),
        ("connlimit", KEPT, KEPT),
        ("ctstatedir", FAILED, FAILED),
        ("helper ftp", FAILED, FAILED),
        ("meta skuid", FAILED, FAILED),
        ("socket", FAILED, FAILED),
        ("meta cpu == 0", KEPT, KEPT),
    ],
)
@pytest.mark.parametrize("of_reset", [False, True])
def test_a_condition_is_met_or_failed_or_stays_open(
    condition: str, segment: str, reset: str, of_reset: bool
) -> None:
    wanted = reset if of_reset else segment
    match = Match(protocols=("tcp",), unmodelled=("meta cpu != 7", condition))
    left: Optional[Match] = {
        KEPT: match,
        MET: replace(match, unmodelled=("meta cpu != 7",)),
        FAILED: None,
    }[wanted]
    assert invalid_packet.left_open(match, "forward", reset=of_reset) == left


@pytest.mark.parametrize(
    ("condition", "some"),
    [
        ("limit", True),
        ("connlimit", True),
        ("meta 31", True),
        (header_words.NEIGHBOUR, True),
        (header_words.of_tunnel(True), False),
        (flags_test(PSH | ACK, PSH | ACK, negate=False), True),
        (flags_test(0xFF, ACK, negate=False), True),
        (flags_test(PSH, 0, negate=True), True),
        (flags_test(URG, URG, negate=True), True),
        (flags_test(URG, 0, negate=True), False),
        (flags_test(0xFF, URG | PSH | ACK, negate=False), False),
    ],
)
def test_some_segments_surely_meet_a_condition(condition: str, *, some: bool) -> None:
    assert sometimes(condition, sent=False) is some


def test_what_is_in_a_reset_nobody_chooses_but_the_class_of_service() -> None:
    chosen = {name for name in header_words.CHOSEN if sometimes(name, sent=True)}
    assert chosen == {header_words.SERVICE, f"bits of {header_words.SERVICE}"}
    assert sometimes("limit", sent=True)


def test_what_begins_here_came_by_no_link() -> None:
    for name in header_words.LINK:
        match = Match(unmodelled=(name,))
        assert invalid_packet.left_open(match, "output", reset=True) is None
        assert invalid_packet.left_open(match, "input") == match


def test_conntrack_looks_no_further_than_the_state() -> None:
    with_state = Match(states=("invalid",), unmodelled=("conntrack",))
    assert invalid_packet.left_open(with_state, "input") == Match(states=("invalid",))
    without = Match(unmodelled=("conntrack",))
    assert invalid_packet.left_open(without, "input") is None


@pytest.mark.parametrize(
    ("mark", "mask", "value", "met"),
    [
        (0x10, 0xFF, 0x10, True),
        (0x10, 0x0F, 0, True),
        (0x10, 0xFF, 0, False),
        (None, 0xFF, 0x10, None),
    ],
)
def test_a_mark_that_rules_set_is_known(
    mark: Optional[int], mask: int, value: int, met: Optional[bool]
) -> None:
    for negate in (False, True):
        name = mark_test(mask, value, negate=negate)
        left = invalid_packet.left_open(Match(unmodelled=(name,)), "input", mark=mark)
        if met is None:
            assert left == Match(unmodelled=(name,))
        else:
            assert left == (None if met == negate else Match())


@pytest.mark.parametrize(
    ("asked", "own", "forwarded"),
    [
        ("uid", FAILED, FAILED), ("gid", FAILED, FAILED), ("! uid", MET, MET), ("! gid", MET, MET),
        ("socket", MET, FAILED), ("! socket", FAILED, MET), ("groups", MET, FAILED),
    ],
)  # fmt: skip
def test_a_reset_of_the_kernels_own_has_a_socket_that_no_program_holds(
    asked: str, own: str, forwarded: str
) -> None:
    match = Match(unmodelled=(owner_test(asked.lstrip("! "), negate=asked.startswith("!")),))
    either = own if own == forwarded else KEPT
    left = {MET: Match(), FAILED: None, KEPT: match}
    assert invalid_packet.left_open(match, "output", reset=True) == left[own]
    assert invalid_packet.left_open(match, "postrouting") == left[forwarded]
    assert invalid_packet.left_open(match, "postrouting", reset=True) == left[either]


@pytest.mark.parametrize(
    ("hook", "missing"),
    [("prerouting", "out"), ("input", "out"), ("output", "in"), ("forward", "")],
)
@pytest.mark.parametrize("side", ["in", "out"])
def test_a_packet_has_no_link_where_its_hook_knows_none(hook: str, missing: str, side: str) -> None:
    by_it = Match(**{f"{side}_interfaces": ("eth0",)})  # type: ignore[arg-type]
    by_others = Match(**{f"not_{side}_interfaces": ("eth0",)})  # type: ignore[arg-type]
    known = side != missing
    assert invalid_packet.left_open(by_it, hook) == (by_it if known else None)
    assert invalid_packet.left_open(by_others, hook) == (by_others if known else Match())


LINKS = Links(
    links=(Link(1, "lo", "", True, loopback=True), Link(2, "eth0", "", True),
           Link(3, "docker0", "bridge", True)),
    addresses=(Address("127.0.0.1", 8, 1, "host"), Address("10.21.17.99", 24, 2, "global"),
               Address("172.17.0.1", 16, 3, "global"), Address("fd17::1", 64, 3, "global")),
)  # fmt: skip
OWN = ("10.21.17.99", "172.17.0.1")


@pytest.mark.parametrize(
    ("hook", "given", "found"),
    [
        ("input", {}, {"destinations": OWN, "in_interfaces": ("eth0", "docker0")}),
        ("input", {"not_in_interfaces": ("lo", "docker*")}, {"in_interfaces": ("eth0",)}),
        ("input", {"in_interfaces": ("ppp0",)}, {"in_interfaces": ("ppp0",)}),
        ("input", {"destinations": ("10.21.17.99",)}, {"destinations": ("10.21.17.99",)}),
        ("input", {"sources": ("172.17.0.2",)}, {"in_interfaces": ("docker0",)}),
        ("input", {"sources": ("172.17.0.2", "192.0.2.1")}, {"in_interfaces": ("eth0", "docker0")}),
        ("output", {}, {"not_destinations": OWN, "out_interfaces": ("eth0", "docker0")}),
        ("output", {"destinations": ("172.17.0.2",)}, {"out_interfaces": ("docker0",)}),
        ("forward", {"sources": ("172.17.0.2",)},
         {"in_interfaces": ("docker0",), "out_interfaces": ("eth0",)}),
        ("forward", {"destinations": ("172.17.0.2",)},
         {"in_interfaces": ("eth0",), "out_interfaces": ("docker0",)}),
        ("forward", {"destinations": ("172.17.0.2", "192.0.2.1")},
         {"in_interfaces": ("eth0", "docker0"), "out_interfaces": ("eth0", "docker0")}),
    ],
)  # fmt: skip
def test_packets_are_placed_among_the_links_that_are_there(
    hook: str, given: dict[str, Any], found: dict[str, Any]
) -> None:
    packet = replace(generic("ip", hook), **given)
    placed = invalid_places.placed(packet, hook, LINKS)
    assert {key: getattr(placed, key) for key in found} == found
    assert invalid_places.placed(packet, hook, Links()) == packet


MANY = tuple(Address(f"192.0.2.{n}", 24, 2, "global") for n in range(9))


@pytest.mark.parametrize(
    ("family", "by", "to", "more", "given"),
    [
        ("ip", {"out_interfaces": ("eth0",)}, "", (), ["10.21.17.99"]),
        ("ip", {"out_interfaces": ("eth*",)}, ":20-29", (), ["10.21.17.99:20-29"]),
        ("ip", {"not_out_interfaces": ("docker0",)}, "", (), ["10.21.17.99"]),
        ("ip", {}, "", (), list(OWN)),
        ("ip6", {"out_interfaces": ("docker0",)}, ":20-29", (), ["[fd17::1]:20-29"]),
        ("ip6", {"out_interfaces": ("docker0",)}, "", (), ["fd17::1"]),
        # not told: a link that is not there, one without an address, too many
        ("ip", {"out_interfaces": ("ppp0",)}, "", (), [""]),
        ("ip", {"out_interfaces": ("eth0", "ppp0")}, "", (), [""]),
        ("ip6", {}, "", (), [""]),
        ("ip6", {"out_interfaces": ("eth0",)}, "", (Address("fe80::2", 64, 2, "link"),), [""]),
        ("ip", {"out_interfaces": ("eth0",)}, "", MANY, [""]),
    ],
)
def test_addresses_that_masquerading_gives(
    family: str, by: dict[str, Any], to: str, more: tuple[Address, ...], given: list[str]
) -> None:
    rule = PacketRule("nft", family, "t", "c", "postrouting", "masquerade", "x", Match(**by), to)
    links = replace(LINKS, addresses=(*LINKS.addresses, *more))
    assert [r.to for r in invalid_places.with_sources([rule], family, links)] == given
    named = replace(rule, action="snat")
    assert list(invalid_places.with_sources([named], family, links)) == [named]


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
    ("name", "hook", "met"),
    [
        (invalid_packet.type_test("saddr", [1], negate=False), "input", True),
        (invalid_packet.type_test("saddr", [1], negate=True), "forward", False),
        (invalid_packet.type_test("saddr", [2, 3], negate=False), "output", True),
        (invalid_packet.type_test("daddr", [3, 5], negate=False), "prerouting", False),
        (invalid_packet.type_test("daddr", [1, 2], negate=False), "prerouting", True),
        (invalid_packet.type_test("daddr", [1], negate=False), "prerouting", None),
        (invalid_packet.type_test("daddr", [1], negate=False), "input", False),
        (invalid_packet.frame_test([1, 2], negate=False), "input", False),
        (invalid_packet.frame_test([0, 2], negate=False), "input", True),
        (marks_test(0xFF, [(0, 15)], negate=False), "input", True),
        (marks_test(0xFF, [(1, 15), (7, 7)], negate=True), "input", True),
        (flags_test(0xFF, ACK, ACK | PSH, negate=False), "input", None),
        (flags_test(0xFF, RST, SYN | ACK, negate=True), "input", True),
        ("fragments", "input", False),
        ("! bridged", "forward", True),
    ],
)
def test_what_is_known_of_a_segment(name: str, hook: str, met: Optional[bool]) -> None:
    match = Match(unmodelled=(name,))
    left = {True: Match(), False: None, None: match}[met]
    assert invalid_packet.left_open(match, hook) == left


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


def test_what_is_for_no_address_here_comes_to_no_socket() -> None:
    away, here = (
        replace(generic("ip", "input"), destinations=(address,))
        for address in ("198.51.100.7", "10.21.17.99")
    )
    assert invalid_places.placed(away, "input", LINKS) is None
    one, other = (invalid_places.placed(each, "input", Links()) for each in (away, here))
    assert (one, other) == (away, here)
    assert invalid_places.all_placed([away], "input", LINKS) == [away]
    assert len(invalid_places.all_placed([away, here], "input", LINKS)) == 1
