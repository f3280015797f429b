"""The values that a trace yields. Frozen, JSON by :mod:`remedies.codec`."""

from __future__ import annotations

from typing import Optional

from remedies.facts.process import Process
from remedies.netlink.flow import Flow, Tuple
from remedies.values import dataclass


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
    unread: tuple[str, ...]
