"""A writer that dies, or is refused, at every point of a transaction: before or as planned.

What a point is worth follows from the scheme that is written, not from the fix: each scheme has
one host, and each fix that writes is on one of them. Records and boot files are written alike on
all: their points are tried on the first.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from faulty import WORLDS, Fault, Host, standing

SCHEMES = (
    ("nftables", "udp-redirect"),
    ("iptables-nft", "notrack"),
    ("iptables-legacy", "invalid-drop"),
    ("nftables", "tcp-be-liberal"),
)
assert set(SCHEMES) <= set(WORLDS)


@pytest.fixture(params=SCHEMES, ids="-".join)
def host(
    request: pytest.FixtureRequest, netns: Callable[..., str], tmp_path: Path
) -> Iterator[Host]:
    backend, fix = request.param
    with standing(backend, fix, netns, tmp_path) as made:
        yield made


@pytest.fixture
def one(netns: Callable[..., str], tmp_path: Path) -> Host:
    """Give the host with the most kinds of state: a sysctl and two boot files."""
    return Host(netns("crash"), tmp_path, "nftables", "tcp-be-liberal").prepare()


def whole(host: Host) -> tuple[dict[str, str], dict[str, str], tuple[str, ...], tuple[str, ...]]:
    """Return the host before and after, and the points of an apply and of a rollback."""
    before = host.dump()
    applied = host.run("apply", "--yes")
    assert applied.code == 0, applied.out
    after = host.dump()
    assert after != before
    undone = host.run("rollback", "--yes")
    assert undone.code == 0, undone.out
    assert host.dump() == before
    return before, after, applied.points, undone.points


def apart(points: tuple[str, ...]) -> list[tuple[int, str]]:
    """Return the points, with their numbers, that differ for one who does not get past them.

    Between the end of one deed and the beginning of the next there is only reading; but a guard
    begins after ``begin``, and one for the boot ends before ``end``. All boot files are of one
    scheme: the first and the last are tried; and the effect is looked at again and again.
    """
    files = [at for at, name in enumerate(points) if name.startswith("before write file:")]
    between = range(files[0] + 4, files[-1]) if len(files) > 2 else range(0)
    return [
        (at, name)
        for at, name in enumerate(points)
        if at not in between
        and not name == points[at - 2] == "after effect"
        and not (
            name.startswith("before ")
            and name != "before end"
            and at > 0
            and points[at - 1].startswith("after ")
            and points[at - 1] != "after begin"
        )
    ]


def tried(host: Host, points: tuple[str, ...]) -> list[tuple[int, str]]:
    """Return the points that differ; of a host but the first those of what it alone writes.

    With the first boot file and the last: there is more to undo than one of a kind.
    """
    found = apart(points)
    if (host.backend, host.fix) == SCHEMES[0]:
        return found
    writes = [n for n, (_, name) in enumerate(found) if " write " in name]
    files = [n for n in writes if " file:" in found[n][1]]
    own = [n for n in writes if n not in files]
    kept = {*range(own[0], own[-1] + 2), files[0], files[-1]}
    return [point for n, point in enumerate(found) if n in kept]


def each(host: Host, points: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield the points; a journal has those of four, as every run reads what was before it."""
    for number, point in enumerate(points):
        if number % 4 == 0:
            host.forget()
        yield point


def test_killed_at_every_point_of_apply(host: Host) -> None:
    before, after, points, _ = whole(host)
    assert points[0] == "before begin"
    assert points[-1] == "after end"
    for at, name in each(host, tried(host, points)):
        done = host.run("apply", "--yes", fault=Fault(at))
        assert done.code == -signal.SIGKILL, (name, done.out)
        host.unguarded()
        now, status = host.dump(), host.run("status", "--json")
        assert status.code == 0, (name, status.out)
        assert status.json["unfinished"] == []
        if name == "after end":
            assert now == after
            assert {e["state"] for e in status.json["in_force"]} == {"ours"}
            assert host.run("rollback", "--yes").code == 0
        else:
            assert now == before, name
            assert status.json["in_force"] == []


def test_killed_beside_python_iptables(netns: Callable[..., str], tmp_path: Path) -> None:
    """The library's own process is no point of ours: the lock is not free before it has ended."""
    host = Host(netns("crash"), tmp_path, "iptables-legacy", library=True).prepare()
    before, _, points, _ = whole(host)
    at = points.index("before written")  # the first write is done, the others are not
    assert host.run("apply", "--yes", fault=Fault(at)).code == -signal.SIGKILL
    host.unguarded()
    assert host.dump() == before


