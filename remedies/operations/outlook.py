"""What to expect of the fixes in force: harm they do now, and what the next boot leaves of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from remedies import catalogue
from remedies.boot import sysctl_d, units
from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.asked import TOPIC, Asked
from remedies.facts.bypassed import Bypassed
from remedies.facts.oneway import Oneway
from remedies.facts.stalls import Stalls
from remedies.model import Held
from remedies.netfilter.bypass import Bypass
from remedies.operations import session
from remedies.operations.session import HostSession
from remedies.rules import kinds
from remedies.status import harm, in_force
from remedies.status.harm import Harm
from remedies.status.in_force import InForce
from remedies.values import dataclass

WINDOW = 1.0
"""Seconds to listen where a rule of ours has dropped something and could be doing harm."""


@dataclass(frozen=True)
class AtBoot:
    """What the next boot does to one resource in force."""

    resource: str
    decided_by: str
    """``/etc/sysctl.d/99-zz-....conf:2``, or the unit that loads it; empty: nothing does."""
    value: Optional[str]
    """What a sysctl is set to; None where nothing sets it."""
    ours: bool
    """The next boot sets it as it is now."""
    lasting: bool
    """We wrote boot files for it, so it has to come back."""


@dataclass(frozen=True)
class Outlook:
    """Harm, bypassed rules and the next boot, of everything in force."""

    boot: tuple[AtBoot, ...]
    harm: tuple[Harm, ...]
    bypassed: tuple[Bypass, ...] = ()
    """Rules of ours that no packet reaches any more."""

    @property
    def bad(self) -> bool:
        """Tell whether something does harm or nothing, or is lost at boot and should not be."""
        lost = any(entry.lasting and not entry.ours for entry in self.boot)
        return bool(self.harm or self.bypassed) or lost


def look(here: HostSession, found: tuple[InForce, ...]) -> Outlook:
    """Return harm and the next boot; what cannot be read is left out.

    Listens, for one second, only if a rule of ours has counted packets.
    """
    counted = {e.resource for e in found if any(e.counters.values())}
    busy = [e for e in here.held.values() if e.resource in counted]
    both = harm.dropping(busy) or harm.redirected(busy)
    _, seen = listen(here, busy, WINDOW) if both else (None, ())
    return outlook(here, found, seen)


def outlook(here: HostSession, found: tuple[InForce, ...], seen: tuple[Harm, ...]) -> Outlook:
    """Return the outlook, with the harm ``seen`` while listening."""
    return Outlook(at_boot(here, found), (*seen, *_of_guards(here)), _bypassed(here, found))


def listen(
    here: HostSession, held: Iterable[Held], window: float, kinds: Iterable[type[Any]] = ()
) -> tuple[Facts, tuple[Harm, ...]]:
    """Read facts, and listen meanwhile for harm that the resources ``held`` do; return both.

    With a window of 0 no harm is looked for.
    """
    if window <= 0:
        return session.look(here, for_plan=False, window=window, kinds=kinds), ()
    held = tuple(held)
    drops, redirects = harm.dropping(held), harm.redirected(held)
    topics = frozenset(f"{TOPIC}{port}" for _, _, port in redirects)
    kinds = (*kinds, Oneway, Stalls, Asked)
    counting = (*drops, *(entry for entry, _, _ in redirects))
    before = _counted(counting)
    facts = session.look(here, for_plan=False, window=window, kinds=kinds, topics=topics)
    counted = {name: n - before[name] for name, n in _counted(counting).items()}
    moved = [(entry, counted[entry.resource]) for entry in drops]
    seen: list[Harm] = []
    with contextlib.suppress(Unreadable):
        seen += harm.of_drops((e for e, n in moved if n), facts.get(Oneway))
    told = {entry.resource for entry in seen}
    with contextlib.suppress(Unreadable):
        others = ((e, n) for e, n in moved if e.resource not in told)
        seen += harm.of_stalls(others, facts.get(Stalls))
    with contextlib.suppress(Unreadable):
        seen += harm.of_redirects(redirects, counted, facts.get(Asked))
    return facts, tuple(seen)


def _counted(entries: Iterable[Held]) -> dict[str, int]:
    """Return the packets that each of these has counted; 0 where it cannot be read."""
    return {
        entry.resource: sum(entry.counters.values())
        for entry in in_force.compare({held.resource: held for held in entries})
    }


def _bypassed(here: HostSession, found: tuple[InForce, ...]) -> tuple[Bypass, ...]:
    """Return the rules of ours in force that no packet reaches; none if that cannot be read."""
    rules = {e.resource for e in found if e.state == "ours" and _has_rules(e.resource)}
    if not rules:
        return ()
    facts = here.read(here.host, (Bypassed,))
    try:
        return tuple(item for item in facts.get(Bypassed).rules if item.resource in rules)
    except Unreadable:
        return ()


def _has_rules(address: str) -> bool:
    kind, path = kinds.of(address)
    return bool(kind.family(path))


def _of_guards(here: HostSession) -> tuple[Harm, ...]:
    in_use = []
    for entry in here.held.values():
        begun = here.ledger.get(entry.transaction)
        change = next(
            (c for c in begun.begin.changes if c.resource == entry.resource) if begun else iter(()),
            None,
        )
        if change is not None and harm.untracks(entry):
            for _, terms in change.uses:
                in_use.append(harm.InUse(entry.fix, entry.resource, None, terms))
    if not in_use:
        return ()
    facts = here.read(
        here.host,
        {kind: None for use in in_use for kind in catalogue.fix(use.fix).NEEDS},
        topics=frozenset().union(*(catalogue.topics_of(u.fix, u.terms.params) for u in in_use)),
        ours=tuple(here.held),
    )
    return harm.of_guards(in_use, facts)


def at_boot(here: HostSession, found: tuple[InForce, ...]) -> tuple[AtBoot, ...]:
    """Return what decides each resource at the next boot; only the machine's own namespace has one.

    Raises nothing: a sysctl.d that cannot be read leaves ``decided_by`` empty.
    """
    if here.host.netns != "host":
        return ()
    files = {e.resource: e.state for e in found if here.held[e.resource].boot}
    return tuple(
        _at_boot(here, entry, files) for entry in found if not here.held[entry.resource].boot
    )


def _at_boot(here: HostSession, entry: InForce, files: Mapping[str, str]) -> AtBoot:
    ours = here.held[entry.resource].ours
    lasting = any(here.held[name].fix == entry.fix for name in files)
    scheme, _, key = entry.resource.partition(":")
    if scheme == "sysctl":
        try:
            decision = sysctl_d.decides(key, sysctl_d.sources())
        except OSError:
            decision = None
        value = None if decision is None else decision.value
        by = "" if decision is None else f"{decision.path}:{decision.line}"
        same = here.store.same(entry.resource, value, ours)
        return AtBoot(entry.resource, by, value, same, lasting)
    boot_paths = units.boot_paths(entry.fix, entry.resource)
    loads = bool(boot_paths) and all(files.get(name) == "ours" for name in boot_paths)
    return AtBoot(entry.resource, units.unit(entry.fix) if loads else "", None, loads, lasting)
