"""The action ``remedy``: one verb of remedy on one host, with nothing installed there.

It keeps the single-file tool on the host, once for each version of it, in a folder that is the
user's alone, and checks its digest before every use. Policy and plan travel on standard input.

Options of the task:

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
change_id, message
                for the host's journal

Returned: changed, rc, state, msg, transaction, findings, changes, refused, and diff.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Optional

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

try:
    import remedies  # noqa: F401
except ImportError:
    # Ansible's Python is another one: the package is beside the playbooks, or around them.
    for _up in ("../../..", "../../../../.."):
        sys.path.append(os.path.abspath(os.path.join(__file__, _up)))

from remedies import codec
from remedies.errors import RemedyError
from remedies.fleet import applying, bundle, order, plans, states, talk, verbs
from remedies.fleet.order import Order
from remedies.fleet.states import Standing
from remedies.fleet.verbs import Outcome, Visit

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
        "change_id",
        "message",
    ]
)
_VERBS = ("scan", "plan", "apply", "confirm", "rollback", "report")
_FINE = {"scan": (0, 2), "plan": (0, 8), "report": (0, 2)}
"""Exit codes that say something about a host, and not that the verb has failed."""
_VAULTED = ("AnsibleVaultEncryptedUnicode", "EncryptedString", "VaultedValue")
_STATE = {True: "/var/lib/remedy", False: "~/.cache/remedy"}
"""Where the bundle is kept: root's state directory, or what a user may write."""
_ALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
_NEW = f"-o ControlPath=none -o ControlMaster=no {_ALIVE}"
"""Options for ssh (the first one given counts): no connection is shared, and a dead one ends."""


