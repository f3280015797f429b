"""The values that a trace yields. Frozen, JSON by :mod:`remedies.codec`."""

from __future__ import annotations

from typing import Optional, Union

from remedies.facts.drops import SeenDrop
from remedies.facts.process import Process
from remedies.model import Finding
from remedies.netlink.flow import Flow, Tuple
from remedies.printable import end
from remedies.rules.rule import PacketRule
from remedies.values import dataclass

FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")
"""TCP's, the lowest bit first."""


@dataclass(frozen=True)
class Meaning:
    """What one packet says, given what the kernel knows about it."""

    text: str
    """One sentence without the verdict."""
    condition: Optional[str] = None
    """The condition it proves, if any."""


@dataclass(frozen=True)
class Event:
    """One packet, tied to what it is about."""

    time: float
    """Seconds since 1970: when its first packet was heard."""
    event: str
    """``reset``, ``refused``, ``refusal`` or ``syn`` (see :mod:`remedies.tap.packets`)."""
    protocol: str
    way: Tuple
    """Direction of the packet, or of the datagram that was refused."""
    peer: str
    """The address that the packet went to, or came from."""
    meaning: Meaning
    count: int = 1
    reason: Optional[str] = None
    """The kernel's own (SK_RST_REASON_*), where it gives one."""
    flow: Optional[Flow] = None
    process: Optional[Process] = None


@dataclass(frozen=True)
class DropEvent:
    """Packets of one conversation that the kernel dropped in one place, for one reason."""

    time: float
    """Seconds since 1970: when they were first seen in the kernel's count."""
    reason: str
    """The kernel's own, without its prefix: ``NETFILTER_DROP``."""
    means: str
    """The reason in words; see :mod:`remedies.trace.drop_reasons`."""
    look: str
    """Where to look; may be empty."""
    ordinary: bool
    """Part of a working protocol."""
    protocol: str
    way: Optional[Tuple]
    """None where it is no IP packet. A port is 0 where the protocol has none, or the kernel keeps
    it apart from the IP header; in a summary also where clients' ports differ."""
    flags: str
    """TCP's, as ``SYN ACK``."""
    namespace: str
    """What ``--netns`` takes; empty: the one that is traced. ``?``: one that has gone."""
    container: str
    """Id (12 digits) of the container in that namespace, or empty."""
    link: str
    """The interface, or empty."""
    conntrack: str
    """Its state there, ``established, reply``; empty: none, or INVALID."""
    place: str
    """The kernel's function that dropped it, or empty."""
    count: int = 1
    rule: str = ""
    """The firewall's rule that surely drops it; empty where none can be told."""
    invalid: bool = False
    """The rule does so because conntrack calls it INVALID, though it knows the connection."""
    about: tuple[str, ...] = ()
    """What else is known: the flow, the way back, the sockets of that port."""
    fix: str = ""
    """What lets such packets by, as a command where there is one; empty: not known."""
    condition: str = ""
    """The condition that it is a sign of, or empty."""
    container_name: str = ""
    """What its daemon calls it, or empty."""
    sent_by: Optional[PacketRule] = None
    """The DNAT rule that may have sent it where it was dropped, if conntrack has no flow of it."""
    sign: str = ""
    """The reason, or the one that the kernel's function stands for where it gives none."""

    @property
    def text(self) -> str:
        """Return one line: which packet, where, why."""
        way, ends = self.way, ""
        if way is not None:
            ends = f" {end(way.source, way.source_port)} -> "
            ends += end(way.destination, way.destination_port)
        where = f" on {self.link}" if self.link else ""
        if self.container:
            where += f" in container {self.container_name or self.container}"
        elif self.namespace == "?":
            where += " in a namespace that has gone"
        elif self.namespace:
            where += f" in namespace {self.namespace}"
        flags = f" {self.flags}" if self.flags else ""
        return f"{self.protocol}{flags}{ends}{where}: {'; '.join((self.why, *self.about))}"

    @property
    def why(self) -> str:
        """Return what drops it, with the kernel's reason and conntrack's state."""
        place = f" in {self.place}" if self.place else ""
        flow = f"; conntrack: {self.conntrack}" if self.conntrack else ""
        invalid = "conntrack calls it INVALID and " if self.invalid else ""
        why = f"{invalid}{self.rule} drops it" if self.rule else self.means
        return f"{why} ({self.reason}{place}{flow})"

    @property
    def seen(self) -> Optional[SeenDrop]:
        """Return it as ``scan`` has it; None for what is no IP packet."""
        if self.way is None:
            return None
        return SeenDrop(
            reason=self.reason,
            protocol=self.protocol.split()[0],
            way=self.way,
            count=self.count,
            state=self.conntrack,
            link=self.link,
            flags=sum(1 << FLAGS.index(name) for name in self.flags.split()),
            place=self.place,
            icmp=self.icmp,
        )

    @property
    def icmp(self) -> Optional[tuple[int, int]]:
        """Return type and code of an ICMP message; None for any other packet."""
        words = self.protocol.split()
        return (int(words[2]), int(words[4])) if len(words) == 5 else None


