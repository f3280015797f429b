"""The call to systemd's manager, heard by a stand-in that speaks the other side's protocol."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remedies.transaction import systemd_scope


def reply(kind: int, body: bytes) -> bytes:
    """Return a message without header fields."""
    return struct.pack("<cBBBIII", b"l", kind, 0, 1, len(body), 9, 0) + body


@contextmanager
def manager(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """Take one connection, let it in, and answer the second call."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            assert connection.recv(64).startswith(b"\0AUTH EXTERNAL ")
            connection.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
            said = b""
            while b"StartTransientUnit" not in said:
                said += connection.recv(4096)
            heard.append(said)
            connection.sendall(answer)

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        thread.join(5)


@pytest.fixture
def booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(systemd_scope, "RUNNING", str(tmp_path))
    monkeypatch.setattr(systemd_scope, "MANAGER", str(tmp_path / "private"))
    return tmp_path / "private"


def test_without_systemd_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd_scope, "RUNNING", str(tmp_path / "none"))
    assert systemd_scope.leave_session("remedy-guard-t.scope") is False


def test_it_asks_for_a_scope_around_this_process_and_waits_until_it_is_in(
    booted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([False, False, True])
    monkeypatch.setattr(systemd_scope, "_in_unit", lambda _unit: next(looks))
    with manager(booted, reply(2, b"") + reply(4, b"x" * 8)) as heard:
        assert systemd_scope.leave_session("remedy-guard-t.scope") is True
    (said,) = heard
    assert b"remedy-guard-t.scope\0" in said
    # A variant of type "au": one element, this process.
    assert b"PIDs\0\x02au\0" in said
    assert struct.pack("<II", 4, os.getpid()) in said


def test_a_refusal_comes_in_the_managers_words(booted: Path) -> None:
    words = b"\x0e\0\0\0Access denied.\0"
    refused = pytest.raises(OSError, match=r"did not start remedy-guard-t.scope: Access denied\.")
    with manager(booted, reply(3, words)), refused:
        systemd_scope.leave_session("remedy-guard-t.scope")


def test_the_message_is_that_of_the_specification() -> None:
    """Taken apart by hand: header, padding to 8, body; every length is what follows."""
    body = systemd_scope._start("u.scope")
    message = systemd_scope._message(7, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)
    endian, kind, _, version, size, serial, fields = struct.unpack("<cBBBIII", message[:16])
    assert (endian, kind, version, size, serial) == (b"l", 1, 1, len(body), 7)
    assert message[(16 + fields + 7) // 8 * 8 :] == body
    assert body[:12] == b"\x07\0\0\0u.scope\0"
    assert body[12:21] == b"\x04\0\0\0fail\0"
    (array,) = struct.unpack("<I", body[24:28])
    assert body[28 + 4 + array :].strip(b"\0") == b""


@pytest.mark.parametrize(
    ("line", "inside"),
    [
        ("0::/system.slice/remedy-guard-t1.scope\n", True),
        ("0::/system.slice/remedy-guard-t1.scope", True),
        ("0::/system.slice/remedy-guard-t12.scope\n", False),
        ("0::/user.slice/remedy-guard-t1.scope/init\n", False),
        ("", False),
    ],
)
def test_it_is_in_a_unit_whose_control_group_it_is_in(
    monkeypatch: pytest.MonkeyPatch, line: str, inside: bool
) -> None:
    monkeypatch.setattr(
        systemd_scope, "open", lambda *_, **__: io.StringIO(f"1:cpu:/\n{line}"), raising=False
    )
    assert systemd_scope._in_unit("remedy-guard-t1.scope") is inside
