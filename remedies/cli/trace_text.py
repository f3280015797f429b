"""``remedy trace`` as text: a line for all that it tells, and what it came to."""

from __future__ import annotations

import argparse
import time
from collections import Counter

from remedies import catalogue
from remedies.cli.next_command import again
from remedies.cli.terminal import Style, clean
from remedies.facts.daemon_lines import option_of, sentence
from remedies.printable import both_ends
from remedies.trace.drops import without_port_of_client
from remedies.trace.event import (
    ConversationStep,
    DropEvent,
    Event,
    Interval,
    Sentence,
    Summary,
    Told,
)

_SHOWN_OF_A_KIND = 3


class _Grouped:
    """Events of one kind: what differs is the port that a client picked.

    The first ones are shown; what proves a fault always is.
    """

    def __init__(self) -> None:
        self._shown: Counter[tuple[object, ...]] = Counter()

    @staticmethod
    def kind(event: Event) -> tuple[object, ...]:
        """Return what an event has in common with others of its kind."""
        way = without_port_of_client(event.way)
        return event.event, event.protocol, way, event.peer, event.reason, event.meaning.condition

    def shows(self, event: Event) -> bool:
        """Tell whether to show one; the last that is says so."""
        kind = self.kind(event)
        self._shown[kind] += 1
        return event.meaning.condition is not None or self._shown[kind] <= _SHOWN_OF_A_KIND

    def last(self, event: Event) -> bool:
        """Tell whether those that follow are only counted."""
        return event.meaning.condition is None and self._shown[self.kind(event)] == _SHOWN_OF_A_KIND


class TextLines:
    """Prints each value as one line, at once."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Print by the options of the command line."""
        self._args, self._style = args, Style(args)
        self._grouped = _Grouped()

    def told(self, told: Told) -> None:
        """Print what a trace tells while it goes on."""
        if isinstance(told, Event):
            self._event(told)
        elif isinstance(told, DropEvent):
            _drop(told)
        elif isinstance(told, ConversationStep):
            print(f"{_clock(told.time)}  {clean(told.text)}", flush=True)
        elif isinstance(told, Sentence):
            print(f"{_clock(told.time)}  {clean(told.line)}", flush=True)
        else:
            _more(told)

    def _event(self, event: Event) -> None:
        if not self._grouped.shows(event):
            return
        text = f"{_clock(event.time)}  {clean(event.meaning.text)}"
        if event.meaning.condition:
            text += ": " + self._style("red", f"proven {event.meaning.condition}")
        if event.reason:
            text += f" (the kernel: {clean(event.reason)})"
        if self._grouped.last(event):
            text += "; more of the kind are counted"
        print(text, flush=True)

    def summary(self, summary: Summary) -> None:
        """Print what it came to, and what to type next."""
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
            print(f"{self._style('red', 'proven')} {condition}: {count:,} packets")
        for finding in summary.findings:
            verdict = self._style("red", finding.verdict)
            print(f"{verdict} {finding.condition}: {clean(finding.message)}")
        kinds: dict[tuple[object, ...], list[Event]] = {}
        for event in summary.top:
            if event.event != "syn":
                kinds.setdefault(_Grouped.kind(event), []).append(event)
        for events in kinds.values():
            count = sum(event.count for event in events)
            if count > 1:
                of_all = f", from or to {len(events)} ports of clients" if len(events) > 1 else ""
                print(f"  {count:,} times: {clean(events[0].meaning.text)}{of_all}")
        for told in dict.fromkeys(filter(None, map(_to_write, summary.top))):
            print(clean(told))
        _drops(summary)
        _sentences(summary)
        _flows(summary)
        if summary.unexamined:
            print(f"not examined: {summary.unexamined:,} packets (too many new flows at once)")
        slow = ", because remedy was too slow" if summary.lost or summary.reasons_lost else ""
        print(f"lost: {summary.lost:,} packets and {summary.reasons_lost:,} kernel reasons{slow}")
        if self._args.verbose or not summary.reasons.startswith("tracefs: tcp_send_reset"):
            print(f"source of the kernel's reset reasons: {clean(summary.reasons)}")
        if summary.machine_drops is not None:
            print(
                f"packets dropped system-wide because no socket listened: {summary.machine_drops:,}"
            )
        for reason in summary.unread:
            print(f"not read: {clean(reason)}")
        if not self._args.quiet:
            print(f"\n{_next(self._args, summary)}")


def _drop(drop: DropEvent) -> None:
    times = f"{drop.count:,} times " if drop.count > 1 else ""
    print(f"{_clock(drop.time)}  dropped {times}{clean(drop.text)}", flush=True)


def _clock(seconds: float) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds % 1 * 1000):03}"


def _more(more: Interval) -> None:
    parts = (
        (more.untold, "more events, not shown one by one"),
        (more.unexamined, "packets of new flows counted but not examined"),
        (more.lost, "packets lost"),
    )
    said = "; ".join(f"{number:,} {what}" for number, what in parts if number)
    print(f"  ... in the last second {more.packets:,} packets: {said}", flush=True)


def _next(args: argparse.Namespace, summary: Summary) -> str:
    """Return what to type next: what remedy would do about what was heard."""
    signs = dict.fromkeys(
        (
            *summary.proven,
            *(finding.condition for finding in summary.findings),
            *(drop.condition for drop in summary.drops if drop.condition),
        )
    )
    if signs:
        fixes = {sign: " or ".join(catalogue.answering(sign)) for sign in signs}
        told = [f"{fix} for {sign}" for sign, fix in fixes.items() if fix]
        by_hand = [f"'remedy explain {sign}'" for sign, fix in fixes.items() if not fix]
        plan = f"'{again(args, 'plan')}' shows {', '.join(told)}" if told else ""
        rest = f"what is above is done by hand: {', '.join(by_hand)}" if by_hand else ""
        return f"Next: {'; '.join(filter(None, (plan, rest)))}."
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
        print(f"  {drop.count:,} times: {clean(drop.text)}")
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


def _sentences(summary: Summary) -> None:
    """Print what conntrack itself said of packets, where it was asked to."""
    for said in summary.sentences:
        print(f"  {said.count:,} times: {clean(said.line)}")
    if summary.sentences_lost:
        print(f"not heard: what conntrack said of {summary.sentences_lost:,} more packets")


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
