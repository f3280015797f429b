"""Every probe ends when its time is over and says so; none reads without a limit."""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import remedies.facts
from remedies.namespaces import containers
from remedies.namespaces.netns import inside
from remedies.netlink.flow import Tuple
from remedies.tap.lookups import Questions

FIXED = {
    "counters": "four files of /proc/net, a line or two for each protocol and CPU",
    "sysctl": "some values of /proc/sys",
    "forgotten": "what sysctl has read; owners is asked only for a short time-out",
    "docker": "each daemon has a second of its own: see below",
    "slab": "a file of a line, or one of which 256 KiB are read",
    "asked": "the kernel's ring of packets, of a fixed size, for the window alone",
    "stalls": "the same",
    "tap": "the same",
    "drops": "a map in the kernel, of a fixed size, for the window alone",
    "droppers": "reads nothing where the firewall drops nothing; rules within the deadline",
    "departed": "4,096 flows at most, and rules only where packets of one go unanswered",
    "strays": "sixteen questions to conntrack, and none where nothing is dropped",
    "returns": "sixteen routes, and none where the filter drops nothing",
    "dropped": "reads nothing where no connection stands still",
    "queues": "reads sockets only where a counter moved while it watched; within the deadline",
    "crowds": "reads sockets only where there are nearly as many as ports; within the deadline",
    "declared": "the files of sysctl.d, and none but where a key has the kernel's default",
    "loopback": "reads nothing where no link is open to it; sockets and rules within the deadline",
    "named": "the files that root's policy names, a MiB of each",
    "narrow": "sixteen routes, and none where no packet was too big",
    "networkd": "the files of its own folders, a MiB of each",
    "overlays": "a line for each link whose address others know",
    "shared": "three files of /proc of a fixed size",
    "stale": "reads nothing where nobody else's request is unanswered; rules within the deadline",
    "untracked": "the kernel's ring of packets, of a fixed size, for the window alone",
    "wiped": "reads nothing where each container network has NAT; rules within the deadline",
}
"""Probes that do not look at the clock while they read, and what bounds them."""

PROBES = sorted(
    name
    for _, name, _ in pkgutil.iter_modules(remedies.facts.__path__)
    if "(asking: Asking) ->" in (Path(remedies.facts.__path__[0]) / f"{name}.py").read_text()
)

PROGRAM = """\
import importlib, json, sys, time
from remedies import codec
from remedies.namespaces import netns
from remedies.errors import Unreadable
from remedies.facts import Asking, name_of
from remedies.facts.host import read_host
from remedies.facts.gather import read_facts
netns.enter(sys.argv[1])
name = sys.argv[2]
probe = importlib.import_module("remedies.facts." + name)
known = {}
for earlier in getattr(probe, "AFTER", ()):
    kind = getattr(importlib.import_module("remedies.facts." + earlier), earlier.capitalize())
    known.update(read_facts(read_host(), (kind,)).known)
topics = frozenset((getattr(probe, "TOPIC", ""),))
for timeout in map(float, sys.argv[3:]):
    asking = Asking(host=read_host(), known=known, timeout=timeout, topics=topics)
    begun, said = time.monotonic(), ""
    try:
        if hasattr(probe, "watch"):
            watch = probe.watch(asking)
            try:
                fact = watch.finish()
            finally:
                watch.close()
        else:
            fact = probe.read(asking)
        plain = codec.encode(fact)
        said = " ".join(map(str, [*plain.get("unread", ()), *plain.get("unread_notracks", ())]))
    except Unreadable as error:
        said = str(error)
    print(json.dumps({"said": said, "seconds": time.monotonic() - begun}))
"""


@pytest.fixture
def busy(netns: Callable[..., str], run_in: Callable[..., Any]) -> str:
    """Give a namespace with something for every probe to read: rules, and flows without a reply.

    Two of these are a request and its answer from another address.
    """
    ns = netns("probes")
    run_in(ns, ["nft", "-f", "-"], stdin=(
        "table ip nat {\n chain post {\n type nat hook postrouting priority 100;\n"
        " masquerade\n }\n}\n"
        "table inet f {\n chain in {\n type filter hook input priority 0;\n"
        " ct state invalid drop\n }\n"
        " chain pre {\n type filter hook prerouting priority -300;\n"
        " ip daddr 192.0.2.1 udp dport 5060 notrack\n }\n}\n"))  # fmt: skip
    run_in(ns, ["ip", "address", "add", "192.0.2.1/24", "dev", "lo"])
    run_in(ns, [sys.executable, "-c",
                "import socket as o; s = o.socket(o.AF_INET, o.SOCK_DGRAM);"
                "s.bind(('192.0.2.1', 40000)); s.sendto(b'x', ('127.0.0.2', 9));"
                "t = o.socket(o.AF_INET, o.SOCK_DGRAM);"
                "t.bind(('192.0.2.1', 9)); t.sendto(b'x', ('192.0.2.1', 40000))"])  # fmt: skip
    return ns


