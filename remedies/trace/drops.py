"""The drops of a trace: counted in the kernel, named by namespace, container, link and reason.

A trace of the machine's own namespace hears the drops of every namespace, because the packet that
a person misses may have been dropped in a container; a trace of another one hears those of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Optional

from remedies.bpf.symbols import functions
from remedies.errors import Unreadable
from remedies.namespaces import containers
from remedies.namespaces.cookies import CookieNamespace, by_cookie, own
from remedies.namespaces.netns import cookie, is_host
from remedies.netlink.flow import Tuple
from remedies.tap.drops import Drop, DropCounter, DroppedPacket
from remedies.tap.lookups import OWN_PORTS
from remedies.trace.drop_reasons import sign_of, words
from remedies.trace.event import FLAGS, DropEvent
from remedies.values import NamedTuple, replace

_MOST = 1024
"""Kinds that are remembered."""
_MOST_AT_ONCE = 64
"""Kinds that are explained at one look: more than can be told, and a flood must not deafen us."""
_GONE = CookieNamespace("?", (), {})


class _DropKind(NamedTuple):
    """What is told once: as the drop has it, but by names, and whatever port its client has."""

    reason: str
    namespace: str
    link: str
    place: str
    state: str
    packet: DroppedPacket


def without_port_of_client(way: Optional[Tuple]) -> Optional[Tuple]:
    """Return a way with 0 for the port that a client picked, where the other one is a service's."""
    if way is None:
        return None
    picked = way.source_port >= OWN_PORTS, way.destination_port >= OWN_PORTS
    if picked == (True, False):
        return replace(way, source_port=0)
    if picked == (False, True):
        return replace(way, destination_port=0)
    return way


