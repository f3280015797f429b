"""Send a container's request to the address that its answer will come from, and turn that back.

What it changes
    UDP requests that come in by the interface and to the port of a finding, for any address of
    this host, are redirected to the interface's own address: the one the kernel answers from.
    conntrack turns the answer back, so that the client gets it from the address it asked. One rule
    for each interface and port, with a counter, in the table ``inet remedy_udp_redirect`` just
    before other destination NAT (before Linux 5.2, whose inet tables have no NAT: in ``ip`` and
    ``ip6`` tables); with iptables in the chain ``REMEDY-REDIRECT`` that PREROUTING of the nat
    table jumps to. Flows of the old path would pin it until they time out: those of the proof,
    and any that come until the rule stands, are deleted by their exact tuples.

Safety
    Only interfaces that a client was seen to fail on, only that port, only unicast addresses of
    this host: what is forwarded, multicast and broadcast are left alone, and a client that uses
    the interface's own address is not disturbed. Refused where a DNAT or REDIRECT rule could
    match the same requests (naming it), where another socket serves the port on one address,
    where no server listens on every address (or has connected to its client), where the redirect
    would pick another address than answers come from, where a firewall may keep out a request
    to the interface's address that it lets in to another of this host's (naming the rule or the
    policy), and where nothing tracks connections. The
    server sees the interface's address as the one that was asked; clients' addresses stay.

What rollback restores
    The table, or the chain and its jump, is removed: new clients meet the old path again, and
    those already redirected keep their flow until it ends. Deleted flows are not brought back.
    A legacy table, once registered, stays until the namespace ends: ``lossy``.

References
    nft(8): REDIRECT STATEMENT, FIB EXPRESSIONS; iptables-extensions(8): REDIRECT, addrtype;
    net/netfilter/nf_nat_redirect.c; moby/moby#15127
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.inputs import Inputs
from remedies.facts.nat import UDP_TOPIC, Nat
from remedies.facts.netfilter import Netfilter
from remedies.facts.services import AWAY
from remedies.facts.sockets import Sockets
from remedies.model import Finding, Risk, Terms, Wanted
from remedies.netlink.links import Address, Links
from remedies.rules import ours
from remedies.rules.admission import closed
from remedies.rules.overlap import both_see
from remedies.rules.rule import Match, PacketRule
from remedies.values import replace

TITLE = "Redirect requests to the address that their answer comes from"
ANSWERS = ("udp-reply-source", "udp-connected-server", "udp-proxy-hairpin")
RISK: Risk = "moderate"
HARMLESS = False
NEEDS = (Netfilter, Nat, Links, Sockets, Inputs)
TOPICS = (UDP_TOPIC, "input-rules")
PARAMS: Mapping[str, object] = {}

TABLE = "remedy_udp_redirect"
CHAIN = "nat/REMEDY-REDIRECT"
WRITES = (
    *(f"nft:{family}/{TABLE}" for family in ("inet", "ip", "ip6")),
    f"iptables:{CHAIN}",
    f"ip6tables:{CHAIN}",
)
PRIORITY = -105  # five before NF_IP_PRI_NAT_DST (include/uapi/linux/netfilter_ipv4.h)
INET_NAT = (5, 2)
"""The first Linux whose inet tables may hold nat chains (nft(8), ADDRESS FAMILIES)."""

Way = tuple[str, int]
"""Interface and port."""


def _ways(finding: Finding) -> list[tuple[str, str]]:
    """Return interface and the address that answers come from, for each way clients come in."""
    words = finding.details.get("redirect", "").split()
    return [(name, address) for name, _, address in (word.partition("/") for word in words)]


def approved(was: Finding, now: Finding) -> Finding:
    """Return the finding of now with no other ways and stale flows than a saved plan named.

    A way that nobody is seen to fail by now is judged like any other, by what the links say; one
    whose link is away must be in force.
    """
    seen = now.details.get("redirect", "").split()
    ways = [
        word
        for word in was.details.get("redirect", "").split()
        if word in seen or word.partition("/")[2] not in AWAY.values()
    ]
    stale = now.details.get("stale", "").split()
    kept = [path for path in was.details.get("stale", "").split() if path in stale]
    return replace(
        now, details={**now.details, "redirect": " ".join(ways), "stale": " ".join(kept)}
    )


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why requests must not be redirected here, or None; raise Unreadable."""
    if finding is None:
        return "udp-redirect answers a finding; it cannot be required by itself"
    ways, port = _ways(finding), finding.details.get("port", "")
    if not ways or not port:
        return (
            f"no failing client of {finding.subject} was seen on a directly connected "
            "interface, so there is no interface to redirect on"
        )
    if not facts.get(Netfilter).conntrack_used:
        return (
            "nothing in this namespace tracks connections, and the rule would switch that on "
            "for every packet"
        )
    return (
        _server(finding, facts.get(Sockets), int(port))
        or _addresses(ways, facts.get(Links))
        or _published(ways, int(port), facts, terms)
        or _kept_out(ways, int(port), facts)
    )


