"""What each verb does on one host, beyond asking once: look, confirm, roll back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from remedies.fleet.host_state import HostStanding
from remedies.fleet.remote import Answer, RemoteHost, documents
from remedies.fleet.request import Order
from remedies.model import Change
from remedies.outcomes import UNCHANGED, HostState, answered
from remedies.transaction.consent import Consent, demand
from remedies.values import replace

AGREED = "--playbook"
"""The option that tells a host that the play has been agreed to: its journal says so."""


@dataclass(frozen=True)
class Visit:
    """One host, by name, and what it is asked."""

    name: str
    host: RemoteHost
    order: Order


@dataclass(frozen=True)
class Outcome:
    """How a host stands now, and what it answered."""

    standing: HostStanding
    plain: dict[str, Any] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    """The changes that the answer speaks of."""


def look(visit: Visit, verb: str, extra: Sequence[str] = (), policy: str = "") -> Outcome:
    """Run a verb that changes nothing: ``scan``, ``plan`` or ``verify``. Raises Lost."""
    policy = policy or visit.order.compiled_policy()
    words = [*visit.order.words(verb), *visit.order.watching(), *extra]
    answer = visit.host.ask(words, documents(policy))
    return Outcome(standing_of(visit, "untouched", answer), answer.plain, answer.changes)


def dry_run(visit: Visit, plan: str, policy: str) -> Outcome:
    """Ask whether an approved plan still holds. Raises Lost."""
    words = [*visit.order.words("apply"), *visit.order.watching(), "--dry-run", "-"]
    answer = visit.host.ask(words, documents(policy, plan))
    return Outcome(standing_of(visit, "untouched", answer), answer.plain, answer.changes)


def confirm(visit: Visit, transaction: Optional[str], agreed: Consent) -> Outcome:
    """Keep what waits on the host. Raises Lost."""
    demand(agreed)
    words = visit.order.words("confirm") + ([transaction] if transaction else [])
    answer = visit.host.ask(words)
    row = answered("confirm", answer.plain.get("outcome"))
    state: HostState = row.host if row else "untouched"  # what waits undoes itself
    name = answer.plain.get("transaction")
    standing = standing_of(
        visit,
        state,
        answer,
        changed=row is not None and row.changed,
        transaction=str(name) if name else None,
    )
    return Outcome(standing, answer.plain)


def would_confirm(visit: Visit, transaction: Optional[str]) -> Outcome:
    """Ask the host what waits there to be confirmed. Raises Lost."""
    words = [*visit.order.words("confirm"), "--dry-run", *([transaction] if transaction else [])]
    answer = visit.host.ask(words)
    name = answer.plain.get("transaction")
    note = f"transaction {name} would stay" if name else "nothing waits"
    return Outcome(standing_of(visit, "untouched", answer, message="" if answer.rc else note),
                   answer.plain)  # fmt: skip


def report(visit: Visit, since: str = "", head: str = "", policy: str = "") -> Answer:
    """Ask for the host's record: what it finds now, and its journal. Raises Lost.

    ``since`` limits the transactions; ``head`` is a hash that its journal must hold.
    """
    words = [*visit.order.words("report"), *visit.order.watching()]
    words += ["--since", since] if since else []
    words += ["--head", head] if head else []
    return visit.host.ask(words, documents(policy or visit.order.compiled_policy()))


def would_roll_back(visit: Visit, which: Sequence[str]) -> Outcome:
    """Ask the host what :func:`roll_back` would undo. Raises Lost."""
    return _undone(visit, [*visit.order.words("rollback"), "--dry-run", *which])


def roll_back(
    visit: Visit, which: Sequence[str], agreed: Consent, extra: Sequence[str] = ()
) -> Outcome:
    """Undo on the host; ``which`` is a transaction, ``--fix ID``, ``--every`` or nothing.

    Raises Lost.
    """
    demand(agreed)
    return _undone(visit, [*visit.order.words("rollback"), AGREED, *extra, *which])


def _undone(visit: Visit, words: Sequence[str]) -> Outcome:
    answer = visit.host.ask(words)
    row = answered("rollback", answer.plain.get("outcome"))
    state = row.host if row else silent(answer)
    drift = answer.plain.get("drift") or []
    note = "; ".join(map(str, drift)) if isinstance(drift, list) else ""
    changed = row is not None and row.changed
    standing = standing_of(visit, state, answer, changed=changed, message=note)
    undone = answer.plain.get("transactions")
    if isinstance(undone, list) and undone:
        names = [str(name) for name in undone]
        standing = replace(standing, transaction=names[0], details={"transactions": names})
    return Outcome(standing, answer.plain, answer.changes)


def silent(answer: Answer) -> HostState:
    """Return how a host stands whose writing verb gave no outcome, by its exit code."""
    unchanged = answer.understood and not answer.plain and answer.rc in UNCHANGED
    return "untouched" if unchanged else "needs-human"


def standing_of(
    visit: Visit,
    state: HostState,
    answer: Answer,
    *,
    changed: bool = False,
    message: str = "",
    transaction: Optional[str] = None,
) -> HostStanding:
    """Return the word about a host that its answer gives."""
    return HostStanding(
        host=visit.name,
        state=state,
        rc=answer.rc,
        message=message or answer.message,
        transaction=transaction,
        changed=changed,
    )
