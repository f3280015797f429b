"""What each action of ``remedy fleet`` does; it prints, :mod:`remedies.fleet` works."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from collections.abc import Iterator
from typing import Optional

from remedies.cli import fleet_interrupted, fleet_report, fleet_rollout
from remedies.cli.consenting import ask
from remedies.cli.fleet_interrupted import Stopped
from remedies.cli.fleet_inventory import given, meant, play, runs_folder
from remedies.cli.fleet_view import View
from remedies.cli.interrupted import SIGNALS
from remedies.cli.parser import warn
from remedies.errors import InputError
from remedies.fleet import host_state, plans, records, rundir
from remedies.fleet.actions import ACTIONS
from remedies.fleet.host_state import Standing
from remedies.fleet.plans import Index
from remedies.outcomes import HOSTS
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
    actions = {"plan": _plan, "rollback": _rollback}
    return actions.get(args.action, _simple)(args)


def _simple(args: argparse.Namespace) -> int:
    """Scan, report or confirm."""
    site, hosts, agreed = meant(args), None, None
    action = ACTIONS[args.action]
    if action.writes:
        hosts = site.hosts()
        agreed = _ask(args, len(hosts))
    with View(args) as view:
        found = play(args, args.action, site, hosts, given(args), view, agreed)
    view.findings(found) if action.finds else view.states(found)
    return host_state.worst(s.rc for s in found.values())


def _plan(args: argparse.Namespace) -> int:
    site = meant(args)
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
    """Make the folder, unless no path is given; it goes again where no host was meant."""
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
    variables = given(args)
    if args.of_run:
        run_ = rundir.find(runs_folder(args), args.of_run)
        which = {
            host: s.transaction
            for host, s in run_.standings().items()
            if s.transaction and HOSTS[s.state].in_force
        }
        args.inventory = args.inventory or list(run_.asked.inventories)
        args.ansible = args.ansible or shlex.join(run_.asked.extra)
        variables["remedy_transactions"] = which
        if not args.dry_run:
            variables.update(remedy_record=records.folder(run_), remedy_since=records.SINCE)
    site = meant(args)
    hosts = site.hosts()
    if args.of_run:
        hosts = [host for host in hosts if host in which]
    agreed = _ask(args, len(hosts))

    def note(standing: Standing) -> None:
        if args.of_run and agreed is not None:
            run_.tell(replace(standing, transaction=which[standing.host]))

    with View(args) as view:
        found = play(args, "rollback", site, hosts, variables, view, agreed, note)
    if args.dry_run:
        view.groups(plans.grouped(*plans.heard(found)))
    view.states(found)
    return host_state.worst(s.rc for s in found.values())


def _ask(args: argparse.Namespace, hosts: int) -> Optional[Consent]:
    """Return the consent to write on hosts; None in a dry run."""
    question = ACTIONS[args.action].question.format(hosts)
    return None if args.dry_run else ask(args, question, "hosts")
