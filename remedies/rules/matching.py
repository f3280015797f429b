"""What two matches have in common: the conjunction along a path, and "covers".

Pure. A :class:`~remedies.rules.rule.Match` is a box: one condition a dimension, all of which a
packet must meet. Conjunction is exact for all that is modelled, and ``unmodelled`` adds up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Optional, TypeVar

from remedies.netlink.flow import Tuple
from remedies.rules.prefixes import contains, meet, outside, parse, single
from remedies.rules.rule import Match, PortRange
from remedies.values import replace

T = TypeVar("T")


def names_meet(one: str, other: str) -> str | None:
    """Return the interface names that match both patterns (``*`` ends a prefix), None if none."""
    if one.endswith("*") and other.startswith(one[:-1]):
        return other
    if other.endswith("*") and one.startswith(other[:-1]):
        return one
    return one if one == other else None


def name_covers(pattern: str, name: str) -> bool:
    """Tell whether every name that ``name`` stands for matches ``pattern``."""
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return pattern == name


def ports_meet(one: PortRange, other: PortRange) -> PortRange | None:
    """Return the ports in both ranges, None if there are none."""
    first, last = max(one[0], other[0]), min(one[1], other[1])
    return (first, last) if first <= last else None


def ports_except(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """Return the ranges of all ports that are in none of ``ranges``."""
    found, start = [], 0
    for first, last in sorted(ranges):
        if first > start:
            found.append((start, first - 1))
        start = max(start, last + 1)
    if start <= 65535:
        found.append((start, 65535))
    return tuple(found)


_EMPTY: tuple[object, ...] = ((), None)
"""Fields that any packet meets."""


class _Disjoint(Exception):
    """No packet meets both."""


def _both(
    one: tuple[T, ...], other: tuple[T, ...], join: Callable[[T, T], Optional[T]]
) -> tuple[T, ...]:
    """Return the pairwise meetings of two lists of alternatives."""
    met: dict[T, None] = {}
    for a in one:
        for b in other:
            value = join(a, b)
            if value is not None:
                met[value] = None
    if not met:
        raise _Disjoint
    return tuple(met)


def _same(one: str, other: str) -> Optional[str]:
    return one if one == other else None


def _union(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one + other))


def _equal(one: bool, other: bool) -> bool:
    if one != other:
        raise _Disjoint
    return one


def _addresses(yes: tuple[str, ...], no: tuple[str, ...]) -> tuple[str, ...]:
    left = tuple(prefix for prefix in yes if outside(prefix, no))
    if yes and not left:
        raise _Disjoint
    return left


def _interfaces(yes: tuple[str, ...], no: tuple[str, ...]) -> tuple[str, ...]:
    left = tuple(name for name in yes if not any(name_covers(hole, name) for hole in no))
    if (yes and not left) or "*" in no:
        raise _Disjoint
    return left


_HOLES = (
    ("sources", "not_sources", _addresses),
    ("destinations", "not_destinations", _addresses),
    ("in_interfaces", "not_in_interfaces", _interfaces),
    ("out_interfaces", "not_out_interfaces", _interfaces),
)
"""Fields, those that exclude from them, and what is left then."""


def _one_family(sources: tuple[str, ...], destinations: tuple[str, ...]) -> bool:
    """Tell whether some packet has a source and a destination of these: one IP version."""
    if not sources or not destinations:
        return True
    return bool({parse(s)[0] for s in sources} & {parse(d)[0] for d in destinations})


def packets_of(protocol: str, way: Tuple) -> Match:
    """Return the packets of a protocol that run one way; a port of 0 is none."""
    source, destination = way.source_port, way.destination_port
    return Match(
        protocols=(protocol,),
        sources=(single(way.source),),
        destinations=(single(way.destination),),
        source_ports=((source, source),) if source else (),
        destination_ports=((destination, destination),) if destination else (),
    )


_JOINS: Mapping[str, Callable[[Any, Any], Any]] = {
    "protocols": partial(_both, join=_same),
    "sources": partial(_both, join=meet),
    "not_sources": _union,
    "destinations": partial(_both, join=meet),
    "not_destinations": _union,
    "source_ports": partial(_both, join=ports_meet),
    "destination_ports": partial(_both, join=ports_meet),
    "in_interfaces": partial(_both, join=names_meet),
    "not_in_interfaces": _union,
    "out_interfaces": partial(_both, join=names_meet),
    "not_out_interfaces": _union,
    "destination_local": _equal,
    "source_local": _equal,
    "states": partial(_both, join=_same),
    "unmodelled": _union,
}
"""What two values of a field have in common, neither of which is empty."""


def conjoin(one: Match, other: Match) -> Match | None:
    """Return the packets that meet both matches, None where no packet can."""
    return narrowed(one, vars(other))


def narrowed(match: Match, conditions: Mapping[str, Any]) -> Match | None:
    """Return those of ``match`` that meet conditions, too: values of its fields, by name.

    What it excludes of a field is looked at where a condition names either.
    """
    own = vars(match)
    met: dict[str, Any] = {}
    try:
        for name, value in conditions.items():
            if value not in _EMPTY:
                met[name] = value if own[name] in _EMPTY else _JOINS[name](own[name], value)
        for yes, no, left in _HOLES:
            if yes in conditions or no in conditions:
                holes = met.get(no, own[no])
                if holes:
                    met[yes] = left(met.get(yes, own[yes]), holes)
    except _Disjoint:
        return None
    made = replace(match, **met)
    return made if _one_family(made.sources, made.destinations) else None


def covers(wide: Match, narrow: Match) -> bool:
    """Tell whether every packet of ``narrow`` surely meets ``wide``.

    Exact but for alternatives that cover only together, where the answer is a safe False.
    """
    if wide.unmodelled or wide.destination_local not in (None, narrow.destination_local):
        return False
    if wide.source_local not in (None, narrow.source_local):
        return False
    return (
        _within(wide.protocols, narrow.protocols, _is)
        and _within(wide.states, narrow.states, _is)
        and _within(wide.sources, narrow.sources, contains)
        and _within(wide.destinations, narrow.destinations, contains)
        and _within(wide.source_ports, narrow.source_ports, _range_holds)
        and _within(wide.destination_ports, narrow.destination_ports, _range_holds)
        and _within(wide.in_interfaces, narrow.in_interfaces, name_covers)
        and _within(wide.out_interfaces, narrow.out_interfaces, name_covers)
        and _excludes_nothing(wide, narrow)
    )


def remainder(packets: Match, taken: Match) -> tuple[Match, ...]:
    """Return those of ``packets`` that do not meet ``taken``, in parts that share none.

    What is not modelled in ``taken`` is left out of account.
    """
    parts, left = [], packets
    for met, failed in _conditions(taken):
        part = conjoin(left, failed) if failed is not None else None
        if part is not None:
            parts.append(_without_idle_holes(part))
        rest = conjoin(left, met)
        if rest is None:
            break
        left = rest
    return tuple(parts)


def _without_idle_holes(match: Match) -> Match:
    """Return a match without the addresses that it excludes beside those that it lists."""
    return replace(
        match,
        not_sources=_cutting(match.not_sources, match.sources),
        not_destinations=_cutting(match.not_destinations, match.destinations),
    )


def _cutting(holes: tuple[str, ...], yes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(h for h in holes if not yes or any(meet(h, prefix) for prefix in yes))


def _conditions(match: Match) -> Iterator[tuple[Match, Optional[Match]]]:
    """Yield the conditions of a match one by one, each with its opposite; None: none meets that."""
    if match.sources:
        yield Match(sources=match.sources), Match(not_sources=match.sources)
    if match.not_sources:
        yield Match(not_sources=match.not_sources), Match(sources=match.not_sources)
    if match.destinations:
        yield Match(destinations=match.destinations), Match(not_destinations=match.destinations)
    if match.not_destinations:
        holes = match.not_destinations
        yield Match(not_destinations=holes), Match(destinations=holes)
    if match.in_interfaces:
        yield Match(in_interfaces=match.in_interfaces), Match(not_in_interfaces=match.in_interfaces)
    if match.not_in_interfaces:
        names = match.not_in_interfaces
        yield Match(not_in_interfaces=names), Match(in_interfaces=names)
    if match.out_interfaces:
        names = match.out_interfaces
        yield Match(out_interfaces=names), Match(not_out_interfaces=names)
    if match.not_out_interfaces:
        names = match.not_out_interfaces
        yield Match(not_out_interfaces=names), Match(out_interfaces=names)
    if match.source_ports:
        others = ports_except(match.source_ports)
        yield Match(source_ports=match.source_ports), Match(source_ports=others) if others else None
    if match.destination_ports:
        others = ports_except(match.destination_ports)
        failed = Match(destination_ports=others) if others else None
        yield Match(destination_ports=match.destination_ports), failed
    if match.destination_local is not None:
        local = match.destination_local
        yield Match(destination_local=local), Match(destination_local=not local)
    if match.source_local is not None:
        yield Match(source_local=match.source_local), Match(source_local=not match.source_local)


def _within(wide: tuple[T, ...], narrow: tuple[T, ...], holds: Callable[[T, T], bool]) -> bool:
    """Tell whether each alternative of ``narrow`` lies in one of ``wide``; none means any."""
    if not wide:
        return True
    return bool(narrow) and all(any(holds(w, n) for w in wide) for n in narrow)


def _is(one: str, other: str) -> bool:
    return one == other


def _range_holds(outer: PortRange, inner: PortRange) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _excludes_nothing(wide: Match, narrow: Match) -> bool:
    """Tell whether none of what ``wide`` excludes is in ``narrow``."""
    addresses = (
        (wide.not_sources, narrow.sources, narrow.not_sources),
        (wide.not_destinations, narrow.destinations, narrow.not_destinations),
    )
    interfaces = (
        (wide.not_in_interfaces, narrow.in_interfaces, narrow.not_in_interfaces),
        (wide.not_out_interfaces, narrow.out_interfaces, narrow.not_out_interfaces),
    )
    return all(_keep_out(*each, contains, meet) for each in addresses) and all(
        _keep_out(*each, name_covers, names_meet) for each in interfaces
    )


def _keep_out(
    holes: tuple[str, ...],
    yes: tuple[str, ...],
    already: tuple[str, ...],
    holds: Callable[[str, str], bool],
    meets: Callable[[str, str], object],
) -> bool:
    """Tell whether each hole is excluded ``already``, or meets none of ``yes``; none means any."""
    return all(
        any(holds(other, hole) for other in already)
        or (bool(yes) and not any(meets(hole, one) for one in yes))
        for hole in holes
    )
