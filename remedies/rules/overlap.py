"""Whether a notrack rule takes packets away from a NAT rule. Pure.

The kernel decides NAT on the first packet of a tracked flow and undoes it on the replies, so a
notrack rule breaks a NAT rule in two ways: it matches packets that the rule would rewrite, or
replies to them. Which hooks a packet passes decides the rest: what is delivered to a local address
never reaches postrouting, and what this host sends never passed prerouting.

The answer is ``yes`` where a packet of both surely exists, ``no`` where none does, ``maybe`` where
conditions that are not modelled decide. Reasons name the dimension that keeps two rules apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from remedies.netlink.links import Links
from remedies.rules.header_words import CHOSEN, kind
from remedies.rules.invalid_packet import EPHEMERAL, EVERYONE, target
from remedies.rules.known_traffic import leaves_by, tunnels_of
from remedies.rules.match_words import apart, describe, listed, port_list
from remedies.rules.matching import conjoin, covers, name_covers, names_meet, ports_meet
from remedies.rules.prefixes import contains, meet
from remedies.rules.rule import ONE_OF_ALL, Match, PacketRule, PortRange
from remedies.values import dataclass, replace

CHOICES = ("numgen", "statistic", "meta random", "hash", ONE_OF_ALL)
"""Conditions that draw lots, without a look at the packet: some of the packets meet them."""
_ANSWERS = ("no", "maybe", "yes")


@dataclass(frozen=True)
class Overlap:
    """The answer and why, in one line."""

    answer: str
    reason: str

    def told(self, rule: PacketRule, what: str) -> str:
        """Return a guard's refusal: the NAT rule has packets in common with ``what`` of ours."""
        could = "matches" if self.answer == "yes" else "could match"
        return f"the NAT rule {rule.named} {could} {what}: {self.reason}"


def overlap(notrack: PacketRule, nat: PacketRule, links: Links) -> Overlap:
    """Judge whether ``notrack`` takes packets from ``nat`` on a host with these addresses."""
    protocols = notrack.match.protocols, nat.match.protocols
    if all(protocols) and set(protocols[0]).isdisjoint(protocols[1]):  # so are the replies'
        return Overlap("no", apart(notrack.match, nat.match))
    answers: list[Overlap] = []
    both = False
    for version in notrack.versions:
        one, other = _of_version(notrack, version), _of_version(nat, version)
        if one is not None and other is not None:
            both = True
            answers += _ways(one, other, links)
    if not both:
        return Overlap("no", "one is for IPv4, the other for IPv6")
    if not answers:
        return Overlap("no", f"no packet passes both {notrack.hook} and {nat.hook} before NAT")
    return max(answers, key=lambda answer: _ANSWERS.index(answer.answer))


def _of_version(rule: PacketRule, version: str) -> Optional[PacketRule]:
    """Return a rule as packets of one IP version meet it, None where they do not."""
    if version not in rule.versions:
        return None
    if rule.family == version:
        return rule
    match = _plain(rule.match, version)
    return None if match is None else replace(rule, match=match, version=version)


def _plain(match: Match, version: str) -> Optional[Match]:
    """Return the packets of one IP version, without a word on the version itself."""
    everyone = EVERYONE[version]
    met = conjoin(match, Match(sources=(everyone,)))
    return met if met is None or met.sources != (everyone,) else replace(met, sources=())


def _ways(notrack: PacketRule, nat: PacketRule, links: Links) -> Iterator[Overlap]:
    if nat.hook in ("prerouting", "output"):
        if nat.hook == notrack.hook:
            yield both_see(notrack, nat, links)
        yield from _destination_replies(notrack, nat, links)
    elif nat.hook == "postrouting":
        yield _leaving(notrack, nat, links)
        if notrack.hook == "prerouting":
            yield _source_replies(notrack, nat, links)
    elif nat.hook == "input":
        if notrack.hook == "prerouting":
            yield both_see(notrack, nat, links)
        else:
            yield _judge(_reply_of(notrack.match), nat.match, "its replies", nat.after, nat.version)


