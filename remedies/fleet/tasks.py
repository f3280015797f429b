"""What each action of the fleet (:mod:`remedies.fleet.actions`) does on one host."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional

from remedies import codec
from remedies.errors import InputError, RemedyError
from remedies.fleet import apply as applying
from remedies.fleet import calls, controller, plans, records, request
from remedies.fleet.actions import ACTIONS, JOURNALED
from remedies.fleet.calls import Outcome, Visit
from remedies.fleet.host_state import HostStanding
from remedies.fleet.remote import HostLost
from remedies.outcomes import UNREACHED
from remedies.transaction.consent import Consent
from remedies.values import replace


@dataclass(frozen=True)
class Task:
    """One action on one host, as a play asks for it."""

    visit: Visit
    asked: Mapping[str, Any]
    """The options of the Ansible action that were given."""
    check: bool
    """It must not write."""
    say: Callable[[HostStanding], None]
    """Takes a word that has to outlive this process."""
    agree: Callable[[], Consent]
    """Returns the play's consent to write, and makes every command from then on a connection of
    its own; raises where the play is in check mode."""

    def text(self, key: str) -> str:
        """Return an option as text; empty where it was not given."""
        return str(self.asked.get(key, ""))

    @property
    def journaled(self) -> list[str]:
        """Return the words of the command line for the host's journal."""
        given = ((key, self.asked[key]) for key in JOURNALED if key in self.asked)
        return [word for key, v in given for word in (f"--{key.replace('_', '-')}", str(v))]

    @property
    def which(self) -> list[str]:
        """Return the words that say what to undo."""
        if self.asked.get("fix"):
            return ["--fix", self.text("fix")]
        if self.text("every").lower() in ("true", "yes", "1"):
            return ["--every"]
        return [self.text("transaction")] if self.asked.get("transaction") else []

    @property
    def approved(self) -> Optional[request.Approved]:
        """Return the approved plan; None where none was asked for. Raises InputError."""
        if "plans" not in self.asked:
            return None
        held = request.approved(self.asked["plans"], self.visit.name)
        if held is None:
            raise InputError(
                f"{self.asked['plans']}: no plan for {self.visit.name}", "make one first"
            )
        return held


def _scan(task: Task) -> Outcome:
    return _counted(calls.look(task.visit, "scan"))


def _plan(task: Task) -> Outcome:
    policy = task.visit.order.compiled_policy()
    outcome = calls.look(task.visit, "plan", policy=policy)
    if outcome.plain.get("kind") != "plan":
        return outcome
    details = _shown(outcome)
    if "save" in task.asked:
        text = json.dumps(outcome.plain, separators=(",", ":"))
        entry = plans.save(task.asked["save"], task.visit.name, text, policy)
        details["entry"] = codec.encode(entry)
    return replace(outcome, standing=_with(outcome.standing, details))


def _apply(task: Task) -> Outcome:
    visit, approved = task.visit, task.approved
    if task.check:
        if approved is None:
            return _plan(replace(task, asked={}))
        return _with_diff(calls.dry_run(visit, approved.plan, approved.policy))
    agreed = task.agree()
    what = applying.HostTerms(
        timeout=float(task.asked.get("confirm_timeout", 120)),
        approved=approved,
        previous=task.text("previous"),
        words=tuple(task.journaled),
    )
    led = partial(controller.leads, task.text("controller"))
    outcome = applying.apply(visit, what, agreed, task.say, time.sleep, led)
    if outcome.changes:
        outcome = _with_diff(outcome)
    return _kept(task, outcome, approved.policy if approved else "")


def _confirm(task: Task) -> Outcome:
    transaction = task.asked.get("transaction")
    if task.check:
        return calls.would_confirm(task.visit, transaction)
    agreed = task.agree()
    task.say(_silent(task, "asked to confirm"))
    return _kept(task, calls.confirm(task.visit, transaction, agreed))


def _roll_back(task: Task) -> Outcome:
    if task.check:
        return _with_diff(calls.would_roll_back(task.visit, task.which))
    agreed = task.agree()
    task.say(_silent(task, "asked to roll back"))
    return _kept(task, calls.roll_back(task.visit, task.which, agreed, task.journaled))


