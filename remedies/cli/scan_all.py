"""``remedy scan --all-netns``: every network namespace of the machine, each in a process.

JSON: the keys of the scan of the namespace that the command runs in, and ``namespaces``, a list
with one object for each of the others. Such an object has the keys ``host``, ``time``,
``findings`` and ``unknown`` of a scan, and

``netns``
    what ``--netns`` takes to work in it: a name, a path or a process id.
``netns_name``
    its name in /run/netns, or the path of its name elsewhere; null where it has none.
``container``, ``container_id``
    the container whose processes are in it, by name where a daemon tells it; several are joined
    by ", "; null where there is none.

Each finding in it carries ``netns_name`` and ``container``, too. A namespace that could not be
scanned has every condition among its ``unknown``.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any, Optional

from remedies import codec
from remedies.cli import session
from remedies.cli.parser import warn
from remedies.cli.render import findings_text, scan_text
from remedies.cli.terminal import Style, clean
from remedies.errors import Unreadable
from remedies.facts.gather import now
from remedies.facts.host import read_host
from remedies.model import PolicyRef, Scan, Unknown
from remedies.namespaces import containers, find, workers
from remedies.namespaces.find import Namespace
from remedies.planning import engine, planfile
from remedies.values import dataclass, replace

PATIENCE = 20.0
"""Seconds that one namespace may take beyond the window."""


@dataclass(frozen=True)
class Place:
    """One namespace with its scan."""

    namespace: Namespace
    container: str
    """Names, or ids where no daemon tells a name; empty outside of containers."""
    scan: Scan
    said: tuple[str, ...] = ()
    """Warnings, a line each."""

    @property
    def title(self) -> str:
        """Return what a person calls it."""
        spec = self.namespace.spec
        if not self.container:
            return f"namespace {spec}" if self.namespace.name else f"namespace of process {spec}"
        return f"container {self.container}"


@dataclass(frozen=True)
class _Told:
    """What a child says of one namespace."""

    scan: Optional[Scan] = None
    """None: it had ended."""
    said: tuple[str, ...] = ()


def scan_all(here: session.Session) -> tuple[Place, ...]:
    """Scan every namespace, this one first. Raises Unreadable where this one cannot be scanned.

    A namespace that has ended before it was visited is left out, with a warning.
    """
    engine.needs_of_scan(here.policy)  # imports every condition once, before the children
    found, unread = find.find()
    unnamed: list[str] = []
    names = containers.names(unnamed) if any(n.containers for n in found) else {}
    limit = float(here.args.window) + PATIENCE
    seen = workers.visit_all([_work(here, namespace) for namespace in found], limit)
    for reason in (*unread, *unnamed):
        warn(reason)
    places = []
    for namespace, visit in zip(found, seen):
        if visit.failure and namespace.own:
            raise Unreadable(f"this namespace could not be scanned: {visit.failure}")
        told = _told(here, namespace, visit)
        if told.scan is not None:
            container = ", ".join(names.get(each, each) for each in namespace.containers)
            places.append(Place(namespace, container, told.scan, told.said))
    if len(places) < len(found):
        warn(f"{len(found) - len(places)} namespaces ended before they were visited")
    return tuple(places)


def _work(here: session.Session, namespace: Namespace) -> Callable[[], str]:
    """Return what a child does: enter the namespace, look, judge, and say so in JSON."""

    def work() -> str:
        if not find.enter(namespace):
            return codec.dumps(_Told())
        with contextlib.redirect_stderr(io.StringIO()) as said:
            inside = session.reread(replace(here, host=read_host()))
            session.warn_unfinished(inside)
            scan, warnings = session.judge(inside, session.look(inside, for_plan=False))
            for warning in warnings:
                warn(warning)
        return codec.dumps(_Told(scan, tuple(said.getvalue().splitlines())))

    return work


def _told(here: session.Session, namespace: Namespace, visit: workers.Visit) -> _Told:
    """Return what a child said; where it failed, every condition is unknown there."""
    if not visit.failure:
        return codec.decode(_Told, codec.loads(visit.text, namespace.spec), namespace.spec)
    if not find.stands(namespace):
        return _Told()
    host = replace(here.host, netns=f"{here.host.boot_id[:8]}-i{namespace.inode}")
    reason = f"this namespace could not be scanned: {visit.failure}"
    unknown = tuple(Unknown(name, reason) for name in engine.watched(here.policy))
    return _Told(Scan(host=host, time=now(), findings=(), unknown=unknown))


def plain(places: tuple[Place, ...], policy: PolicyRef) -> dict[str, Any]:
    """Return all scans as plain JSON values: see the module's docstring."""
    own, *others = places
    return {
        **planfile.scan_plain(own.scan, policy),
        "namespaces": [_plain(place, policy) for place in others],
    }


def _plain(place: Place, policy: PolicyRef) -> dict[str, Any]:
    whose = {
        "netns_name": place.namespace.name or None,
        "container": place.container or None,
    }
    scan = planfile.scan_plain(place.scan, policy)
    return {
        "netns": place.namespace.spec,
        **whose,
        "container_id": ", ".join(place.namespace.containers) or None,
        "host": scan["host"],
        "time": scan["time"],
        "findings": [{**finding, **whose} for finding in scan["findings"]],
        "unknown": scan["unknown"],
    }


def text(places: tuple[Place, ...], policy: PolicyRef, style: Style, *, verbose: int) -> str:
    """Return each namespace's findings under its title; those with none are counted at the end."""
    own, *others = places
    parts = [scan_text(own.scan, policy, style, verbose=verbose)]
    quiet = []
    for place in others:
        if not place.scan.findings and not place.scan.unknown:
            quiet.append(place.title)
            continue
        way = style("dim", clean(f"--netns {place.namespace.spec}"))
        parts.append(f"{style('bold', clean(place.title))}  {way}")
        parts.append(_body(place, style, verbose))
    if quiet:
        names = f": {', '.join(quiet)}" if verbose else "; -v names them"
        parts.append(clean(f"Nothing found in {len(quiet)} other namespaces{names}."))
    return "\n\n".join(parts)


def _body(place: Place, style: Style, verbose: int) -> str:
    reasons = {unknown.reason for unknown in place.scan.unknown}
    if not place.scan.findings and len(reasons) == 1:
        return f"{style.verdict('unknown')} {clean(reasons.pop())}"
    return findings_text(place.scan, style, verbose=verbose)
