"""The action ``remedy``: one verb of remedy on one host, with nothing installed there.

It keeps the single-file tool on the host, once for each version of it, in a folder that is the
user's alone, and checks its digest before every use. Policy and plan travel on standard input.

Options of the task; one that it does not give is the host's variable remedy_OPTION (but for verb,
previous, transaction, fix and every). A template in the task costs each host a millisecond, a
variable that is not set costs nothing:

verb            scan, plan, apply, confirm, rollback or report
policy          shipped name, or file on the controller; a list: later wins
params          parameters by condition, laid over the policy
netns, state_dir, backend, window, lock_timeout
                as the options of 'remedy'
plans           folder of 'remedy fleet plan -o': apply exactly what was approved
save            the same folder: save the plan there (plan)
confirm_timeout seconds in which a change has to be confirmed, 0: never (apply)
previous        transaction of an earlier try, which may have been confirmed (apply)
transaction, fix, every
                what to undo (rollback) or to keep (confirm)
run             file that every word about the host is appended to
controller      process that leads the rollout: without it, no host is begun or confirmed
record          folder that the host's record is kept in, for a report (apply, rollback, report)
since, head     how far back it goes, and a hash that its journal must hold (record)
change_id, message, approved_by
                for the host's journal (apply, rollback)

Returned: changed, rc, state, msg, transaction, findings, changes, refused, hosts (how many the play
is for), and diff; unreachable and msg for a host that cannot be reached.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from typing import Any, Optional

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

try:
    import remedies  # noqa: F401
except ImportError:
    # Ansible's Python is another one: the package is beside the playbooks, or around them.
    for _up in ("../../..", "../../../../.."):
        sys.path.append(os.path.abspath(os.path.join(__file__, _up)))

from remedies import codec, outcomes
from remedies.bundle import build
from remedies.errors import RemedyError
from remedies.fleet import apply, calls, controller, host_state, plans, records, remote, request
from remedies.fleet import vault as vaulted
from remedies.fleet.calls import Outcome, Visit
from remedies.fleet.host_state import Standing
from remedies.fleet.request import Order
from remedies.transaction import actor, consent
from remedies.values import replace

_OPTIONS = frozenset(
    [
        "verb",
        "policy",
        "params",
        "netns",
        "state_dir",
        "backend",
        "window",
        "lock_timeout",
        "plans",
        "save",
        "confirm_timeout",
        "previous",
        "transaction",
        "fix",
        "every",
        "run",
        "controller",
        "record",
        "since",
        "head",
        "change_id",
        "message",
        "approved_by",
    ]
)
_TASK_ALONE = frozenset(["verb", "previous", "transaction", "fix", "every"])
"""Options that no variable stands for: what is done, and how much of it."""
_VERBS = ("scan", "plan", "apply", "confirm", "rollback", "report")
_JOURNALED = ("change_id", "message", "approved_by")
_FINE = {"scan": (0, 2), "plan": (0, 8), "report": (0, 2)}
"""Exit codes that say something about a host, and not that the verb has failed."""
_PATHS = frozenset(["plans", "record", "run", "save"])
"""Folders and files of the controller: a word of their names may well be a vaulted one too."""
_STATE = {True: "/var/lib/remedy", False: "~/.cache/remedy"}
"""Where the bundle is kept: root's state directory, or what a user may write."""
_ALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
_NEW = f"-o ControlPath=none -o ControlMaster=no {_ALIVE}"
"""Options for ssh (the first one given counts): no connection is shared, and a dead one ends."""


_KEY = build.current_key()
"""Asked once for all hosts: Ansible loads this file before it forks its workers."""


