"""Harm that our drop does is heard after the write, undone, and told by status and verify.

Each world twice: with the harm, and a healthy twin in which the same rule drops what nobody lives
by. The fix is the older form (:mod:`older_form`), which takes every INVALID segment. A harm is
heard after the write in one IP version and by verify in the other one.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from beside import beside
from cross import LIBERAL, Cross
from raw_tcp import ACK, FIN, PUSH, RST, RawClient
from run_in import RunIn
from waiting import eventually

Work = Callable[[Cross, threading.Event], None]
World = Callable[[Cross], AbstractContextManager[Work]]
PORT = 80
PUBLISHED = """
table inet published {
    chain pre {
        type nat hook prerouting priority dstnat
        ip daddr 10.0.1.1 tcp dport 80 dnat ip to 10.0.2.2:80
        ip6 daddr fd00:1::1 tcp dport 80 dnat ip6 to [fd00:2::2]:80
    }
}
"""
WINDOW = ("--window", "2s")
both = pytest.mark.parametrize("family", [4, 6])
SYNPROXY = """
table inet sp {
    chain raw {
        type filter hook prerouting priority raw
        iifname "hc" tcp dport 22 tcp flags syn notrack
    }
    chain input {
        type filter hook input priority filter
        iifname "hc" tcp dport 22 ct state invalid,untracked \
synproxy mss 1460 wscale 7 timestamp sack-perm
    }
}
"""


@pytest.fixture
def cross(netns: Callable[..., str], run_in: RunIn, tmp_path: Path, family: int) -> Cross:
    return Cross(netns, run_in, tmp_path, family)


def ask(cross: Cross, stop: threading.Event) -> None:
    """Connect to the server anew and again, as clients do that get no answer."""
    while not stop.is_set():
        with cross.open(cross.client) as client:
            client.settimeout(0.5)
            client.bind((cross.at(1, 2), 0))
            with contextlib.suppress(OSError):
                client.connect((cross.at(2, 2), PORT))
                client.sendall(b"question")
                client.recv(10)
        stop.wait(0.05)


def ask_proxied(cross: Cross, stop: threading.Event, *, speak: bool = True) -> None:
    """Connect to the host's own service, which stands behind SYNPROXY."""
    while not stop.is_set():
        with cross.open(cross.client) as client:
            client.settimeout(1)
            with contextlib.suppress(OSError):
                client.connect((cross.at(1, 1), 22))
                if speak:
                    client.sendall(b"question")
                client.recv(10)


@contextlib.contextmanager
def requests_only(cross: Cross) -> Iterator[Work]:
    cross.only_requests()
    with answering(cross, cross.server, PORT):
        yield ask


@contextlib.contextmanager
def answers_only(cross: Cross) -> Iterator[Work]:
    cross.only_answers()
    with answering(cross, cross.server, PORT):
        yield ask


