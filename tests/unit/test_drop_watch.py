"""The drops of a trace: told apart, counted, and explained only where they are told or listed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from remedies.namespaces.cookies import CookieNamespace
from remedies.netlink.flow import Tuple
from remedies.tap.drops import Drop, DroppedPacket
from remedies.trace import drops
from remedies.trace.drops import DropWatch
from remedies.trace.event import DropEvent
from remedies.values import replace

WAY = Tuple("10.21.17.1", 40000, "10.21.17.99", 9)


class Counter:
    """The kernel's count, of these drops at each look."""

    def __init__(self, *looks: list[Drop]) -> None:
        self._looks = list(looks)

    def read(self) -> Iterator[Drop]:
        yield from self._looks.pop(0)

    def lost(self) -> int:
        return 0


def drop(way: Tuple = WAY, reason: str = "NO_SOCKET", count: int = 1) -> Drop:
    return Drop(reason, 0, 0, 0, "", DroppedPacket("tcp", way, 2), count)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[DropEvent]:
    """Give what was explained so far; nothing is asked of this machine."""
    monkeypatch.setattr(drops, "own", lambda: CookieNamespace("", (), {}))
    monkeypatch.setattr(drops, "functions", lambda places: dict.fromkeys(places, ""))
    return []


def watching(asked: list[DropEvent], *looks: list[Drop]) -> DropWatch:
    def explain(event: DropEvent) -> DropEvent:
        asked.append(event)
        return replace(event, about=("explained",))

    watch = DropWatch(lambda *_: True, explain)
    watch._counter = Counter(*looks)  # type: ignore[assignment]
    return watch


def test_a_flood_of_kinds_is_counted_and_not_explained(asked: list[DropEvent]) -> None:
    ways = [Tuple(f"10.{n >> 8}.{n & 255}.1", 1000, "10.21.17.99", 9) for n in range(4096)]
    looks = [drop(way) for way in ways], [drop(ways[100], count=5)], [drop(WAY)]
    watch = watching(asked, *looks)
    told = list(watch.read())
    assert (len(told), watch.untold, watch.packets) == (1024, 4096 - 1024, 4096)
    assert all(event.about for event in told[:20])
    assert len(asked) == 64
    assert list(watch.read()) == []
    assert (watch.untold, watch.packets) == (0, 4101)
    top = watch.top(20)
    assert (top[0].way, top[0].count) == (ways[100], 6)
    assert all(event.about == ("explained",) for event in top)
    assert len(asked) == 65  # of the twenty that are listed one was not told
    (late,) = watch.read()
    assert (late.way, late.about, watch.untold) == (WAY, ("explained",), 0)


def test_clients_of_one_port_are_one_kind_that_is_explained_once(asked: list[DropEvent]) -> None:
    ways = [replace(WAY, source_port=port) for port in (40000, 40001, 40000)]
    watch = watching(asked, [drop(way, count=2) for way in ways])
    (told,) = watch.read()
    assert (told.way, told.count) == (ways[0], 2)
    (kept,) = watch.top(20)
    assert (kept.way, kept.count, kept.about) == (replace(WAY, source_port=0), 6, ("explained",))
    assert len(asked) == 1


def test_what_is_part_of_a_working_protocol_is_explained_when_it_is_listed(
    asked: list[DropEvent],
) -> None:
    watch = watching(asked, [drop(reason="SOCKET_FILTER")])
    (told,) = watch.read()
    assert (told.ordinary, asked) == (True, [])
    assert all(event.about for event in watch.top(2))


def test_places_in_one_function_are_one_kind(
    asked: list[DropEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drops, "functions", lambda places: dict.fromkeys(places, "tcp_v4_rcv"))
    watch = watching(asked, [replace(drop(), place=place) for place in (4096, 4100)])
    (told,) = watch.read()
    assert (told.place, watch.top(2)[0].count) == ("tcp_v4_rcv", 2)


def test_a_cause_that_shows_later_is_told_then(asked: list[DropEvent]) -> None:
    """The first datagram to a client that is not there comes before its client speaks again."""
    looks = [(40000, 2), (40001, 1), (40002, 3), (40003, 6), (40004, 90)]
    watch = watching(asked, *([drop(replace(WAY, source_port=p), count=n)] for p, n in looks))
    plain = watch._explain

    def explain(event: DropEvent) -> DropEvent:
        found = plain(event)
        assert event.way is not None
        known = event.way.source_port == 40003
        return replace(found, condition="idle-timeout") if known else found

    watch._explain = explain
    told = [list(watch.read()) for _ in looks]
    assert [[event.condition for event in each] for each in told] == [
        [""],
        [],
        [],
        ["idle-timeout"],
        [],
    ]
    assert [event.way.source_port for event in asked if event.way] == [40000, 40002, 40003]
    (kept,) = watch.top(20)
    assert (kept.condition, kept.count) == ("idle-timeout", 102)
