"""INVALID segments among the links and addresses of a host."""

from __future__ import annotations

from typing import Any

import pytest

from remedies.netlink.links import Address, Link, Links
from remedies.rules import invalid_places
from remedies.rules.invalid_packet import generic
from remedies.rules.rule import Match, PacketRule
from remedies.values import replace

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
