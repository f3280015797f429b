"""Other writers of the legacy store lose nothing to us, nor we to them."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remedies.errors import WriteFailed
from remedies.fixes.invalid_drop import LINE
from remedies.namespaces import netns as namespaces
from remedies.resources import iptables, iptables_legacy
from remedies.rules import ours

PATH = "mangle/REMEDY-INVALID"
STATE = ours.iptables_chain(PATH, "legacy", ("INPUT", "FORWARD"), (LINE,))
TOOL = ["iptables-legacy", "-w", "10", "-t", "mangle"]
Make = Callable[..., str]

WRITER = """
import sys
from remedies.resources import iptables, iptables_legacy
if sys.argv[1] == "library":
    iptables_legacy._installed = lambda *_: False
for _ in range(int(sys.argv[2])):
    iptables.write(sys.argv[3], sys.argv[4])
    iptables.write(sys.argv[3], None)
iptables.write(sys.argv[3], sys.argv[4])
"""


@pytest.fixture(autouse=True)
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a lock file of the test's own, and a namespace of nobody's to a broken test."""
    path = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    with namespaces.scratch():
        yield path


@pytest.fixture(params=["library", "restore"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    way = str(request.param)
    if way == "library":
        monkeypatch.setattr(iptables_legacy, "_installed", lambda _: False)
    return way


def in_ns(ns: str, argv: list[str], **env: str) -> None:
    with namespaces.inside(ns):
        subprocess.run(argv, check=True, timeout=60, env={**os.environ, **env})


def writer(ns: str, way: str, times: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", WRITER, way, str(times), PATH, STATE]
    return subprocess.Popen(["nsenter", f"--net=/run/netns/{ns}", "--", *argv])


def rules_of(ns: str) -> list[str]:
    with namespaces.inside(ns):
        out = subprocess.run(
            ["iptables-legacy-save", "-t", "mangle"], capture_output=True, text=True, check=True
        )
    return [line for line in out.stdout.splitlines() if line.startswith("-A")]


def wait_for_waiter(lock: Path) -> None:
    """Return when somebody waits for the lock: /proc/locks marks such a line with ``->``."""
    inode = os.stat(lock).st_ino
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if re.search(rf"-> FLOCK .*:{inode} ", Path("/proc/locks").read_text()):
            return
        time.sleep(0.01)  # the kernel gives no event for it
    pytest.fail("nobody came to wait for the lock")


def test_a_rule_replaced_while_we_wait_for_the_lock_is_not_lost(
    netns: Make, lock: Path, way: str, tmp_path: Path
) -> None:
    ns = netns()
    in_ns(ns, [*TOOL, "-A", "FORWARD", *udp(1)])
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = writer(ns, way, 0)
        try:
            wait_for_waiter(lock)
            replace = [*TOOL, "-R", "FORWARD", "1", *udp(2)]
            # we hold the lock, so this one looks at another
            in_ns(ns, replace, XTABLES_LOCKFILE=str(tmp_path / "other.lock"))
            fcntl.flock(held, fcntl.LOCK_UN)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
            process.wait()
    assert "-A FORWARD -p udp -m udp --dport 2 -j ACCEPT" in rules_of(ns)
    with namespaces.inside(ns):
        assert iptables.read(PATH) == STATE


def test_two_writers_at_once_lose_nothing(netns: Make, lock: Path, way: str) -> None:
    ns = netns()
    in_ns(ns, [*TOOL, "-L", "-n"])
    process = writer(ns, way, 3)
    added = 0
    try:
        while added < 40 or (process.poll() is None and added < 400):
            added += 1
            in_ns(ns, [*TOOL, "-A", "FORWARD", *udp(added)])
            in_ns(ns, [*TOOL, "-A", "FORWARD", *udp(added + 1000)])
            in_ns(ns, [*TOOL, "-D", "FORWARD", *udp(added)])
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
    theirs = [line for line in rules_of(ns) if "--dport" in line]
    assert theirs == [
        f"-A FORWARD -p udp -m udp --dport {n + 1000} -j ACCEPT" for n in range(1, added + 1)
    ]
    with namespaces.inside(ns):
        assert iptables.read(PATH) == STATE


def udp(port: int) -> list[str]:
    return ["-p", "udp", "--dport", str(port), "-j", "ACCEPT"]


def test_a_lock_that_does_not_come_free_is_an_error_and_nothing_changes(
    netns: Make, lock: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iptables_legacy, "WAIT", 1)
    ns = netns()
    in_ns(ns, [*TOOL, "-L", "-n"])
    before = rules_of(ns)
    with lock.open("rb") as held, namespaces.inside(ns):
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(WriteFailed, match=r"lock"):
            iptables.write(PATH, STATE)
    assert rules_of(ns) == before
    with namespaces.inside(ns):
        iptables.write(PATH, STATE)
        assert iptables.read(PATH) == STATE


def test_counters_of_other_rules_survive(netns: Make, way: str) -> None:
    ns = netns()
    in_ns(ns, [*TOOL, "-A", "INPUT", *udp(9)])
    in_ns(ns, [*TOOL, "-A", "INPUT", "-p", "icmp", "-c", "12", "345", "-j", "ACCEPT"])
    with namespaces.inside(ns):
        iptables.write(PATH, STATE)
        out = subprocess.run(
            ["iptables-legacy-save", "-c", "-t", "mangle"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert "[12:345] -A INPUT -p icmp -j ACCEPT" in out
