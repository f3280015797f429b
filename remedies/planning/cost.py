"""What a change costs, in figures: flows lost, and bytes of kernel memory. Pure.

Flows are lost in two ways, and both can be counted before: an effect deletes them (the driver
names them), or an INVALID drop hits connections of which conntrack has seen one direction only
(:mod:`remedies.facts.oneway`). A tracked connection loses nothing to our rules; the same is held
to in tests/kernel/test_live_flows.py.

Memory is what the rules take (:mod:`remedies.rules.kinds`). Where a rule would make the namespace
track connections, the table that can fill up is the cost: nf_conntrack_max (sysctl,
Documentation/networking/nf_conntrack-sysctl.rst) entries of the size that the kernel says
(:mod:`remedies.facts.slab`) and their extensions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.facts.oneway import LIMIT, Oneway
from remedies.facts.slab import Slab
from remedies.facts.sysctl import Sysctl
from remedies.model import Change
from remedies.netlink.flow import Flow
from remedies.printable import both_ends
from remedies.rules import flow_address, kinds
from remedies.rules.rule import PacketRule
from remedies.values import dataclass

NEEDS = (Netfilter, Slab, Sysctl)

EXTENSIONS = 128
"""Bytes that NAT, accounting or a helper add to an entry (NF_CT_EXT_PREALLOC,
net/netfilter/nf_conntrack_extend.c)."""
_MAX = "net.netfilter.nf_conntrack_max"
_NAT = frozenset(("redirect", "dnat", "snat", "masquerade"))
COUNTED = 1000
"""Flows that are counted for one effect (:data:`remedies.resources.flow.MOST`)."""
NAMED = 3
"""Flows that are named; of the others only the number is told."""


@dataclass(frozen=True)
class Cost:
    """What one change costs."""

    lost: tuple[str, ...] = ()
    """Flows: ``udp 172.17.0.2:40000 -> 10.0.0.1:53``."""
    more: bool = False
    """There are more than were counted."""
    doubtful: int = 0
    """Flows that may be lost: whether they are alive was not listened for long enough."""
    memory: int = 0
    """Bytes, rounded up."""
    tracking: int = 0
    """Bytes that connection tracking may take; 0 unless the change switches it on."""
    unknown: str = ""
    """Why flows could not be counted."""


def of(
    change: Change,
    facts: Facts,
    stale: Iterable[str] = (),
    *,
    oneway: Optional[Oneway] = None,
    more: bool = False,
    unknown: str = "",
) -> Cost:
    """Return what a change costs.

    ``stale`` are paths of the flows that its effects delete, ``more`` that there are others;
    ``oneway`` is needed where it drops INVALID segments.
    """
    kind, _ = kinds.of(change.resource)
    rules = kinds.rules_of(change.resource, change.after)
    lost = [flow_address.name(path) for path in dict.fromkeys(stale)]
    doubtful = 0
    if oneway is not None and drops_invalid(rules):
        lost += [_text(flow) for flow in oneway.proven]
        doubtful = 0 if oneway.listened else oneway.suspects
    return Cost(
        lost=tuple(lost),
        more=more,
        doubtful=doubtful,
        memory=kind.memory(rules),
        tracking=_tracking(rules, facts),
        unknown=unknown,
    )


def drops_invalid(rules: Iterable[PacketRule]) -> bool:
    """Tell whether a rule drops whatever conntrack calls INVALID, segments with data too.

    A rule with a further match that is not modelled (the flags of a reset) does not count.
    """
    return any(
        rule.action == "drop" and "invalid" in rule.match.states and not rule.match.unmodelled
        for rule in rules
    )


def _tracking(rules: tuple[PacketRule, ...], facts: Facts) -> int:
    netfilter = facts.known.get("netfilter")
    if not isinstance(netfilter, Netfilter) or netfilter.conntrack_used:
        return 0
    if not any(rule.match.states or rule.action in _NAT for rule in rules):
        return 0
    slab, sysctl = facts.known.get("slab"), facts.known.get("sysctl")
    most = sysctl.values.get(_MAX, "") if isinstance(sysctl, Sysctl) else ""
    size = slab.flow if isinstance(slab, Slab) else Slab.flow
    return (int(most) if most.isdigit() else 0) * (size + EXTENSIONS)


def _text(flow: Flow) -> str:
    return f"{flow.protocol} {both_ends(*flow.original.parts)}"


def text(cost: Cost) -> str:
    """Return a cost as text, the end of a sentence about the change."""
    said = [_flows(cost)]
    if cost.doubtful:
        most = f"{LIMIT} or more" if cost.doubtful >= LIMIT else f"up to {cost.doubtful}"
        said.append(
            f"may cut {most} TCP connections of which conntrack has seen one direction only: "
            "'--window 1s' shows which"
        )
    said.append(f"takes {_size(cost.memory)} of kernel memory")
    if cost.tracking:
        said.append(f"switches connection tracking on, which may take {_size(cost.tracking)}")
    return "; ".join(said)


def _flows(cost: Cost) -> str:
    if cost.unknown:
        return f"how many flows are lost is not known: {cost.unknown}"
    if not cost.lost:
        return "loses no flow"
    count = len(cost.lost)
    least = "at least " if cost.more else ""
    named = ", ".join(cost.lost[:NAMED])
    others = f" and {count - NAMED} more" if count > NAMED else ""
    return f"loses {least}{count} flow{'s' if count > 1 else ''}: {named}{others}"


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} bytes" if count else "no byte"
    units = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
    unit, size = next((unit, size) for unit, size in units if count >= size)
    return f"at most {-(-count // size)} {unit}"
