"""A host at first sight: what is wrong, what is in force, what has not been looked into."""

from __future__ import annotations

from typing import Optional

from remedies.errors import NotPermitted
from remedies.model import Scan
from remedies.namespaces import find
from remedies.operations import session, standing
from remedies.operations.session import HostSession
from remedies.operations.standing import HostStatus
from remedies.planning import engine
from remedies.values import dataclass


@dataclass(frozen=True)
class FirstLook:
    """One scan of this namespace, how the fixes in force stand, and what else there is."""

    scan: Scan
    watched: int
    """Conditions that the policy has looked for."""
    standing: Optional[HostStatus]
    """None: who asks may not read the journal."""
    containers: int
    """Other network namespaces in which containers live."""
    namespaces: int
    """Other network namespaces without one."""
    hidden: bool
    """There are processes whose namespace could not be seen."""


def first_look(here: HostSession) -> FirstLook:
    """Scan, look at what is in force, and count the other network namespaces. Writes nothing."""
    stands: Optional[HostStatus] = None
    try:
        stands, scan = standing.verify(session.reread(here, of_journal=True))
    except NotPermitted:
        scan, _ = session.judge(here, session.look(here, for_plan=False))
    found, unread = find.find()
    others = [bool(namespace.containers) for namespace in found if not namespace.own]
    return FirstLook(
        scan=scan,
        watched=len(tuple(engine.watched(here.policy))),
        standing=stands,
        containers=sum(others),
        namespaces=len(others) - sum(others),
        hidden=bool(unread),
    )