def _report(task: Task) -> Outcome:
    if "record" in task.asked:
        return _recorded(task)
    return _counted(calls.look(task.visit, "verify"))


DOES = {
    "scan": _scan,
    "plan": _plan,
    "apply": _apply,
    "confirm": _confirm,
    "rollback": _roll_back,
    "report": _report,
}
"""By action. Each raises Lost where the host cannot be reached, RemedyError for what cannot be
meant."""


def result(name: str, outcome: Outcome, *, check: bool) -> dict[str, Any]:
    """Return what Ansible is told of an action on a host, but for the differences."""
    action, standing = ACTIONS.get(name), outcome.standing
    dry = action is not None and action.dry and (check or not action.writes)
    would = dry and bool(outcome.changes)
    fine = action.fine if action is not None else (0,)
    told: dict[str, Any] = {
        "changed": standing.changed or would,
        "failed": standing.rc not in fine and not (would and standing.rc == 8),
        "rc": standing.rc,
        "state": standing.state,
        "transaction": standing.transaction,
        "standing": codec.encode(standing),
        "findings": outcome.plain.get("findings") or [],
        "refused": outcome.plain.get("refused") or [],
        "changes": [
            {key: getattr(change, key) for key in ("fix", "resource", "action", "impact")}
            for change in outcome.changes
        ],
    }
    if standing.message:
        told["msg"] = standing.message
    return told


def _silent(task: Task, what: str) -> HostStanding:
    """Return the word about a host that is asked to write now: it counts until it has answered."""
    return HostStanding(
        task.visit.name,
        "unreachable",
        UNREACHED,
        f"{what}, and has not answered: 'remedy fleet report' shows its state",
        transaction=task.asked.get("transaction"),
    )


def _kept(task: Task, outcome: Outcome, policy: str = "") -> Outcome:
    """Keep the host's record beside the outcome, which it cannot change any more."""
    standing = outcome.standing
    if "record" not in task.asked or not outcome.plain or standing.state == "unreachable":
        return outcome
    try:
        why = _recorded(task, policy).standing.details.get("no_record")
    except (HostLost, RemedyError) as error:
        why = str(error)
    return replace(outcome, standing=_with(standing, {"no_record": why})) if why else outcome


def _recorded(task: Task, policy: str = "") -> Outcome:
    """Ask for the host's record and keep it. Raises Lost."""
    visit = task.visit
    answer = calls.report(visit, task.text("since"), task.text("head"), policy)
    standing = calls.standing_of(visit, "untouched", answer)
    try:
        if answer.plain.get("kind") != "report":
            raise RemedyError(answer.message or "the host returned no report")
        found = records.keep(task.text("record"), visit.name, answer.plain)
    except (OSError, RemedyError) as error:
        why = str(error)
        failed = replace(standing, rc=standing.rc or 1, message=why)
        return Outcome(_with(failed, {"no_record": why}))
    # What the answer holds is kept; events of a thousand hosts need not carry it too.
    return Outcome(_with(standing, records.summary(found)))


def _shown(outcome: Outcome) -> dict[str, object]:
    """Return what the front end shows of the changes: their summary, group and diffs."""
    return {
        "summary": list(plans.summary(outcome.changes)),
        "group": plans.group(outcome.changes),
        "diffs": codec.encode(plans.shown(outcome.changes)),
    }


def _with_diff(outcome: Outcome) -> Outcome:
    if not outcome.plain:
        return outcome
    return replace(outcome, standing=_with(outcome.standing, _shown(outcome)))


def _counted(outcome: Outcome) -> Outcome:
    """Return an outcome whose word about the host has its findings in short."""
    found = outcome.plain.get("findings") or []
    details: dict[str, object] = {
        "findings": [[f.get("condition"), f.get("subject"), f.get("verdict")] for f in found],
        "in_force": [e.get("resource") for e in outcome.plain.get("in_force") or []],
        "unknown": [u.get("condition") for u in outcome.plain.get("unknown") or []],
    }
    return replace(outcome, standing=_with(outcome.standing, details))


def _with(standing: HostStanding, details: dict[str, object]) -> HostStanding:
    return replace(standing, details={**standing.details, **details})
