"""Confirming, rejecting and forgetting: what waits is kept or undone, whatever the caller does."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faulty import Fault, Host
from waiting import eventually

from remedies.transaction import guarded

NEVER = 10**6
"""No point: nothing goes wrong."""


@pytest.fixture
def host(netns: Callable[..., str], tmp_path: Path) -> Host:
    return Host(netns("wait"), tmp_path, "nftables", "tcp-be-liberal").prepare()


def test_what_waits_is_kept_by_confirm_and_its_boot_files_are_written_then(host: Host) -> None:
    before = host.dump()
    done = host.run("apply", "--yes", "--json", "--confirm-timeout", "60s")
    assert done.code == 0
    told = done.json
    assert told["outcome"] == "applied"
    assert told["pending_confirm_until"].endswith("Z")
    waiting = host.dump()
    assert waiting["key"] != before["key"]
    assert {n for n in waiting if n.startswith("/")} == set()
    status = host.run("status", "--json")
    assert status.code == 0
    pending = status.json["pending_confirm"]
    assert pending["transaction"] == told["transaction"]
    assert 0 < pending["seconds_left"] <= 60
    assert host.run("confirm").code == 0
    host.unguarded()
    kept = host.dump()
    assert len({n for n in kept if n.startswith("/")}) == 2
    assert host.run("status", "--json").json["pending_confirm"] is None
    assert [t["outcome"] for t in host.run("history", "--json").json["transactions"]] == [
        "confirmed"
    ]
    assert host.run("confirm").code == 0
    assert host.run("apply", "--yes", "--json").json["outcome"] == "nothing"
    assert host.run("rollback", "--yes").code == 0
    assert host.dump() == before


def test_what_nobody_confirms_is_undone_in_time(host: Host) -> None:
    before = host.dump()
    start = time.monotonic()
    assert host.run("apply", "--yes", "--confirm-timeout", "3s").code == 0
    assert host.dump() != before
    host.unguarded()
    assert time.monotonic() - start >= 3
    assert host.dump() == before
    late = host.run("confirm", "--json")
    assert (late.code, late.json["outcome"]) == (7, "reverted")
    assert host.run("status").code == 0


def test_only_one_may_wait(host: Host) -> None:
    assert host.run("apply", "--yes", "--confirm-timeout", "60s").code == 0
    again = host.run("apply", "--yes")
    assert again.code == 6
    assert "waits for confirmation until" in again.out
    assert host.run("rollback", "--fix", "tcp-be-liberal", "--yes").code == 6
    assert host.run("rollback", "--yes").code == 0
    host.unguarded()
    assert host.run("history", "--json").json["transactions"][0]["outcome"] == "rolled-back"
    assert host.run("status", "--json").json["in_force"] == []


def test_with_its_guard_killed_it_is_said_and_rollback_or_confirm_ends_it(host: Host) -> None:
    before = host.dump()
    for verb, code in (("rollback", 0), ("confirm", 0)):
        words = ("apply", "--yes", "--json", "--confirm-timeout", "60s")
        name = host.run(*words).json["transaction"]
        os.kill(pid_of_guard(name), signal.SIGKILL)
        eventually(lambda n=name: not guarded.alive(str(host.state), n), 20, "killed and alive")  # type: ignore[misc]
        status = host.run("status", "--json")
        assert (status.code, status.json["unfinished"]) == (2, [name])
        assert host.run(*([verb, "--yes"] if verb == "rollback" else [verb])).code == code
        assert host.run("status").code == 0
        if verb == "rollback":
            assert host.dump() == before
    assert host.run("rollback", "--yes").code == 0
    assert host.guards() == []


def pid_of_guard(txn: str) -> int:
    """Return the process that has the FIFO of a transaction's guard open."""
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and Path(f"/proc/{name}/comm").read_text() == "remedy-guard\n":
                links = (
                    os.readlink(f"/proc/{name}/fd/{n}") for n in os.listdir(f"/proc/{name}/fd")
                )
                if any(link.endswith(f"guard-{txn}") for link in links):
                    return int(name)
    raise AssertionError(f"no guard of {txn}")


