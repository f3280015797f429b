"""A scan of every network namespace of the machine, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from remedies import codec
from remedies.errors import Unreadable
from remedies.facts.drops import Drops
from remedies.facts.gather import now
from remedies.facts.host import read_host
from remedies.model import Scan, Unknown
from remedies.namespaces import containers, find, workers
from remedies.namespaces.find import Namespace
from remedies.operations import session
from remedies.operations.session import HostSession
from remedies.planning import engine
from remedies.status import in_force
from remedies.status.in_force import InForce
from remedies.tap.drop_types import drop_types
from remedies.values import dataclass, replace

PATIENCE = 20.0
"""Seconds that one namespace may take, beside the window."""


@dataclass(frozen=True)
class ScannedNamespace:
    """One namespace with its scan."""

    namespace: Namespace
    container: str
    """Names, or ids where no daemon tells a name; empty outside of containers."""
    scan: Scan
    said: tuple[str, ...] = ()
    """Warnings, a line each."""


@dataclass(frozen=True)
class ChildScan:
    """What a child answers for one namespace."""

    scan: Optional[Scan] = None
    """None: it had ended. One that failed has every condition among its ``unknown``."""
    said: tuple[str, ...] = ()
    in_force: tuple[InForce, ...] = ()
    """What is ours there, if that was asked for."""


def scan_all(here: HostSession) -> tuple[ScannedNamespace, ...]:
    """Scan every namespace, this one first. Raises Unreadable where this one cannot be scanned.

    A namespace that has ended before it was visited is left out, with a warning.
    """
    prepare(here)
    found, unread = find.find()
    unnamed: list[str] = []
    names = containers.names(unnamed) if any(n.containers for n in found) else {}
    limit = here.window + PATIENCE
    seen = workers.visit_all([work(here, namespace) for namespace in found], limit)
    for reason in (*unread, *unnamed):
        here.notify(reason)
    places = []
    for namespace, visit in zip(found, seen):
        if visit.failure and namespace.own:
            raise Unreadable(f"this namespace could not be scanned: {visit.failure}")
        told = answer(here, namespace, visit)
        if told.scan is not None:
            container = ", ".join(names.get(each, each) for each in namespace.containers)
            places.append(ScannedNamespace(namespace, container, told.scan, told.said))
    if len(places) < len(found):
        here.notify(f"{len(found) - len(places)} namespaces ended before they were visited")
    return tuple(places)


def prepare(here: HostSession) -> None:
    """Do once what each child would do by itself: import the conditions, read the kernel's types.

    What could not be read is told by the scans.
    """
    kinds = engine.needs_of_scan(here.policy)
    if here.window > 0 and here.cache is not None and Drops in kinds:
        # By a child, because it takes more memory than all the rest.
        workers.visit_all([lambda: drop_types(here.cache).kernel], PATIENCE)


def work(here: HostSession, namespace: Namespace, *, of_force: bool = False) -> Callable[[], str]:
    """Return the function that a child runs: enter the namespace, scan it, answer in JSON.

    With ``of_force`` it also looks how what is in force there stands.
    """

    def scan() -> str:
        if not find.enter(namespace):
            return codec.dumps(ChildScan())
        said: list[str] = []
        inside = session.reread(replace(here, host=read_host(), notify=said.append))
        said += session.unfinished_lines(inside)
        judged, warnings = session.judge(inside, session.look(inside, for_plan=False))
        held = in_force.compare(inside.held) if of_force else ()
        return codec.dumps(ChildScan(judged, (*said, *warnings), held))

    return scan


def answer(here: HostSession, namespace: Namespace, visit: workers.WorkerResult) -> ChildScan:
    """Return a child's answer; if it failed, every condition is unknown in that namespace."""
    if not visit.failure:
        plain = codec.loads(visit.text, namespace.spec)
        return codec.decode(ChildScan, plain, namespace.spec, passing=True)
    if not find.still_there(namespace):
        return ChildScan()
    host = replace(here.host, netns=f"{here.host.boot_id[:8]}-i{namespace.inode}")
    reason = f"this namespace could not be scanned: {visit.failure}"
    unknown = tuple(Unknown(name, reason) for name in engine.watched(here.policy))
    return ChildScan(Scan(host=host, time=now(), findings=(), unknown=unknown))
