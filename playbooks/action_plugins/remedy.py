"""The action ``remedy``: one verb of remedy on one host, with nothing installed there.

It keeps the single-file tool on the host, once for each version of it, in a folder that is the
user's alone, and checks its digest before every use. Policy and plan travel on standard input.

Options and what is returned: ``library/remedy.py``, which ``ansible-doc`` prints. An option that
the task does not give is the host's variable remedy_OPTION: a template in the task costs each host
a millisecond, a variable that is not set costs nothing.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Optional

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

try:
    import remedies  # noqa: F401
except ImportError:
    # Ansible's Python is another one: the package is around the playbooks or the plugins.
    for _up in ("../../..", "../../../../.."):
        sys.path.append(os.path.abspath(os.path.join(__file__, _up)))

from remedies import catalogue, outcomes
from remedies.bundle import build
from remedies.errors import RemedyError
from remedies.fleet import actions, host_state, plans, remote, request, tasks
from remedies.fleet import vault as vaulted
from remedies.fleet.actions import ACTIONS
from remedies.fleet.calls import Outcome, Visit
from remedies.fleet.host_state import HostStanding
from remedies.fleet.request import Order
from remedies.transaction import actor, consent

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
        *actions.JOURNALED,
    ]
)
_TASK_ALONE = frozenset(["verb", "previous", "transaction", "fix", "every"])
"""Options that no variable stands for: what is done, and how much of it."""
_PATHS = frozenset(["plans", "record", "run", "save"])
"""Folders and files of the controller: a word of their names may well be a vaulted one too."""
_STATE = {True: "/var/lib/remedy", False: "~/.cache/remedy"}
"""Where the bundle is kept: root's state directory, or what a user may write."""
_ALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
_NEW = f"-o ControlPath=none -o ControlMaster=no {_ALIVE}"
"""Options for ssh (the first one given counts): no connection is shared, and a dead one ends."""


_KEY = build.current_key()
"""Asked once for all hosts: Ansible loads this file before it forks its workers."""
for _name in catalogue.condition_ids():  # what a host's record is held against: once, too
    catalogue.condition(_name)


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
            visit = Visit(name, self._host(asked, task_vars), _order(asked, task_vars))
            check = self._task.check_mode
            task = tasks.Task(visit, asked, check, self._say, self._agree)
            outcome = tasks.DOES[asked["verb"]](task)
        except RemedyError as error:
            outcome = Outcome(HostStanding(name, "untouched", error.exit_code, str(error)))
            asked = {"verb": self._task.args.get("verb")}
        except remote.HostLost as error:
            self._say(HostStanding(name, "unreachable", outcomes.UNREACHED, str(error)))
            return {**result, "unreachable": True, "msg": str(error)}
        self._say(outcome.standing)
        told = tasks.result(str(asked["verb"]), outcome, check=self._task.check_mode)
        if self._task.diff and outcome.changes:
            shown = plans.shown(outcome.changes)
            told["diff"] = [{"prepared": f"{change.diff}\n"} for change in shown]
        return {**result, **told, "noted": bool(self._log)}

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
            raise UsageError(
                f"remedy has no option {', '.join(unknown)}",
                "known: " + ", ".join(sorted(_OPTIONS)),
            )
        if asked.get("verb") not in ACTIONS:
            raise UsageError(f"no verb {asked.get('verb')!r}", f"known: {', '.join(ACTIONS)}")
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

    def _host(self, asked: dict[str, Any], task_vars: dict[str, Any]) -> remote.RemoteHost:
        path, digest = build.cached(os.path.join(request.cache_folder(), "bundle"), _KEY)
        python = str(self._templar.template(task_vars.get("ansible_python_interpreter") or "auto"))
        state = asked.get("state_dir") or (
            "/var/lib/remedy" if self._is_root() else "~/.cache/remedy"
        )
        return remote.RemoteHost(
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
            raise remote.HostLost(" ".join(str(error).split())) from error
        except AnsibleError as error:
            raise RemedyError(f"Ansible could not run it: {error}") from error
        return remote.Reply(done["rc"], done["stdout"], done["stderr"])

    def _agree(self) -> consent.Consent:
        """Return the consent to write that a play gives which is not in check mode."""
        agreed = consent.played(actor.user(), check=self._task.check_mode)
        self._share_nothing()
        return agreed

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

    def _say(self, standing: HostStanding) -> None:
        if self._log:
            host_state.append(self._log, standing)


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
