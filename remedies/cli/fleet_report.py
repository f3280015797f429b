"""Audit reports of many hosts: collected now, or from the folder of an earlier rollout."""

from __future__ import annotations

import argparse
import tempfile
import time

from remedies.cli import fleet_inventory
from remedies.cli import report as host_report
from remedies.cli.fleet_view import View
from remedies.cli.parser import warn
from remedies.errors import UsageError
from remedies.fleet import records, rundir
from remedies.fleet.rundir import Run
from remedies.operations import report as operation
from remedies.outcomes import UNREACHED
from remedies.report.record import Report
from remedies.values import replace

SINCE = "30d"
"""How far back hosts report without ``--since``: years of a thousand journals are too much."""


def run(args: argparse.Namespace) -> int:
    """Ask every host for its record and write the report; 9 where a host gave none, else 0."""
    began = time.monotonic()
    chosen = host_report.outputs(args.output)
    since = args.since or SINCE
    limit = host_report.since_when(since)
    earlier = host_report.earlier(args)
    kept = _run(args, args.heads_of) if args.heads_of else None
    site = fleet_inventory.inventory_of(args)
    quiet = argparse.Namespace(**{**vars(args), "json": False})
    with tempfile.TemporaryDirectory(prefix="remedy-fleet-") as folder:
        variables = {**fleet_inventory.given(args), "remedy_record": folder, "remedy_since": since}
        if kept is not None:
            variables["remedy_heads"] = records.heads(kept)
        with View(quiet) as view:
            found = fleet_inventory.play(quiet, "report", site, None, variables, view)
        told, missing = records.gathered(folder, found, rollout=False)
    for host in told:
        if host.chain is not None and not host.chain.holds:
            warn(f"{host.place.name}: journal: {host.chain.state}; {host.chain.anchor}")
    report = Report(operation.tool(), "", operation.maker(), told, missing, limit)
    report = operation.compared(report, earlier)
    host_report.write(operation.sealed(report, began), chosen)
    return UNREACHED if missing else 0


def of_run(args: argparse.Namespace) -> Report:
    """Return the report of a rollout, from its folder alone. Raises InputError."""
    wrong = [f"--{name}" for name in ("txn", "head", "since", "no_scan") if getattr(args, name)]
    if wrong:
        option = wrong[0].replace("_", "-")
        raise UsageError(f"{option} is for one host's journal", "do not use it with --fleet")
    found = _run(args, args.fleet)
    told, missing = records.gathered(records.folder(found), found.standings(), rollout=True)
    asked = {name: _text(found, name) for name in ("change_id", "message", "approved_by")}
    by = replace(
        operation.maker(),
        change_id=asked["change_id"],
        comment=asked["message"],
        approver=asked["approved_by"],
    )
    return Report(operation.tool(), "", by, told, missing, run=found.id)


def head(args: argparse.Namespace) -> str:
    """Return the journal head that a rollout kept of a host. Raises InputError, UsageError."""
    if not args.host:
        raise UsageError("a rollout has many hosts", "name one with --host")
    return records.head(_run(args, args.fleet), args.host)


def _run(args: argparse.Namespace, name: str) -> Run:
    return rundir.find(fleet_inventory.runs_folder(args), name)


def _text(run: Run, name: str) -> str:
    return str(run.asked.variables.get(f"remedy_{name}", ""))
