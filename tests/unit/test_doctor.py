"""What ``remedy doctor`` knows of the kernel, and what it answers to what it finds."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable
from importlib import util
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Optional

import pytest

from remedies.errors import Unreadable
from remedies.namespaces import machine
from remedies.resources import nf_tables
from remedies.status import doctor

HEADER = Path("/usr/include/linux/capability.h")  # linux-libc-dev, which gcc brings


def test_capabilities_have_the_numbers_of_the_kernel() -> None:
    defined = dict(re.findall(r"^#define (CAP_\w+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE))
    assert [(each.name, each.bit) for each in machine.NEEDED] == [
        (each.name, int(defined[each.name])) for each in machine.NEEDED
    ]


def _answer(value: object) -> Callable[..., object]:
    return lambda *_: value


def _raises(error: Exception) -> Callable[..., object]:
    def failing(*_: object) -> object:
        raise error

    return failing


def _only(*there: str) -> Callable[[str], object]:
    return lambda tool: f"/sbin/{tool}" if tool in there else None


EFFECTIVE = sum(1 << each.bit for each in machine.NEEDED)
LESS = EFFECTIVE - (1 << 12)
NFT, LEGACY = ("iptables-nft-save", "iptables-nft-restore"), "iptables-legacy-restore"


@pytest.mark.parametrize(
    ("check", "of", "name", "given", "state", "words"),
    [
        (doctor._root, os, "geteuid", _answer(0), "yes", "may change the host"),
        (doctor._root, os, "geteuid", _answer(1000), "optional", "not root"),
        (doctor._conntrack, os.path, "exists", _answer(True), "yes", "can track"),
        (doctor._conntrack, os.path, "exists", _answer(False), "optional", "nf_conntrack_count"),
        (doctor._proc_sys, os, "statvfs", _answer(SimpleNamespace(f_flag=0)), "yes", "for writing"),
        (doctor._proc_sys, os, "statvfs", _answer(SimpleNamespace(f_flag=1)), "optional",
         "is read-only"),
        (doctor._proc_sys, os, "statvfs", _answer(SimpleNamespace(f_flag=4096)), "yes", "/proc"),
        (doctor._proc_sys, os.path, "isdir", _answer(True), "yes", "/proc/sys/net/netfilter is"),
        (doctor._proc_sys, os.path, "isdir", _answer(False), "yes", "/proc/sys/net is"),
        (doctor._iptables, shutil, "which", _only(*NFT), "yes", "rules of iptables-nft"),
        (doctor._iptables, shutil, "which", _only(NFT[0]), "optional", f"no {NFT[1]}"),
        (doctor._iptables, shutil, "which", _only(), "optional", f"no {', '.join(NFT)}"),
        (doctor._legacy, shutil, "which", _answer("/sbin/x"), "yes", "legacy tables"),
        (doctor._legacy, shutil, "which", _only("iptables-legacy-save"), "optional", LEGACY),
        (doctor._python_iptables, util, "find_spec", _answer(object()), "yes", "child process"),
        (doctor._python_iptables, util, "find_spec", _answer(None), "optional",
         "by iptables-legacy-restore; "),
        (doctor._pidfd, os, "uname", _answer(SimpleNamespace(release="5.5.0-1")), "optional",
         "5.6"),
        (doctor._pidfd, os, "uname", _answer(SimpleNamespace(release="4.19.0-1")), "optional",
         "5.6"),
        (doctor._pidfd, os, "uname", _answer(SimpleNamespace(release="5.6.0-1")), "yes", "UDP"),
        (doctor._pidfd, os, "uname", _answer(SimpleNamespace(release="6.1.0-13-amd64")), "yes",
         "UDP"),
        (doctor._nf_tables, nf_tables, "table_exists", _answer(False), "yes", "answers"),
        (doctor._nf_tables, nf_tables, "table_exists", _raises(Unreadable("no answer")), "optional",
         "no answer"),
        (doctor._packet_socket, socket, "socket", _answer(SimpleNamespace(close=_answer(None))),
         "yes", "sees the resets"),
        (doctor._packet_socket, socket, "socket", _raises(PermissionError(errno.EPERM, "denied")),
         "no", "denied; run as root"),
        (doctor._packet_socket, socket, "socket", _raises(PermissionError(errno.EACCES, "denied")),
         "no", "denied; run as root"),
        (doctor._packet_socket, socket, "socket", _raises(OSError(97, "unsupported")),
         "no", "unsupported; not in this kernel"),
        (doctor._capabilities, machine, "open", _answer(StringIO(f"A:\nCapEff: {EFFECTIVE:x}\n")),
         "yes", "CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_PTRACE, CAP_SYS_ADMIN"),
        (doctor._capabilities, machine, "open", _answer(StringIO(f"CapEff: {LESS:x}\n")),
         "optional", "without CAP_NET_ADMIN; run as root"),
    ],
)  # fmt: skip
def test_each_check_answers_to_what_it_finds(
    monkeypatch: pytest.MonkeyPatch,
    check: Callable[[], doctor.Check],
    of: object,
    name: str,
    given: Callable[..., object],
    state: str,
    words: str,
) -> None:
    monkeypatch.setattr(of, name, lambda *args, **_: given(*args), raising=name != "open")
    found = check()
    assert (found.state, bool(found.hint)) == (state, state != "yes" and check is not doctor._pidfd)
    assert words in f"{found.detail}; {found.hint}"


@pytest.mark.parametrize(
    ("library", "binding", "state", "words"),
    [
        (_answer(None), ModuleType("nftables"), "yes", "load"),
        (_raises(OSError("libnftables.so.1: no such file")), ModuleType("nftables"), "no",
         "libnftables.so.1: no such file; apt-get install libnftables1"),
        (_answer(None), None, "no", "the binding is missing; "),
    ],
)  # fmt: skip
def test_the_library_and_its_binding_are_two_things(
    monkeypatch: pytest.MonkeyPatch,
    library: Callable[..., object],
    binding: Optional[ModuleType],
    state: str,
    words: str,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setitem(sys.modules, "nftables", binding)
    found = doctor._libnftables()
    assert found.state == state
    assert words in f"{found.detail}; {found.hint}"
    assert bool(found.hint) == (state == "no")


def test_a_hint_of_what_failed_comes_before_the_common_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nf_tables, "table_exists", _raises(Unreadable("no", "load the module")))
    assert doctor._nf_tables().hint == "load the module"
    monkeypatch.setattr(nf_tables, "table_exists", _raises(Unreadable("no")))
    assert "backend: iptables" in doctor._nf_tables().hint


def test_every_question_is_asked_once(tmp_path: Path) -> None:
    found = doctor.checks(str(tmp_path / "none"))
    names = [check.name for check in found]
    assert len(names) == len(set(names)) == 13
    assert names[0] == "root"
    assert {"capabilities", "nf_tables", "conntrack", "state directory"} < set(names)


def test_who_may_use_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "state"
    unmade = doctor._state(str(folder))
    assert (unmade.state, unmade.detail) == ("yes", f"{folder} will be made at the first apply")
    folder.mkdir(0o700)
    assert doctor._state(str(folder)) == doctor.Check("state directory", "yes", str(folder))
    folder.chmod(0o777)
    shared = doctor._state(str(folder))
    assert (shared.state, str(folder) in shared.detail, bool(shared.hint)) == ("no", True, True)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(folder).st_uid + 1)
    another = doctor._state(str(folder))
    assert another.state == ("optional" if os.getuid() == 0 else "no")
    assert another.detail.startswith(str(folder))


@pytest.mark.parametrize(("found", "state"), [((), "yes"), (("nft:inet/remedy_x",), "optional")])
def test_rules_that_no_journal_has_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: tuple[str, ...], state: str
) -> None:
    monkeypatch.setattr(doctor, "unowned", lambda _: found)
    answer = doctor._unowned(str(tmp_path))
    assert (answer.state, bool(answer.hint)) == (state, bool(found))
    assert all(address in answer.detail for address in found)


def test_a_journal_that_cannot_be_read_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "unowned", _raises(Unreadable("what failed", "what to do")))
    answer = doctor._unowned(str(tmp_path))
    assert (answer.state, answer.detail, answer.hint) == ("optional", "what failed", "what to do")
