"""Finding namespaces, visiting them in processes, and the names that a container daemon gives."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.namespaces import containers, find, workers
from remedies.namespaces.find import Namespace
from remedies.namespaces.workers import WorkerResult, visit_all

ID = "ab" * 32


def answer(body: object, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\nServer: x\r\n\r\n{json.dumps(body)}".encode()


def ended(pid: int) -> bool:
    """Tell whether a process ends in time; one that has been reaped already has."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 30.0)[0])
    finally:
        os.close(handle)


class TestFinding:
    def test_this_namespace_comes_first(self) -> None:
        found, _ = find.find()
        info = os.stat("/proc/self/ns/net")
        assert (found[0].device, found[0].inode) == (info.st_dev, info.st_ino)
        assert [n.own for n in found] == [True] + [False] * (len(found) - 1)
        assert len({(n.device, n.inode) for n in found}) == len(found)

    def test_names_that_stand_for_nothing_are_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "stale").touch()
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "users").symlink_to("/proc/self/ns/user")
        monkeypatch.setattr(find, "NAMED", (str(tmp_path), str(tmp_path / "absent")))
        found, _ = find.find()
        assert not any(n.name for n in found)

    def test_a_name_elsewhere_is_its_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mine").symlink_to("/proc/self/ns/net")
        monkeypatch.setattr(find, "NAMED", (str(tmp_path),))
        found, _ = find.find()
        assert found[0].name == found[0].spec == f"{tmp_path}/mine"

    def test_what_a_person_gives_to_netns(self) -> None:
        assert Namespace(1, 4, ("/run/netns/blue", "/proc/7/ns/net"), "blue").spec == "blue"
        assert Namespace(1, 4, ("/proc/7/ns/net",)).spec == "7"

    def test_one_that_has_ended_is_not_entered(self) -> None:
        gone = Namespace(1, 4, (f"/proc/{os.getpid()}/ns/net", "/proc/self/ns/nothing"))
        assert not find.still_there(gone)
        assert not find.enter(gone)