def _server(finding: Finding, sockets: Sockets, port: int) -> Optional[str]:
    """Return why the port's server is not one that a redirect reaches, or None."""
    if not finding.details.get("server"):
        return f"no socket listens on every address for UDP port {port} now"
    here = [item for item in sockets.bound if item.port == port]
    if here:
        return (
            f"another socket serves {here[0].address} port {port}: a redirect would take "
            "its requests away"
        )
    return None


def _addresses(ways: Iterable[tuple[str, str]], links: Links) -> Optional[str]:
    """Return why a redirect would send requests elsewhere than answers come from, or None."""
    for name, address in ways:
        first = links.first(name, 6 if ":" in address else 4)
        if not ours.nameable(name):
            return f"the interface name {name!r} cannot be written in a rule as it is"
        if address in AWAY.values():
            continue  # in force, and the link is away: nothing goes anywhere now
        if first is None or first.address != address:
            got = "no address" if first is None else first.address
            return f"a redirect on {name} goes to {got}, and answers come from {address}"
    return None


def _published(
    ways: Iterable[tuple[str, str]], port: int, facts: Facts, terms: Terms
) -> Optional[str]:
    """Return which NAT rule could match the same requests, or None."""
    nat, links = facts.get(Nat), facts.get(Links)
    for name, address in ways:
        family = "ip6" if ":" in address else "ip"
        mine = PacketRule(
            backend=terms.backend,
            family="inet" if terms.backend == "nftables" else family,
            table=TABLE,
            chain="prerouting",
            hook="prerouting",
            action="redirect",
            text="",
            match=Match(
                protocols=("udp",),
                destination_ports=((port, port),),
                in_interfaces=(name,),
                destination_local=True,
                source_local=False,
            ),
            owner="remedy",
        )
        for rule in nat.rules:
            if rule.ours or rule.hook != "prerouting" or rule.action not in ("dnat", "redirect"):
                continue
            if {mine.family, rule.family} == {"ip", "ip6"}:
                continue
            met = both_see(mine, rule, links)
            if met.answer != "no":
                return met.told(rule, f"requests to port {port} by {name}")
    return nat.blind(UDP_TOPIC)


def _kept_out(ways: Iterable[tuple[str, str]], port: int, facts: Facts) -> Optional[str]:
    """Return which rule or policy may keep a redirected request out that is let in now, or None."""
    inputs, links = facts.get(Inputs), facts.get(Links)
    if not inputs.asked or inputs.unread:
        return f"input rules could not be read: {'; '.join(inputs.unread) or 'not asked for'}"
    for name, address in ways:
        if address in AWAY.values():
            continue
        family = "ip6" if ":" in address else "ip"
        new = _request(name, address, port)
        for other in links.addresses:
            if not _asked_by(other, name, address, links):
                continue
            old = _request(name, other.address, port)
            for chain in inputs.chains:
                why = closed(chain, old, new) if chain.family in (family, "inet") else None
                if why is not None:
                    return f"a redirect sends requests to {address}, and {why}"
    return None


def _asked_by(other: Address, name: str, address: str, links: Links) -> bool:
    """Tell whether a client on a link can ask this address, and its request would be redirected."""
    if (":" in other.address) != (":" in address) or other.address == address:
        return False
    return other.scope == "global" or (other.scope == "link" and links.name(other.link) == name)