class ActionModule(ActionBase):
    """One verb on one host."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None
    ) -> dict[str, Any]:
        """Return Ansible's result. A host that cannot be reached raises, as everywhere."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        name = str(task_vars.get("inventory_hostname"))
        try:
            asked = self._asked(task_vars)
            outcome = self._outcome(name, asked, task_vars)
        except RemedyError as error:
            outcome = Outcome(Standing(name, "untouched", error.exit_code, str(error)))
            asked = {"verb": self._task.args.get("verb")}
        except talk.Lost as error:
            lost = Standing(name, "unreachable", verbs.UNREACHED, str(error))
            self._say(lost)
            raise AnsibleConnectionFailure(str(error)) from error
        self._say(outcome.standing)
        return {**result, **self._told(str(asked["verb"]), outcome)}

    def _asked(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the task's options; raise RemedyError for what cannot be meant."""
        from remedies.errors import ConfigError, UsageError

        asked = {key: value for key, value in self._task.args.items() if value not in ("", None)}
        unknown = sorted(set(asked) - _OPTIONS)
        if unknown:
            raise UsageError(f"remedy has no option {', '.join(unknown)}", "see the action's text")
        if asked.get("verb") not in _VERBS:
            raise UsageError(f"no verb {asked.get('verb')!r}", f"known: {', '.join(_VERBS)}")
        for key in asked:
            for value in (task_vars.get(f"remedy_{key}"), asked.get(key)):
                if _is_vaulted(value):
                    raise ConfigError(
                        f"remedy_{key} holds a vaulted value, and plans and journals would show it",
                        "keep secrets out of it",
                    )
        if not isinstance(asked.get("params", {}), dict):
            raise ConfigError(*order.WRONG_PARAMS)
        return asked

    def _outcome(self, name: str, asked: dict[str, Any], task_vars: dict[str, Any]) -> Outcome:
        verb = asked["verb"]
        visit = Visit(name, self._host(asked, task_vars), _order(asked, task_vars))
        if verb in ("scan", "report"):
            return _counted(verbs.look(visit, "verify" if verb == "report" else verb))
        if verb == "plan":
            return self._plan(visit, asked)
        if verb == "apply" and self._task.check_mode:
            held = self._approved(visit, asked)
            return verbs.dry_run(visit, held.plan, held.policy) if held else self._plan(visit, {})
        if verb == "rollback" and self._task.check_mode:
            return verbs.roll_back(visit, _which(asked), dry=True)
        if verb == "confirm" and self._task.check_mode:
            return verbs.look(visit, "verify")
        self._share_nothing()
        if verb == "confirm":
            return verbs.confirm(visit, asked.get("transaction"))
        if verb == "rollback":
            return verbs.roll_back(visit, _which(asked))
        words = [w for k in ("change_id", "message") if k in asked
                 for w in (f"--{k.replace('_', '-')}", str(asked[k]))]  # fmt: skip
        what = applying.Asked(
            timeout=float(asked.get("confirm_timeout", 120)),
            approved=self._approved(visit, asked),
            previous=str(asked.get("previous", "")),
            words=tuple(words),
        )
        return applying.apply(visit, what, self._say, time.sleep)

    def _plan(self, visit: Visit, asked: dict[str, Any]) -> Outcome:
        policy = visit.order.compiled_policy()
        outcome = verbs.look(visit, "plan", policy=policy)
        if outcome.plain.get("kind") != "plan":
            return outcome
        details: dict[str, object] = {"summary": list(plans.summary(outcome.changes))}
        if "save" in asked:
            text = json.dumps(outcome.plain, separators=(",", ":"))
            entry = plans.save(asked["save"], visit.name, text, policy)
            details["entry"] = codec.encode(entry)
        return Outcome(_with(outcome.standing, details), outcome.plain)

    def _approved(self, visit: Visit, asked: dict[str, Any]) -> Optional[order.Approved]:
        from remedies.errors import InputError

        if "plans" not in asked:
            return None
        held = order.approved(asked["plans"], visit.name)
        if held is None:
            raise InputError(f"{asked['plans']}: no plan for {visit.name}", "make one first")
        return held

    def _host(self, asked: dict[str, Any], task_vars: dict[str, Any]) -> talk.Host:
        path, digest = bundle.cached(os.path.join(order.cache_folder(), "bundle"))
        python = str(self._templar.template(task_vars.get("ansible_python_interpreter") or "auto"))
        state = asked.get("state_dir") or (
            "/var/lib/remedy" if self._is_root() else "~/.cache/remedy"
        )
        return talk.Host(
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

    def _carry(self, command: str, stdin: bytes) -> talk.Reply:
        try:
            done = self._low_level_execute_command(command, in_data=stdin)
        except AnsibleConnectionFailure as error:
            raise talk.Lost(" ".join(str(error).split())) from error
        except AnsibleError as error:
            raise RemedyError(f"Ansible could not run it: {error}") from error
        return talk.Reply(done["rc"], done["stdout"], done["stderr"])

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
        path = self._task.args.get("run")
        if path:
            states.append(str(path), standing)

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
            "noted": bool(self._task.args.get("run")),
            "findings": outcome.plain.get("findings") or [],
            "refused": outcome.plain.get("refused") or [],
            "changes": [
                {key: change.get(key) for key in ("fix", "resource", "action", "impact")}
                for change in outcome.changes
            ],
        }
        if standing.message:
            told["msg"] = standing.message
        if self._task.diff and outcome.changes:
            told["diff"] = [{"prepared": f"{change.get('diff')}\n"} for change in outcome.changes]
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


def _counted(outcome: Outcome) -> Outcome:
    """Return an outcome whose word about the host has its findings in short."""
    found = outcome.plain.get("findings") or []
    details: dict[str, object] = {
        "findings": [[f.get("condition"), f.get("subject"), f.get("verdict")] for f in found],
        "in_force": [e.get("resource") for e in outcome.plain.get("in_force") or []],
        "unknown": [u.get("condition") for u in outcome.plain.get("unknown") or []],
    }
    return Outcome(_with(outcome.standing, details), outcome.plain)


def _with(standing: Standing, details: dict[str, object]) -> Standing:
    from dataclasses import replace

    return replace(standing, details={**standing.details, **details})


def _is_vaulted(value: object) -> bool:
    """Tell whether a value, or one within it, comes out of a vault."""
    if isinstance(value, dict):
        return any(map(_is_vaulted, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_is_vaulted, value))
    tags = getattr(value, "_ansible_tags_mapping", None) or ()
    return type(value).__name__ in _VAULTED or any(t.__name__ in _VAULTED for t in tags)
