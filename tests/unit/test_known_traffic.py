"""Which packets are a tunnel's own, and which rules are about a program's own mark."""

from __future__ import annotations

import pytest
from builder import packet_rule

from remedies.netlink.links import Link, Links
from remedies.rules.known_traffic import MARKS, TUNNELS, by_its_mark, tunnels_of
from remedies.rules.overlap import overlap
from remedies.rules.rule import Match, PacketRule

LINKS = Links(
    links=(
        Link(1, "eth0", "", True),
        Link(2, "vxlan.calico", "vxlan", True),
        Link(3, "gen0", "geneve", True),
        Link(4, "wg0", "wireguard", True),
    )
)


def ports(*numbers: int) -> tuple[tuple[int, int], ...]:
    return tuple((number, number) for number in numbers)


@pytest.mark.parametrize(
    ("match", "names"),
    [
        (Match(("udp",), destination_ports=ports(4789)), ("vxlan.calico",)),
        (Match(("udp",), destination_ports=ports(4789, 8472)), ("vxlan.calico",)),
        (Match(("udp",), destination_ports=ports(6081)), ("gen0",)),
        (Match(("udp",), destination_ports=ports(51871)), ("wg0",)),
        (Match(("udp",), destination_ports=ports(4789, 6081)), ()),
        (Match(("udp",), destination_ports=ports(4789, 53)), ()),
        (Match(("udp",), destination_ports=((4789, 8472),)), ()),
        (Match(("udp",), destination_ports=ports(*range(1, 9), 4789)), ()),
        (Match(("udp",)), ()),
        (Match(("tcp",), destination_ports=ports(4789)), ()),
        (Match(destination_ports=ports(4789)), ()),
    ],
)
def test_packets_of_a_tunnel_are_told_by_their_port(match: Match, names: tuple[str, ...]) -> None:
    assert tunnels_of(match, LINKS) == names


@pytest.mark.parametrize(
    ("port", "leaves", "answer"),
    [
        (4789, ("eth0",), "yes"),
        (4789, ("vxlan.calico",), "no"),
        (4789, ("vxlan.calico", "eth0"), "yes"),
        (4789, ("vxlan*",), "yes"),
        (53, ("vxlan.calico",), "yes"),
    ],
)
def test_packets_of_a_tunnel_do_not_leave_by_it(
    port: int, leaves: tuple[str, ...], answer: str
) -> None:
    """The tunnel's notrack rule, and NAT of what leaves by the tunnel."""
    notrack = packet_rule("output", "notrack", Match(("udp",), destination_ports=ports(port)))
    nat = packet_rule("postrouting", "masquerade", Match(out_interfaces=leaves))
    assert overlap(notrack, nat, LINKS).answer == answer


def rule(owner: str, match: Match, *after: Match) -> PacketRule:
    return packet_rule("prerouting", "notrack", match, after=after, owner=owner)


TO_PROXY = "meta mark & 0xf00 == 0x200"


@pytest.mark.parametrize(
    ("made", "own"),
    [
        (rule("cilium", Match(unmodelled=(TO_PROXY,))), True),
        (rule("cilium", Match(out_interfaces=("lxc*",), unmodelled=(TO_PROXY,))), True),
        (rule("cilium", Match(unmodelled=(TO_PROXY, "limit"))), False),
        (rule("cilium", Match(unmodelled=("meta mark & 0xf00 == 0x300",))), False),
        (rule("cilium", Match(("udp",))), False),
        (rule("", Match(unmodelled=(TO_PROXY,))), False),
        (rule("kube-proxy", Match(unmodelled=("meta mark & 0x4000 == 0x4000",))), True),
        (rule("kube-proxy", Match(), Match(unmodelled=("meta mark & 0x4000 == 0x0",))), True),
        (rule("kube-proxy", Match(("udp",)), Match(unmodelled=("meta mark & 0x1 == 0x0",))), False),
        (rule("kube-proxy", Match(), Match(("udp",))), False),
    ],
)
def test_a_rule_by_its_programs_own_mark(made: PacketRule, own: bool) -> None:
    assert by_its_mark(made) is own


def test_each_row_names_its_source() -> None:
    assert all(row.source for row in (*TUNNELS, *MARKS))
