"""After a signal: the state of each host, a line each, and the command that goes on."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Sequence

from remedies.cli.fleet_view import View
from remedies.fleet.apply import APPLYING, CONFIRMING, UNDOING
from remedies.fleet.host_state import HostStanding
from remedies.fleet.rundir import Run
from remedies.local_time import local
from remedies.outcomes import UNREACHED
from remedies.values import replace


class Stopped(Exception):
    """A signal ended a play in which hosts wrote."""

    def __init__(
        self, heard: dict[str, HostStanding], hosts: Sequence[str], by: BaseException
    ) -> None:
        """Take the words that were heard, all hosts of the play, and what the signal raised."""
        super().__init__(code(by))
        self.heard, self.hosts, self.by = heard, hosts, by
        self.folder = ""
        """Where the run is kept; empty where none is."""


def code(by: BaseException) -> int:
    """Return the exit code for what a signal raised: KeyboardInterrupt, or Terminated(NUMBER)."""
    return 130 if isinstance(by, KeyboardInterrupt) else 128 + int(by.args[0])


def tell_rollout(args: Namespace, run: Run, by: BaseException) -> int:
    """Say of each host of a rollout how it stands, and how to go on; return the exit code."""
    found = {host: replace(said, message=state(said)) for host, said in run.standings().items()}
    View(args, run.id).stopped(found, code(by), run.folder, resume(args, run.id))
    return code(by)


def tell_play(args: Namespace, play: Stopped) -> int:
    """Say of each host of a confirm or rollback what it answered; return the exit code."""
    silent = "stopped before it answered: 'remedy fleet report' shows its state"
    found = {
        host: play.heard.get(host, HostStanding(host, "unreachable", UNREACHED, silent))
        for host in play.hosts
    }
    View(args).stopped(found, code(play.by), play.folder)
    return code(play.by)


def resume(args: Namespace, name: str) -> str:
    """Return the command that goes on with a run."""
    words = ["remedy", "fleet", "apply", "--resume", name]
    words += ["--run-dir", args.run_dir] if args.run_dir else []
    words += ["--netns", args.netns] if args.netns else []
    return shlex.join(words)


def state(standing: HostStanding) -> str:
    """Return the state of a host that the controller has left, and what it does by itself."""
    at = local(standing.until) if standing.until else ""
    if standing.state == "confirmed":
        return f"transaction {standing.transaction} stays" if standing.transaction else "done"
    if standing.state == "untouched" and not standing.time:
        return "not begun"
    if standing.state != "applied":
        return standing.message
    if standing.message == CONFIRMING:
        return f"was being confirmed: it stays, or undoes itself at {at}"
    if standing.message == UNDOING:
        return f"was being undone: it is undone by {at}"
    if standing.message == APPLYING or not at:
        seconds = float(str(standing.details.get("timeout", 120)))
        return (f"was being applied: what it writes undoes itself {seconds:g} s later "
                "unless confirmed")  # fmt: skip
    return f"undoes itself at {at} unless confirmed"
