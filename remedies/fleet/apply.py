"""Applying on one host so that no controller, and no cut line, leaves it in between.

The host applies and arms its own timer. Then a new connection is opened, the detectors run again
over it, and only then the host is told to keep the change. Where that does not work out, the host
goes back by itself when its time is up; this waits for it and says what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional, cast

from remedies.fleet import calls
from remedies.fleet.calls import Outcome, Visit, silent
from remedies.fleet.controller import GONE
from remedies.fleet.host_state import HostStanding
from remedies.fleet.remote import Answer, HostLost, documents
from remedies.fleet.request import Approved
from remedies.model import UNCOVERED
from remedies.outcomes import ENDS, UNREACHED, HostState, Recorded, answered
from remedies.transaction.consent import Consent, demand
from remedies.values import replace

APPLYING, CONFIRMING, UNDOING = "applying", "confirming", "undoing"
"""What a host was told last, noted before it is told: should the controller be ended, this is what
may have happened there."""
LEFT = f"{GONE}: left to undo itself"
GRACE = 3.0
"""Seconds that a host may take to undo what nobody confirmed in time."""


@dataclass(frozen=True)
class HostTerms:
    """What is applied, and how."""

    timeout: float
    """Seconds until the host goes back unless confirmed; 0: it is not asked to."""
    approved: Optional[Approved] = None
    previous: str = ""
    """The transaction that an earlier, killed controller of the same run knew of."""
    words: tuple[str, ...] = ()
    """Further words for ``remedy apply`` (a change's ticket, ``--prune``)."""


def apply(
    visit: Visit,
    asked: HostTerms,
    agreed: Consent,
    say: Callable[[HostStanding], None],
    wait: Callable[[float], None],
    led: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Apply, look again over a new connection, and confirm.

    ``say`` takes every word about the host that has to outlive this process; ``wait`` lets the
    host's time run out. Where nobody leads the rollout any more (``led``) nothing is begun, and
    nothing confirmed. Raises Lost only where the host cannot be reached at all.
    """
    demand(agreed)
    policy = asked.approved.policy if asked.approved else visit.order.compiled_policy()
    first_answer = _history(visit)
    if not first_answer.plain:
        return Outcome(calls.standing_of(visit, "untouched", first_answer))
    rows = _items(first_answer.plain, "transactions")
    before = str(rows[0].get("transaction")) if rows else ""
    if any(
        r.get("transaction") == asked.previous and r.get("outcome") == "confirmed" for r in rows
    ):
        return Outcome(
            HostStanding(
                visit.name,
                "confirmed",
                transaction=asked.previous,
                changed=True,
                message="confirmed before the controller was resumed",
            )
        )
    words = [*visit.order.words("apply"), *visit.order.watching(), calls.AGREED, "--no-wait"]
    words += ["--confirm-timeout", f"{asked.timeout:g}s", *asked.words]
    words += ["-"] if asked.approved else []
    plan = asked.approved.plan if asked.approved else None

    def note(standing: HostStanding) -> None:
        say(replace(standing, details={"timeout": asked.timeout}))

    if not led():
        return Outcome(HostStanding(visit.name, "untouched", 1, f"{GONE}: nothing was sent"))
    note(HostStanding(visit.name, "applied", message=APPLYING))
    try:
        answer = visit.host.ask(words, documents(policy, plan))
    except HostLost as error:
        wait(asked.timeout + GRACE)
        return Outcome(_became(visit, before, f"connection lost while applying: {error}"))
    if not answer.understood:
        wait(asked.timeout + GRACE)
        return Outcome(_became(visit, before, answer.message))
    first = _first(visit, answer)
    if first.state != "applied" or first.until is None:
        done = replace(first, state="confirmed") if first.state == "applied" else first
        return Outcome(done, answer.plain, answer.changes)
    note(first)
    try:
        last = _second(visit, policy, first, answer.plain, agreed, note, led)
    except HostLost as error:
        wait(asked.timeout + GRACE)
        why = f"no new connection after applying: {error}"
        last = _became(visit, before, why, first.transaction)
    if last.message == LEFT:
        last = replace(last, details={"timeout": asked.timeout})
    return Outcome(last, answer.plain, answer.changes)


def _first(visit: Visit, answer: Answer) -> HostStanding:
    """Return how the host stands after ``apply`` answered."""
    row = answered("apply", answer.plain.get("outcome"))
    transaction, until = (answer.plain.get(k) for k in ("transaction", "pending_confirm_until"))
    state = row.host if row else silent(answer)
    return HostStanding(
        host=visit.name,
        state=state,
        rc=answer.rc,
        message=_reason(answer, state),
        transaction=str(transaction) if transaction else None,
        until=str(until) if until else None,
        changed=row is not None and row.changed,
    )


def _reason(answer: Answer, state: HostState) -> str:
    refused = answer.plain.get("refused") or []
    reason = answer.message or str(answer.plain.get("reason") or "")
    if not reason and state == "untouched" and answer.rc == 8 and isinstance(refused, list):
        return "; ".join(f"{r.get('fix')} refused: {r.get('reason')}" for r in refused)
    return reason


def _second(
    visit: Visit,
    policy: str,
    first: HostStanding,
    applied: dict[str, Any],
    agreed: Consent,
    note: Callable[[HostStanding], None],
    led: Callable[[], bool],
) -> HostStanding:
    """Look again and confirm, each over a connection of its own; or undo. Raises Lost."""
    left = replace(first, rc=1, message=LEFT)
    if not led():
        return left
    found = calls.look(visit, "verify", policy=policy)
    wrong = _wrong(found, first, applied)
    if not led():
        return left
    note(replace(first, message=UNDOING if wrong else CONFIRMING))
    if not wrong:
        kept = calls.confirm(visit, first.transaction, agreed).standing
        if kept.state == "confirmed":
            return replace(first, state="confirmed", until=None, rc=first.rc)
        if kept.state == "reverted":
            return replace(first, state="reverted", rc=7, changed=False, until=None,
                           message="not confirmed in time: the host has undone it")  # fmt: skip
        wrong = f"it could not be confirmed: {kept.message or 'no transaction is pending there'}"
    which = [first.transaction] if first.transaction else []
    undone = calls.roll_back(visit, which, agreed).standing
    if undone.state == "reverted":
        return replace(first, state="reverted", rc=3, changed=False, until=None, message=wrong)
    # The host may have been first: its time was up before it was looked at.
    became = _became(visit, "", wrong, first.transaction)
    if became.state == "reverted":
        return became
    return replace(first, state="needs-human", rc=4, until=None,
                   message=f"{wrong}; and it could not be undone: {undone.message}")  # fmt: skip


def _wrong(found: Outcome, first: HostStanding, applied: dict[str, Any]) -> str:
    """Say why a change must not stay; empty where it may."""
    if found.plain.get("kind") != "verify":
        return f"it could not be checked again: {found.standing.message}"
    answered = {str(item.get("finding")) for item in _items(applied, "verified")}
    still = [
        f"{f.get('condition')} on {f.get('subject')} is {f.get('verdict')}"
        for f in _items(found.plain, "findings")
        if f.get("id") in answered and f.get("verdict") in UNCOVERED and not f.get("waived")
    ]
    drifted = [
        f"{entry.get('resource')} is {entry.get('state')}"
        for entry in _items(found.plain, "in_force")
        if entry.get("transaction") == first.transaction
        and entry.get("state") in ("drifted", "gone")
    ]
    if still:
        return f"the fault is still there: {'; '.join(still)}"
    return f"the applied state did not stay: {'; '.join(drifted)}" if drifted else ""


def _items(plain: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = plain.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _history(visit: Visit) -> Answer:
    """Return the newest transactions of the host, newest first. Raises Lost."""
    return visit.host.ask([*visit.order.words("history"), "--limit", "5"])


def _became(visit: Visit, before: str, why: str, transaction: Optional[str] = None) -> HostStanding:
    """Ask a host that was lost, its time being up, what became of the change.

    Where the host never told the ``transaction``, it is the first one that came after ``before``:
    somebody else, or a run that was resumed, may have applied again since.
    """
    lost = HostStanding(visit.name, "unreachable", UNREACHED, details={"touched": True},
                    message=f"{why}; unreachable; its own timer undoes it")  # fmt: skip
    try:
        rows = _items(_history(visit).plain, "transactions")
    except HostLost:
        return lost
    names = [str(row.get("transaction")) for row in rows]
    new = rows[: names.index(before)] if before in names else rows
    ours = [row for row in new if row.get("kind") == "apply"][-1:]
    if transaction is not None:
        ours = [row for row in rows if row.get("transaction") == transaction]
        if not ours:
            why = f"{why}; its journal has no {transaction}"
            return replace(lost, state="needs-human", rc=4, details={}, message=why)
    if not ours:
        return replace(lost, state="untouched", details={}, message=f"{why}; nothing was changed")
    name, outcome = str(ours[0].get("transaction")), str(ours[0].get("outcome"))
    end = ENDS.get(cast(Recorded, outcome))
    undone = any(name in (row.get("undoes") or []) for row in new)
    told = replace(lost, transaction=name, details={})
    if undone or end is None:
        end = ENDS["rolled-back" if undone else "incomplete"]
    told = replace(told, state=end.host, rc=end.code, changed=end.host == "confirmed")
    if end.undone:
        return replace(told, message=f"{why}; the host has undone it")
    if end.host == "confirmed":
        return replace(told, message=why)
    return replace(told, message=f"{why}; its outcome is {outcome}")
