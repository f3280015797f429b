"""What every action of ``remedy fleet`` shares: which hosts it is for, and running one playbook."""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

from remedies.cli.fleet_interrupted import Stopped
from remedies.cli.fleet_view import View
from remedies.cli.interrupted import SIGNALS
from remedies.errors import UsageError
from remedies.fleet import records, rundir, runner
from remedies.fleet.events import Hearing
from remedies.fleet.host_state import HostStanding
from remedies.fleet.rundir import Run
from remedies.fleet.runner import Site
from remedies.policy.sources import anywhere
from remedies.transaction.consent import Consent


def inventory_of(args: argparse.Namespace) -> Site:
    """Return the inventories, and how Ansible goes through them."""
    if not args.inventory:
        raise UsageError("no inventory", "give one with -i")
    site = Site(
        _absolute(args.inventory), limited(args), args.forks or 0, tuple(shlex.split(args.ansible))
    )
    site.check()
    return site


def limited(args: argparse.Namespace) -> str:
    """Return ``--limit`` and ``--exclude`` as one pattern of Ansible; empty for all hosts."""
    left_out = [f"!{pattern}" for pattern in args.exclude]
    return ",".join([args.limit or "all", *left_out]) if left_out else str(args.limit)


def names(hosts: Sequence[str]) -> str:
    """Return the names of hosts, the first few of many."""
    return ", ".join(hosts[:5]) + (f" and {len(hosts) - 5} more" if len(hosts) > 5 else "")


def _absolute(inventories: Sequence[str]) -> tuple[str, ...]:
    return tuple(i if "," in i else os.path.abspath(i) for i in inventories)


def given(args: argparse.Namespace) -> dict[str, object]:
    """Return Ansible's extra variables from the command line; they override the inventory."""
    found: dict[str, object] = {}
    if args.policy:
        found["remedy_policy"] = [anywhere(spec) for spec in args.policy]
    if args.state_dir != "/var/lib/remedy":
        found["remedy_state_dir"] = args.state_dir
    for name in ("backend", "window", "fix", "change_id", "message", "approved_by"):
        if getattr(args, name, None):
            found[f"remedy_{name}"] = getattr(args, name)
    if "lock_timeout" in args.typed:
        found["remedy_lock_timeout"] = f"{args.lock_timeout:g}s"
    if getattr(args, "every", False):
        found["remedy_every"] = True
    return found


def play(
    args: argparse.Namespace,
    name: str,
    site: Site,
    hosts: Optional[Sequence[str]],
    variables: Mapping[str, object],
    view: View,
    agreed: Optional[Consent] = None,
    run: Optional[Run] = None,
    note: Callable[[HostStanding], None] = lambda _: None,
) -> dict[str, HostStanding]:
    """Run one playbook; return every host's word.

    ``hosts``: only these; None: all of the inventory and its limit. Nothing is written without
    ``agreed``. ``run`` records every answer; ``note`` is called with the last answer of each host
    as it comes. Raises Stopped, with the answers so far, if a signal ends it while hosts write.
    """
    found: dict[str, HostStanding] = {}

    def tell(standing: HostStanding, noted: bool) -> None:
        found[standing.host] = standing
        if run is not None and not noted:
            run.tell(standing)
        note(standing)
        view.host(standing)

    if run is not None:
        kept = {"remedy_run": run.log, "remedy_record": records.folder(run)}
        variables = {**variables, **kept, "remedy_since": records.SINCE}
    with tempfile.TemporaryDirectory(prefix="remedy-fleet-") as folder:
        try:
            hosts = runner.play(
                name, site, hosts, variables, os.path.join(folder, "ansible"),
                Hearing(tell, view.begin), agreed,
            )  # fmt: skip
        except SIGNALS as signal:
            if agreed is None:
                raise
            raise Stopped(found, hosts or list(found), signal) from None
    return {host: found[host] for host in hosts}


def runs_folder(args: argparse.Namespace) -> str:
    """Return the folder that holds the runs."""
    return os.path.abspath(args.run_dir or rundir.default_folder())
