"""Which NAT rules are asked for, where a host has too many to read them all. Pure.

Those that some packets meet; and those that turn packets to where others, which a notrack rule
takes, may be the answers of. What a rule turns packets to does not show in what it matches: a
service of a cluster may lead to an address of the host itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from remedies.rules.decoded import Step
from remedies.rules.invalid_packet import EPHEMERAL, loopback, target
from remedies.rules.matching import conjoin, ports_meet
from remedies.rules.prefixes import contains
from remedies.rules.rule import Match, PortRange
from remedies.values import dataclass

Untracked = tuple[str, Match]
"""The hook of a notrack rule, and the packets that it sees there."""


@dataclass(frozen=True)
class Sought:
    """What makes a NAT rule one of those that are asked for."""

    requests: tuple[Match, ...]
    """It meets some of these packets."""
    answers: tuple[Untracked, ...] = ()
    """Or some of these may be answers to what it has turned."""
    own: tuple[str, ...] = ()
    """Addresses of this host; none where they are not known."""

    def met(self, match: Match) -> bool:
        """Tell whether some packets of ``match`` are asked for."""
        # By a source port, answers come to that one: any.
        named = bool(self.answers and match.source_ports)
        return named or any(conjoin(match, packet) is not None for packet in self.requests)

    def turns(self, step: Step) -> bool:
        """Tell whether a rule may turn packets to where some of the answers come from."""
        if step.action not in ("dnat", "redirect"):
            return False
        addresses, ports = target(step.to)
        here = step.action == "redirect" or (bool(addresses) and all(map(self._here, addresses)))
        known = here or bool(addresses and self.own)
        answer = Match(protocols=step.match.protocols, sources=addresses, source_ports=ports)
        return any(
            conjoin(seen, answer) is not None
            for hook, seen in self.answers
            if not known or (hook == "output") == here
        )

    def _here(self, address: str) -> bool:
        return loopback((address,)) or any(contains(own, address) for own in self.own)


def beside(untracked: Iterable[Untracked], own: tuple[str, ...]) -> Sought:
    """Return the NAT rules of prerouting and output that notrack rules may overlap.

    Those that see the same packets, and those whose answers they see: answers come from where a
    rule turns packets to, to a client's port.
    """
    requests: dict[Match, None] = {}
    answers: dict[Untracked, None] = {}
    for hook, match in untracked:
        ports = match.destination_ports
        seen = Match(
            protocols=match.protocols,
            source_ports=match.source_ports,
            destinations=match.destinations,
            destination_ports=ports or _asked_by_services(match.source_ports),
        )
        requests[seen] = None
        if not ports or any(ports_meet(each, EPHEMERAL) for each in ports):
            from_there = Match(
                protocols=match.protocols,
                sources=match.sources,
                not_sources=match.not_sources,
                source_ports=match.source_ports,
            )
            answers[hook, from_there] = None
    return Sought(tuple(requests), tuple(answers), own)


def _asked_by_services(ports: tuple[PortRange, ...]) -> tuple[PortRange, ...]:
    """Return where packets from services' ports go: to clients, or to services of that port.

    Any, where the ports are none or may be clients' own.
    """
    if any(last >= EPHEMERAL[0] for _, last in ports):
        return ()
    return (*ports, EPHEMERAL) if ports else ()


def of_protocols(untracked: Iterable[Untracked]) -> Sought:
    """Return the NAT rules of postrouting and input that notrack rules may overlap: few."""
    return Sought(tuple(dict.fromkeys(Match(protocols=m.protocols) for _, m in untracked)))