def _judge(
    one: Match, other: Match, what: str, after: tuple[Match, ...] = (), version: str = ""
) -> Overlap:
    met = conjoin(one, other)
    if met is None:
        return Overlap("no", apart(one, other))
    if version and after:
        narrowed = (_plain(earlier, version) for earlier in after)
        after = tuple(earlier for earlier in narrowed if earlier is not None)
    if _two_services(one, other):
        return Overlap("no", "one is about a service's source port, the other its destination port")
    if any(covers(earlier, met) for earlier in after):
        return Overlap("no", "an earlier rule takes those packets")
    unknown = tuple(name for name in met.unmodelled if not _some(name, one, other))
    for earlier in after:  # a rule that is not understood in full may take them first
        if set(earlier.unmodelled) - set(CHOICES) and covers(replace(earlier, unmodelled=()), met):
            unknown = (*unknown, *earlier.unmodelled)
    if unknown:
        return Overlap("maybe", f"{what}, depending on {', '.join(dict.fromkeys(unknown))}")
    return Overlap("yes", f"{what}: {describe(met)}")


def _some(name: str, one: Match, other: Match) -> bool:
    """Tell whether some packets of both surely meet a condition that is not modelled.

    What a sender chooses meets what one of the two wants; what both want may differ.
    """
    both = kind(name) in map(kind, one.unmodelled) and kind(name) in map(kind, other.unmodelled)
    return name in CHOICES or (name in CHOSEN and not both)


def _two_services(one: Match, other: Match) -> bool:
    """Tell whether a packet would have to run from one service's port to another service's."""
    for a, b in ((one, other), (other, one)):
        if a.source_ports and not a.destination_ports and not b.source_ports:
            sides = (*a.source_ports, *b.destination_ports)
            if b.destination_ports and all(last < EPHEMERAL[0] for _, last in sides):
                return not any(
                    ports_meet(x, y) for x in a.source_ports for y in b.destination_ports
                )
    return False


def both_see(notrack: PacketRule, nat: PacketRule, links: Links) -> Overlap:
    """Judge packets that pass both rules at one hook, or on their way to this host.

    Whatever the rules do: of a rule that redirects, its requests.
    """
    found = _judge(
        notrack.match,
        nat.match,
        f"both see at {notrack.hook}",
        nat.after + notrack.after,
        notrack.version or nat.version,
    )
    if found.answer == "no":
        return found
    met = conjoin(notrack.match, nat.match) or Match()
    if met.destination_local and not _any_local(met.destinations, links):
        return Overlap("no", f"{listed(met.destinations)} is not an address of this host")
    if met.destination_local is False and _all_local(met.destinations, links):
        return Overlap("no", f"{listed(met.destinations)} is an address of this host")
    if met.source_local and not _any_local(met.sources, links):
        return Overlap("no", f"{listed(met.sources)} is not an address of this host")
    if met.source_local is False and _all_local(met.sources, links):
        return Overlap("no", f"{listed(met.sources)} is an address of this host")
    return _by_interface(met, links) or found


