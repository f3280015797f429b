"""What each action of ``remedy fleet`` does; it prints, :mod:`remedies.fleet` works."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Optional

from remedies import codec
from remedies.cli.fleet_play import given, meant, play, runs_folder
from remedies.cli.fleet_view import View
from remedies.cli.parser import duration
from remedies.cli.writing import ask
from remedies.errors import InputError, UsageError
from remedies.fleet import batches, records, rollout, rundir, states
from remedies.fleet.plans import Entry, Index
from remedies.fleet.rundir import Run
from remedies.fleet.states import Standing
from remedies.transaction.consent import Consent


def run(args: argparse.Namespace) -> int:
    """Run the action that the command line names."""
    if args.action == "apply":
        return _resume(args) if args.resume else _apply(args)
    if args.action == "report" and args.output:
        from remedies.cli import fleet_report

        return fleet_report.run(args)
    actions = {"plan": _plan, "rollback": _rollback}
    return actions.get(args.action, _simple)(args)


def _simple(args: argparse.Namespace) -> int:
    """Scan, report or confirm."""
    site, hosts, agreed = meant(args), None, None
    if args.action == "confirm":
        hosts = site.hosts()
        agreed = _ask(args, f"Keep what waits on {len(hosts)} hosts?")
    with View(args) as view:
        found = play(args, args.action, site, hosts, given(args), view, agreed)
    view.findings(found) if args.action in ("scan", "report") else view.states(found)
    return states.worst(s.rc for s in found.values())


def _plan(args: argparse.Namespace) -> int:
    site = meant(args)
    variables = given(args)
    if args.output:
        variables["remedy_save"] = os.path.abspath(args.output)
    with _new_folder(args.output), View(args) as view:
        found = play(args, "plan", site, None, variables, view)
    entries = {h: _entry(s) for h, s in found.items() if "summary" in s.details}
    without = {h: s.message for h, s in found.items() if h not in entries}
    if args.output:
        Index.of(entries, without).write(args.output)
    view.plans(entries, found, args.output)
    return states.worst(s.rc for s in found.values())


def _entry(standing: Standing) -> Entry:
    """Return what a host's word says of its plan."""
    if "entry" in standing.details:
        return codec.decode(Entry, standing.details["entry"], f"plan of {standing.host}")
    lines = standing.details["summary"]
    summary = tuple(map(str, lines)) if isinstance(lines, list) else ()
    return Entry("", "", "", "", "", group=repr(summary), summary=summary)


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


def _apply(args: argparse.Namespace) -> int:
    steps = batches.parse(args.batch)
    seconds = duration(args.confirm_timeout)
    site = meant(args)
    hosts = site.hosts()
    variables = {**given(args), "remedy_confirm_timeout": seconds}
    if args.plans:
        index = Index.read(args.plans)
        absent = [host for host in hosts if host not in index.hosts]
        if absent:
            raise InputError(
                f"{args.plans}: no plan for {', '.join(absent[:5])}",
                "leave them out with --limit, or plan again",
            )
        hosts = [host for host in hosts if index.hosts[host].summary]
        variables["remedy_plans"] = os.path.abspath(args.plans)
    if args.dry_run:
        with View(args) as view:
            found = play(args, "apply", site, hosts, variables, view)
        view.states(found)
        return states.worst(s.rc for s in found.values())
    sizes = ", ".join(str(len(batch)) for batch in batches.split(hosts, steps))
    agreed = ask(args, f"Apply to {len(hosts)} hosts, in batches of {sizes}?", "hosts")
    asked = rundir.Asked(
        inventories=site.inventories,
        hosts=tuple(hosts),
        batch=steps,
        variables=variables,
        forks=site.forks,
        extra=site.extra,
        folder=os.getcwd(),
        undo=args.undo,
        max_fail=args.max_fail,
        max_fail_percentage=args.max_fail_percentage,
    )
    return _go(args, rundir.begin(runs_folder(args), asked), hosts, agreed)


def _resume(args: argparse.Namespace) -> int:
    import time

    if args.plans or args.inventory:
        raise UsageError("--resume goes on as the run began", "leave out DIR and -i")
    found = rundir.find(runs_folder(args), args.resume)
    hosts = rollout.left(found)
    if args.dry_run:
        return _left(args, found, hosts)
    agreed = ask(args, f"Go on with {len(hosts)} hosts of {found.id}?", "hosts")
    seconds = rollout.unsettled(found)
    if seconds:
        print(f"remedy: {seconds:.0f} s until hosts that wait to be confirmed are settled",
              file=sys.stderr)  # fmt: skip
        time.sleep(seconds)
    return _go(args, found, hosts, agreed)


def _left(args: argparse.Namespace, run: Run, hosts: list[str]) -> int:
    """Show the hosts that a resumed run would go on with."""
    standings = run.standings()
    with View(args, run.id) as view:
        view.begin(len(hosts))
        for host in hosts:
            view.host(standings[host])
    view.states({host: standings[host] for host in hosts})
    return 0


def _go(args: argparse.Namespace, run: Run, hosts: list[str], agreed: Consent) -> int:
    with View(args, run.id) as view:
        view.begin(len(hosts))
        ended = rollout.Rollout(run, agreed, view.host).go(hosts)
    view.states(ended.standings, halted=ended.halted, folder=run.folder)
    return ended.code


def _rollback(args: argparse.Namespace) -> int:
    variables = given(args)
    if args.of_run:
        run_ = rundir.find(runs_folder(args), args.of_run)
        which = {
            host: s.transaction
            for host, s in run_.standings().items()
            if s.transaction and s.state in ("applied", "confirmed")
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
    agreed = _ask(args, f"Undo on {len(hosts)} hosts?")
    with View(args) as view:
        found = play(args, "rollback", site, hosts, variables, view, agreed)
    if args.of_run and not args.dry_run:
        for standing in found.values():
            run_.tell(replace(standing, transaction=which[standing.host]))
    view.states(found)
    return states.worst(s.rc for s in found.values())


def _ask(args: argparse.Namespace, question: str) -> Optional[Consent]:
    """Return the consent to write on hosts; None in a dry run."""
    return None if args.dry_run else ask(args, question, "hosts")