class TestVisits:
    def test_results_come_in_order(self) -> None:
        works = [lambda n=n: f"{n} {os.getpid()}" for n in range(9)]
        done = visit_all(works, 10.0, at_once=4)
        assert [d.text.split()[0] for d in done] == [str(n) for n in range(9)]
        assert len({d.text.split()[1] for d in done} | {str(os.getpid())}) == 10

    def test_much_is_carried_whole(self) -> None:
        text = "\N{SNOWMAN}\0" * 1_000_000
        assert visit_all([lambda: text], 10.0) == [WorkerResult(text=text)]

    def test_a_failure_is_one_visit_s_own(self) -> None:
        def fails() -> str:
            raise ValueError("no such thing")

        def dies() -> str:
            os.kill(os.getpid(), signal.SIGKILL)
            return "never"

        def empty() -> str:
            raise RuntimeError

        assert visit_all([fails, dies, lambda: "fine", empty], 10.0) == [
            WorkerResult(failure="no such thing"),
            WorkerResult(failure="its process was ended by SIGKILL", killed_by=signal.SIGKILL),
            WorkerResult(text="fine"),
            WorkerResult(failure="RuntimeError"),
        ]

    def test_one_that_hangs_is_killed_with_what_it_started(self, tmp_path: Path) -> None:
        pids = tmp_path / "pids"

        def hangs() -> str:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = os.fork()
            if child:
                pids.write_text(f"{os.getpid()} {child}")
            while True:
                time.sleep(60)

        # Long enough for both to have begun, on a busy machine, too.
        done = visit_all([hangs, lambda: "fine"], 2.0)
        assert done == [WorkerResult(failure="took longer than 2 s"), WorkerResult(text="fine")]
        for pid in pids.read_text().split():
            assert ended(int(pid))

    def test_what_is_said_by_now_is_heard_though_the_time_is_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As where this process got no processor until then; who is silent is ended."""

        def hangs() -> str:
            time.sleep(60)
            return "never"

        with workers.Crew() as crew:
            crew.start(0, lambda: "fine", 60.0)
            ended = select.poll()
            ended.register(crew.pipes[0], 0)  # its end alone
            assert ended.poll(60_000)
            crew.start(1, hangs, 60.0)
            late = time.monotonic() + 60.0
            monkeypatch.setattr(time, "monotonic", lambda: late)
            assert [name for name, _ in crew.late()] == [1]
            heard = [crew.hear(crew.pipes[0]) for _ in range(2)]
        assert heard == [None, (0, WorkerResult(text="fine"))]

    def test_nothing_stays_after_an_interruption(self, tmp_path: Path) -> None:
        def interrupts() -> str:
            (tmp_path / str(os.getpid())).touch()
            os.kill(os.getppid(), signal.SIGINT)
            return hangs()

        def hangs() -> str:
            (tmp_path / str(os.getpid())).touch()
            time.sleep(60)
            return ""

        # In a process of one thread, as the tool is: a worker of the tests has more, and a signal
        # that reaches another one while this one forks is lost in a hook of the interpreter.
        pid = os.fork()
        if pid == 0:
            try:
                visit_all([hangs, interrupts, hangs], 30.0)
                os._exit(0)
            except KeyboardInterrupt:
                os._exit(130)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
        assert all(ended(int(path.name)) for path in tmp_path.iterdir())

    def test_a_process_that_has_hardly_begun_when_the_interruption_comes_is_ended(
        self, tmp_path: Path
    ) -> None:
        """A signal that waited is taken where signals are let in again, behind the fork."""
        setpgid, masked = os.setpgid, signal.pthread_sigmask

        def hardly_begun(pid: int, group: int) -> None:
            if pid == 0:  # the child is as slow as can be
                (tmp_path / str(os.getpid())).touch()
                os.kill(os.getppid(), signal.SIGUSR1)
                signal.pause()
            setpgid(pid, group)

        def let_in(how: int, mask: Collection[int]) -> set[int]:
            before = masked(how, mask)
            if how == signal.SIG_SETMASK:
                signal.sigwait({signal.SIGUSR1})  # the child is there
                raise KeyboardInterrupt
            return before

        pid = os.fork()
        if pid == 0:
            masked(signal.SIG_BLOCK, {signal.SIGUSR1})
            with (
                mock.patch("os.setpgid", hardly_begun),
                mock.patch.object(signal, "pthread_sigmask", let_in),
                contextlib.suppress(KeyboardInterrupt),
            ):
                visit_all([str], 30.0)
            os._exit(0)
        os.waitpid(pid, 0)
        (child,) = tmp_path.iterdir()
        assert ended(int(child.name))

    def test_one_that_says_too_much_is_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workers, "_MOST", 1000)
        done = visit_all([lambda: "x" * 3_000_000], 10.0)
        assert done == [WorkerResult(failure="output larger than 64 MiB")]

    def test_nothing_to_do(self) -> None:
        assert visit_all([], 1.0) == []


def test_processes_that_may_not_be_seen_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    key, mine = find._key, os.getpid()

    def refused(path: str) -> find.Key:
        if path == f"/proc/{mine}/ns/net":
            raise PermissionError(path)
        return key(path)

    monkeypatch.setattr(find, "_key", refused)
    name = Path(f"/proc/{mine}/comm").read_text().strip()
    (unread,) = find.find()[1]
    assert unread.startswith("namespaces of processes ")
    assert f"{mine} ({name})" in unread or " more: " in unread
    assert find._not_permitted([mine, 2, 3, 4, 5]).startswith(
        f"namespaces of processes {mine} ({name}), 2"
    )
    assert " and 2 more: not permitted" in find._not_permitted([mine, 2, 3, 4, 5])


class TestContainers:
    def test_names_by_id(self) -> None:
        listed = [
            {"Id": ID, "Names": ["/web"]},
            {"Id": "cd" * 32, "Names": ["/web/db", "/db"]},
            {"Id": "ef" * 32, "Names": []},
        ]
        assert containers.parse(answer(listed)) == {ID[:12]: "web", ("cd" * 6): "db"}

    @pytest.mark.parametrize(
        "wrong",
        [
            b"",
            b"HTTP/1.0",
            answer([{"Id": ID, "Names": ["/web"]}], "500 Oops"),
            answer({"message": "no"}),
            answer([None, 5, {"Id": 5, "Names": ["/a"]}, {"Id": ID}, {"Id": ID, "Names": [7]}]),
            b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 100_000,
            b"HTTP/1.0 200 OK\r\n\r\n[{",
        ],
    )
    def test_anything_else_names_nothing(self, wrong: bytes) -> None:
        assert containers.parse(wrong) == {}

    @given(st.binary())
    def test_no_bytes_break_it(self, data: bytes) -> None:
        containers.parse(data)
        containers.parse(b"HTTP/1.1 200 OK\r\n\r\n" + data)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket where a daemon would answer, and no other."""
    path = str(tmp_path / "socket")
    monkeypatch.setattr(containers, "SOCKETS", (str(tmp_path / "none"),))
    monkeypatch.setattr(containers, "PATIENCE", 0.2)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen()
        yield listening


def test_a_daemon_is_asked(daemon: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "PATIENCE", 30.0)  # it answers an octet at a time
    heard = []

    def serve() -> None:
        connection, _ = daemon.accept()
        with connection:
            heard.append(connection.recv(4096))
            for octet in answer([{"Id": ID, "Names": ["/web"]}]):
                connection.send(bytes([octet]))

    server = threading.Thread(target=serve)
    server.start()
    try:
        assert containers.names([]) == {ID[:12]: "web"}
    finally:
        server.join(5)
    assert heard[0].startswith(b"GET /containers/json HTTP/1.0\r\n")


def test_an_answer_that_is_there_is_taken_though_the_time_is_over(
    daemon: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a scan that gets no processor between its question and the end of its time."""
    clock = itertools.count(0.0, 10.0)

    def answered_by_now() -> float:
        if (now := next(clock)) == 10.0:
            with daemon.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(answer([{"Id": ID, "Names": ["/web"]}]))
        return now

    monkeypatch.setattr(time, "monotonic", answered_by_now)
    assert containers.names([]) == {ID[:12]: "web"}


def test_a_daemon_that_is_silent_costs_little(daemon: socket.socket) -> None:
    began = time.monotonic()
    assert containers.names([]) == {}
    assert time.monotonic() - began < 30.0, "it waits for the end"


def test_no_daemon_names_nothing(daemon: socket.socket) -> None:
    daemon.close()
    assert containers.names([]) == {}
