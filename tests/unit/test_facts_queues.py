"""Whose queue was full: a socket's drops, less those that the counters lay to other causes."""

from __future__ import annotations

import pytest

from remedies.facts.queues import Queues, _full
from remedies.netlink.diag import Socket, SocketMemory

ANY = ("0.0.0.0", 0)
RCVBUF, ERRORS = "Udp.RcvbufErrors", "Udp.InErrors"


def held(port: int, drops: int, family: int = 2, state: int = 7) -> Socket:
    memory = SocketMemory(900, 1000, 0, 0, drops)
    local = ("10.0.0.1", port)
    return Socket(family, state, local, ANY, port, 0, 0, 0, 0, 0, 3, 2, memory)


def named(
    sockets: list[Socket], before: dict[int, int], moved: dict[str, int], protocol: str = "udp"
) -> dict[int, int]:
    keys = {one.inode: (one.inode, one.local, one.remote) for one in sockets}
    then = {keys[inode]: drops for inode, drops in before.items()}
    found = _full(protocol, then, {keys[one.inode]: one for one in sockets}, moved)
    return {queue.port: queue.lost for queue in found}


@pytest.mark.parametrize(
    ("before", "full", "errors", "lost"),
    [
        ({}, 9, 9, {53: 9}),  # it was opened within the window, or had lost nothing
        ({53: 4}, 5, 5, {53: 5}),
        ({53: 9}, 5, 5, {}),  # what was lost before the window
        ({}, 5, 9, {53: 5}),  # four had a wrong checksum: they may have been its own
        ({}, 1, 10, {}),  # any nine may have been its own
        ({}, 0, 9, {}),
    ],
)
def test_drops_of_another_cause_are_taken_off(
    before: dict[int, int], full: int, errors: int, lost: dict[int, int]
) -> None:
    moved = {RCVBUF: full, ERRORS: errors}
    assert named([held(53, 9)], before, moved) == lost


def test_counters_of_both_ip_versions_add_up() -> None:
    moved = {"Udp.RcvbufErrors": 2, "Udp.InErrors": 2, "Udp6.RcvbufErrors": 3, "Udp6.InErrors": 4}
    assert named([held(53, 3), held(54, 2), held(55, 1)], {}, moved) == {53: 2, 54: 1}


def test_a_listener_is_told_by_the_counters_of_listeners() -> None:
    moved = {"TcpExt.ListenOverflows": 3, "TcpExt.ListenDrops": 4, "Udp.InErrors": 99}
    assert named([held(80, 4, state=10)], {}, moved, "tcp") == {80: 3}
    full = {"TcpExt.ListenOverflows": 4, "TcpExt.ListenDrops": 4}
    (queue,) = _full("tcp", {}, {(1, ANY, ANY): held(80, 4)}, full)
    assert (queue.waiting, queue.limit) == (3, 2)
    assert queue.place == "tcp 10.0.0.1:80"


def test_what_a_protocol_lost_is_in_every_ip_version() -> None:
    fact = Queues(counted={RCVBUF: 1, ERRORS: 5, "Udp6.RcvbufErrors": 2})
    assert (fact.lost("udp"), fact.lost("tcp")) == (3, 0)
