"""Keep one UDP or TCP service out of conntrack: exact protocol, ports, addresses and directions.

What it changes
    Two rules for each address and port: requests to the service (prerouting, by destination) and
    its answers (output, by source) skip connection tracking. With nftables they stand in the table
    ``inet remedy_notrack`` at priority raw; with iptables in the chain ``REMEDY-NOTRACK`` of the
    raw table, which PREROUTING and OUTPUT jump to, for each IP version among the addresses. Where
    policy persists: files in /etc/remedy/boot and a unit that loads them at boot, after the
    firewalls that empty rulesets when they start.

Safety
    NAT does not see untracked packets. Refused, naming the rule, where a DNAT, REDIRECT, SNAT or
    MASQUERADE rule could match the same packets or their replies (one that goes by a mark could:
    kube-proxy's, as programs mark what they send, too), where NAT rules could not be read, and for
    an address that is not this host's own. Never bare: address and port are both
    required. Rules that accept by ``ct state established`` or ``new`` no longer match these
    packets: refused, naming the rule or policy, where a firewall may then stop the service's
    requests or answers, and for TCP where SYNPROXY is in use, since it needs conntrack. In the harm
    matrix (tests/kernel/test_harm_matrix.py) it ended nothing where it is not refused. An ICMP
    error about an untracked flow is INVALID, so an INVALID drop must be limited to TCP, as ours is.
    Flows already tracked stay until they time out.

What rollback restores
    The table, or the chain and its jumps, is removed, and the boot files go: from the next packet
    on the service is tracked again. A legacy table, once registered, stays until the namespace
    ends: ``lossy``.

References
    iptables-extensions(8): CT; nft(8): NOTRACK STATEMENT; moby/moby#10270 (a notrack range that
    broke published ports)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from remedies.errors import ConfigError, Unreadable
from remedies.facts import Facts
from remedies.facts.inputs import Inputs
from remedies.facts.nat import Nat, service_topic
from remedies.facts.netfilter import ACCEPTS_TOPIC, Netfilter
from remedies.facts.slab import KNOWN
from remedies.model import Finding, Risk, Terms, Wanted
from remedies.netlink.links import Links
from remedies.rules import ours
from remedies.rules.admission import InputChain, closed
from remedies.rules.overlap import overlap
from remedies.rules.prefixes import parse, show
from remedies.rules.rule import Match, PacketRule
from remedies.values import replace

TITLE = "Keep one service's packets out of conntrack"
ANSWERS: tuple[str, ...] = ()
RISK: Risk = "moderate"
HARMLESS = False
NEEDS = (Netfilter, Nat, Links, Inputs)
TOPICS = ("input-rules", ACCEPTS_TOPIC)
PARAMS: Mapping[str, object] = {"protocol": None, "ports": None, "addresses": None}

TABLE = "inet/remedy_notrack"
CHAIN = "raw/REMEDY-NOTRACK"
WRITES = (f"nft:{TABLE}", f"iptables:{CHAIN}", f"ip6tables:{CHAIN}")
PRIORITY = -300  # NF_IP_PRI_RAW (include/uapi/linux/netfilter_ipv4.h): before conntrack's -200
PROTOCOLS = ("udp", "tcp")


def service(params: Mapping[str, object]) -> tuple[str, tuple[int, ...], tuple[str, ...]]:
    """Return protocol, ports and addresses, sorted and in the kernel's spelling.

    Raises ConfigError naming the parameter that is missing or not what it should be.
    """
    protocol = params.get("protocol")
    if protocol not in PROTOCOLS:
        raise _wrong("protocol", protocol, "udp or tcp")
    ports = _listed("ports", params.get("ports"))
    for port in ports:
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
            raise _wrong("ports", port, "numbers from 1 to 65535")
    addresses = {_address(value) for value in _listed("addresses", params.get("addresses"))}
    return (
        str(protocol),
        tuple(sorted({port for port in ports if isinstance(port, int)})),
        tuple(sorted(addresses, key=parse)),
    )


def topics(params: Mapping[str, object]) -> frozenset[str]:
    """Return what the guard asks for about one service; raise ConfigError as :func:`service`."""
    protocol, ports, addresses = service(params)
    return frozenset(service_topic(protocol, a, port) for a in addresses for port in ports)


def _wrong(name: str, value: object, expected: str) -> ConfigError:
    given = "is missing" if value is None else f"cannot be {value!r}"
    return ConfigError(f"notrack: parameter '{name}' {given}", f"give {expected}")


def _listed(name: str, value: object) -> Sequence[object]:
    if not isinstance(value, (list, tuple)) or not value:
        raise _wrong(name, value, "a list with at least one entry")
    return value


def _address(value: object) -> str:
    expected = "addresses of this host, such as 192.0.2.10"
    try:
        bits, first, size = parse(value if isinstance(value, str) else "")
    except ValueError:
        raise _wrong("addresses", value, expected) from None
    if size != bits or first == 0:
        raise _wrong("addresses", value, f"{expected}: no prefix, no wildcard")
    return show((bits, first, size))


def _rules(params: Mapping[str, object]) -> tuple[PacketRule, ...]:
    """Return our rules as the overlap with NAT is judged on."""
    protocol, ports, addresses = service(params)
    made = []
    for address in addresses:
        for port in ports:
            here, at = (address,), ((port, port),)
            requests = Match((protocol,), destinations=here, destination_ports=at)
            answers = Match((protocol,), sources=here, source_ports=at)
            for hook, match in (("prerouting", requests), ("output", answers)):
                made.append(
                    PacketRule(
                        backend="nft",
                        family="ip6" if ":" in address else "ip",
                        table="remedy_notrack",
                        chain=hook,
                        hook=hook,
                        action="notrack",
                        text=f"{protocol} {address} port {port}",
                        match=match,
                        owner="remedy",
                    )
                )
    return tuple(made)


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why the service must stay tracked, or None.

    Raises ConfigError for wrong parameters and Unreadable where a fact is unknown.
    """
    _, _, addresses = service(terms.params)
    links, nat = facts.get(Links), facts.get(Nat)
    local = links.local
    for address in addresses:
        if address not in local:
            return f"{address} is not an address of this host"
    for rule in nat.rules:
        if rule.ours:
            continue
        for mine in _rules(terms.params):
            answer = overlap(mine, rule, links)
            if answer.answer != "no":
                return answer.told(rule, f"the traffic of {mine.text}")
    blind = nat.blind(*topics(terms.params))
    return blind or _proxied(terms.params, facts) or _stopped(terms.params, facts)