def test_killed_with_its_guard_at_every_point_of_apply(host: Host) -> None:
    before, after, points, _ = whole(host)
    for at, name in each(host, tried(host, points)):
        done = host.run("apply", "--yes", fault=Fault(at, "both"))
        assert done.code == -signal.SIGKILL, (name, done.out)
        status = host.run("status", "--json")
        began, ended = name != "before begin", name == "after end"
        assert len(status.json["unfinished"]) == (began and not ended), name
        assert status.code == (2 if began and not ended else 0), (name, status.out)
        if ended:  # what undoes it at boot knows that it ended, and goes with the next writer
            assert {k: v for k, v in host.dump().items() if "-recover." not in k} == after
        assert host.run("rollback", "--yes").code == 0
        assert host.dump() == before, name
        assert host.run("status").code == 0
        assert host.guards() == []


def test_killed_at_every_point_of_rollback(host: Host) -> None:
    """At every other point the guard is killed too."""
    before, after, _, points = whole(host)
    for number, (at, name) in enumerate(each(host, tried(host, points))):
        kind = ("kill", "both")[number % 2]
        assert host.run("apply", "--yes").code == 0
        assert host.dump() == after
        done = host.run("rollback", "--yes", fault=Fault(at, kind))
        assert done.code == -signal.SIGKILL, (name, done.out)
        if kind == "kill":
            host.unguarded()
            assert host.run("status").code == 0, name
            assert host.dump() == (after if name == "before begin" else before), name
        assert host.run("rollback", "--yes").code == 0
        assert host.dump() == before, name
        assert host.guards() == []


ERRORS = ("ENOSPC", "EIO", "EROFS", "EPERM")


def test_refused_with_every_error_in_turn(host: Host) -> None:
    """At each point of the apply another one."""
    before, _, points, _ = whole(host)
    assert len(apart(points)) > len(ERRORS)
    for number, (at, name) in enumerate(each(host, tried(host, points))):
        kind = ERRORS[number % len(ERRORS)]
        done = host.run("apply", "--yes", fault=Fault(at, kind))
        host.unguarded()
        assert done.code == (1 if name.endswith("begin") else 3), (name, kind, done.out)
        assert host.dump() == before, (name, kind)
        told = host.run("status", "--json").json
        assert (told["in_force"], told["unfinished"]) == ([], []), (name, kind)


def test_refused_at_every_point_of_apply(one: Host) -> None:
    """The point fails once, as a write of a resource does, and again and again, as a full disk."""
    before, _, points, _ = whole(one)
    for at, name in each(one, enumerate(points)):
        for stays in (False, True):
            if stays and "write " in name:
                continue
            done = one.run("apply", "--yes", fault=Fault(at, "ENOSPC", stays))
            one.unguarded()
            told = one.run("status", "--json").json
            assert done.code == (1 if name.endswith("begin") else 3), (name, stays, done.out)
            assert one.dump() == before, (name, stays)
            if name == "after end" and stays:
                # The record was made and then nothing more: what it says is seen to be gone.
                assert {e["state"] for e in told["in_force"]} == {"gone", "drifted"}
                assert one.run("rollback", "--yes").code == 0
            else:
                assert (told["in_force"], told["unfinished"]) == ([], []), (name, stays)


def test_a_state_directory_that_is_full(one: Host) -> None:
    """A real file system with a few pages left: each record in turn is cut off, or does not fit."""
    folder = one.state.parent
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "t", folder], check=True)
    try:
        before = one.dump()
        assert one.run("apply", "--yes").code == 0
        assert one.run("rollback", "--yes").code == 0
        codes = []
        for pages in range(9):
            filler = folder / "filler"
            free = os.statvfs(folder)
            filler.write_bytes(b"x" * (free.f_bfree - pages) * free.f_bsize)
            done = one.run("apply", "--yes")
            codes.append(done.code)
            one.unguarded()
            if done.code != 0:
                assert one.dump() == before, done.out
            filler.unlink()
            told = one.run("rollback", "--yes")
            assert told.code == 0, told.out
            assert one.dump() == before
            assert one.run("status").code == 0
        assert codes[-1] == 0
        assert {3} <= set(codes) <= {0, 1, 3, 77}
    finally:
        subprocess.run(["umount", folder], check=True)


def test_stopped_at_every_point_of_apply(one: Host) -> None:
    """SIGSTOP: it lives, holds the lock and makes no record. Its guard ends it and undoes all."""
    before, _, points, _ = whole(one)
    # At the first nothing is written yet, at the last all is done.
    for at, name in each(one, apart(points)[1:-1]):
        done = one.run("apply", "--yes", fault=Fault(at, "stop"))
        assert done.code == -signal.SIGKILL, (name, done.out)
        one.unguarded()
        assert one.dump() == before, name
        status = one.run("status", "--json")
        assert (status.code, status.json["unfinished"]) == (0, []), name
    told = one.run("history", "--json").json["transactions"][0]
    assert told["outcome"] == "rolled-back"
