"""One trace: hears, asks, and yields what it means as it happens. The reading part of the package.

::

    with Session(syn=False) as session:
        for told in session.events(10.0, ending): ...
        summary = session.summary()
"""

from __future__ import annotations

import select
import time
from collections.abc import Collection, Iterator
from typing import Optional, Union

from remedies.facts.pairs import Proof, here
from remedies.facts.process import Process
from remedies.netfilter.packet_log import PacketLog
from remedies.netlink.flow import Tuple
from remedies.tap.listener import Listener
from remedies.tap.lookups import Awaited, Questions
from remedies.tap.packets import REFUSAL, REFUSED, RESET
from remedies.tap.tally import TallyEntry
from remedies.trace import explain
from remedies.trace.answers import RefusedAnswers
from remedies.trace.bridged import bridged
from remedies.trace.conversation import Conversation
from remedies.trace.drop_ties import DropTies
from remedies.trace.drops import DropWatch
from remedies.trace.event import (
    ConversationStep,
    DropEvent,
    Event,
    Interval,
    Meaning,
    Sentence,
    Summary,
    Told,
    by_conntrack,
)
from remedies.trace.firewall_rules import FirewallRules
from remedies.trace.missed_nat import MissedNat, missed
from remedies.trace.packet_filter import PacketFilter
from remedies.trace.rate_limit import Pace
from remedies.trace.reasons import Reasons
from remedies.trace.sentences import Sentences
from remedies.trace.socket_owners import Holders
from remedies.trace.stop_signal import Ending
from remedies.trace.traced_rules import TracedRules
from remedies.trace.verdicts import Verdicts
from remedies.values import replace

_BLOCKS = 96  # 6 MiB: some 38,000 packets, most of a second at 50,000 packets a second
_MOST_TUPLES = 4096
_PER_SECOND = 1000.0
"""New tuples a second, of each class, that conntrack and sock_diag are asked about."""
_TOP = 20
_MOST_PROOFS = 1000