def probed(ns: str, name: str, *timeouts: float) -> list[dict[str, Any]]:
    """Read a fact as often as it is given a time, in one process; return what each came to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, ns, name, *map(str, timeouts)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, "SSH_CONNECTION": "192.0.2.1 40000 192.0.2.1 22"},
        )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_there_are_probes() -> None:
    assert len(PROBES) > 10
    assert set(FIXED) <= set(PROBES)


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_whose_time_is_over_ends_and_says_so(busy: str, name: str) -> None:
    good, late = probed(busy, name, 5.0, -1.0)
    assert "took too long" not in good["said"]
    assert late["seconds"] < 3.0
    if name not in FIXED:
        assert "took too long" in late["said"], late


@contextmanager
def daemon(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[socket.socket, threading.Event], None],
    head: bytes = b"HTTP/1.0 200 OK\r\n\r\n[",
) -> Iterator[str]:
    """Have a daemon at a socket of its own that ``answer`` speaks for; yield the socket's path."""
    path = str(folder / "docker.sock")
    monkeypatch.setattr(containers, "SOCKETS", ())
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    stop = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):  # it may leave before the end
                client.sendall(head)
                answer(client, stop)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            stop.set()
            thread.join()


def drip(client: socket.socket, stop: threading.Event) -> None:
    while not stop.wait(0.05):
        client.sendall(b" ")


def flood(client: socket.socket, stop: threading.Event) -> None:
    while not stop.is_set():
        client.sendall(b" " * 65536)


def silence(client: socket.socket, stop: threading.Event) -> None:
    stop.wait(60)


@pytest.mark.parametrize("answer", [drip, silence])
def test_a_daemon_that_never_ends_its_answer_is_left_and_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[socket.socket, threading.Event], None],
) -> None:
    unread: list[str] = []
    begun = time.monotonic()
    with daemon(tmp_path, monkeypatch, answer) as path:
        assert containers.names(unread) == {}
    assert time.monotonic() - begun < 30 * containers.PATIENCE, "it waits for the end"
    assert unread == [f"names of containers: {path} took too long to answer (1 s)"]


def test_a_daemon_that_says_too_much_is_left_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "_MOST", 1 << 20)
    monkeypatch.setattr(containers, "PATIENCE", 30.0)
    unread: list[str] = []
    with daemon(tmp_path, monkeypatch, flood) as path:
        assert containers.names(unread) == {}
    assert unread == [f"names of containers: {path}: answers with more than 1 MiB"]


def end(client: socket.socket, stop: threading.Event) -> None:
    client.recv(4096)  # the request: what is left unread ends the connection with an error
    client.shutdown(socket.SHUT_WR)


def test_a_daemon_that_answers_with_an_error_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unread: list[str] = []
    head = b"HTTP/1.0 503 Service Unavailable\r\n\r\n[]"
    with daemon(tmp_path, monkeypatch, end, head) as path:
        assert containers.names(unread) == {}
    said = "'HTTP/1.0 503 Service Unavailable'"
    assert unread == [f"names of containers: {path}: answers {said}"]


def test_a_refused_reply_is_asked_about_64_addresses_and_no_more_unsaid(
    netns: Callable[[str], str],
) -> None:
    many = [f"192.0.2.{last}" for last in range(1, 100)]
    way = Tuple("198.51.100.1", 53, "198.51.100.2", 40000)
    with inside(netns("many")):
        questions = Questions()
        assert questions.other_request(way, many[:64]) is None
        assert not questions.unread
        assert questions.other_request(way, many) is None
        questions.close()
    said = "flows of refused replies: 64 of 99 addresses were asked about"
    assert list(questions.unread) == [said]


def test_where_there_is_no_daemon_nothing_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "SOCKETS", (str(tmp_path / "none"),))
    unread: list[str] = []
    assert (containers.names(unread), unread) == ({}, [])


def test_more_sockets_than_are_looked_at_are_counted(busy: str) -> None:
    """Of a client with many connected UDP sockets; what the limit cuts off is said by the scan."""
    from remedies.facts.sockets import MOST_CONNECTED
    from remedies.namespaces import netns as namespaces

    with ExitStack() as opened, namespaces.inside(busy):
        pair = ["ip", "link", "add", "d0", "up", "type", "veth", "peer", "d1"]
        subprocess.run(pair, check=True)
        subprocess.run(["ip", "address", "add", "192.0.2.9/24", "dev", "d0"], check=True)
        subprocess.run(["ip", "link", "set", "d1", "up"], check=True)
        for _ in range(MOST_CONNECTED + 7):
            end = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            end.bind(("192.0.2.9", 0))
            end.connect(("192.0.2.9", 9))
        done = subprocess.run(
            [sys.executable, "-m", "remedies", "--netns", busy, "scan", "--window", "0"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert f"not read: connected UDP sockets: 7 beyond the first {MOST_CONNECTED}" in done.stderr