def _proxied(params: Mapping[str, object], facts: Facts) -> Optional[str]:
    """Return which SYNPROXY rule may answer for the service, or None; raise Unreadable."""
    if service(params)[0] != "tcp":
        return None
    accepts = facts.get(Netfilter).lived_by
    if accepts.synproxy:
        return f"SYNPROXY is in use ({accepts.synproxy}) and needs conntrack for what it answers"
    if accepts.blind is not None:
        raise Unreadable(accepts.blind)
    return None


def _stopped(params: Mapping[str, object], facts: Facts) -> Optional[str]:
    """Return which rule or policy may stop the service once it is untracked, or None."""
    inputs = facts.get(Inputs)
    if not inputs.asked or inputs.unread:
        why = "; ".join(inputs.unread) or "not asked for"
        raise Unreadable(f"rules on input and output could not be read: {why}")
    for mine in _rules(params):
        everyone = ("::/0",) if mine.family == "ip6" else ("0.0.0.0/0",)
        if mine.hook == "prerouting":
            chains = inputs.chains
            packet = replace(mine.match, sources=everyone, destination_local=True)
        else:
            chains = inputs.outputs
            packet = replace(mine.match, destinations=everyone)
        stop = _stop([c for c in chains if c.family in (mine.family, "inet")], packet)
        if stop is not None:
            return f"{mine.text} would be stopped without tracking: {stop}"
    return None


def _stop(chains: Iterable[InputChain], packet: Match) -> Optional[str]:
    """Return the rule or policy that may stop a packet once it is untracked, or None."""
    untracked = replace(packet, states=("untracked",))
    reasons = (
        closed(chain, replace(packet, states=(state,)), untracked)
        for chain in chains
        for state in ("new", "established")
    )
    return next(filter(None, reasons), None)


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return our table, or our chain for each IP version among the addresses.

    Raises ConfigError for wrong parameters and Unreadable where a fact is unknown.
    """
    protocol, ports, addresses = service(terms.params)
    if terms.backend == "nftables":
        return (Wanted(resource=f"nft:{TABLE}", state=_table(protocol, ports, addresses)),)
    store = facts.get(Netfilter).store
    wanted = []
    for scheme, bits in (("iptables", 32), ("ip6tables", 128)):
        mine = [address for address in addresses if parse(address)[0] == bits]
        if mine:
            lines = _lines(protocol, ports, [f"{address}/{bits}" for address in mine])
            wanted.append(
                Wanted(
                    resource=f"{scheme}:{CHAIN}",
                    state=ours.iptables_chain(CHAIN, store, ("PREROUTING", "OUTPUT"), lines),
                    reversibility=ours.REVERSIBILITY[store],
                )
            )
    return tuple(wanted)


def merge(one: Wanted, other: Wanted) -> Wanted:
    """Return the first with the services of the second: a policy may require several."""
    return replace(one, state=ours.union(one.state or "", other.state or ""))


def _lines(protocol: str, ports: Sequence[int], prefixes: Sequence[str]) -> tuple[str, ...]:
    """Return the chain's rules, as iptables-save prints them behind ``-A CHAIN``."""
    proto = f"-p {protocol} -m {protocol}"
    return tuple(
        line
        for prefix in prefixes
        for port in ports
        for line in (
            f"-d {prefix} {proto} --dport {port} -j CT --notrack",
            f"-s {prefix} {proto} --sport {port} -j CT --notrack",
        )
    )


def _table(protocol: str, ports: Sequence[int], addresses: Sequence[str]) -> str:
    def rules(address_field: str, port_field: str) -> tuple[tuple[ours.Expression, ...], ...]:
        return tuple(
            (
                ours.payload("ip6" if ":" in address else "ip", address_field, address),
                ours.payload(protocol, port_field, port),
                ours.counter(),
                ours.notrack(),
            )
            for address in addresses
            for port in ports
        )

    return ours.nft_table(
        TABLE,
        (
            ours.NftChain("prerouting", "filter", "prerouting", PRIORITY, rules("daddr", "dport")),
            ours.NftChain("output", "filter", "output", PRIORITY, rules("saddr", "sport")),
        ),
    )


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the rules do to traffic."""
    protocol, ports, addresses = service(terms.params)
    listed = ", ".join(str(port) for port in ports)
    return (
        f"new {protocol} packets of {', '.join(addresses)} port {listed} are no longer tracked: "
        f"no conntrack entries (each saves about {KNOWN} bytes), no NAT, no 'ct state established' "
        "for them"
    )
