"""``remedy trace``: resets, refusals and dropped packets as they happen; what they prove."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from typing import Any, Optional

from remedies import codec
from remedies.cli.next_command import again
from remedies.cli.parser import duration
from remedies.cli.terminal import Style, clean
from remedies.errors import NotPermitted, Unreadable
from remedies.facts.daemon_lines import option_of, sentence
from remedies.operations.session import cache_of
from remedies.printable import at, both_ends
from remedies.trace.event import ConversationStep, DropEvent, Event, Interval, Summary
from remedies.trace.packet_ends import named
from remedies.trace.packet_filter import FORM, PacketFilter
from remedies.trace.packet_filter import parse as packet_filter
from remedies.trace.session import TraceSession
from remedies.trace.stop_signal import Ending

EXAMPLES = (
    ("trace", "watch for ten seconds"),
    ("trace --for 5m --syn", "watch for five minutes, and show repeated SYNs"),
    (
        "trace --packet 'udp from 172.17.0.2 to 10.21.17.99:4000'",
        "follow one conversation: where does it go, who answers, what drops it",
    ),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument(
        "--for",
        dest="seconds",
        type=duration,
        default=10.0,
        metavar="TIME",
        help="how long to watch (default: 10s); Ctrl-C ends it earlier",
    )
    parser.add_argument(
        "--syn",
        action="store_true",
        help="also show repeated connection attempts (SYN retransmissions)",
    )

    parser.add_argument(
        "--packet",
        type=packet_filter,
        metavar="WHICH",
        help=f"follow one conversation: {FORM}",
    )


def run(args: argparse.Namespace) -> int:
    """Trace and print; 2 where something is proven. Ctrl-C and SIGTERM still get the summary."""
    style = Style(args)
    wanted = named(args.packet)
    try:
        session = TraceSession(syn=args.syn, wanted=wanted, cache=cache_of(args.state_dir))
        with Ending() as ending, session:
            _begin(args, wanted)
            for told in session.events(args.seconds, ending):
                if isinstance(told, Event):
                    _event(args, style, told)
                elif isinstance(told, DropEvent):
                    _drop(args, told)
                elif isinstance(told, ConversationStep):
                    _step(args, told)
                else:
                    _more(args, told)
            summary = session.summary()
    except Unreadable as error:
        if isinstance(error.__cause__, PermissionError):
            raise NotPermitted("trace: a packet socket is not permitted", "run as root") from None
        raise
    _summary(args, style, summary)
    if ending.signal is not None:
        return 128 + ending.signal
    return 2 if summary.proven else 0


def _begin(args: argparse.Namespace, wanted: Optional[PacketFilter]) -> None:
    if not args.quiet:
        syns = ", repeated SYNs" if args.syn else ""
        what = f"resets, port unreachables{syns} and dropped packets"
        which = f" of {wanted}" if wanted else ""
        print(f"listening for {what}{which} for {args.seconds:g} s", file=sys.stderr, flush=True)


def _line(kind: str, **values: Any) -> None:
    """Print one line of JSON at once."""
    plain = {"format_version": "1.0", "kind": kind}
    plain.update((name, codec.encode(value)) for name, value in values.items())
    print(json.dumps(plain, separators=(",", ":")), flush=True)


def _fields(event: Event) -> dict[str, Any]:
    """Return the keys that an event has in JSON."""
    return {
        "time": _utc(event.time),
        "event": event.event,
        "protocol": event.protocol,
        "source": event.way.source,
        "source_port": event.way.source_port,
        "destination": event.way.destination,
        "destination_port": event.way.destination_port,
        "peer": event.peer,
        "verdict": "proven" if event.meaning.condition else None,
        "condition": event.meaning.condition,
        "message": event.meaning.text,
        "count": event.count,
        "reason": event.reason,
        "flow": event.flow,
        "process": event.process,
    }


def _event(args: argparse.Namespace, style: Style, event: Event) -> None:
    if args.json:
        _line("trace-event", **_fields(event))
        return

    text = f"{_clock(event.time)}  {clean(event.meaning.text)}"
    if event.meaning.condition:
        text += ": " + style("red", f"proven {event.meaning.condition}")
    if event.reason:
        text += f" (the kernel: {clean(event.reason)})"
    print(text, flush=True)


def _drop_fields(drop: DropEvent) -> dict[str, Any]:
    """Return the keys that a drop has in JSON."""
    way = drop.way
    return {
        "time": _utc(drop.time),
        "reason": drop.reason,
        "message": drop.means,
        "look": drop.look,
        "ordinary": drop.ordinary,
        "protocol": drop.protocol,
        "source": way.source if way else None,
        "source_port": way.source_port if way else None,
        "destination": way.destination if way else None,
        "destination_port": way.destination_port if way else None,
        "flags": drop.flags,
        "namespace": drop.namespace,
        "container": drop.container,
        "container_name": drop.container_name,
        "link": drop.link,
        "conntrack": drop.conntrack,
        "place": drop.place,
        "rule": drop.rule,
        "invalid": drop.invalid,
        "about": drop.about,
        "fix": drop.fix,
        "condition": drop.condition or None,
        "count": drop.count,
    }


def _drop(args: argparse.Namespace, drop: DropEvent) -> None:
    if args.json:
        _line("trace-drop", **_drop_fields(drop))
        return
    times = f"{drop.count:,} times " if drop.count > 1 else ""
    print(f"{_clock(drop.time)}  dropped {times}{clean(_dropped(drop))}", flush=True)


def _dropped(drop: DropEvent) -> str:
    """Return one line about a kind of drop: which packet, where, why."""
    way = drop.way
    ends = ""
    if way is not None:
        ends = f" {_end(way.source, way.source_port)} -> "
        ends += _end(way.destination, way.destination_port)
    where = f" on {drop.link}" if drop.link else ""
    if drop.container:
        where += f" in container {drop.container_name or drop.container}"
    elif drop.namespace == "?":
        where += " in a namespace that has gone"
    elif drop.namespace:
        where += f" in namespace {drop.namespace}"
    flags = f" {drop.flags}" if drop.flags else ""
    place = f" in {drop.place}" if drop.place else ""
    flow = f"; conntrack: {drop.conntrack}" if drop.conntrack else ""
    invalid = "conntrack calls it INVALID and " if drop.invalid else ""
    why = f"{invalid}{drop.rule} drops it" if drop.rule else drop.means
    told = "; ".join((f"{why} ({drop.reason}{place}{flow})", *drop.about))
    return f"{drop.protocol}{flags}{ends}{where}: {told}"


def _end(address: str, port: int) -> str:
    return at(address, port) if port else address


def _clock(seconds: float) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds % 1 * 1000):03}"


def _step(args: argparse.Namespace, step: ConversationStep) -> None:
    if args.json:
        _line(
            "trace-step",
            time=_utc(step.time),
            step=step.step,
            message=step.text,
            flow=step.flow,
            rule=step.rule,
        )
        return
    print(f"{_clock(step.time)}  {clean(step.text)}", flush=True)


def _more(args: argparse.Namespace, more: Interval) -> None:
    if args.json:
        _line(
            "trace-more",
            time=_utc(more.time),
            untold=more.untold,
            packets=more.packets,
            unexamined=more.unexamined,
            lost=more.lost,
        )
        return
    parts = (
        (more.untold, "more events, not shown one by one"),
        (more.unexamined, "packets of new flows counted but not examined"),
        (more.lost, "packets lost"),
    )
    said = "; ".join(f"{number:,} {what}" for number, what in parts if number)
    print(f"  ... in the last second {more.packets:,} packets: {said}", flush=True)


def _summary(args: argparse.Namespace, style: Style, summary: Summary) -> None:
    if args.json:
        _line(
            "trace",
            seconds=summary.seconds,
            heard=summary.heard,
            proven=summary.proven,
            top=[_fields(event) for event in summary.top],
            unexamined=summary.unexamined,
            lost=summary.lost,
            reasons=summary.reasons,
            reasons_lost=summary.reasons_lost,
            machine_drops=summary.machine_drops,
            drops=[_drop_fields(drop) for drop in summary.drops],
            dropped=summary.dropped,
            drops_lost=summary.drops_lost,
            drops_source=summary.drops_source,
            followed=summary.followed,
            flows=summary.flows,
            unread=summary.unread,
        )
        return
    names = {
        "reset": "resets sent",
        "refused": "port unreachables received",
        "refusal": "port unreachables sent",
        "syn": "SYNs sent",
        "forwarded": "passing through",
    }
    heard = ", ".join(f"{n:,} {names[event]}" for event, n in summary.heard.items())
    print(f"\n{summary.seconds:.1f} s: {heard or 'nothing heard'}")
    for condition, count in summary.proven.items():
        print(f"{style('red', 'proven')} {condition}: {count:,} packets")
    for event in summary.top:
        if event.count > 1 and event.event != "syn":
            print(f"  {event.count:,} times: {clean(event.meaning.text)}")
    for told in dict.fromkeys(filter(None, map(_to_write, summary.top))):
        print(clean(told))
    _drops(summary)
    _flows(summary)
    if summary.unexamined:
        print(f"not examined: {summary.unexamined:,} packets (too many new flows at once)")
    slow = ", because remedy was too slow" if summary.lost or summary.reasons_lost else ""
    print(f"lost: {summary.lost:,} packets and {summary.reasons_lost:,} kernel reasons{slow}")
    if args.verbose or not summary.reasons.startswith("tracefs: tcp_send_reset"):
        print(f"source of the kernel's reset reasons: {clean(summary.reasons)}")
    if summary.machine_drops is not None:
        print(f"packets dropped system-wide because no socket listened: {summary.machine_drops:,}")
    for reason in summary.unread:
        print(f"not read: {clean(reason)}")
    if not args.quiet:
        print(f"\n{_next(args, summary)}")


def _next(args: argparse.Namespace, summary: Summary) -> str:
    """Return what to type next: what remedy would do about what was heard."""
    signs = dict.fromkeys((*summary.proven, *(d.condition for d in summary.drops if d.condition)))
    if signs:
        told = f"shows what would be changed for {', '.join(signs)}"
        return f"Next: '{again(args, 'plan')}' {told}."
    if any(drop.fix for drop in summary.drops):
        return f"Next: the fix above; '{again(args, 'scan')}' finds what else could happen."
    return f"Next: '{again(args, 'scan')}' finds what could happen."


def _flows(summary: Summary) -> None:
    """Print what became of the conversation that was followed."""
    if summary.followed is None:
        return
    for flow in summary.flows:
        ends = both_ends(*flow.original.parts)
        print(f"{flow.protocol} {ends}: {'an' if flow.seen_reply else 'no'} answer arrived")
    if not summary.flows and not summary.dropped:
        print(
            f"{summary.followed}: conntrack has no flow of it here, and none of its packets was "
            "dropped: it does not reach this host, or it is not tracked"
        )


def _drops(summary: Summary) -> None:
    """Print what was dropped, most first, what lets it by, and where to look."""
    told = [drop for drop in summary.drops if not drop.ordinary]
    if summary.dropped:
        shown = sum(drop.count for drop in told)
        rest = summary.dropped - summary.drops_lost - shown
        beside = f", {rest:,} of them part of working protocols or not shown" if rest > 0 else ""
        print(f"dropped by the kernel: {summary.dropped:,} packets{beside}")
    for drop in told:
        print(f"  {drop.count:,} times: {clean(_dropped(drop))}")
        if drop.condition:
            print(f"    condition: {drop.condition} (remedy explain {drop.condition})")
        if drop.fix:
            print(f"    fix: {clean(drop.fix)}")
        if drop.look:
            print(f"    look: {clean(drop.look)}")
    if summary.drops_lost:
        print(f"dropped for reasons not shown: {summary.drops_lost:,} packets (too many kinds)")
    if summary.drops_source.startswith("none"):
        print(f"dropped packets are not shown: {clean(summary.drops_source[len('none: ') :])}")


def _to_write(event: Event) -> str:
    """Return what the server of a proven event is to be configured with, where that is known."""
    process, flow = event.process, event.flow
    if not event.meaning.condition or process is None or flow is None:
        return ""
    row, way = option_of(process.name, process.argv), flow.original
    if row is None or event.protocol != "udp":
        return ""
    told = sentence(row, (way.destination,), str(way.destination_port))
    return f"{process.name}[{process.pid}]: {told}"


def _utc(seconds: float) -> str:
    """Return RFC 3339, UTC, to the microsecond."""
    when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")