def _request(name: str, address: str, port: int) -> Match:
    """Return a client's first datagram to an address of this host, as input rules see it."""
    everyone, bits = ("::/0", 128) if ":" in address else ("0.0.0.0/0", 32)
    return Match(
        protocols=("udp",),
        sources=(everyone,),
        destinations=(f"{address}/{bits}",),
        destination_ports=((port, port),),
        in_interfaces=(name,),
        destination_local=True,
        states=("new",),
    )


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return our table or tables, or our chain for each IP version; raise Unreadable.

    Each holds the finding's ways alone: :func:`merge` puts those of several findings together.
    """
    if finding is None:
        return ()
    port = int(finding.details["port"])
    families: dict[int, set[Way]] = {}
    for name, address in _ways(finding):
        families.setdefault(6 if ":" in address else 4, set()).add((name, port))
    every = set().union(*families.values())
    effects = tuple(f"flow:{path}" for path in finding.details.get("stale", "").split())
    if effects:
        effects += tuple(f"flow:udp/{name}/{port}" for name in sorted({name for name, _ in every}))
    if terms.backend == "nftables":
        if _release(facts.host.kernel) >= INET_NAT:
            places = {f"inet/{TABLE}": every}
        else:
            places = {
                f"{'ip' if family == 4 else 'ip6'}/{TABLE}": ways
                for family, ways in sorted(families.items())
            }
        wanted = [Wanted(f"nft:{path}", _table(path, ways)) for path, ways in places.items()]
    else:
        store = facts.get(Netfilter).store
        wanted = [
            Wanted(
                f"{'iptables' if family == 4 else 'ip6tables'}:{CHAIN}",
                _chain(store, ways),
                reversibility=ours.REVERSIBILITY[store],
            )
            for family, ways in sorted(families.items())
        ]
    # Flows go once the last rule stands: what is deleted before that would come again.
    last = wanted[-1]
    wanted[-1] = Wanted(last.resource, last.state, last.reversibility, effects=effects)
    return tuple(wanted)


def _release(kernel: str) -> tuple[int, int]:
    """Return the first two numbers of ``uname -r``; (0, 0) where it does not begin with them."""
    major, _, rest = kernel.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def _table(path: str, ways: Iterable[Way]) -> str:
    rules = tuple(
        (
            ours.meta("iifname", name),
            ours.to_local(),
            ours.payload("udp", "dport", port),
            ours.counter(),
            ours.redirect(),
        )
        for name, port in sorted(ways)
    )
    chain = ours.NftChain("prerouting", "nat", "prerouting", PRIORITY, rules)
    return ours.nft_table(path, (chain,))


def _chain(store: str, ways: Iterable[Way]) -> str:
    lines = tuple(
        f"-i {name} -p udp -m udp --dport {port} -m addrtype --dst-type LOCAL -j REDIRECT"
        for name, port in sorted(ways)
    )
    return ours.iptables_chain(CHAIN, store, ("PREROUTING",), lines)


def merge(one: Wanted, other: Wanted) -> Wanted:
    """Return the first with the ways and effects of the second, too."""
    ways = _ways_of(one.state) | _ways_of(other.state)
    scheme, _, path = one.resource.partition(":")
    if scheme == "nft":
        state = _table(path, ways)
    else:
        (store,) = ours.iptables_sections(one.state)
        state = _chain(store, ways)
    effects = tuple(dict.fromkeys(one.effects + other.effects))
    return Wanted(one.resource, state, one.reversibility, one.boot, effects)


def _ways_of(state: Optional[str]) -> set[Way]:
    """Return interface and port of each rule of a state that :func:`desired` made."""
    found: set[Way] = set()
    for line in (state or "").splitlines():
        words = line.split()
        if "-i" in words:
            found.add((words[words.index("-i") + 1], int(words[words.index("--dport") + 1])))
        elif line.startswith('{"rule"'):
            name, _, port = json.loads(line)["rule"]["expr"][:3]
            found.add((name["match"]["right"], port["match"]["right"]))
    return found


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the redirect does to traffic."""
    return (
        "on these interfaces and ports, new UDP flows to any address of this host reach the "
        "interface's own, and are answered from the one they asked; other traffic is not touched"
    )