def test_killed_at_every_point_of_confirm_it_waits_on_and_is_undone_whole(host: Host) -> None:
    before = host.dump()
    words = ("apply", "--yes", "--confirm-timeout")
    assert host.run(*words, "60s").code == 0
    points = host.run("confirm").points
    assert points[0] == "before confirming"
    assert host.run("rollback", "--yes").code == 0
    for at, name in enumerate(points):
        host.forget()  # every run reads what was before it
        assert host.run(*words, "60s").code == 0
        assert host.run("confirm", fault=Fault(at)).code == -signal.SIGKILL
        status = host.run("status", "--json").json
        assert (status["pending_confirm"] is None) == (name == "after end")
        if at % 2 and name != "after end":
            assert host.run("confirm").code == 0, name
        assert host.run("rollback", "--yes").code == 0
        assert host.dump() == before, name


@pytest.mark.parametrize("kind", ["ENOSPC", "EPERM"])
def test_refused_at_every_point_of_confirm_it_waits_on(host: Host, kind: str) -> None:
    assert host.run("apply", "--yes", "--confirm-timeout", "60s").code == 0
    points = host.run("confirm").points
    assert host.run("rollback", "--yes").code == 0
    assert host.run("apply", "--yes", "--confirm-timeout", "60s").code == 0
    waiting = host.dump()
    for at in range(len(points)):
        done = host.run("confirm", fault=Fault(at, kind))
        assert done.code == 1, done.out
        assert host.dump() == waiting
        assert host.run("status", "--json").json["pending_confirm"] is not None
    assert host.run("confirm").code == 0
    host.unguarded()


def test_after_a_restart_of_the_machine_it_is_closed(host: Host) -> None:
    """Another boot id: the kernel that held the change is gone, and so is the change."""
    before = host.dump()
    assert host.run("apply", "--yes", "--confirm-timeout", "60s").code == 0
    (fifo,) = host.guards()
    os.kill(pid_of_guard(fifo.partition("-")[2]), signal.SIGKILL)
    host.sh("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_be_liberal=0")
    rebooted(host.state)
    status = host.run("status", "--json")
    assert (status.code, len(status.json["unfinished"])) == (2, 1)
    assert "restarted" in host.run("status").out
    assert host.run("confirm").code == 7
    assert host.dump() == before
    assert host.run("status").code == 0
    assert host.run("apply", "--yes").code == 0


def rebooted(folder: Path) -> None:
    """Write the journal anew as if it came from the boot before."""
    from remedies.transaction.journal import Journal, records

    path = folder / "journal.jsonl"
    old = list(records(str(path)))
    path.unlink()
    with Journal(str(folder)) as journal:
        for record in old:
            data = dict(record.data)
            if record.kind == "begin":
                data["boot_id"] = "00000000-0000-0000-0000-000000000000"
            journal.append(record.kind, record.txn, data)


def test_time_is_up_though_whoever_confirms_is_stopped(host: Host) -> None:
    """What holds the lock then, and does not get on, is ended: at every point of confirm."""
    before = host.dump()
    words = ("apply", "--yes", "--json", "--confirm-timeout", "60s")
    assert host.run(*words).code == 0
    points = host.run("confirm").points
    assert host.run("rollback", "--yes").code == 0
    told = host.folder / "points"
    for at, name in enumerate(points[:-1]):  # the last one comes after the end
        host.forget()
        txn = host.run(*words, fault=Fault(NEVER, "tired")).json["transaction"]
        told.write_text("")
        with ThreadPoolExecutor(1) as pool:
            confirm = pool.submit(host.run, "confirm", fault=Fault(at, "stop"))
            eventually(lambda n=at: told.read_text().count("\n") > n, 20, name)  # type: ignore[misc]
            os.kill(pid_of_guard(txn), signal.SIGTERM)  # time is up now
            assert confirm.result().code == -signal.SIGKILL, name
        host.unguarded()
        assert host.dump() == before, name
        assert host.run("status").code == 0


def test_time_is_up_though_the_writer_is_stopped_before_it_says_that_it_waits(host: Host) -> None:
    before = host.dump()
    words = ("apply", "--yes", "--confirm-timeout")
    at = host.run(*words, "60s").points.index("after pending")
    assert host.run("rollback", "--yes").code == 0
    assert host.run(*words, "100ms", fault=Fault(at, "stop")).code == -signal.SIGKILL
    host.unguarded()
    assert host.dump() == before
    (outcome,) = {t["outcome"] for t in host.run("history", "--json").json["transactions"][:1]}
    # On a busy machine it may be taken for hung before it gets there.
    assert outcome in ("reverted", "rolled-back")
