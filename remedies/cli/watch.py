"""``remedy watch``: what appears, changes and clears on this host, until somebody ends it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from typing import Any, Optional

from remedies.cli import files, starting, writing
from remedies.cli.everywhere import everywhere_from
from remedies.cli.parser import duration, warn, watching
from remedies.cli.terminal import Style, clean
from remedies.errors import UsageError
from remedies.facts.gather import now
from remedies.local_time import local
from remedies.model import FORMAT_VERSION
from remedies.namespaces import machine, workers
from remedies.operations.session import HostSession
from remedies.trace.stop_signal import Ending
from remedies.values import replace
from remedies.watch import baseline, endpoint, metrics, service_manager
from remedies.watch.applier import Applier, PlacedApply
from remedies.watch.baseline import WatchPlace
from remedies.watch.endpoint import Endpoint
from remedies.watch.watcher import PlacedEvent, Watcher, listening

EXAMPLES = (
    ("watch", "print what appears, changes and clears on this host"),
    ("watch --all-netns --json", "also in every container, a line of JSON for each event"),
)
_SHORTEST = 0.1
"""Seconds between two pulses, at least."""
_COMPILING = 60.0
"""Seconds that a policy may take to be compiled ahead."""
_STALE, _GRACE = 3, 30.0
"""Intervals, and seconds beyond them, without news after which no numbers are served."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument(
        "--interval",
        type=duration,
        default=10.0,
        metavar="TIME",
        help="report within this time what appeared, changed or cleared (default: 10s)",
    )
    parser.add_argument(
        "--rescan",
        type=duration,
        default=1800.0,
        metavar="TIME",
        help="scan at least this often, also where no counter moves (default: 30m)",
    )
    parser.add_argument(
        "--all-netns",
        action="store_true",
        help="also every other network namespace: containers, and those with a name",
    )
    parser.add_argument(
        "--metrics",
        metavar="FILE",
        help="write metrics for node_exporter's textfile collector; removed at the end",
    )
    parser.add_argument(
        "--listen",
        metavar="[ADDR:]PORT",
        help="serve metrics as OpenMetrics under /metrics (ADDR: 127.0.0.1 unless given)",
    )
    parser.add_argument(
        "--unattended",
        action="store_true",
        help="apply harmless fixes for proven faults, as the policy's 'unattended' allows "
        "(without: change nothing)",
    )
    watching(parser)
    parser.set_defaults(at_home=_prepare)


def _prepare(args: argparse.Namespace) -> None:
    """Listen where the command was started: ``--netns`` is where it looks."""
    if args.netns == machine.SPEC:
        machine.demand()
    args.listen = endpoint.listen(*endpoint.address(args.listen)) if args.listen else None


def run(args: argparse.Namespace) -> int:
    """Watch and print until SIGINT or SIGTERM, which is the ordinary end: 0."""
    if args.all_netns:
        everywhere_from(args)
    if args.interval < _SHORTEST:
        raise UsageError(f"--interval {args.interval:g}s is too short", f"at least {_SHORTEST:g}s")
    manager = service_manager.from_environment()
    if args.policy != ["-"]:
        # What compiles a policy takes twice the memory of the watch: a child does, and keeps it.
        workers.visit_all([lambda: starting.load_policy(args).digest], _COMPILING)
    here = _unattended(args) if args.unattended else starting.start(args)
    starting.warn_unfinished(here)
    if here.host.netns != "host" and not args.netns:
        warn(
            "this is not the machine's own network namespace: its faults are not seen from here; "
            "add '--netns host'"
        )
    scope = "all" if args.all_netns else here.host.netns
    with contextlib.ExitStack() as stack:
        ending = stack.enter_context(Ending())
        stack.enter_context(baseline.alone(here.state_dir, scope))
        server = None
        if args.listen is not None:
            server = stack.enter_context(Endpoint(args.listen, _STALE * args.interval + _GRACE))
        known, unusable = baseline.load(here.state_dir, scope, here.host.boot_id)
        if unusable:
            warn(unusable)
        applier = Applier(
            replace(here, window=max(here.window, listening((), args.interval))),
            here.policy.unattended if args.unattended else None,
            known.applied,
            baseline.stop_file(here.state_dir),
        )
        watcher = Watcher(
            here,
            everywhere=args.all_netns,
            interval=args.interval,
            rescan=args.rescan,
            known=known,
            manager=manager,
            applier=applier,
        )
        if args.metrics:
            stack.callback(_removed, args.metrics)
        _publish(args, watcher, server)
        _begin(args, here, known, server)
        style = Style(args)
        unsaved = False
        for told in watcher.watch(ending):
            if isinstance(told, PlacedEvent):
                _event(args, style, told)
                unsaved = True
                continue
            if isinstance(told, PlacedApply):
                baseline.save(here.state_dir, scope, watcher.saved())
                _applied(args, style, told, here.state_dir)
                continue
            if told.first:
                _ready(args, watcher)
            if unsaved or told.first:
                baseline.save(here.state_dir, scope, watcher.saved())
                unsaved = False
            _publish(args, watcher, server)
            manager.tell(f"STATUS={_standing(watcher)}")
        manager.tell("STOPPING=1")
        if watcher.ready:
            baseline.save(here.state_dir, scope, watcher.saved())
    return 0