@dataclass(frozen=True)
class ConversationStep:
    """What conntrack says of the conversation that is followed."""

    time: float
    """Seconds since 1970: when it was seen."""
    step: str
    """``request``, ``turned`` (to another address), ``source`` (it got another one) or
    ``answered``."""
    text: str
    flow: Flow
    rule: Optional[PacketRule] = None
    """The NAT rule that may have done it."""


@dataclass(frozen=True)
class Sentence:
    """What conntrack says of packets: as a rule, why it calls them INVALID."""

    time: float
    """Seconds since 1970: when the first one was heard."""
    text: str
    """The kernel's own words, of the first packet of the kind."""
    protocol: str
    way: Tuple
    """Of that packet, as it was when conntrack saw it."""
    flags: str
    """TCP's, as ``PSH ACK``."""
    count: int = 1
    """Packets of the kind, whatever port their client has and whatever numbers are in the words."""

    @property
    def line(self) -> str:
        """Return one line: which packet, and what is said of it."""
        way, flags = self.way, f" {self.flags}" if self.flags else ""
        ends = f"{end(way.source, way.source_port)} -> {end(way.destination, way.destination_port)}"
        return f"{self.protocol}{flags} {ends}: {by_conntrack(self.text)}"


def by_conntrack(text: str) -> str:
    """Return a sentence of conntrack's as it stands beside others."""
    return f'conntrack says "{text}"'


@dataclass(frozen=True)
class Interval:
    """What happened in the last second beside the events told one by one."""

    time: float
    untold: int = 0
    """New events that were not told, to keep the output readable."""
    packets: int = 0
    """Packets that were counted, those of events that were told included."""
    unexamined: int = 0
    """Packets of a flood that were counted and not looked at."""
    lost: int = 0
    """Packets that the kernel dropped because we were too slow."""

    def since(self, before: Interval) -> Interval:
        """Return what was counted between the two; ``untold`` is of the last second."""
        return Interval(
            time=self.time,
            untold=self.untold,
            packets=self.packets - before.packets,
            unexamined=self.unexamined - before.unexamined,
            lost=self.lost - before.lost,
        )


@dataclass(frozen=True)
class Summary:
    """What a trace came to."""

    seconds: float
    heard: dict[str, int]
    """Packets by event; ``forwarded``: passing through."""
    proven: dict[str, int]
    """Condition to packets that prove it."""
    top: tuple[Event, ...]
    """The events with most packets, those that prove something first; ``count`` is final."""
    unexamined: int
    lost: int
    reasons: str
    """Where the kernel's own reasons came from, or why there are none."""
    reasons_lost: int
    machine_drops: Optional[int]
    """NO_SOCKET drops of the whole machine, where the kernel names no tuple."""
    drops: tuple[DropEvent, ...]
    """The kinds of drops with most packets; ``count`` is final."""
    dropped: int
    """Packets that the kernel dropped, those that found no room to be told apart included."""
    drops_lost: int
    """Of these, those that are counted and not told apart."""
    drops_source: str
    """Where drops came from, or why there are none."""
    followed: Optional[str]
    """The conversation that was followed; None: everything was heard."""
    flows: tuple[Flow, ...]
    """Its flows, as conntrack had them last."""
    unread: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    """What conditions say of the drops and of full queues, as in ``scan``."""
    sentences: tuple[Sentence, ...] = ()
    """What conntrack itself said, the kinds with most packets; ``count`` is final."""
    sentences_lost: int = 0
    """Packets of which it said something that was not heard."""


Told = Union[Event, DropEvent, ConversationStep, Sentence, Interval]
"""What a trace yields while it goes on."""