class ActionModule(ActionBase):
    """One verb on one host."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None
    ) -> dict[str, Any]:
        """Return Ansible's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        result["hosts"] = len(task_vars.get("ansible_play_hosts_all") or ())
        name = str(task_vars.get("inventory_hostname"))
        given = self._task.args.get("run") or task_vars.get("remedy_run") or ""
        self._log = str(self._templar.template(given))
        try:
            asked = self._asked(task_vars)
            outcome = self._outcome(name, asked, task_vars)
        except RemedyError as error:
            outcome = Outcome(Standing(name, "untouched", error.exit_code, str(error)))
            asked = {"verb": self._task.args.get("verb")}
        except remote.Lost as error:
            self._say(Standing(name, "unreachable", outcomes.UNREACHED, str(error)))
            return {**result, "unreachable": True, "msg": str(error)}
        self._say(outcome.standing)
        return {**result, **self._told(str(asked["verb"]), outcome)}

    def _asked(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the task's options; raise RemedyError for what cannot be meant."""
        from remedies.errors import ConfigError, UsageError

        asked = {
            key: self._templar.template(task_vars[f"remedy_{key}"])
            for key in sorted(_OPTIONS - _TASK_ALONE)
            if f"remedy_{key}" in task_vars
        }
        asked.update(self._task.args)
        left_out = ("", None, task_vars.get("omit"))
        asked = {key: value for key, value in asked.items() if value not in left_out}
        unknown = sorted(set(asked) - _OPTIONS)
        if unknown:
            raise UsageError(f"remedy has no option {', '.join(unknown)}", "see the action's text")
        if asked.get("verb") not in _VERBS:
            raise UsageError(f"no verb {asked.get('verb')!r}", f"known: {', '.join(_VERBS)}")
        vault = vaulted.Vault(task_vars, getattr(self._loader, "_FILE_CACHE", {}))
        for key in sorted(set(asked) - _PATHS):
            where = vault.within([task_vars.get(f"remedy_{key}"), asked[key]])
            if where:
                raise ConfigError(
                    f"remedy_{key} holds a vaulted value ({where}), and plans and journals would "
                    "show it",
                    "keep secrets out of it",
                )
        if not isinstance(asked.get("params", {}), dict):
            raise ConfigError(*request.WRONG_PARAMS)
        return asked

    def _outcome(self, name: str, asked: dict[str, Any], task_vars: dict[str, Any]) -> Outcome:
        verb = asked["verb"]
        visit = Visit(name, self._host(asked, task_vars), _order(asked, task_vars))
        if verb == "report" and "record" in asked:
            return self._recorded(visit, asked)
        if verb in ("scan", "report"):
            return _counted(calls.look(visit, "verify" if verb == "report" else verb))
        if verb == "plan":
            return self._plan(visit, asked)
        if verb == "apply" and self._task.check_mode:
            held = self._approved(visit, asked)
            if held is None:
                return self._plan(visit, {})
            return _with_diff(calls.dry_run(visit, held.plan, held.policy))
        if verb == "rollback" and self._task.check_mode:
            return _with_diff(calls.would_roll_back(visit, _which(asked)))
        if verb == "confirm" and self._task.check_mode:
            return calls.would_confirm(visit, asked.get("transaction"))
        agreed = consent.played(actor.user(), check=self._task.check_mode)
        self._share_nothing()
        if verb == "confirm":
            return calls.confirm(visit, asked.get("transaction"), agreed)
        words = [w for k in _JOURNALED if k in asked
                 for w in (f"--{k.replace('_', '-')}", str(asked[k]))]  # fmt: skip
        if verb == "rollback":
            return self._kept(visit, asked, calls.roll_back(visit, _which(asked), agreed, words))
        leader = str(asked.get("controller", ""))
        what = apply.Asked(
            timeout=float(asked.get("confirm_timeout", 120)),
            approved=self._approved(visit, asked),
            previous=str(asked.get("previous", "")),
            words=tuple(words),
        )
        outcome = apply.apply(
            visit, what, agreed, self._say, time.sleep, partial(controller.leads, leader)
        )
        return self._kept(visit, asked, outcome, what.approved)

    def _kept(
        self,
        visit: Visit,
        asked: dict[str, Any],
        outcome: Outcome,
        approved: Optional[request.Approved] = None,
    ) -> Outcome:
        """Keep the host's record beside the outcome, which it cannot change any more."""
        standing = outcome.standing
        if "record" not in asked or not outcome.plain or standing.state == "unreachable":
            return outcome
        try:
            found = self._recorded(visit, asked, approved.policy if approved else "")
            why = found.standing.details.get("no_record")
        except (remote.Lost, RemedyError) as error:
            why = str(error)
        told = _with(standing, {"no_record": why}) if why else standing
        return replace(outcome, standing=told)

    def _recorded(self, visit: Visit, asked: dict[str, Any], policy: str = "") -> Outcome:
        """Ask for the host's record and keep it. Raises Lost."""
        since, head = str(asked.get("since", "")), str(asked.get("head", ""))
        answer = calls.report(visit, since, head, policy)
        standing = calls.told(visit, "untouched", answer)
        try:
            if answer.plain.get("kind") != "report":
                raise RemedyError(answer.message or "remedy gave no record")
            found = records.keep(str(asked["record"]), visit.name, answer.plain)
        except (OSError, RemedyError) as error:
            why = str(error)
            rc = standing.rc or 1
            return Outcome(_with(replace(standing, rc=rc, message=why), {"no_record": why}))
        # What the answer holds is kept; events of a thousand hosts need not carry it too.
        return Outcome(_with(standing, records.summary(found)))

    def _plan(self, visit: Visit, asked: dict[str, Any]) -> Outcome:
        policy = visit.order.compiled_policy()
        outcome = calls.look(visit, "plan", policy=policy)
        if outcome.plain.get("kind") != "plan":
            return outcome
        details = _shown(outcome)
        if "save" in asked:
            text = json.dumps(outcome.plain, separators=(",", ":"))
            entry = plans.save(asked["save"], visit.name, text, policy)
            details["entry"] = codec.encode(entry)
        return replace(outcome, standing=_with(outcome.standing, details))

    def _approved(self, visit: Visit, asked: dict[str, Any]) -> Optional[request.Approved]:
        from remedies.errors import InputError

        if "plans" not in asked:
            return None
        held = request.approved(asked["plans"], visit.name)
        if held is None:
            raise InputError(f"{asked['plans']}: no plan for {visit.name}", "make one first")
        return held

    def _host(self, asked: dict[str, Any], task_vars: dict[str, Any]) -> remote.Host:
        path, digest = build.cached(os.path.join(request.cache_folder(), "bundle"), _KEY)
        python = str(self._templar.template(task_vars.get("ansible_python_interpreter") or "auto"))
        state = asked.get("state_dir") or (
            "/var/lib/remedy" if self._is_root() else "~/.cache/remedy"
        )
        return remote.Host(
            carrier=self._carry,
            bundle_path=path,
            digest=digest,
            folder=os.path.join(state, "bundle"),
            python="python3" if python.startswith("auto") else python,
        )

    def _is_root(self) -> bool:
        """Tell whether commands run as root: by become, else as the one who logs in."""
        become = self._connection.become
        if become is not None:
            return str(become.get_option("become_user") or "root") == "root"
        if self._connection.transport == "local":
            return os.geteuid() == 0
        return str(self._get_remote_user() or "") == "root"

    def _carry(self, command: str, stdin: bytes) -> remote.Reply:
        try:
            done = self._low_level_execute_command(command, in_data=stdin)
        except AnsibleConnectionFailure as error:
            raise remote.Lost(" ".join(str(error).split())) from error
        except AnsibleError as error:
            raise RemedyError(f"Ansible could not run it: {error}") from error
        return remote.Reply(done["rc"], done["stdout"], done["stderr"])

    def _share_nothing(self) -> None:
        """Make every command from now on a connection of its own.

        A shared one outlives a rule that ends every new one, and hangs where one ends the old.
        """
        try:
            given = self._connection.get_option("ssh_args")
        except KeyError:
            if self._connection.transport != "local":
                self._connection.reset()
            return
        self._connection.set_option("ssh_args", f"{_NEW} {given or ''}")

    def _say(self, standing: Standing) -> None:
        if self._log:
            host_state.append(self._log, standing)

    def _told(self, verb: str, outcome: Outcome) -> dict[str, Any]:
        """Return what Ansible and the front end are told."""
        standing = outcome.standing
        dry = verb == "plan" or (self._task.check_mode and verb in ("apply", "rollback"))
        would = dry and bool(outcome.changes)
        told: dict[str, Any] = {
            "changed": standing.changed or would,
            "failed": standing.rc not in _FINE.get(verb, (0,)) and not (would and standing.rc == 8),
            "rc": standing.rc,
            "state": standing.state,
            "transaction": standing.transaction,
            "standing": codec.encode(standing),
            "noted": bool(self._log),
            "findings": outcome.plain.get("findings") or [],
            "refused": outcome.plain.get("refused") or [],
            "changes": [
                {key: getattr(change, key) for key in ("fix", "resource", "action", "impact")}
                for change in outcome.changes
            ],
        }
        if standing.message:
            told["msg"] = standing.message
        if self._task.diff and outcome.changes:
            told["diff"] = [
                {"prepared": f"{change.diff}\n"} for change in plans.shown(outcome.changes)
            ]
        return told


def _order(asked: dict[str, Any], task_vars: dict[str, Any]) -> Order:
    """Return what the task says about the host; a relative file is beside inventory or playbook."""
    given = asked.get("policy") or []
    beside = [task_vars.get("inventory_dir"), task_vars.get("playbook_dir"), os.getcwd()]
    text = {
        key: str(asked.get(key, ""))
        for key in ("netns", "state_dir", "backend", "window", "lock_timeout")
    }
    return Order(
        policy=tuple(str(p) for p in (given if isinstance(given, list) else [given])),
        params=asked.get("params", {}),
        beside=tuple(str(folder) for folder in beside if folder),
        **text,
    )


def _which(asked: dict[str, Any]) -> list[str]:
    """Return the words that say what to undo."""
    if asked.get("fix"):
        return ["--fix", str(asked["fix"])]
    if str(asked.get("every", "")).lower() in ("true", "yes", "1"):
        return ["--every"]
    return [str(asked["transaction"])] if asked.get("transaction") else []


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


def _with(standing: Standing, details: dict[str, object]) -> Standing:
    return replace(standing, details={**standing.details, **details})