def _leaving(notrack: PacketRule, nat: PacketRule, links: Links) -> Overlap:
    """Judge packets that ``notrack`` sees coming in (forwarded) or sent here, and NAT leaving."""
    match = notrack.match
    kept = bool(match.destination_local) or _all_local(match.destinations, links)
    if notrack.hook == "prerouting" and match.in_interfaces == ("lo",):
        return Overlap("no", "what comes in by lo is not forwarded")
    if notrack.hook == "prerouting" and kept:
        where = listed(match.destinations) or "a local address"
        return Overlap("no", f"what is delivered to {where} never reaches postrouting")
    tunnels = tunnels_of(match, links)
    if leaves_by(nat.match, tunnels):
        return Overlap("no", f"packets of {listed(tunnels)} itself do not leave by it")
    found = _judge(match, nat.match, "both see", nat.after, notrack.version or nat.version)
    if found.answer == "no":
        return found
    met = conjoin(match, nat.match) or Match()
    if met.source_local is not None and met.source_local == (notrack.hook == "prerouting"):
        # A source of this host's own is a martian there (fib_validate_source(), net/ipv4).
        forwarded = "what is forwarded comes from no address of this host"
        return Overlap("no", forwarded if met.source_local else "this host sends from its own")
    if notrack.hook == "prerouting":
        return _turns_back(met, links) or _by_interface(met, links) or found
    senders = [
        a
        for a in links.addresses
        if _in_any(a.address, met.sources, met.not_sources) and links.name(a.link) not in tunnels
    ]
    for address in senders:
        name = links.name(address.link)
        if not any(name_covers(hole, name) for hole in met.not_out_interfaces):
            return found
    if met.sources and not senders:
        return Overlap("no", f"{listed(met.sources)} is not an address that this host sends from")
    if senders:
        return Overlap("no", f"addresses of {listed(met.not_out_interfaces)} leave by it")
    return found


def _turns_back(met: Match, links: Links) -> Overlap | None:
    """Answer "no" where the packets would leave by the one link that they come by.

    Hosts of one network say to each other themselves what they have to say. Not where that link is
    all there is: a router with one arm has nothing else.
    """
    names = {link.name for link in links.links if link.up and not link.loopback}

    def some(yes: tuple[str, ...], no: tuple[str, ...]) -> set[str]:
        return {
            name
            for name in names
            if (not yes or any(name_covers(each, name) for each in yes))
            and not any(name_covers(each, name) for each in no)
        }

    by = some(met.in_interfaces, met.not_in_interfaces)
    if len(by) != 1 or len(names) == 1 or by != some(met.out_interfaces, met.not_out_interfaces):
        return None
    return Overlap("no", f"what comes in by {listed(tuple(by))} leaves by another link")


def _source_replies(notrack: PacketRule, nat: PacketRule, links: Links) -> Overlap:
    """Judge replies to packets whose source was rewritten: they come to the new address."""
    match = notrack.match
    if match.source_local:
        return Overlap("no", "replies come from no address of this host")
    backwards = replace(
        _reply_of(match), sources=(), not_sources=(), source_ports=(), source_local=None
    )
    found = _judge(backwards, nat.match, "replies to what it rewrites", nat.after, nat.version)
    if found.answer == "no":
        return found
    taken = _new_sources(nat, links)
    if match.destination_local is False and nat.action == "masquerade":
        return Overlap("no", "replies come to an address of this host")
    if (
        match.destinations
        and taken
        and not any(meet(a, b) for a in match.destinations for b in taken)
    ):
        return Overlap(
            "no", f"replies come to {listed(taken)}, not to {listed(match.destinations)}"
        )
    if taken and not any(_in_any(a, match.destinations, match.not_destinations) for a in taken):
        return Overlap("no", f"replies come to {listed(taken)}")
    return _by_reply_port(match.destination_ports, nat.match.source_ports, found)


def _by_reply_port(
    wanted: tuple[PortRange, ...], given: tuple[PortRange, ...], found: Overlap
) -> Overlap:
    """Judge the port that replies come to: the client's own, or one that NAT picked."""
    if not wanted:
        return found
    known = given or (EPHEMERAL,)
    if not any(ports_meet(a, b) for a in wanted for b in known):
        return Overlap("no", "replies come to a client's port, not to " + port_list(wanted))
    if given:
        return found
    return Overlap("maybe", f"replies may come to a port in {port_list(wanted)}")


