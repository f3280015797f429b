"""``--netns host``: which process 1 is the machine's, and what may not be missing."""

from __future__ import annotations

import os
from io import StringIO
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from remedies.errors import NotPermitted, UsageError
from remedies.namespaces import machine

FIRST, OTHER = machine._FIRST_PROCESSES, 4026532500


def given(
    monkeypatch: pytest.MonkeyPatch,
    *,
    pids: int,
    its_net: Optional[int],
    its_root: str = "/proc/1/root",
    its_group: str = "/init.scope",
) -> None:
    """Have process 1 in a network namespace, ours is 1; None: it may not be looked at."""
    numbers = {machine.NET: its_net, "/proc/self/ns/pid": pids, "/proc/thread-self/ns/net": 1}

    def stat(path: str) -> SimpleNamespace:
        number = numbers[path]
        if number is None:
            raise PermissionError(13, "Permission denied", path)
        return SimpleNamespace(st_ino=number, st_dev=4)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(machine, "ROOT", its_root)
    monkeypatch.setattr(
        machine, "open", lambda *_, **__: StringIO(f"0::{its_group}\n"), raising=False
    )


def having(monkeypatch: pytest.MonkeyPatch, *lacking: str) -> None:
    """Have every capability but these."""
    lacks = tuple(each for each in machine.NEEDED if each.name in lacking)
    monkeypatch.setattr(
        machine, "missing", lambda of=machine.NEEDED: tuple(e for e in of if e in lacks)
    )


CONTAINER = f"/../cri-containerd-{'0af1' * 16}.scope"


@pytest.mark.parametrize(
    "of_process_one",
    [
        pytest.param({"pids": FIRST, "its_net": 1, "its_root": ""}, id="on the machine itself"),
        pytest.param({"pids": FIRST, "its_net": 2}, id="in a container with its processes"),
        pytest.param({"pids": FIRST, "its_net": 1}, id="and with its network"),
        pytest.param({"pids": OTHER, "its_net": 2}, id="where the machine is a container itself"),
        pytest.param({"pids": OTHER, "its_net": 1}, id="there, and with its network"),
    ],
)
def test_process_one_is_the_machines(
    monkeypatch: pytest.MonkeyPatch, of_process_one: dict[str, Any]
) -> None:
    given(monkeypatch, **of_process_one)
    assert machine.path() == machine.NET


@pytest.mark.parametrize(
    "of_process_one",
    [
        pytest.param({"its_net": 1, "its_root": ""}, id="remedy itself"),
        pytest.param({"its_net": 1, "its_group": CONTAINER}, id="the pod's, if it shares them"),
        pytest.param({"its_net": 2, "its_group": CONTAINER}, id="another container's"),
    ],
)
def test_a_containers_process_one_is_not(
    monkeypatch: pytest.MonkeyPatch, of_process_one: dict[str, Any]
) -> None:
    given(monkeypatch, pids=OTHER, **of_process_one)
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
