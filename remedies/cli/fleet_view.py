"""What ``remedy fleet`` shows: progress host by host, then the whole; text or JSON Lines."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Optional

from remedies import codec
from remedies.cli.render import MARKS, accepted_harm, diff_lines
from remedies.cli.terminal import Style, clean
from remedies.fleet import host_state
from remedies.fleet.host_state import HostStanding
from remedies.fleet.plans import Group, Shown
from remedies.fleet.rundir import counts
from remedies.model import FORMAT_VERSION

_COLOURS = {
    "confirmed": "green",
    "applied": "yellow",
    "reverted": "yellow",
    "unreachable": "red",
    "needs-human": "red",
}
_NAMED = 8
"""Hosts of a group that are named; the rest is counted."""


class View:
    """Prints one action's progress and result."""

    def __init__(self, args: argparse.Namespace, run: str = "") -> None:
        self._args, self._run, self._total, self._done = args, run, 0, 0
        self._style = Style(args)
        self._bar: Any = None
        quiet = args.quiet or args.plain or args.json
        self._progress = not quiet and sys.stderr.isatty()

    def __enter__(self) -> View:
        """Show that something goes on: with rich where it is installed, else a line a host."""
        if self._progress and self._style.colour:
            try:
                from rich.console import Console
                from rich.progress import Progress
            except ImportError:
                return self
            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._args.action, total=None)
        return self

    def begin(self, total: int) -> None:
        """Say how many hosts there are."""
        self._total = total
        if self._args.json:
            head = {"kind": f"fleet-{self._args.action}", "format_version": FORMAT_VERSION}
            self._line({**head, "hosts": total, "run": self._run or None})
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def __exit__(
        self,
        _kind: Optional[type[BaseException]],
        _error: Optional[BaseException],
        _trace: Optional[TracebackType],
    ) -> None:
        """End the progress, whatever happened."""
        if self._bar is not None:
            self._bar.stop()

    def host(self, standing: HostStanding) -> None:
        """Show one host's word as it comes."""
        self._done += 1
        if self._args.json:
            self._line(host_state.plain(standing))
        elif self._bar is not None:
            from rich.text import Text

            self._bar.console.print(Text(self._explained(standing)))
            self._bar.advance(self._task)
        elif self._progress:
            print(f"[{self._done}/{self._total}] {self._explained(standing)}", file=sys.stderr)

    def _explained(self, standing: HostStanding) -> str:
        note = f": {standing.message}" if standing.message else ""
        code = f" (exit {standing.rc})" if standing.rc else ""
        return clean(f"{standing.host}  {standing.state}{code}{note}")

    def _line(self, plain: Mapping[str, Any]) -> None:
        print(json.dumps(plain, separators=(",", ":")), flush=True)

    def stopped(
        self, found: Mapping[str, HostStanding], code: int, folder: str = "", resume: str = ""
    ) -> None:
        """Show how every host stands, a line each, now that a signal has ended what went on."""
        if self._args.json:
            for standing in found.values():
                self._line(host_state.plain(standing))
            self._line({"kind": "summary", "hosts": counts(found.values()), "exit": code,
                        "halted": "stopped by a signal", "folder": folder or None,
                        "resume": resume or None})  # fmt: skip
            return
        print("Stopped by a signal: only what a host does by itself continues.")
        for standing in found.values():
            self._stands(standing)
        print(_counted(found))
        if folder:
            print(f"\nThe run is kept in {folder}.")
        if resume:
            print(f"Next: '{resume}' continues with the rest.")

    def states(
        self,
        found: Mapping[str, HostStanding],
        halted: str = "",
        folder: str = "",
        resume: str = "",
        out: Sequence[str] = (),
    ) -> None:
        """Show how every host stands: those that need a look by name, the rest counted.

        ``out``: hosts of the run that were left out of this part of it.
        """
        self._summary(found, halted=halted or None, folder=folder or None)
        if self._args.json:
            return
        for standing in found.values():
            wanted = standing.state == "reverted" and self._args.action == "rollback"
            told = standing.state in ("applied", "reverted", "needs-human") and not wanted
            if standing.rc or told:
                self._stands(standing, f"exit {standing.rc}  ")
        print(_counted(found))
        if out:
            print(f"Left out: {_named(out)}.")
        if halted:
            print(f"Stopped: {clean(halted)}.")
        if folder and not self._args.quiet:
            print(f"\nThe run is kept in {folder}.")
            if resume and (halted or any(s.rc for s in found.values())):
                print(f"Next: '{resume}' continues with the rest.")

    def _stands(self, standing: HostStanding, code: str = "") -> None:
        mark = self._style(_COLOURS.get(standing.state, "dim"), f"{standing.state:11}")
        host = self._style("bold", clean(standing.host))
        print(f"{mark} {host}  {code}{clean(standing.message)}".rstrip())

    def _failed(self, standing: HostStanding) -> None:
        host = self._style("red", clean(standing.host))
        print(f"{host}  exit {standing.rc}  {clean(standing.message)}")

    def groups(self, groups: Sequence[Group]) -> None:
        """Show what would change, once for all hosts on which it is the same."""
        if self._args.json:
            self._line({"kind": "groups", "groups": codec.encode(groups)})
            return
        for group in groups:
            print(f"{self._style('bold', _hosts(len(group.hosts)))}: {_named(group.hosts)}")
            if not group.changes:
                print(f"  {clean(', '.join(group.summary)) or 'nothing to change'}")
            for change in group.changes:
                for line in self._change(change):
                    print(f"  {line}")

    def would(self, groups: Sequence[Group]) -> None:
        """Count, of a dry run, the hosts that would change."""
        if not self._args.json:
            number = sum(len(group.hosts) for group in groups if group.summary)
            print(f"{_hosts(number)} would change; this was a dry run.")

    def _change(self, change: Shown) -> Iterator[str]:
        mark = MARKS.get(change.action, "~")
        head = f"by {clean(change.fix)}; risk {clean(change.risk)}"
        yield f"{mark} {self._style('bold', clean(change.resource))}  {head}"
        if change.accept_harm:
            yield f"    {accepted_harm(change.fix, change.accept_harm)}"
        yield from (f"    {line}" for line in diff_lines(change.diff, self._style))

    def plans(self, groups: Sequence[Group], found: Mapping[str, HostStanding], out: str) -> None:
        """Show groups of hosts with the same change, then those without a plan."""
        if self._args.json:
            self._summary(found, groups=codec.encode(groups))
            return
        self.groups(groups)
        for standing in found.values():
            if standing.rc:
                self._failed(standing)
        rest = sum(len(group.hosts) for group in groups[1:] if group.summary)
        first = groups[0] if groups and groups[0].summary else None
        if first is not None:
            more = f"; {rest} differ" if rest else ""
            print(f"{_hosts(len(first.hosts))}: {clean(', '.join(first.summary))}{more}.")
        if out and not self._args.quiet:
            again = shlex.join(["remedy", "fleet", "apply", out, *_selected(self._args)])
            print(f"\nNext: '{again}' applies exactly these.")

    def findings(self, found: Mapping[str, HostStanding]) -> None:
        """Show each condition and the hosts that have it, worst verdict first."""
        if self._args.json:
            self._summary(found)
            return
        seen: dict[tuple[str, str], list[str]] = {}
        for host, standing in found.items():
            items = standing.details.get("findings")
            for condition, _subject, verdict in items if isinstance(items, list) else []:
                seen.setdefault((str(verdict), str(condition)), []).append(host)
        order = ("proven", "active", "exposed", "unknown", "mitigated")
        for (verdict, condition), hosts in sorted(
            seen.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
        ):
            names = list(dict.fromkeys(hosts))
            print(f"{self._style.verdict(verdict)} {self._style('bold', clean(condition))}  "
                  f"{_hosts(len(names))}: {_named(names)}")  # fmt: skip
        for standing in found.values():
            if standing.rc not in (0, 2):
                self._failed(standing)
        if self._args.action == "report":
            kept = Counter(
                str(resource)
                for standing in found.values()
                for resource in _list(standing.details.get("in_force"))
            )
            for resource, number in sorted(kept.items()):
                print(f"in force  {clean(resource)}  {_hosts(number)}")
        print(f"{_hosts(len(found))}, {sum(1 for s in found.values() if s.rc == 0)} with nothing "
              "failing now.")  # fmt: skip

    def _summary(self, found: Mapping[str, HostStanding], **more: object) -> None:
        if self._args.json:
            code = host_state.worst(s.rc for s in found.values())
            tail = {"kind": "summary", "hosts": counts(found.values()), "exit": code}
            self._line({**tail, **more})


def _selected(args: argparse.Namespace) -> Iterator[str]:
    """Yield the options that selected the hosts of this command."""
    for inventory in args.inventory:
        yield from ("-i", inventory)
    patterns = [("--limit", args.limit), *(("--exclude", each) for each in args.exclude)]
    for flag, value in (*patterns, ("--ansible", args.ansible)):
        if value:
            yield f"{flag}={value}"


def _counted(found: Mapping[str, HostStanding]) -> str:
    said = [f"{n} {state}" for state, n in counts(found.values()).items() if n]
    return f"{_hosts(len(found))}: {', '.join(said) or 'none'}."


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _hosts(number: int) -> str:
    return f"{number} host" if number == 1 else f"{number} hosts"


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(clean(name) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
