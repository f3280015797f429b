"""Ansible's events, understood as words about hosts."""

from __future__ import annotations

from typing import Any

import pytest

from remedies import codec
from remedies.errors import InputError
from remedies.fleet.events import Hearing
from remedies.fleet.host_state import HostStanding


class Listener:
    """Takes down the number of hosts and every word, in the order in which they are told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.hearing = Hearing(lambda s, noted: self.told.append((s.host, s.rc, noted)),
                               self.told.append)  # fmt: skip

    def start(self, *hosts: str) -> None:
        for host in hosts:
            self.hearing.event({"event": "runner_on_start", "event_data": {"host": host}})

    def result(self, host: str, kind: str = "ok", **result: Any) -> None:
        data = {"host": host, "res": result}
        self.hearing.event({"event": f"runner_on_{kind}", "event_data": data})

    def answer(self, host: str, of: int, rc: int = 0, **more: Any) -> None:
        standing = codec.encode(HostStanding(host, "untouched", rc))
        self.result(host, standing=standing, hosts=of, **more)


def test_words_wait_until_it_is_known_how_many_hosts_there_are() -> None:
    listener = Listener()
    listener.start("a", "b", "c")
    listener.result("b", "unreachable", msg="no route")
    listener.result("a", "failed", msg="a template\n is wrong", hosts=0)
    assert listener.told == []
    listener.answer("c", 3, 2, noted=True)
    assert listener.told == [3, ("b", 9, False), ("a", 70, False), ("c", 2, True)]
    assert listener.hearing.hosts() == ["a", "b", "c"]


def test_where_no_action_ever_spoke_the_number_comes_from_elsewhere() -> None:
    listener = Listener()
    listener.start("a")
    listener.result("a", "failed", msg="x")
    assert listener.hearing.hosts() == []
    listener.hearing.begin(2)
    assert listener.told == [2, ("a", 70, False)]
    listener.hearing.word(HostStanding("b", "unreachable", 9))
    assert listener.told[2:] == [("b", 9, False)]


def test_hosts_that_were_not_heard_of_are_asked_for_elsewhere() -> None:
    listener = Listener()
    listener.start("a", "b")
    listener.answer("a", 3)
    assert listener.hearing.hosts() == []


def test_the_first_word_about_a_host_and_the_first_number_count() -> None:
    listener = Listener()
    listener.hearing.begin(2)
    listener.answer("a", 5)
    listener.answer("a", 5, 2)
    assert listener.told == [2, ("a", 0, False)]


def test_other_events_say_nothing() -> None:
    listener = Listener()
    for event in ({}, {"event": "playbook_on_stats", "event_data": {}}, {"event": "verbose"},
                  {"event": "runner_on_ok", "event_data": {"host": "a", "res": None}},
                  {"event": "runner_on_ok", "event_data": None}):  # fmt: skip
        assert listener.hearing.event(event)
    assert listener.told == []


def test_a_word_that_is_none_is_refused_by_name() -> None:
    listener = Listener()
    with pytest.raises(InputError, match="result of a"):
        listener.result("a", standing={"host": 1}, hosts=1)
