"""``flow:...``: stale conntrack flows. They can only be deleted.

What is deleted is an effect, not a state: absent is done, and rollback does not bring it back.
Addresses are those of :mod:`remedies.rules.flow_address`. A flow of a changed port goes only if it
has seen no reply and is not what our redirect makes: an answered or redirected one is not stale.
One that is named with its target and id goes only as it was named: the same entry, to the same
target, answered or not as then, of TCP still in SYN_SENT, and of no flowtable.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import time
from collections.abc import Iterator
from itertools import islice
from typing import Optional

from remedies.errors import InputError, NotPermitted, Unreadable, WriteFailed
from remedies.netlink import conntrack, conntrack_entry, route
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink
from remedies.resources import shell
from remedies.resources.tasks import Task, done, looked, said
from remedies.rules import flow_address
from remedies.rules.flow_address import Exact, StuckFlow, split
from remedies.rules.prefixes import contains

MOST = 1000
"""Flows that a state names; what goes may be more."""
_ANSWERED_OR_OURS = conntrack_entry.IPS_SEEN_REPLY | conntrack_entry.IPS_DST_NAT
_PATIENCE = 5.0  # seconds that one dump may take
_ROUNDS = 5
"""A client that asks between the deletion of its request and of the answer to it makes a new
stale flow; each round finds those of the one before."""


def read(path: str) -> Optional[str]:
    """Return the stale flows that are there, an exact path a line; raise Unreadable.

    None where there is none; the first :data:`MOST` where there are more.
    """
    split(path)
    try:
        with _open() as client:
            named = split(path)
            if isinstance(named, StuckFlow):
                return f"{path}\n" if _is_stuck(client, named) else None
            found = [
                f"udp/{'/'.join(map(str, way.parts))}\n"
                for way in islice(_stale(client, path), MOST)
            ]
            return "".join(sorted(found)) or None
    except OSError as error:
        raise conntrack.not_permitted(error) from error


def write(path: str, state: Optional[str]) -> None:
    """Delete the stale flows that ``path`` names; raise WriteFailed, or NotPermitted."""
    split(path)
    if state is not None:
        raise WriteFailed(f"flow:{path}: a flow cannot be made, only deleted")
    named = split(path)
    try:
        if isinstance(named, StuckFlow):
            with _open() as client:
                if _is_stuck(client, named):
                    conntrack.delete(client, named.protocol, Tuple(*named.ends), named.number)
            return
        for _ in range(_ROUNDS):
            with _open() as client:
                found = list(_stale(client, path))
            with _open() as client:
                for way in found:
                    conntrack.delete(client, "udp", way)
            if not found:
                return
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise NotPermitted(f"flow:{path}: {error.strerror}", "run as root") from error
        raise WriteFailed(f"flow:{path}: {error.strerror}") from error
    except Unreadable as error:
        raise WriteFailed(error.what, error.hint) from error


def check(path: str, state: Optional[str]) -> None:
    """Look at the address; the kernel has no dry run. Raises InputError and WriteFailed."""
    split(path)
    if state is not None:
        raise WriteFailed(f"flow:{path}: a flow cannot be made, only deleted")


def same(path: str, one: Optional[str], other: Optional[str]) -> bool:
    """Tell whether both say that there is one, or both that there is none."""
    return (one is None) == (other is None)


def counters(path: str) -> dict[str, int]:
    """Return nothing: a flow that is to go counts nothing for us."""
    return {}


def text(path: str, state: Optional[str]) -> str:
    """Return the address of each flow that is there; empty for None."""
    split(path)
    lines = (state or "").splitlines()
    if isinstance(split(path), StuckFlow):
        return "".join(f"{flow_address.name(line)}\n" for line in lines)
    return "".join(f"flow:{line}\n" for line in lines)


def undo(path: str, before: Optional[str], after: Optional[str]) -> shell.Undo:
    """Return that nothing is to be done: what is deleted does not come back, and nobody lacks it.

    Raises InputError for flows that are no resource of their own.
    """
    if not isinstance(split(path), StuckFlow):
        raise InputError("no command undoes it", shell.HINT)
    return shell.Undo("# nothing to undo: the client's next packet makes a flow anew\n")


def tasks(path: str, before: Optional[str], after: Optional[str]) -> Iterator[Task]:
    """Yield a playbook's tasks: a stale flow goes where conntrack(8) is there.

    Those behind a link are left to time out: which of them are stale no condition can tell.
    Raises InputError for a change, but of a flow that is named with its target: any other is an
    effect, without a state of its own.
    """
    named, does = split(path), flow_address.text(f"flow:{path}")
    if isinstance(named, StuckFlow):
        yield from _deleted(named, does)
        return
    if before is not None or after is not None:
        raise InputError(f"flow:{path}: cannot be written as a playbook", "use 'remedy apply'")
    if not isinstance(named, Exact):
        yield said("Leave stale flows to time out", f"left to time out, remedy {does}")
        return
    try:
        ends = [str(ipaddress.ip_address(end)) for end in (named.source, named.destination)]
    except ValueError as error:
        raise InputError(f"flow:{path}: {error}", "make a new plan") from None
    ports = ["--sport", str(named.source_port), "--dport", str(named.destination_port)]
    words = ["-p", "udp", "-s", ends[0], "-d", ends[1], *ports]
    yield looked("Look for a stale flow", ["conntrack", "-G", *words], None)
    # As remedy itself: one that was answered is not stale, and one that is redirected neither.
    stale = f"[UNREPLIED] src={named.destination} dst={named.source} "
    yield done(
        "Delete a stale flow",
        ["conntrack", "-D", *words],
        "stale[0] in looked.stdout | default('')",
        stale=stale,
    )
    unanswered = f"conntrack gives no answer: left to time out, remedy {does}"
    yield {
        **said("Say where conntrack gives no answer", unanswered),
        "when": "looked.rc not in [0, 1]",
    }


def _deleted(named: StuckFlow, does: str) -> Iterator[Task]:
    """Yield the tasks that delete one entry, if it goes to that target and no answer has come."""
    try:
        ends = [str(ipaddress.ip_address(end)) for end in (named.source, named.destination)]
        target = str(ipaddress.ip_address(named.target))
    except ValueError as error:
        raise InputError(f"flow:{named.path}: {error}", "make a new plan") from None
    ports = ["--sport", str(named.source_port), "--dport", str(named.destination_port)]
    words = ["-p", named.protocol, "-s", ends[0], "-d", ends[1], *ports]
    yield looked("Look for a stale flow", ["conntrack", "-G", *words], None)
    reply = f"src={target} dst="
    shown = "SYN_SENT " if named.protocol == "tcp" else reply if named.answered else "[UNREPLIED] "
    yield done(
        "Delete a stale flow",
        ["conntrack", "-D", "-w", "0", *words],
        "stale[0] in looked.stdout | default('') and to[0] in looked.stdout | default('')",
        stale=shown,
        to=reply,
    )
    yield {
        **said("Say where conntrack gives no answer", f"left to time out, remedy {does}"),
        "when": "looked.rc not in [0, 1]",
    }


def _is_stuck(client: Netlink, named: StuckFlow) -> bool:
    """Tell whether the entry is there as it was named; raise OSError and Unreadable."""
    way = Tuple(*named.ends)
    entry = conntrack.flow_by_tuple(client, named.protocol, way)
    return (
        entry is not None
        and entry.original == way
        and entry.number == named.number
        and (entry.reply.source, entry.reply.source_port) == (named.target, named.target_port)
        and bool(entry.status & conntrack_entry.IPS_SEEN_REPLY) == named.answered
        and not entry.status & conntrack_entry.IPS_OFFLOADED
        and (named.protocol == "udp" or entry.opening)
    )


def _open() -> Netlink:
    return Netlink(NETLINK_NETFILTER, time.monotonic() + _PATIENCE)


def _stale(client: Netlink, path: str) -> Iterator[Tuple]:
    """Yield the original direction of each stale flow; raise OSError and Unreadable."""
    named = split(path)
    if isinstance(named, Exact):
        wanted = Tuple(*named)
        entry = conntrack.flow_by_tuple(client, "udp", wanted)
        if entry is not None and entry.original == wanted and not entry.status & _ANSWERED_OR_OURS:
            yield wanted
        return
    if isinstance(named, StuckFlow):
        return
    try:
        index = socket.if_nametoindex(named.link)
    except OSError:  # the link is gone, and with it the hosts behind it
        return
    behind = _LinkAddresses(index)
    for entry in conntrack.unreplied_udp(client):
        if behind.stale(entry, named.port):
            yield entry.original


class _LinkAddresses:
    """Whose addresses are whose on one link; raises OSError and Unreadable."""

    def __init__(self, index: int) -> None:
        with Netlink(NETLINK_ROUTE, time.monotonic() + _PATIENCE) as client:
            found = route.addresses(client)
        self.local = {item.address for item in found}
        self.own = {item.address for item in found if item.link == index}
        self.subnets = [f"{item.address}/{item.prefix}" for item in found if item.link == index]

    def stale(self, entry: conntrack_entry.Entry, port: int) -> bool:
        """Tell whether a flow without a reply is a request past our redirect, or an answer to one.

        A request goes to another local address than the link's own and was not redirected; its
        answer left from the link's own address.
        """
        way, reply = entry.original, entry.reply
        if way.destination_port == port and self._neighbour(way.source):
            redirected = reply.source in self.own and reply.source_port == port
            return way.destination in self.local - self.own and not redirected
        return way.source_port == port and way.source in self.own and self._neighbour(
            way.destination
        )  # fmt: skip

    def _neighbour(self, address: str) -> bool:
        return address not in self.local and any(contains(net, address) for net in self.subnets)
