"""Matches in words: the packets of one, and what keeps two apart. Pure."""

from __future__ import annotations

from remedies.rules.matching import conjoin
from remedies.rules.rule import Match, PortRange


def listed(values: tuple[str, ...]) -> str:
    """Return names or addresses, one after the other."""
    return ", ".join(values)


def port_list(ranges: tuple[PortRange, ...]) -> str:
    """Return ports and ranges of ports, one after the other."""
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def describe(match: Match) -> str:
    """Return the packets of a match in a few words: ``udp to 192.0.2.10 port 5060``."""
    words = ["/".join(match.protocols) or "packets"]
    for name, prefixes, ports in (
        ("from", match.sources, match.source_ports),
        ("to", match.destinations, match.destination_ports),
    ):
        if prefixes or ports:
            words.append(name)
        if prefixes:
            words.append(listed(prefixes))
        if ports:
            words.append(f"port {port_list(ports)}")
    if match.in_interfaces:
        words.append(f"by {listed(match.in_interfaces)}")
    return " ".join(words)


_DIMENSIONS = (
    ("protocols", ("protocols",)),
    ("source addresses", ("sources", "not_sources")),
    ("destination addresses", ("destinations", "not_destinations")),
    ("source ports", ("source_ports",)),
    ("destination ports", ("destination_ports",)),
    ("incoming interfaces", ("in_interfaces", "not_in_interfaces")),
    ("outgoing interfaces", ("out_interfaces", "not_out_interfaces")),
    ("source types", ("source_local",)),
    ("destination types", ("destination_local",)),
    ("conntrack states", ("states",)),
)


def apart(one: Match, other: Match) -> str:
    """Return which dimension two matches differ in, with the values of both."""
    for name, fields in _DIMENSIONS:
        if any(all(getattr(m, field) in ((), None) for field in fields) for m in (one, other)):
            continue  # one of them takes any
        parts = [
            Match(**{field: getattr(match, field) for field in fields}) for match in (one, other)
        ]
        if conjoin(*parts) is None:
            shown = [_shown(part, fields) for part in parts]
            return f"different {name}: {shown[0]} and {shown[1]}"
    return "different IP versions"


def _shown(match: Match, fields: tuple[str, ...]) -> str:
    yes = getattr(match, fields[0])
    if isinstance(yes, bool):
        return "local" if yes else "not local"
    if yes and isinstance(yes[0], tuple):
        return port_list(yes)
    if yes:
        return ", ".join(yes)
    return "not " + ", ".join(getattr(match, fields[-1]))
