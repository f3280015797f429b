"""Which dropped packet is the sign of which condition: one table, a row a condition. Pure.

Not a probe: ``scan`` and ``trace`` judge by it alike. A condition that is no more than "the kernel
dropped this for that reason" is its row here and a file with its words; one that looks at more
takes its row's drops from :func:`drops_of` and judges them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.droppers import BY_FIREWALL, Droppers
from remedies.facts.drops import NO_REASON, Drops, SeenDrop
from remedies.facts.returns import BY_FILTER
from remedies.model import Evidence, Finding, Severity
from remedies.printable import at, both_ends
from remedies.rules.rule import PacketRule
from remedies.values import NamedTuple

_SHOWN = 3
_FINDINGS = 8
"""Subjects of one condition that are told one by one."""


class DropSign(NamedTuple):
    """The drops that are signs of one condition, and what is said of them.

    ``subject`` and ``message`` are templates (:meth:`str.format`) of ``count``, ``protocol``,
    ``source``, ``destination`` (addresses), ``target`` (destination with its port), ``ends``,
    ``link``, ``rule`` (of the firewall; ``the firewall`` where it cannot be told), of the subject's
    drop with most packets; ``count`` is of all of them.
    """

    reasons: tuple[str, ...]
    """Names of enum skb_drop_reason without their prefix."""
    subject: str = "{protocol} {target}"
    message: str = "{count} packets were dropped, the most of {ends}"
    states: tuple[str, ...] = ()
    """What conntrack holds of the packet (:attr:`SeenDrop.state`); empty: whatever it holds."""
    protocols: tuple[str, ...] = ()
    icmp: tuple[tuple[int, int], ...] = ()
    """Types and codes of ICMP messages; empty: whatever it is."""
    places: tuple[str, ...] = ()
    """Functions of the kernel, for packets that it drops without a reason."""
    alone: bool = True
    """Such a drop is named as a sign of the condition by itself. Else it may as well be a firewall
    that does what it is for: the condition looks at its rule and at the host's networks, too."""
    least: int = 1
    """Packets of one subject below which nothing is said."""

    def fits(self, drop: SeenDrop) -> bool:
        """Tell whether a drop is such a sign."""
        return (
            drop.reason in self.reasons
            and (not self.states or drop.state in self.states)
            and (not self.protocols or drop.protocol in self.protocols)
            and (not self.icmp or drop.icmp in self.icmp)
            and (drop.reason != NO_REASON or drop.place in self.places)
        )


SIGNS = {
    "docker-direct-routing-drop": DropSign(reasons=(BY_FIREWALL,), states=("",), alone=False),
    "forward-policy-drop": DropSign(reasons=(BY_FIREWALL,), states=("new",), alone=False),
    "ip-forward-off": DropSign(  # ip_error(), net/ipv4/route.c; net/ipv6/ip6_output.c
        reasons=("IP_INADDRERRORS", NO_REASON), places=("ip6_forward",)
    ),
    "mtu-black-hole": DropSign(  # ICMP_FRAG_NEEDED; ICMPV6_PKT_TOOBIG
        reasons=(BY_FIREWALL,),
        states=("related", "related, reply"),
        protocols=("icmp", "icmpv6"),
        icmp=((3, 4), (2, 0)),
    ),
    "published-but-refused": DropSign(
        reasons=(BY_FIREWALL,), states=("new",), protocols=("tcp", "udp"), alone=False
    ),
    "reply-dropped": DropSign(
        reasons=(BY_FIREWALL,),
        states=("established, reply",),  # related: NAT itself drops ICMP redirects (nf_nat_proto.c)
        subject="{rule}",
        message=(
            "{count} answers to connections that were begun from here were dropped by {rule}, the "
            "most of {ends}: accept what is established before that rule"
        ),
    ),
    "snat-port-exhaustion": DropSign(
        reasons=(BY_FIREWALL,), states=("new",), protocols=("tcp",), alone=False
    ),
    "subnet-overlap": DropSign(reasons=("NEIGH_FAILED",), alone=False),  # neigh_invalidate()
    "strict-reverse-path": DropSign(reasons=(BY_FILTER,)),  # fib_validate_source()
}
"""By the id of the condition."""


def drops_of(condition: str, facts: Facts) -> tuple[SeenDrop, ...]:
    """Return the drops that are signs of a condition, most packets first.

    None where nobody listened. Raises Unreadable where drops could not be heard.
    """
    drops = facts.get(Drops)
    if drops.unread and not drops.listened:
        raise Unreadable("; ".join(drops.unread))
    return tuple(drop for drop in drops.seen if SIGNS[condition].fits(drop))


def rule_of(facts: Facts, drop: SeenDrop) -> Optional[PacketRule]:
    """Return the rule that dropped a packet, None where that cannot be told or was not asked."""
    if drop.reason != BY_FIREWALL:
        return None
    return next((each.rule for each in facts.get(Droppers).found if each.drop == drop), None)


def findings(
    condition: str, severity: Severity, facts: Facts, drops: Optional[Iterable[SeenDrop]] = None
) -> tuple[Finding, ...]:
    """Return a proven finding for each subject of the drops that are signs of a condition.

    ``drops``: those of them that count, where the condition looks at more. Raises Unreadable where
    drops could not be heard.
    """
    sign = SIGNS[condition]
    by_subject: dict[str, list[SeenDrop]] = {}
    for drop in drops_of(condition, facts) if drops is None else drops:
        by_subject.setdefault(sign.subject.format(**_words(facts, drop)), []).append(drop)
    return tuple(
        _finding(condition, severity, facts, subject, of_it)
        for subject, of_it in list(by_subject.items())[:_FINDINGS]
        if sum(drop.count for drop in of_it) >= sign.least
    )


def evidence(drop: SeenDrop) -> Evidence:
    """Return what the kernel said about a dropped packet."""
    return Evidence(
        "bpf: kfree_skb",
        drop.reason,
        f"{drop.protocol} {both_ends(*drop.way.parts)}",
        ", ".join(
            (
                f"{drop.count} times",
                *((f"on {drop.link}",) if drop.link else ()),
                *((f"conntrack: {drop.state}",) if drop.state else ()),
                *((f"in {drop.place}()",) if drop.place else ()),
            )
        ),
    )


def _finding(
    condition: str, severity: Severity, facts: Facts, subject: str, drops: list[SeenDrop]
) -> Finding:
    first, rule = drops[0], rule_of(facts, drops[0])
    words = {**_words(facts, first), "count": str(sum(drop.count for drop in drops))}
    met = () if rule is None else (Evidence(rule.place, rule.hook, rule.text, rule.owner),)
    return Finding(
        condition=condition,
        subject=subject,
        verdict="proven",
        severity=severity,
        message=SIGNS[condition].message.format(**words),
        evidence=(*(evidence(drop) for drop in drops[:_SHOWN]), *met),
    )


def _words(facts: Facts, drop: SeenDrop) -> dict[str, str]:
    rule, way = rule_of(facts, drop), drop.way
    return {
        "count": str(drop.count),
        "protocol": drop.protocol,
        "source": way.source,
        "destination": way.destination,
        "target": at(way.destination, way.destination_port),
        "ends": f"{drop.protocol} {both_ends(*way.parts)}",
        "link": drop.link,
        "rule": "the firewall" if rule is None else rule.named,
    }
