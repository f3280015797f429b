"""What each action of ``remedy fleet`` does; it prints, :mod:`remedies.fleet` works."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

from remedies.cli import fleet_interrupted, fleet_report, fleet_rollout
from remedies.cli.consenting import ask
from remedies.cli.fleet_interrupted import Stopped
from remedies.cli.fleet_inventory import given, inventory_of, play, runs_folder
from remedies.cli.fleet_view import View
from remedies.cli.interrupted import SIGNALS
from remedies.cli.parser import warn
from remedies.errors import InputError
from remedies.fleet import host_state, plans, records, rundir
from remedies.fleet.actions import ACTIONS
from remedies.fleet.host_state import HostStanding
from remedies.fleet.plans import Index
from remedies.fleet.rundir import Run, RunTerms
from remedies.fleet.runner import Site
from remedies.transaction.consent import Consent
from remedies.values import replace


def run(args: argparse.Namespace) -> int:
    """Run the action that the command line names; say so where a signal stops it."""
    try:
        return _run(args)
    except Stopped as play:
        return fleet_interrupted.tell_play(args, play)
    except SIGNALS:
        warn("stopped; nothing was changed")
        raise


def _run(args: argparse.Namespace) -> int:
    if args.action == "apply":
        return fleet_rollout.resume(args) if args.resume else fleet_rollout.apply(args)
    if args.action == "report" and args.output:
        return fleet_report.run(args)
    own = {"plan": _plan, "rollback": _rollback}
    if args.action in own:
        return own[args.action](args)
    return _write(args, given(args)) if ACTIONS[args.action].writes else _look(args)


def _look(args: argparse.Namespace) -> int:
    """Run an action that writes nothing."""
    with View(args) as view:
        found = play(args, args.action, inventory_of(args), None, given(args), view)
    view.findings(found) if ACTIONS[args.action].finds else view.states(found)
    return host_state.worst(s.rc for s in found.values())


def _plan(args: argparse.Namespace) -> int:
    site = inventory_of(args)
    variables = given(args)
    if args.output:
        variables["remedy_save"] = os.path.abspath(args.output)
    with _new_folder(args.output), View(args) as view:
        found = play(args, "plan", site, None, variables, view)
    entries, changes = plans.heard(found)
    without = {h: s.message for h, s in found.items() if h not in entries}
    if args.output:
        Index.of(entries, without).write(args.output)
    view.plans(plans.grouped(entries, changes), found, args.output)
    return host_state.worst(s.rc for s in found.values())


@contextlib.contextmanager
def _new_folder(path: str) -> Iterator[None]:
    """Make the folder, if a path is given; remove it again if no host matched."""
    made = bool(path) and not os.path.isdir(path)
    try:
        if path:
            os.makedirs(path, mode=0o700, exist_ok=True)
            if os.listdir(path):
                raise InputError(f"{path}: is not empty", "name a new folder")
    except OSError as error:
        raise InputError(f"{path}: cannot be made: {error.strerror}", "name another") from None
    try:
        yield
    except InputError:
        if made and not os.listdir(path):
            os.rmdir(path)
        raise


def _rollback(args: argparse.Namespace) -> int:
    if not args.of_run:
        return _write(args, given(args))
    run = rundir.rollout(runs_folder(args), args.of_run)
    which = host_state.in_force(run.standings().values())
    args.inventory = args.inventory or list(run.asked.inventories)
    args.ansible = args.ansible or shlex.join(run.asked.extra)
    return _write(args, {**given(args), "remedy_transactions": which}, run, which)


def _write(
    args: argparse.Namespace,
    variables: dict[str, object],
    rollout: Optional[Run] = None,
    among: Optional[Mapping[str, str]] = None,
) -> int:
    """Run an action that writes, as a run of its own.

    ``among``: hosts of the ``rollout`` that is undone, with their transactions; no other is asked.
    """
    site = inventory_of(args)
    hosts, agreed, run = None, None, None
    if among is not None or not args.dry_run:  # else the play looks them up by itself
        hosts = [host for host in site.hosts() if among is None or host in among]
    if hosts is not None and not args.dry_run:
        agreed = ask(args, ACTIONS[args.action].question.format(len(hosts)), "hosts")
        run = _begun(args, site, hosts, variables, agreed)

    def note(standing: HostStanding) -> None:
        if rollout is not None and agreed is not None:
            rollout.tell(replace(standing, transaction=(among or {}).get(standing.host)))

    with View(args, run.id if run else "") as view:
        try:
            found = play(args, args.action, site, hosts, variables, view, agreed, run, note)
        except Stopped as stopped:
            stopped.folder = run.folder if run else ""
            raise
    code = host_state.worst(s.rc for s in found.values())
    if run is not None:
        run.finish({"halted": "", "exit": code, "hosts": rundir.counts(found.values())})
        if rollout is not None:
            records.copy(run, rollout)
    if args.dry_run and ACTIONS[args.action].dry:
        groups = plans.grouped(*plans.heard(found))
        view.groups(groups)
        view.would(groups)
    view.states(found, folder=run.folder if run else "")
    return code


def _begun(
    args: argparse.Namespace,
    site: Site,
    hosts: Sequence[str],
    variables: dict[str, object],
    agreed: Consent,
) -> Optional[Run]:
    """Return the run that records requests and answers; None if it cannot be written.

    Then a warning says so: confirm and rollback go on without a record.
    """
    asked = RunTerms(
        inventories=site.inventories,
        hosts=tuple(hosts),
        batch=(),
        variables=variables,
        forks=site.forks,
        extra=site.extra,
        folder=os.getcwd(),
        action=args.action,
    )
    try:
        return rundir.begin(runs_folder(args), rundir.approved_by(asked, agreed))
    except InputError as error:
        warn(f"this action is not logged: {error}")
        return None
