"""``remedy fleet apply``: what would change, the question, and the rollout; or the rest of one."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Optional

from remedies.cli import fleet_interrupted, fleet_resume
from remedies.cli.consenting import ask
from remedies.cli.fleet_inventory import given, inventory_of, names, play, runs_folder
from remedies.cli.fleet_view import View
from remedies.cli.interrupted import SIGNALS
from remedies.errors import InputError
from remedies.fleet import batches, controller, host_state, plans, rollout, rundir
from remedies.fleet.actions import ACTIONS
from remedies.fleet.host_state import HostStanding
from remedies.fleet.plans import Group, HostPlan, Index
from remedies.fleet.rundir import Run, RunTerms
from remedies.fleet.runner import Site
from remedies.transaction.consent import Consent
from remedies.values import replace

DEFAULT_TIMEOUT = 120.0
"""Seconds in which each host has to be confirmed, without ``--confirm-timeout``."""


def apply(args: argparse.Namespace) -> int:
    """Show what would change on many hosts, ask, and apply it."""
    site = inventory_of(args)
    timeout = DEFAULT_TIMEOUT if args.confirm_timeout is None else args.confirm_timeout
    asked = RunTerms(
        inventories=site.inventories,
        hosts=(),
        batch=batches.parse(args.batch or "100%"),
        variables={**given(args), "remedy_confirm_timeout": timeout},
        forks=site.forks,
        extra=site.extra,
        folder=os.getcwd(),
        undo=args.undo or "batch",
        max_fail=args.max_fail or 0,
        max_fail_percentage=args.max_fail_percentage or 0.0,
    )
    nobody_looks = args.yes and (args.quiet or args.json)
    if not args.plans:  # a play over all of them looks up by itself which they are
        if args.dry_run:
            return _dry_run(args, site, asked, None)
        if not nobody_looks:
            return _planned(args, site, asked)
    asked = replace(asked, hosts=tuple(site.hosts()))
    if args.plans:
        asked = _approved(args, asked)
    if args.dry_run:
        return _dry_run(args, site, asked, asked.hosts)
    return _begin(args, asked, asked.hosts)


def _approved(args: argparse.Namespace, asked: RunTerms) -> RunTerms:
    """Show the approved plans; return the requests for the hosts that would change."""
    index = Index.read(args.plans)
    absent = [host for host in asked.hosts if host not in index.hosts]
    if absent:
        raise InputError(f"{args.plans}: no plan for {names(absent)}",
                         "leave them out with --limit, or plan again")  # fmt: skip
    hosts = tuple(host for host in asked.hosts if index.hosts[host].summary)
    if not (args.quiet or args.dry_run or (args.json and args.yes)):  # hosts say it themselves
        View(args).groups(groups_of(args.plans, {host: index.hosts[host] for host in hosts}))
    variables = {**asked.variables, "remedy_plans": os.path.abspath(args.plans)}
    return replace(asked, hosts=hosts, variables=variables)


def groups_of(folder: str, entries: Mapping[str, HostPlan]) -> list[Group]:
    """Return the saved plans of a folder as groups of hosts, with their diffs."""
    changes = {host: plans.saved(folder, entry) for host, entry in entries.items()}
    return plans.grouped(entries, changes)


def _dry_run(
    args: argparse.Namespace, site: Site, asked: RunTerms, hosts: Optional[Sequence[str]]
) -> int:
    """Show what would change on ``hosts`` (None: on all of the site), in Ansible's check mode."""
    with View(args, args.resume or "") as view:
        found = play(args, "apply", site, hosts, asked.variables, view)
    groups = plans.grouped(*plans.heard(found))
    if not args.quiet:
        view.groups(groups)
    view.would(groups)
    view.states(found)
    return host_state.worst(s.rc for s in found.values())


def _planned(args: argparse.Namespace, site: Site, asked: RunTerms) -> int:
    """Plan, show, ask (but with ``--yes``), and apply exactly what was shown.

    Hosts without a plan or without changes are in the run too, with the reason.
    """
    with tempfile.TemporaryDirectory(prefix="remedy-fleet-") as folder:
        variables = {**asked.variables, "remedy_save": folder}
        text = argparse.Namespace(**{**vars(args), "json": False, "action": "plan"})
        with View(text) as view:
            found = play(text, "plan", site, None, variables, view)
        asked = replace(asked, hosts=tuple(found))
        entries, _ = plans.heard(found)
        without = {host: s for host, s in found.items() if host not in entries}
        Index.of(entries, {host: s.message for host, s in without.items()}).write(folder)
        if args.json:
            View(args).groups(groups_of(folder, entries))
        elif not args.quiet:
            view.plans(groups_of(folder, entries), found, "")
        hosts = tuple(host for host in asked.hosts if host in entries and entries[host].summary)
        if not (hosts or args.yes):
            return host_state.worst(s.rc for s in found.values())
        rest = [found[host] for host in asked.hosts if host not in hosts]
        return _begin(args, asked, hosts, rest, folder)


def _begin(
    args: argparse.Namespace,
    asked: RunTerms,
    hosts: Sequence[str],
    rest: Sequence[HostStanding] = (),
    folder: str = "",
) -> int:
    """Ask, and begin a run over ``hosts``; ``rest``: the states of the other hosts, known already.

    ``folder``: plans that were made for it, which it keeps.
    """
    sizes = ", ".join(str(len(batch)) for batch in batches.split(hosts, asked.batch))
    question = ACTIONS["apply"].question.format(len(hosts))
    agreed = ask(args, f"{question}, in batches of {sizes}?", "hosts")
    run = rundir.begin(runs_folder(args), rundir.approved_by(asked, agreed), folder)
    for standing in rest:
        run.tell(standing)
    return _go(args, run, hosts, agreed)


def resume(args: argparse.Namespace) -> int:
    """Go on with a run that was stopped, or show what is left of it."""
    fleet_resume.check(args)
    run = rundir.rollout(runs_folder(args), args.resume)
    hosts, out = fleet_resume.left(args, run)
    asked = fleet_resume.changed(args, run.asked)
    began = replace(run, asked=asked)
    if args.dry_run:
        site = Site(asked.inventories, "", asked.forks, asked.extra, asked.folder)
        return _dry_run(args, site, asked, hosts)
    agreed = ask(args, f"Go on with {len(hosts)} hosts of {run.id}?", "hosts")
    seconds = rollout.unsettled(run, out)
    if seconds:
        print(f"remedy: {seconds:.0f} s at most until every pending host is confirmed or undone",
              file=sys.stderr)  # fmt: skip
        try:
            time.sleep(seconds)
        except SIGNALS as signal:
            return fleet_interrupted.tell_rollout(args, began, signal)
    return _go(args, began, hosts, agreed, out)


def _go(
    args: argparse.Namespace,
    run: Run,
    hosts: Sequence[str],
    agreed: Consent,
    out: Sequence[str] = (),
) -> int:
    """Roll out; ``out``: hosts of the run that are left out."""
    try:
        with controller.leading(run.folder), View(args, run.id) as view:
            view.begin(len(hosts))
            ended = rollout.RunningRollout(run, agreed, view.host, out).go(hosts)
    except SIGNALS as signal:
        return fleet_interrupted.tell_rollout(args, run, signal)
    if args.json:  # nobody may have seen them before
        view.groups(plans.grouped(*plans.heard(ended.standings)))
    view.states(
        ended.standings, ended.halted, run.folder, fleet_interrupted.resume(args, run.id), out
    )
    return ended.code
