"""Names in ``--packet``: a container's or a network namespace's, turned into its address."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Optional

from remedies.errors import UsageError
from remedies.facts import Asking
from remedies.facts.host import read_host
from remedies.facts.links import read as read_links
from remedies.namespaces import containers
from remedies.namespaces.find import Namespace, find
from remedies.namespaces.netns import inside
from remedies.trace.packet_filter import PacketFilter
from remedies.values import replace

_SHOWN = 20

Addresses = Callable[[str], tuple[str, ...]]
"""Returns the addresses behind a name; raises UsageError for an unknown one."""


def with_addresses(wanted: PacketFilter, addresses: Addresses) -> PacketFilter:
    """Return a filter with an address for each name in it. Pure but for ``addresses``.

    Of several addresses the one counts that has the IP version of the other end; IPv4 where
    neither end says. Raises UsageError where that leaves more than one, or none.
    """
    if wanted.source_name:
        ends = addresses(wanted.source_name)
        there: tuple[str, ...] = (wanted.destination,) if wanted.destination else ()
        if wanted.destination_name:
            there = addresses(wanted.destination_name)
        address = _one(wanted.source_name, ends, there)
        wanted = replace(wanted, source=address, source_name="")
    if wanted.destination_name:
        ends = addresses(wanted.destination_name)
        there = (wanted.source,) if wanted.source else ()
        address = _one(wanted.destination_name, ends, there)
        wanted = replace(wanted, destination=address, destination_name="")
    return wanted


def _one(name: str, ends: Collection[str], there: Collection[str]) -> str:
    versions = {":" in address for address in there} or {False, True}
    fitting = [address for address in ends if (":" in address) in versions]
    chosen = [address for address in fitting if ":" not in address] or fitting
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise UsageError(
            f"--packet: {name} has several addresses", f"write one of {', '.join(chosen)}"
        )
    has = ", ".join(ends) or "none"
    raise UsageError(f"--packet: {name} has no address that fits", f"its addresses: {has}")


def addresses_of(name: str) -> tuple[str, ...]:
    """Return the addresses that a container, or a namespace, has for others; IPv4 first.

    Raises UsageError for a name that is not known, with those that are.
    """
    named = by_name(find()[0], containers.names([]))
    found = named.get(name)
    if found is None:
        known = sorted(named)
        more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        hint = f"known: {', '.join(known[:_SHOWN])}{more}" if known else "none is known here"
        raise UsageError(f"--packet: no container or network namespace {name!r}", hint)
    with inside(found.paths[0]):
        links = read_links(Asking(read_host()))
    return tuple(item.address for version in (4, 6) for item in links.reachable(version))


def by_name(namespaces: Collection[Namespace], names: Mapping[str, str]) -> dict[str, Namespace]:
    """Return namespaces by their own names, and their containers' names and ids (12 digits).

    ``names``: of containers, by id. An id counts only where no name is known. Pure.
    """
    found: dict[str, Namespace] = {}
    for namespace in namespaces:
        if namespace.own:
            continue
        if namespace.name and "/" not in namespace.name:
            found[namespace.name] = namespace
        for container in namespace.containers:
            found[names.get(container, container)] = namespace
    return found


def named(wanted: Optional[PacketFilter]) -> Optional[PacketFilter]:
    """Return a filter, if there is one, with its names looked up on this machine."""
    return None if wanted is None else with_addresses(wanted, addresses_of)
