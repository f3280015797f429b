"""A container network has addresses of another network that this host is connected to.

What it detects
    A network behind a bridge with something plugged in that shares addresses with the subnet of
    another link, or that the gateway of a default route on another link lies in. Addresses that
    stand alone (/32, /128) and links of overlays are left out.

Why it matters
    Of two routes the longer prefix counts, and of equal ones the one with the lower metric: what
    the other network has at such addresses is looked for on the bridge, where nobody answers. A
    machine, a printer or all that is behind the gateway is gone from the moment on that
    ``docker compose up`` makes a network.

Evidence
    ``exposed``: the addresses of both links. ``proven``: while scan watched, packets to an address
    that both have were dropped on the bridge because nobody answered for it there (NEIGH_FAILED).

False positives
    Two networks on purpose with one subnet, in which no address is used twice. A container that was
    stopped does not answer either: then it is two findings in one. A route to the same addresses by
    a VPN, without an address of its own, is not looked at.

References
    Documentation of dockerd: default-address-pools, bip; fib_table_lookup() in net/ipv4/fib_trie.c;
    moby/moby#37823, docker/for-linux#599
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from remedies.facts import Facts
from remedies.facts.drop_signs import drops_of, evidence
from remedies.facts.drops import Drops, SeenDrop
from remedies.facts.routes import Routes
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.links import BridgeNetwork, Links
from remedies.rules.prefixes import contains, meet, parse, show
from remedies.values import NamedTuple

TITLE = "A container network has addresses of another network"
SYMPTOM = "some machines of the LAN or VPN are gone since a container network was made"
SEVERITY: Severity = "medium"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6",)
NEEDS = (Links, Routes, Drops)
PARAMS: Mapping[str, object] = {}

_OVERLAYS = ("vxlan", "geneve", "ipip", "ip6tnl", "sit", "gre")
_ALONE = {4: 32, 6: 128}
_SHOWN = 3


class _Clash(NamedTuple):
    network: BridgeNetwork
    link: str
    what: str
    """What of the other link it is: its address with its prefix, or a gateway."""
    shared: str
    """The addresses that both have, as a prefix."""


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each pair of links. Raises Unreadable without links or routes."""
    links, routes = facts.get(Links), facts.get(Routes)
    clashes = {
        (each.network.link, each.link, each.network.family): each
        for network in links.networks()
        for each in (*_gateways(network, routes), *_subnets(network, links))
    }
    return tuple(_finding(facts, clash) for clash in clashes.values())


def _subnets(network: BridgeNetwork, links: Links) -> Iterator[_Clash]:
    """Yield the subnets of other links that share addresses with a network."""
    inner = {other.link for other in links.networks()}
    for item in links.addresses:
        link = next((each for each in links.links if each.index == item.link), None)
        if link is None or not link.up or link.loopback or link.name == network.link:
            continue
        if item.family != network.family or item.prefix == _ALONE[item.family]:
            continue
        if item.scope != "global" or link.kind in _OVERLAYS:
            continue
        if link.name in inner and link.name > network.link:
            continue  # of two bridges the pair is told once
        shared = meet(network.subnet, item.subnet)
        if shared:
            yield _Clash(network, link.name, item.subnet, show(parse(shared)))


def _gateways(network: BridgeNetwork, routes: Routes) -> Iterator[_Clash]:
    """Yield the gateways of default routes by other links that lie in a network."""
    for route in routes.defaults:
        gateway, others = route.gateway, [link for link in route.links if link != network.link]
        if not gateway or len(others) < len(route.links) or route.family != network.family:
            continue
        if others and contains(network.subnet, gateway):
            yield _Clash(network, others[0], f"gateway {gateway}", gateway)


def _finding(facts: Facts, clash: _Clash) -> Finding:
    network, seen = clash.network, _unanswered(facts, clash)
    lost = f", and {sum(drop.count for drop in seen)} packets went nowhere" if seen else ""
    return Finding(
        condition="subnet-overlap",
        subject=f"{network.link} and {clash.link}",
        verdict="proven" if seen else "exposed",
        severity="high" if seen else SEVERITY,
        message=(
            f"{network.subnet} on {network.link} and {clash.what} on {clash.link} share "
            f"{clash.shared}{lost}: give the container network another subnet (Docker: 'bip' or "
            "'default-address-pools' in daemon.json, 'ipam' in a compose file) and create it again"
        ),
        evidence=(
            Evidence("rtnetlink", network.link, network.subnet),
            Evidence("rtnetlink", clash.link, clash.what),
            *(evidence(drop) for drop in seen[:_SHOWN]),
        ),
        details={"link": network.link, "other": clash.link},
    )


def _unanswered(facts: Facts, clash: _Clash) -> tuple[SeenDrop, ...]:
    """Return the packets to shared addresses that nobody answered for on the bridge."""
    if not facts.get(Drops).listened:
        return ()
    return tuple(
        drop
        for drop in drops_of("subnet-overlap", facts)
        if drop.link in (clash.network.link, "") and contains(clash.shared, drop.way.destination)
    )