class DropWatch:
    """What is dropped while a trace lasts. Where that cannot be heard, ``source`` says why."""

    def __init__(
        self,
        takes: Callable[[str, Optional[Tuple]], bool],
        explain: Callable[[DropEvent], DropEvent],
        cache: Optional[str] = None,
    ) -> None:
        """Begin with nothing; :meth:`begin` loads the program.

        ``takes`` tells by protocol and way whether a packet is to be told; ``explain`` adds what is
        behind a kind of drop, before it is told or listed; ``cache``: the folder where the kernel's
        types are kept.
        """
        self._takes, self._explain, self._cache = takes, explain, cache
        self.source = "not asked for"
        self.packets = 0
        """Drops that were told apart."""
        self.lost = 0
        """Drops that the kernel counted and that found no room."""
        self._counter: Optional[DropCounter] = None
        self._own = 0
        self._names: dict[int, CookieNamespace] = {}
        self._containers: dict[str, str] = {}
        """Names of containers by their ids."""
        self._asked: set[tuple[int, int]] = set()
        """Namespaces and interfaces that were looked up, those that had gone by then included."""
        self._places: dict[int, str] = {}
        self.untold = 0
        """Kinds that were new at the last look, found no room and were not yielded."""
        self._kinds: dict[_DropKind, DropEvent] = {}
        self._bare: set[_DropKind] = set()
        """Of these, those that are not explained yet."""
        self._again: dict[_DropKind, int] = {}
        """Of these, those whose cause is not known, with the number of packets at which one of them
        is asked about again: the first may have come before what tells it."""

    def begin(self) -> None:
        """Begin to count; where the kernel does not let us, ``source`` says why."""
        try:
            self._own = cookie()
            self._counter = DropCounter(0 if is_host() else self._own, self._cache)
            self.source = "bpf: kfree_skb"
        except (OSError, Unreadable) as error:
            self.source = f"none: {error}"

    def read(self) -> Iterator[DropEvent]:
        """Yield the kinds of drops that are new since the last look.

        And those of which the cause was found since. Those that are part of a working protocol, and
        those of a flood, are not explained.
        """
        if self._counter is None:
            return
        now = time.time()
        try:
            drops = list(self._counter.read())
            self.lost = self._counter.lost()
        except Unreadable as error:
            self.source = f"none: {error}"
            return
        drops = [drop for drop in drops if self._takes(drop.packet.protocol, drop.packet.way)]
        self._name(drops)
        left, self.untold = _MOST_AT_ONCE, 0
        unknown: list[_DropKind] = []
        for drop in drops:
            self.packets += drop.count
            kind = self._kind(drop)
            known = self._kinds.get(kind)
            if known is not None:
                way = known.way if known.way == drop.packet.way else kind.packet.way
                event = replace(known, count=known.count + drop.count)
                if left and self._again.get(kind, event.count + 1) <= event.count:
                    left -= 1
                    event = self._asked_again(kind, event, drop.packet.way)
                self._kinds[kind] = replace(event, way=way)
                if event.condition != known.condition:
                    yield event
                continue
            room = len(self._kinds) < _MOST
            if not room and not left:
                self.untold += 1
                continue
            event = self._event(drop, now)
            bare = event.ordinary or not left
            if not bare:
                left -= 1
                event = self._explain(event)
            if room:
                self._kinds[kind] = event
                if not bare and not event.condition:
                    unknown.append(kind)
                self._bare.update((kind,) if bare else ())
            yield event
        for kind in unknown:
            self._again[kind] = 2 * self._kinds[kind].count

    def _asked_again(self, kind: _DropKind, event: DropEvent, way: Optional[Tuple]) -> DropEvent:
        """Return a drop of which nobody knew the cause, explained by another packet of its kind."""
        found = self._explain(replace(event, way=way))
        if not found.condition:
            self._again[kind] = 2 * event.count
            return event
        del self._again[kind]
        return found

    def again(self, wanted: Callable[[DropEvent], bool]) -> Iterator[DropEvent]:
        """Yield the kinds of which more is known by now, each with what is new."""
        for kind, event in list(self._kinds.items()):
            if wanted(event):
                self._kinds[kind] = self._explain(event)
                yield self._kinds[kind]

    def top(self, most: int) -> tuple[DropEvent, ...]:
        """Return the kinds with most packets, ordinary ones last."""
        kinds = sorted(self._kinds.items(), key=lambda kept: (kept[1].ordinary, -kept[1].count))
        return tuple(
            self._explain(event) if kind in self._bare else event for kind, event in kinds[:most]
        )

    def close(self) -> None:
        """Stop counting; safe to repeat."""
        if self._counter is not None:
            self._counter.close()

    def _name(self, drops: list[Drop]) -> None:
        """Look up namespaces and functions that are new, once for all of them."""
        ends = {(drop.cookie, drop.link) for drop in drops} - self._asked
        self._asked |= ends
        if any(cookie != self._own for cookie, _ in ends):
            self._names.update(by_cookie())
            self._containers.update(containers.names([]))
        elif ends:
            self._names[self._own] = own()
        places = {drop.place for drop in drops} - self._places.keys()
        if places:
            self._places.update(dict.fromkeys(places, ""))
            self._places.update(functions(places))

    def _kind(self, drop: Drop) -> _DropKind:
        """Return what a drop has in common with others of its kind."""
        where, packet = self._names.get(drop.cookie, _GONE), drop.packet
        return _DropKind(
            drop.reason,
            where.spec,
            where.links.get(drop.link, ""),
            self._places.get(drop.place, ""),
            drop.state,
            replace(packet, way=without_port_of_client(packet.way)),
        )

    def _event(self, drop: Drop, now: float) -> DropEvent:
        """Return a drop with everything named."""
        where = self._names.get(drop.cookie, _GONE)
        container = where.containers[0] if where.containers else ""
        packet, place = drop.packet, self._places.get(drop.place, "")
        told = words(drop.reason, place, packet.way.destination if packet.way else "")
        flags = (name for bit, name in enumerate(FLAGS) if packet.flags >> bit & 1)
        icmp = f" type {packet.icmp[0]} code {packet.icmp[1]}" if packet.icmp else ""
        return DropEvent(
            time=now,
            reason=drop.reason,
            means=told.means,
            look=told.look,
            ordinary=told.ordinary,
            protocol=packet.protocol + icmp,
            way=packet.way,
            flags=" ".join(flags),
            namespace="" if drop.cookie == self._own else where.spec,
            container=container,
            container_name=self._containers.get(container, ""),
            link=where.links.get(drop.link, ""),
            conntrack=drop.state,
            place=place,
            count=drop.count,
            sign=sign_of(drop.reason, place),
        )
