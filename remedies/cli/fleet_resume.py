"""``fleet apply --resume RUN``: which options hold for the rest of a run, and what is left of it.

What is applied, and where it is recorded, was fixed when the run began. Batches, limits and
timeouts for the remaining hosts may change, and hosts may be left out.
"""

from __future__ import annotations

import argparse
from typing import Optional

from remedies.cli.fleet_inventory import limited, names
from remedies.errors import InputError, UsageError
from remedies.fleet import batches, rollout
from remedies.fleet.plans import Index
from remedies.fleet.rundir import Run, RunTerms
from remedies.fleet.runner import Site
from remedies.values import replace

_BEGAN = "a resumed run applies the plans it started with"
_RECORD = "it is recorded in the run, and in the journals of the hosts that are done"
RESUMED: dict[str, Optional[str]] = {
    "plans": _BEGAN,
    "inventory": "the hosts of a run are fixed when it starts",
    "policy": _BEGAN,
    "backend": _BEGAN,
    "state_dir": "the journal folder of a run is fixed when it starts",
    "ansible": "a resumed run connects to its hosts as it did when it started",
    "change_id": _RECORD,
    "message": _RECORD,
    "approved_by": _RECORD,
    "resume": None,
    "run_dir": None,
    "limit": None,
    "exclude": None,
    "forks": None,
    "batch": None,
    "confirm_timeout": None,
    "max_fail": None,
    "max_fail_percentage": None,
    "undo": None,
    "window": None,
    "lock_timeout": None,
    "dry_run": None,
    "yes": None,
    "netns": None,
    "json": None,
    "plain": None,
    "no_color": None,
    "no_input": None,
    "quiet": None,
    "verbose": None,
}
"""Every option of ``fleet apply``: None where ``--resume`` obeys it, else why it is refused."""
_GENERAL = frozenset({"policy", "backend", "state_dir", "lock_timeout"})
"""Those that the environment or the settings file may hold: only what was typed counts here."""


def check(args: argparse.Namespace) -> None:
    """Raise UsageError for an option that cannot hold for the rest of a run."""
    for name, why in RESUMED.items():
        if why is not None and _typed(args, name):
            option = {"plans": "DIR"}.get(name, f"--{name.replace('_', '-')}")
            raise UsageError(f"--resume does not take {option}: {why}",
                             "leave it out, or start a new rollout")  # fmt: skip


def _typed(args: argparse.Namespace, name: str) -> bool:
    if name in _GENERAL:
        return name in args.typed
    value = getattr(args, name)
    return value is not None and value is not False and value not in ("", [])


def changed(args: argparse.Namespace, asked: RunTerms) -> RunTerms:
    """Return the options for the rest of the run: those it began with, and those typed now."""
    variables = dict(asked.variables)
    if args.confirm_timeout is not None:
        variables["remedy_confirm_timeout"] = args.confirm_timeout
    if args.window:
        variables["remedy_window"] = args.window
    if "lock_timeout" in args.typed:
        variables["remedy_lock_timeout"] = f"{args.lock_timeout:g}s"
    given = {name: getattr(args, name) for name in ("undo", "max_fail", "max_fail_percentage")}
    return replace(
        asked,
        variables=variables,
        batch=batches.parse(args.batch) if args.batch else asked.batch,
        forks=args.forks or asked.forks,
        **{name: value for name, value in given.items() if value is not None},
    )


def _without_plan(run: Run) -> frozenset[str]:
    """Return the hosts for which a run that applies approved plans has none. Raises InputError."""
    folder = run.asked.variables.get("remedy_plans")
    if not folder:
        return frozenset()
    return frozenset(run.asked.hosts) - Index.read(str(folder)).hosts.keys()


def left(args: argparse.Namespace, run: Run) -> tuple[list[str], list[str]]:
    """Return the hosts still to be done, and those that are left out.

    Raises InputError where the options leave none of those that are to be done.
    """
    asked, unplanned = run.asked, _without_plan(run)
    undone = rollout.left(run)
    wanted = [host for host in undone if host not in unplanned]
    if undone and not wanted:
        raise InputError(f"{run.id}: it has no plan for {names(undone)}", "start a new rollout")
    if not limited(args):
        return wanted, [host for host in undone if host in unplanned]
    site = Site(asked.inventories, limited(args), asked.forks, asked.extra, asked.folder)
    meant = set(site.hosts())
    out = [host for host in asked.hosts if host not in meant or host in unplanned]
    found = [host for host in wanted if host in meant]
    if wanted and not found:
        raise InputError(f"{run.id}: {limited(args)!r} matches none of {names(wanted)}",
                         "check --limit and --exclude")  # fmt: skip
    return found, out
