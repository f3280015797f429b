"""An apply with nobody there, in a namespace and a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from remedies import codec
from remedies.errors import Locked
from remedies.facts.host import read_host
from remedies.namespaces import find
from remedies.namespaces.find import Namespace
from remedies.operations import apply, recovery, session
from remedies.operations.apply import ApplyOptions
from remedies.operations.session import HostSession
from remedies.outcomes import Outcome
from remedies.planning.unattended import narrowed
from remedies.rules import kinds
from remedies.transaction import consent
from remedies.values import dataclass, replace


@dataclass(frozen=True)
class UnattendedEnd:
    """What an apply with nobody there came to."""

    outcome: Optional[Outcome] = None
    """None: it was not the time for it, for the reason that is given."""
    reason: str = ""
    transaction: str = ""
    fixes: tuple[str, ...] = ()
    once: bool = False
    """All that it did was done once: nothing of it is in force, to keep the fault away."""


def work(here: HostSession, namespace: Namespace) -> Callable[[], str]:
    """Return the function that a child runs; it answers in JSON.

    It is an apply as any other: planned on facts of now, under the lock and a guard, verified,
    undone where it does not help, and on record. Only its plan is narrower.
    """

    def run() -> str:
        if not find.enter(namespace):
            return codec.dumps(UnattendedEnd(reason="the namespace has ended"))
        inside = session.reread(replace(here, host=read_host()))
        recovery.prepare(inside)
        options = ApplyOptions(narrow=lambda plan: narrowed(here.policy, plan))
        agreed = consent.unattended(dry_run=here.dry_run)
        try:
            ended, _ = apply.apply(inside, options, lambda _: None, lambda _: agreed)
        except Locked as error:
            return codec.dumps(UnattendedEnd(reason=str(error)))
        if not ended.plan.changes:
            return codec.dumps(UnattendedEnd(reason=_nothing(ended)))
        changes = ended.plan.changes
        fixes = tuple(dict.fromkeys(change.fix for change in changes))
        once = not any(kinds.comes_back(change.resource) for change in changes)
        end = UnattendedEnd(ended.outcome, ended.reason, ended.transaction or "", fixes, once)
        return codec.dumps(end)

    return run


def _nothing(ended: apply.Ended) -> str:
    refused = [refusal.reason for refusal in ended.plan.refused if refusal.wanted]
    return refused[0] if refused else "the fault was not seen again, or no harmless fix is left"
