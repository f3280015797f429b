"""``--netns host``: which process 1 is the machine's, and what may not be missing."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Optional

import pytest

from remedies.errors import NotPermitted, UsageError
from remedies.namespaces import machine

FIRST, OTHER = machine._FIRST_PROCESSES, 4026532500


def given(
    monkeypatch: pytest.MonkeyPatch, *, pids: int, its_net: Optional[int], our_net: int = 1
) -> None:
    """Have process 1 in a network namespace; None: it may not be looked at."""
    numbers = {
        machine.NET: its_net,
        "/proc/self/ns/pid": pids,
        "/proc/thread-self/ns/net": our_net,
    }

    def stat(path: str) -> SimpleNamespace:
        number = numbers[path]
        if number is None:
            raise PermissionError(13, "Permission denied", path)
        return SimpleNamespace(st_ino=number, st_dev=4)

    monkeypatch.setattr(os, "stat", stat)


def having(monkeypatch: pytest.MonkeyPatch, *lacking: str) -> None:
    """Have every capability but these."""
    lacks = tuple(each for each in machine.NEEDED if each.name in lacking)
    monkeypatch.setattr(
        machine, "missing", lambda of=machine.NEEDED: tuple(e for e in of if e in lacks)
    )


@pytest.mark.parametrize(
    ("pids", "its_net"),
    [
        pytest.param(FIRST, 1, id="on the machine itself, or in a container with its network"),
        pytest.param(FIRST, 2, id="in a container with its processes"),
        pytest.param(OTHER, 2, id="the same, where the machine is a container itself"),
    ],
)
def test_process_one_is_the_machines(
    monkeypatch: pytest.MonkeyPatch, pids: int, its_net: int
) -> None:
    given(monkeypatch, pids=pids, its_net=its_net)
    assert machine.path() == machine.NET


def test_a_containers_own_process_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of a pod whose containers share their processes: it shares their network, too."""
    given(monkeypatch, pids=OTHER, its_net=1)
    with pytest.raises(UsageError, match="hostPID"):
        machine.path()


@pytest.mark.parametrize(
    ("lacking", "said"),
    [(("CAP_SYS_PTRACE",), "run with CAP_SYS_PTRACE"), ((), "AppArmor")],
)
def test_why_process_one_may_not_be_looked_at(
    monkeypatch: pytest.MonkeyPatch, lacking: tuple[str, ...], said: str
) -> None:
    given(monkeypatch, pids=FIRST, its_net=None)
    having(monkeypatch, *lacking)
    with pytest.raises(NotPermitted, match=said):
        machine.path()


def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, "CAP_NET_RAW", "CAP_SYS_ADMIN")
    with pytest.raises(NotPermitted, match=r"without CAP_NET_RAW \(packets\), CAP_SYS_ADMIN"):
        machine.demand()
    having(monkeypatch)
    machine.demand()