@contextlib.contextmanager
def proxied(cross: Cross) -> Iterator[Work]:
    cross.run(cross.host, "nft", "-f", "-", stdin=SYNPROXY)
    cross.run(cross.host, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
    with answering(cross, cross.host, 22):
        yield ask_proxied


@contextlib.contextmanager
def proxied_silent(cross: Cross) -> Iterator[Work]:
    with proxied(cross):
        yield lambda cross, stop: ask_proxied(cross, stop, speak=False)


@contextlib.contextmanager
def answering(cross: Cross, ns: str, port: int, patience: float = 0.3) -> Iterator[None]:
    """Serve connections, one after the other, until the block ends."""

    def serve(stop: threading.Event) -> None:
        listener.settimeout(0.1)
        while not stop.is_set():
            with contextlib.suppress(OSError):
                end, _ = listener.accept()
                with end:
                    end.settimeout(patience)
                    end.sendall(end.recv(100) or b"x")

    with cross.listening(ns, port) as listener, beside(serve):
        yield


@pytest.mark.parametrize(
    ("world", "backend", "family"),
    [
        (requests_only, "nftables", 4),
        (answers_only, "nftables", 6),
        (proxied, "nftables", 6),
        (proxied_silent, "nftables", 4),
        (requests_only, "iptables", 6),  # what is forwarded, and what is the host's own: what is
        (proxied, "iptables", 4),  # heard of them comes from conntrack, whoever drops
    ],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
def test_harm_is_undone(cross: Cross, world: World, backend: str) -> None:
    with world(cross) as work, cross.meanwhile(lambda stop: work(cross, stop)):
        done = cross.remedy("apply", "--yes", "--backend", backend, *WINDOW, code=3)
    assert done["outcome"] == "rolled-back"
    assert "the fix does harm" in done["reason"]
    assert cross.at(1, 2) in done["reason"]
    assert {v["after"] for v in done["verified"]} <= {"exposed", "active", "proven"}
    assert not cross.in_force()


def heard(cross: Cross, *words: str) -> dict[str, Any]:
    """Look until harm is heard: a window may fall between two of a client's tries."""
    for _ in range(6):
        told = cross.remedy(*words, code=None)
        if told["harm"]:
            return told
    raise AssertionError(f"{words} heard nothing: {told}")


@pytest.mark.parametrize(
    ("world", "family"),
    [(requests_only, 6), (answers_only, 4), (proxied, 4), (proxied_silent, 6)],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
def test_status_and_verify_tell_of_it(cross: Cross, world: World) -> None:
    cross.remedy("apply", "--yes", "--window", "0")
    with world(cross) as work, cross.meanwhile(lambda stop: work(cross, stop)):
        looks = [heard(cross, "verify", *WINDOW), heard(cross, "status")]
    for told in looks:
        (harm,) = told["harm"]
        assert harm["resource"] == "nft:inet/remedy_invalid_drop"
        assert cross.at(1, 2) in harm["reason"]


def ask_through_a_box(cross: Cross, stop: threading.Event, answers: list[bool]) -> None:
    """Ask the published service from behind a box that moves sequence numbers, but no SACK."""
    with RawClient(cross, 40000, (cross.at(1, 1), PORT)) as client:
        client.connect()
        while not stop.is_set() and not answers:
            client.send(ACK | PUSH, b"question", client.sack())
            if client.hear(ACK | PUSH, 0.4):
                answers.append(True)


@pytest.mark.parametrize(("form", "family"), [("forward", 4), ("output", 6)])
def test_a_hang_in_place_of_a_reset_is_no_success(
    cross: Cross, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "output":
        monkeypatch.setenv("REMEDY_OUTPUT_FORM", "1")
    cross.run(cross.host, "nft", "-f", "-", stdin=PUBLISHED)
    answers: list[bool] = []
    with (
        answering(cross, cross.server, PORT, 3),
        cross.meanwhile(lambda stop: ask_through_a_box(cross, stop, answers)),
    ):
        done = cross.remedy("apply", "--yes", *WINDOW, code=3)
    assert (done["outcome"], answers) == ("rolled-back", [])
    assert f"data of {cross.at(1, 2)}".replace("fd00", "[fd00") in done["reason"]
    assert {v["after"] for v in done["verified"]} <= {"exposed", "active", "proven"}


@both
def test_what_lets_the_request_through_is_success(cross: Cross) -> None:
    cross.run(cross.host, "nft", "-f", "-", stdin=PUBLISHED)
    answers: list[bool] = []
    with (
        answering(cross, cross.server, PORT, 3),
        cross.meanwhile(lambda stop: ask_through_a_box(cross, stop, answers)),
    ):
        done = cross.remedy("apply", "--yes", *WINDOW, older=False)
        eventually(lambda: bool(answers), what="the request never got through")
    assert (done["outcome"], answers) == ("applied", [True])
    assert [v["after"] for v in done["verified"]] == ["mitigated"]


@contextlib.contextmanager
def resets(cross: Cross, *, hangs: bool) -> Iterator[None]:
    """Make the host reset a published connection; ``hangs``: beside one that goes nowhere.

    Its data is damaged on the way. conntrack calls that INVALID, however liberal it is.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(cross.listening(cross.server, PORT))
        strays, damaged = (
            stack.enter_context(RawClient(cross, port, (cross.at(1, 1), PORT)))
            for port in (40001, 40002)
        )
        for client in (strays, damaged):
            client.connect()
            client.end = stack.enter_context(listener.accept()[0])

        def work(stop: threading.Event) -> None:
            far = 500_000_000
            while not stop.wait(0.1):
                strays.send(ACK | PUSH, b"stray", off=far)
                far += 1000
                if hangs:
                    damaged.send(ACK | PUSH, b"question", broken=True)

        stack.enter_context(beside(work))
        yield


@both
def test_a_connection_that_hangs_is_a_fault_that_is_still_there(cross: Cross) -> None:
    cross.run(cross.host, "nft", "-f", "-", stdin=PUBLISHED)
    with resets(cross, hangs=True):
        done = cross.remedy("apply", "--yes", *WINDOW, older=False, code=3)
        assert (done["outcome"], done["reason"].partition(";")[0]) == (
            "rolled-back",
            "the fault is still there: tcp-invalid-reset",
        )
        client = f"[{cross.at(1, 2)}]" if ":" in cross.at(1, 2) else cross.at(1, 2)
        assert f"{client}:40002 -> " in done["reason"]
        assert not cross.in_force()
        cross.remedy("apply", "--yes", "--keep", *WINDOW, older=False)
        told = cross.remedy("verify", *WINDOW, older=False, code=2)
    (finding,) = told["findings"]
    assert finding["verdict"] == "active"
    assert f"{client}:40002 -> " in finding["message"]


@both
def test_a_fault_that_is_healed_is_mitigated(cross: Cross) -> None:
    cross.run(cross.host, "nft", "-f", "-", stdin=PUBLISHED)
    with resets(cross, hangs=False):
        done = cross.remedy("apply", "--yes", *WINDOW, older=False)
        told = cross.remedy("verify", *WINDOW, older=False)
    assert [(v["before"], v["after"]) for v in done["verified"]] == [("proven", "mitigated")]
    assert [finding["verdict"] for finding in told["findings"]] == ["mitigated"]


@contextlib.contextmanager
def garbage(cross: Cross) -> Iterator[Callable[[threading.Event], None]]:
    """Make connections in good health beside which there is much for the rule to drop.

    One talks and one is silent, and strays come for both; one has a receiver that takes nothing;
    of one that has ended, conntrack forgot the end, and its FIN comes again.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(answering(cross, cross.server, 81, 10))
        listener = stack.enter_context(cross.listening(cross.server, PORT))
        talking, silent, ended, full = (
            stack.enter_context(RawClient(cross, port, (cross.at(2, 2), PORT)))
            for port in (40001, 40002, 40003, 40004)
        )
        for client in (talking, silent, ended, full):
            client.connect()
            client.end = stack.enter_context(listener.accept()[0])
        full.end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        ended.send(FIN | ACK)
        ended.end.shutdown(socket.SHUT_WR)
        cross.run(cross.host, "conntrack", "-D", "-p", "tcp", "--sport", "40003")

        def work(stop: threading.Event) -> None:
            far = 500_000_000
            while not stop.is_set():
                talking.send(ACK | PUSH, b"question")
                talking.sequence += 8
                assert talking.end.recv(8) == b"question"
                for client in (talking, silent):
                    client.send(ACK | PUSH, b"stray", off=far)
                    far += 1000
                ended.send(FIN | ACK)
                ended.send(RST, off=far)
                full.send(ACK | PUSH, bytes(1000))
                if full.room():
                    full.sequence += 1000
                with cross.open(cross.client) as short:
                    short.settimeout(10)
                    short.connect((cross.at(2, 2), 81))
                    short.sendall(b"question")
                    assert short.recv(10) == b"question"
                stop.wait(0.1)

        yield work


@both
def test_what_drops_garbage_alone_does_no_harm(cross: Cross) -> None:
    with garbage(cross) as work:
        with cross.meanwhile(work):
            done = cross.remedy("apply", "--yes", *WINDOW)
        assert done["outcome"] == "applied"
        with cross.meanwhile(work):
            verified = cross.remedy("verify", *WINDOW)
    (entry,) = verified["in_force"]
    assert entry["counters"]["packets forward"] > 10
    assert verified["harm"] == []
    assert cross.run(cross.host, "sysctl", "-n", LIBERAL).strip() == "0"
