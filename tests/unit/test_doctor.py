"""What ``remedy doctor`` knows of the kernel, and what it answers to what it finds."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from remedies.errors import Unreadable
from remedies.resources import nf_tables
from remedies.status import doctor

HEADER = Path("/usr/include/linux/capability.h")  # linux-libc-dev, which gcc brings


def test_capabilities_have_the_numbers_of_the_kernel() -> None:
    defined = dict(re.findall(r"^#define (CAP_\w+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE))
    assert {name: int(defined[name]) for name in doctor._CAPABILITIES} == doctor._CAPABILITIES


def _answer(value: object) -> Callable[..., object]:
    return lambda *_: value


def _raises(error: Exception) -> Callable[..., object]:
    def failing(*_: object) -> object:
        raise error

    return failing


@pytest.mark.parametrize(
    ("check", "of", "name", "given", "state"),
    [
        (doctor._root, os, "geteuid", _answer(0), "yes"),
        (doctor._root, os, "geteuid", _answer(1000), "optional"),
        (doctor._conntrack, os.path, "exists", _answer(True), "yes"),
        (doctor._conntrack, os.path, "exists", _answer(False), "optional"),
        (doctor._proc_sys, os, "statvfs", _answer(SimpleNamespace(f_flag=0)), "yes"),
        (doctor._proc_sys, os, "statvfs", _answer(SimpleNamespace(f_flag=1)), "optional"),
        (doctor._iptables, shutil, "which", _answer("/sbin/x"), "yes"),
        (doctor._iptables, shutil, "which", _answer(None), "optional"),
        (doctor._legacy, shutil, "which", _answer(None), "optional"),
        (doctor._pidfd, os, "uname", _answer(SimpleNamespace(release="5.5.0-1")), "optional"),
        (doctor._pidfd, os, "uname", _answer(SimpleNamespace(release="5.6.0-1")), "yes"),
        (doctor._pidfd, os, "uname", _answer(SimpleNamespace(release="6.1.0-13-amd64")), "yes"),
        (doctor._nf_tables, nf_tables, "table_exists", _answer(False), "yes"),
        (doctor._nf_tables, nf_tables, "table_exists", _raises(Unreadable("no")), "optional"),
        (doctor._packet_socket, socket, "socket", _raises(PermissionError(1, "")), "no"),
        (doctor._packet_socket, socket, "socket", _raises(OSError(97, "")), "no"),
    ],
)
def test_each_check_answers_to_what_it_finds(
    monkeypatch: pytest.MonkeyPatch,
    check: Callable[[], doctor.Check],
    of: object,
    name: str,
    given: Callable[..., object],
    state: str,
) -> None:
    monkeypatch.setattr(of, name, given)
    found = check()
    assert (found.state, bool(found.hint)) == (state, state != "yes" and check is not doctor._pidfd)


def test_who_may_use_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "state"
    assert doctor._state(str(folder)).state == "yes"
    folder.mkdir(0o700)
    assert doctor._state(str(folder)) == doctor.Check("state directory", "yes", str(folder))
    folder.chmod(0o777)
    assert doctor._state(str(folder)).state == "no"
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(folder).st_uid + 1)
    assert doctor._state(str(folder)).state == ("optional" if os.getuid() == 0 else "no")


@pytest.mark.parametrize(("found", "state"), [((), "yes"), (("nft:inet/remedy_x",), "optional")])
def test_rules_that_no_journal_has_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: tuple[str, ...], state: str
) -> None:
    monkeypatch.setattr(doctor, "unowned", lambda _: found)
    answer = doctor._unowned(str(tmp_path))
    assert answer.state == state
    assert all(address in answer.detail for address in found)