def _destination_replies(notrack: PacketRule, nat: PacketRule, links: Links) -> Iterator[Overlap]:
    """Judge replies to packets whose destination was rewritten: they come from the new one."""
    addresses, ports = target(nat.to)
    local = nat.action == "redirect" or (bool(addresses) and _all_local(addresses, links))
    if (addresses or local) and (notrack.hook == "output") != local:
        return  # they do not pass this hook
    match = nat.match
    if not ports and not nat.to:
        ports = match.destination_ports
    answer = Match(
        protocols=match.protocols,
        sources=addresses,
        destinations=match.sources,
        not_destinations=match.not_sources,
        source_ports=ports or match.destination_ports,
        destination_ports=match.source_ports,
        destination_local=match.source_local,
        source_local=notrack.hook == "output",
        unmodelled=match.unmodelled,
    )
    seen = notrack.match
    ported = replace(seen, destination_ports=())
    found = _judge(ported, answer, "replies to what it rewrites", notrack.after, notrack.version)
    if found.answer != "no":
        found = _by_reply_port(seen.destination_ports, match.source_ports, found)
    if found.answer != "no" and notrack.hook == "prerouting":
        met = conjoin(ported, answer) or Match()
        found = _by_interface(met, links) or found
    if found.answer == "yes" and not addresses and not local:
        found = Overlap("maybe", "replies, if they come from where this rule sends packets")
    yield found


def _reply_of(match: Match) -> Match:
    """Return the original packets whose replies ``match`` sees."""
    return Match(
        protocols=match.protocols,
        sources=match.destinations,
        not_sources=match.not_destinations,
        destinations=match.sources,
        not_destinations=match.not_sources,
        source_ports=match.destination_ports,
        destination_ports=match.source_ports,
        out_interfaces=match.in_interfaces,
        not_out_interfaces=match.not_in_interfaces,
        destination_local=match.source_local,
        source_local=match.destination_local,
        unmodelled=match.unmodelled,
    )


def _new_sources(nat: PacketRule, links: Links) -> tuple[str, ...]:
    """Return the addresses that a source NAT rule may put in; empty where unknown."""
    if nat.action == "snat":
        return target(nat.to)[0]
    return tuple(
        a.address
        for a in links.addresses
        if a.scope != "host"
        and not any(name_covers(no, links.name(a.link)) for no in nat.match.not_out_interfaces)
        and (
            not nat.match.out_interfaces
            or any(name_covers(yes, links.name(a.link)) for yes in nat.match.out_interfaces)
        )
    )


def _by_interface(met: Match, links: Links) -> Overlap | None:
    """Answer "no" where every source lies on a link that the packets do not come in by."""
    if not met.sources or not (met.in_interfaces or met.not_in_interfaces):
        return None
    for prefix in met.sources:
        names = {
            links.name(a.link)
            for a in links.addresses
            if _subnet_holds(a.address, a.prefix, prefix)
        }
        if not names or any(_comes_by(name, met) for name in names):
            return None
    return Overlap("no", f"{listed(met.sources)} does not come in by that interface")


def _subnet_holds(address: str, length: int, prefix: str) -> bool:
    return contains(f"{address}/{length}", prefix)


def _comes_by(name: str, met: Match) -> bool:
    wanted = not met.in_interfaces or any(names_meet(yes, name) for yes in met.in_interfaces)
    return wanted and not any(name_covers(no, name) for no in met.not_in_interfaces)


def _in_any(address: str, yes: tuple[str, ...], no: tuple[str, ...]) -> bool:
    if any(contains(hole, address) for hole in no):
        return False
    return not yes or any(contains(prefix, address) for prefix in yes)


def _any_local(prefixes: tuple[str, ...], links: Links) -> bool:
    return not prefixes or any(
        contains(prefix, a.address) for prefix in prefixes for a in links.addresses
    )


def _all_local(prefixes: tuple[str, ...], links: Links) -> bool:
    """Tell whether packets to ``prefixes`` are all delivered here; an empty list is everywhere."""
    return bool(prefixes) and all(
        any(contains(a.address, prefix) for a in links.addresses) or contains("127.0.0.0/8", prefix)
        for prefix in prefixes
    )