def _unattended(args: argparse.Namespace) -> HostSession:
    """Return a session that may write. Raises UsageError where policy does not allow it."""
    here = writing.start(args, "watch --unattended")
    if here.policy.unattended is None:
        raise UsageError(
            f"policy {' + '.join(here.policy.names)} allows nothing with nobody there",
            "leave --unattended out, or add 'unattended: {conditions: [...]}' to a policy of yours",
        )
    return here


def _publish(args: argparse.Namespace, watcher: Watcher, server: Optional[Endpoint]) -> None:
    """Hand the numbers to who reads them."""
    if args.metrics:
        text = metrics.text(watcher.numbers(), openmetrics=False)
        files.write_bytes(args.metrics, text.encode(), 0o644)
    if server is not None:
        text = metrics.text(watcher.numbers(), openmetrics=True)
        server.update(text, ready=watcher.ready)


def _removed(path: str) -> None:
    """Remove the file of numbers: what nobody renews would be read as how things are."""
    if not files.is_device(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _line(kind: str, **values: Any) -> None:
    """Print one line of JSON at once."""
    plain = {"format_version": FORMAT_VERSION, "kind": kind, **values}
    print(json.dumps(plain, separators=(",", ":")), flush=True)


def _begin(
    args: argparse.Namespace,
    here: HostSession,
    known: baseline.Baseline,
    server: Optional[Endpoint],
) -> None:
    """Say what is watched, by which policy, and from which baseline."""
    findings = sum(len(each.seen) for each in known.namespaces)
    if args.json:
        _line(
            "watch",
            time=now(),
            host=here.host.name,
            netns=None if args.all_netns else here.host.netns,
            interval=args.interval,
            policy=list(here.policy.names),
            baseline=known.time or None,
            known=findings,
            port=server.port if server else None,
        )
        return
    where = "every network namespace" if args.all_netns else "this host"
    if not args.all_netns and here.host.netns != "host":
        where = f"namespace {args.netns or here.host.netns}"
    many = f"{findings} findings" if findings != 1 else "1 finding"
    past = f"; {many} known since {local(known.time)}" if known.time else ""
    policy = " + ".join(here.policy.names)
    print(
        clean(
            f"watching {where} ({here.host.name}), each change within {args.interval:g} s, policy "
            f"{policy}{past}; Ctrl-C ends it"
        ),
        flush=True,
    )


def _standing(watcher: Watcher) -> str:
    """Return how things stand, in a few words."""
    watched, tally = len(watcher.namespaces), watcher.tally()
    many = f"{watched} namespaces" if watched != 1 else "1 namespace"
    return (
        f"{many}: {tally['failing']} faults seen, {tally['exposed']} could happen, "
        f"{tally['unknown']} not judged"
    )


def _ready(args: argparse.Namespace, watcher: Watcher) -> None:
    """Say once how things stand when a whole interval has passed."""
    if args.json:
        _line("watch-ready", time=now(), namespaces=len(watcher.namespaces), **watcher.tally())
    elif not args.quiet:
        print(f"{_clock()}  first interval over, {_standing(watcher)}", flush=True)


def _event(args: argparse.Namespace, style: Style, told: PlacedEvent) -> None:
    event, place = told.event, told.place
    if args.json:
        _line(
            "watch-event",
            time=event.time,
            event=event.event,
            **_place(place),
            condition=event.condition,
            subject=event.subject,
            verdict=event.verdict,
            before=event.before,
            severity=event.severity,
            message=event.message,
            reason=event.reason,
            since=event.since,
        )
        return
    verdict = "cleared" if event.verdict is None else event.verdict
    was = f" (was {event.before})" if event.before else ""
    could = "could happen: " if event.verdict == "exposed" else ""
    where = _title(place)
    said = "" if event.verdict is None else f": {could}{event.message}"
    print(
        f"{_clock()}  {style.verdict(verdict)} {style('bold', clean(event.condition))}  "
        + clean(f"{event.subject}{where}{was}{said} [{event.reason}]"),
        flush=True,
    )


def _applied(args: argparse.Namespace, style: Style, told: PlacedApply, state_dir: str) -> None:
    place = told.place
    if args.json:
        _line(
            "watch-apply",
            time=told.time,
            **_place(place),
            condition=told.condition,
            subject=told.subject,
            outcome=told.outcome,
            reason=told.reason,
            transaction=told.transaction or None,
            fixes=list(told.fixes),
            stopped=told.stopped,
        )
        return
    what = f"{told.outcome} {', '.join(told.fixes)}" if told.outcome else "nothing applied"
    undo = f" ('remedy rollback {told.transaction}' takes it back)"
    stop = f"; nothing more is applied until somebody removes {baseline.stop_file(state_dir)}"
    said = [
        f" for {told.condition}  {told.subject}{_title(place)}",
        undo if told.outcome == "applied" and not told.once else "",
        f": {told.reason}" if told.reason else "",
        stop if told.stopped else "",
    ]
    print(f"{_clock()}  {style('bold', what)}{clean(''.join(said))}", flush=True)


def _place(place: WatchPlace) -> dict[str, Optional[str]]:
    """Return how a line of JSON names a namespace."""
    return {
        "netns": place.netns or None,
        "netns_name": place.name or None,
        "netns_key": place.key,
        "container": place.container or None,
    }


def _title(place: WatchPlace) -> str:
    """Return where an event is, as a person calls it; nothing for the watch's own."""
    if not place.netns:
        return ""
    if place.container:
        return f" in container {place.container}"
    return f" in namespace {place.name}" if place.name else f" in the namespace of {place.netns}"


def _clock() -> str:
    return time.strftime("%H:%M:%S")
