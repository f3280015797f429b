"""A unit of its own under systemd: what logind and a service's stop do not end with the session.

A *scope* takes up a process that runs already (systemd.scope(5)), so the guard need not be
started anew: one D-Bus call, StartTransientUnit, at the manager's private socket, which is there
without a message bus. The wire format is that of the D-Bus specification, version 1.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Union

RUNNING = "/run/systemd/system"
"""There where systemd is the manager (sd_booted(3))."""
MANAGER = "/run/systemd/private"
PATIENCE = 2.0
"""Seconds that the manager may take to answer."""

_CALL, _ERROR = 1, 3  # message types
_PATH, _INTERFACE, _MEMBER = 1, 2, 3  # header fields
_NAME = "org.freedesktop.systemd1"
_OBJECT = "/org/freedesktop/systemd1"


def leave_session(unit: str) -> bool:
    """Move this process into a transient scope of its own; return whether it is in one now.

    False where systemd does not run. Raises OSError where it runs and refuses.
    """
    if not os.path.isdir(RUNNING):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as manager:
        manager.settimeout(PATIENCE)
        manager.connect(MANAGER)
        _authenticate(manager)
        manager.sendall(_message(1, "Subscribe", "", b""))
        manager.sendall(_message(2, "StartTransientUnit", "ssa(sv)a(sa(sv))", _start(unit)))
        while not _in_unit(unit):
            kind, body = _receive(manager)
            if kind == _ERROR:
                words = body[4:].split(b"\0")[0].decode(errors="replace")
                raise OSError(f"systemd did not start {unit}: {words}")
    return True


def _in_unit(unit: str) -> bool:
    with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
        return any(line.rstrip("\n").endswith(f"/{unit}") for line in file)


def _authenticate(manager: socket.socket) -> None:
    """Say who we are (EXTERNAL: the kernel's word for our user id counts)."""
    user = str(os.geteuid()).encode().hex().encode()
    manager.sendall(b"\0AUTH EXTERNAL " + user + b"\r\n")
    answer = b""
    while not answer.endswith(b"\r\n"):
        part = manager.recv(1)
        if not part:
            raise OSError("systemd closed the connection")
        answer += part
    if not answer.startswith(b"OK "):
        raise OSError(f"systemd refuses us: {answer.decode(errors='replace').strip()}")
    manager.sendall(b"BEGIN\r\n")


def _start(unit: str) -> bytes:
    """Return the arguments: name, mode, properties, and no auxiliary units."""
    properties: list[tuple[str, str, Union[str, int]]] = [
        ("Description", "s", "remedy: undoes a change that is not finished or not confirmed"),
        ("PIDs", "au", os.getpid()),
        ("CollectMode", "s", "inactive-or-failed"),
    ]
    inner = b""
    for name, kind, value in properties:
        inner = _padded(inner, 8) + _string(name)
        inner += bytes([len(kind)]) + kind.encode() + b"\0"
        if isinstance(value, int):
            inner = _padded(inner, 4) + struct.pack("<II", 4, value)
        else:
            inner = _padded(inner, 4) + _string(value)
    body = _padded(_string(unit), 4) + _string("fail")
    # The length of an array leaves out the padding before its first element.
    body = _padded(_padded(body, 4) + struct.pack("<I", len(inner)), 8) + inner
    return _padded(_padded(body, 4) + struct.pack("<I", 0), 8)


def _message(serial: int, member: str, signature: str, body: bytes) -> bytes:
    """Return a method call to the manager, little-endian."""
    fields = b""
    for code, kind, value in (
        (_PATH, "o", _OBJECT),
        (_INTERFACE, "s", f"{_NAME}.Manager"),
        (_MEMBER, "s", member),
    ):
        fields = _padded(fields, 8) + bytes([code, 1]) + kind.encode() + b"\0" + _string(value)
    if signature:
        text = signature.encode()
        fields = _padded(fields, 8) + bytes([8, 1]) + b"g\0" + bytes([len(text)]) + text + b"\0"
    head = struct.pack("<cBBBIII", b"l", _CALL, 0, 1, len(body), serial, len(fields))
    return _padded(head + fields, 8) + body


def _receive(manager: socket.socket) -> tuple[int, bytes]:
    """Return type and body of the next message."""
    head = _exactly(manager, 16)
    form = "<" if head[:1] == b"l" else ">"
    size, _, fields = struct.unpack(f"{form}III", head[4:])
    _exactly(manager, (fields + 7) // 8 * 8)
    return head[1], _exactly(manager, size)


def _exactly(manager: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = manager.recv(count - len(data))
        if not part:
            raise OSError("systemd closed the connection")
        data += part
    return data


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data + b"\0"


def _padded(data: bytes, boundary: int) -> bytes:
    return data + b"\0" * (-len(data) % boundary)
