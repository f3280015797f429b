"""For whom a segment was that this host answered with a reset. Pure: scan and trace judge by it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, Optional

from remedies.netlink.flow import Flow, Tuple
from remedies.values import NamedTuple

Whose = Literal["own", "here", "rejected", "unsure", "nat"]


class ResetOwner(NamedTuple):
    """Who should have had the segment that a reset answers."""

    whose: Whose
    """``own``: NAT changes nothing about it, it was for who got it. ``here``: NAT turns it to this
    host, whose own program may have sent the reset. ``rejected``: a firewall's REJECT answered.
    ``nat``: NAT would have sent it on, and the kernel's TCP answered instead: the fault.
    ``unsure``: the same, and nothing tells TCP's reset from a REJECT's."""
    end: Optional[str]
    """The address that NAT would have sent it to; None for ``own``."""


def owner(flow: Flow, incoming: Tuple) -> Optional[str]:
    """Return whose packet ``incoming`` was: the end of ``flow`` that NAT would have sent it to.

    None where NAT changes nothing about it, so that it was for who got it.
    """
    if flow.reply == incoming:
        end = flow.original.source, flow.original.source_port
    else:
        end = flow.reply.source, flow.reply.source_port
    same = end == (incoming.destination, incoming.destination_port)
    return None if same or not flow.nat else end[0]


def whose(
    way: Tuple,
    flow: Optional[Flow],
    local: Collection[str],
    *,
    answers: Optional[bool],
    reason: Optional[str] = None,
    reasons_complete: bool = False,
) -> ResetOwner:
    """Judge a reset that left ``way``; ``flow`` is that of the segment which provoked it.

    ``local``: this host's addresses. ``answers``: whether the packet itself shows that TCP sent it
    (:meth:`remedies.tap.origin.Origin.answers`), None where it cannot. ``reason``: the kernel's own
    (the tracepoint tcp_send_reset); where it gives reasons for all its resets and gave none for
    this one, a firewall's REJECT sent it, which is somebody's will and no fault.
    """
    end = None if flow is None else owner(flow, way.reversed)
    unreasoned = reason is None and reasons_complete
    if end is None:
        return ResetOwner("own", None)
    if end in local:
        if unreasoned:
            return ResetOwner("rejected", end)
        return ResetOwner("nat" if reason == "NO_SOCKET" else "here", end)
    if unreasoned or answers is False:
        return ResetOwner("rejected", end)
    return ResetOwner("nat" if answers or reason is not None else "unsure", end)