class TraceSession:
    """A trace of the namespace that the process is in when it begins."""

    def __init__(
        self,
        *,
        syn: bool = False,
        wanted: Optional[PacketFilter] = None,
        cache: Optional[str] = None,
        rules: bool = False,
        log: Optional[PacketLog] = None,
    ) -> None:
        """Describe it: ``syn`` hears SYNs, too; ``wanted`` follows one conversation and no other.

        ``rules``: have nftables trace the packets, by a table that ends with this trace. ``log``:
        where conntrack's sentences are heard, if somebody has it say them.
        ``cache``: the folder where the kernel's types may be kept. Nothing is opened before the
        ``with`` block.
        """
        self._syn, self._wanted = syn, wanted
        self._begin = 0.0
        self._tap: Optional[Listener] = None
        self._reasons = Reasons()
        self._questions = Questions()
        self._firewall = FirewallRules(self._questions)
        self._traced = TracedRules()
        self._trace_rules = rules
        self._sentences = Sentences(log, self._concerns)
        self._drops = DropWatch(self._concerns, self._explained, cache)
        self._holders = Holders()
        self._answers = RefusedAnswers(self._questions, self._holders)
        self._ties = DropTies(self._questions, self._answers.rules, self._holders)
        self._followed = Conversation(wanted, self._answers.rules) if wanted else None
        self._verdicts = Verdicts()
        self._pace = Pace()
        self._events: dict[TallyEntry, Event] = {}
        self._proofs: dict[TallyEntry, str] = {}
        self._told = Interval(0.0)

    def __enter__(self) -> TraceSession:
        """Begin to hear. Raises Unreadable where a packet socket may not be made."""
        try:
            self._tap = Listener(
                syn=self._syn, blocks=_BLOCKS, limit=_MOST_TUPLES, rate=_PER_SECOND
            )
            self._begin = time.monotonic()
            self._reasons.begin()
            self._drops.begin()
            self._verdicts.begin()
            if self._trace_rules:
                self._traced.begin(self._wanted)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop hearing and remove what was made for it."""
        try:
            self._reasons.close()
        finally:
            self._traced.close()
            self._verdicts.close()
            self._drops.close()
            if self._tap is not None:
                self._tap.close()
            self._questions.close()
            self._holders.close()
            self._answers.close()

    def events(self, seconds: float, ending: Ending) -> Iterator[Told]:
        """Yield what happens, as it happens; once a second what was not told one by one.

        Ends after ``seconds`` or when ``ending`` says so; what was heard by then is yielded first.
        """
        tap = self._hearing()
        poll = select.poll()
        more = self._traced.fileno(), *self._verdicts.filenos()
        for heard in (tap.fileno(), ending.fileno(), *more):
            if heard >= 0:
                poll.register(heard, select.POLLIN)
        end, tick = self._begin + seconds, self._begin + 1.0
        yield from self._steps()
        while ending.signal is None and (now := time.monotonic()) < end:
            if self._answers.heard.fileno() >= 0:
                poll.register(self._answers.heard.fileno(), select.POLLIN)
            poll.poll(max(0.0, (min(end, tick) - now) * 1000))
            self._answers.heard.hear()
            self._traced.hear()
            self._verdicts.hear()
            yield from self._judged(tap.hear())
            if time.monotonic() >= tick:
                yield from self._steps()
                yield from self._said()
                yield from self._dropped()
                yield from self._interval()
                tick = time.monotonic() + 1.0  # from its end: a slow one leaves time to hear
        yield from self._judged(tap.drain())
        yield from self._steps()
        yield from self._said()
        yield from self._dropped()
        yield from self._interval()

    def _steps(self) -> Iterator[ConversationStep]:
        if self._followed is not None:
            for step in self._followed.steps():
                self._traced.follow(step.flow.protocol, step.flow.reply)
                yield step

    def _early_steps(self) -> Iterator[ConversationStep]:
        if self._followed is not None:
            yield from self._followed.early_steps()

    def _concerns(self, protocol: str, way: Optional[Tuple]) -> bool:
        """Tell whether a packet is one of those that are asked about."""
        return self._followed is None or self._followed.takes(protocol, way)

    def _explained(self, drop: DropEvent) -> DropEvent:
        traced = self._traced.of(drop)
        rule = traced.rule or self._firewall.of_drop(drop, legacy=bool(traced.told))
        tied = self._ties.tie(drop, rule, traced.told)
        said = "" if drop.namespace else self._sentences.of(drop.protocol, drop.way)
        return replace(tied, about=(*tied.about, by_conntrack(said))) if said else tied

    def _said(self) -> Iterator[Sentence]:
        """Yield what conntrack said of packets, each kind once."""
        self._sentences.hear()
        for said in self._sentences.new():
            if self._pace.allows(proof=False):
                yield said

    def _dropped(self) -> Iterator[DropEvent]:
        """Yield the new kinds of drops; what belongs to a working protocol is only counted."""
        self._traced.hear()
        for drop in self._drops.read():
            if not drop.ordinary and self._pace.allows(proof=False):
                yield drop
        self._pace.untold += self._drops.untold
        yield from self._drops.again(self._newly_traced)

    def _newly_traced(self, drop: DropEvent) -> bool:
        """Tell whether nftrace has said something of a drop since it was told; have it marked."""
        if drop.sign != "NETFILTER_DROP" or drop.namespace:
            return False
        self._traced.follow(drop.protocol.split()[0], drop.way)
        told = self._traced.of(drop).told
        return bool(told) and told not in drop.about

    def _hearing(self) -> Listener:
        assert self._tap is not None  # noqa: S101  # inside the ``with`` block
        return self._tap

    def _judged(self, heard: Iterator[TallyEntry]) -> Iterator[Union[Event, ConversationStep]]:
        """Yield what may be told of what was just heard.

        The reasons are read after the packets: the kernel writes a reset's reason before it
        sends it.
        """
        entries = list(heard)
        self._reasons.read()
        if entries:
            self._sentences.hear()
            yield from self._early_steps()  # NAT's addresses of a flow that has just begun
        for entry in entries:
            if not self._concerns(entry.heard.protocol, entry.heard.way):
                continue
            event = self._judge(entry)
            proof = event.meaning.condition is not None
            if entry.count > 1 and entry in self._events and not proof:
                continue  # told already, and the second time says no more
            self._keep(entry, event)
            if self._pace.allows(proof=proof):
                yield event

    def _judge(self, entry: TallyEntry) -> Event:
        """Ask what a packet is about and say what it means."""
        heard, questions = entry.heard, self._questions
        way, local = heard.way, self._hearing().origin.local()
        reason: Optional[str] = None
        process: Optional[Process] = None
        peer = heard.destination
        if heard.event == RESET:
            entry.flow, reason = questions.flow("tcp", way.reversed), self._reasons.of(way)
            complete = self._reasons.complete()
            says = explain.reset(
                way, entry.flow, local, reason, reasons_complete=complete, answers=entry.answers
            )
            rule = None if says.condition or reason else self._firewall.of_reset(entry)
            says = says if rule is None else explain.rejected(way, rule)
            said = self._sentences.of("tcp", way.reversed)
            says = replace(says, text=f"{says.text}; {by_conntrack(said)}") if said else says
        elif heard.event == REFUSED or self._own(entry):
            peer = heard.source
            proof: Optional[Proof] = None
            connected = False
            udp = heard.protocol == "udp"
            behind = self._answers.behind(way, local) if udp else None
            if behind is not None:
                return _event(entry, peer, explain.refused_behind(way, peer, behind), None, None)
            if udp:
                proof = self._proof(entry, way, local)
                process, connected = self._answers.sender(way, proof)
            says = explain.refused(way, peer, heard.protocol, proof, process, connected=connected)
        elif heard.event == REFUSAL:
            says, process = self._refusal(entry, way, local)
        else:
            if entry.flow is None:
                entry.flow = questions.flow("tcp", way.reversed)
            says = explain.retry(way, entry.flow, entry.count, entry.last - entry.first)
        return _event(entry, peer, says, reason, process)

    def _own(self, entry: TallyEntry) -> bool:
        """Tell whether a program of this host refuses what another one here sent."""
        local = self._hearing().origin.local()
        way = entry.heard.way
        return entry.heard.event == REFUSAL and all(
            here(end, local) for end in (way.source, way.destination)
        )

    def _refusal(
        self, entry: TallyEntry, way: Tuple, local: Collection[str]
    ) -> tuple[Meaning, Optional[Process]]:
        """Say what a datagram was that this host refuses, and whose socket it should have met."""
        connected: Optional[str] = None
        process: Optional[Process] = None
        past: Optional[MissedNat] = None
        awaited: Optional[Awaited] = None
        if not here(way.destination, local):
            past_nat = bridged(self._questions, entry.heard.protocol, way)
            if past_nat is not None:
                entry.flow, says = past_nat
                return says, None
        elif entry.heard.protocol == "udp":
            connected, process = self._holders.connected(way, local)
            if connected is None:
                awaited = self._questions.awaited("udp", way)
                entry.flow = awaited and awaited.flow
                past = missed(self._questions, self._answers.rules, "udp", way)
        peer, protocol = entry.heard.destination, entry.heard.protocol
        says = explain.refusal(
            way, peer, protocol, connected, process, local, past=past, awaited=awaited
        )
        return says, process

    def _proof(self, entry: TallyEntry, way: Tuple, local: Collection[str]) -> Optional[Proof]:
        """Return the pair that a refused datagram of ours is part of."""
        proof = self._answers.proof(way, local)
        # What was heard and is in no table is no flow to name.
        if proof is not None and self._questions.flow("udp", proof.request.original):
            entry.flow = proof.request
        return proof

    def _keep(self, entry: TallyEntry, event: Event) -> None:
        """Remember an event for the summary; of a flood the first ones and every proof."""
        condition = event.meaning.condition
        if condition is not None and (entry in self._proofs or len(self._proofs) < _MOST_PROOFS):
            self._proofs[entry] = condition
            self._events[entry] = event
        elif entry in self._events or len(self._events) < _MOST_TUPLES:
            self._events[entry] = event

    def _interval(self) -> Iterator[Interval]:
        """Yield one line about the last second, where there is anything to add."""
        tap = self._hearing()
        tally = tap.tally
        now = Interval(
            time=time.time(),
            untold=self._pace.renew(),
            packets=sum(tally.totals.values()),
            unexamined=tally.unexamined,
            lost=tap.lost(),
        )
        more, self._told = now.since(self._told), now
        if more.untold or more.unexamined or more.lost:
            yield more

    def summary(self) -> Summary:
        """Return what the trace came to; call it inside the ``with`` block."""
        tap = self._hearing()
        lost, proven = tap.lost(), dict.fromkeys(self._proofs.values(), 0)
        for entry, condition in self._proofs.items():
            proven[condition] += entry.count
        drops, findings = self._verdicts.judged(self._drops.top(_TOP), self._ties.rules)
        kept = sorted(self._events, key=lambda e: (e not in self._proofs, -e.count, e.first))
        return Summary(
            seconds=round(time.monotonic() - self._begin, 3),
            heard=dict(sorted(tap.tally.totals.items())),
            proven=proven,
            top=tuple(replace(self._events[e], count=e.count) for e in kept[:_TOP]),
            unexamined=tap.tally.unexamined,
            lost=lost,
            reasons=self._reasons.source,
            reasons_lost=self._reasons.lost(),
            machine_drops=self._reasons.drops,
            drops=drops,
            dropped=self._drops.packets + self._drops.lost,
            drops_lost=self._drops.lost,
            drops_source=self._drops.source,
            followed=str(self._followed.wanted) if self._followed else None,
            findings=findings,
            flows=tuple(self._followed.flows.values()) if self._followed else (),
            sentences=self._sentences.top(_TOP),
            sentences_lost=self._sentences.lost(),
            unread=tuple(
                dict.fromkeys(
                    (
                        *self._questions.unread,
                        *tap.unread(),
                        *self._holders.unread,
                        *self._answers.heard.unread,
                        *self._answers.rules.unread,
                        *(self._followed.unread if self._followed else ()),
                        *self._firewall.unread,
                        *self._ties.unread,
                        *self._verdicts.unread,
                        *self._traced.unread,
                        *self._sentences.unread,
                    )
                )
            ),
        )


def _event(
    entry: TallyEntry, peer: str, says: Meaning, reason: Optional[str], process: Optional[Process]
) -> Event:
    return Event(
        time=entry.first,
        event=entry.heard.event,
        protocol=entry.heard.protocol,
        way=entry.heard.way,
        peer=peer,
        meaning=says,
        count=entry.count,
        reason=reason,
        flow=entry.flow,
        process=process,
    )
