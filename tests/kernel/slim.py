"""A small process of the tool's modules alone, from which the tests' command lines are forked.

A test's own process has thousands of tests in its memory. To fork it takes as long as what most
commands do, and each process that a command forks has them, too. What is to be done is pickled;
where that fails (a closure), or in other namespaces than the small process is in, the test's own
process is forked.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn, Optional

from remedies.namespaces import netns

_STATUS = struct.Struct("i")
_MOST = 1 << 17
"""Bytes of a request: mostly an environment."""
_SERVE = "import sys; sys.path[:] = {path!r}; import {loads}, slim; "
_SERVE += "{loads}.load(); slim.serve({number})"
_SHARED = ("mnt", "pid_for_children", "uts", "ipc", "cgroup", "user", "time_for_children")
"""The namespaces that a command is in as the small process is; it enters its network by itself."""


class Child:
    """A process that was forked; ``handle`` is its pidfd."""

    def __init__(self, pid: int, handle: int, ended: Optional[socket.socket] = None) -> None:
        self.pid, self.handle = pid, handle
        self._ended = ended
        self._code: int | None = None

    def wait(self, timeout: float | None = None) -> int | None:
        """Return its exit code (negative: the signal), None while it runs after ``timeout``."""
        if self._code is None:
            source = self._ended or self.handle
            if not select.select([source], [], [], timeout)[0]:
                return None
            if self._ended is None:
                status = os.waitpid(self.pid, 0)[1]
            else:
                (status,) = _STATUS.unpack(self._ended.recv(_STATUS.size))
                self._ended.close()
            self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def close(self) -> None:
        """Forget it, once it has ended."""
        os.close(self.handle)


def fork(
    be: Callable[..., NoReturn], files: Sequence[int] = (), loads: str = "forked_cli"
) -> Child:
    """Return a process that does nothing but ``be``, which is given its numbers of ``files``.

    ``loads``: the module whose ``load`` was called in the small process; there is one for each.
    """
    if not _serving:
        try:
            request = pickle.dumps(be)
        except (pickle.PicklingError, AttributeError, TypeError):
            request = b""
        server = _server(loads)
        if request and _namespaces() == server.namespaces:
            return _asked(server.control, request, files)
    pid = os.fork()
    if pid == 0:
        _become(be, files)
    return Child(pid, os.pidfd_open(pid))


def _become(be: Callable[..., NoReturn], files: Sequence[int]) -> NoReturn:
    try:
        be(*files)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(99)


def begin(loads: str) -> None:
    """Start the small process, where there is none yet, in the namespaces of this thread."""
    _server(loads)


class _Server(NamedTuple):
    control: socket.socket
    namespaces: tuple[str, ...]


@functools.cache
def _server(loads: str) -> _Server:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        number = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE.format(path=sys.path, number=number, loads=loads)],
            stdin=subprocess.DEVNULL,
            pass_fds=[number],
        )
    here = os.getpid()

    def end() -> None:
        if os.getpid() == here:
            ours.close()
            process.wait()

    atexit.register(end)
    return _Server(ours, _namespaces())


def _namespaces() -> tuple[str, ...]:
    return tuple(os.readlink(f"/proc/thread-self/ns/{kind}") for kind in _SHARED)


def _asked(control: socket.socket, request: bytes, files: Sequence[int]) -> Child:
    """Have the small process fork, into the network namespace of this thread."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    network = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    with theirs:
        try:
            socket.send_fds(control, [request], [theirs.fileno(), network, *files])
        finally:
            os.close(network)
    said, handles, _, _ = socket.recv_fds(ours, _MOST, 1)
    if not handles:
        ours.close()
        raise RuntimeError(said.decode() or "the process that forks command lines has ended")
    return Child(_STATUS.unpack(said)[0], handles[0], ours)


_serving = False
"""This is the small process, or a fork of it."""


def serve(number: int) -> None:
    """Fork what is asked for over a socket, until its other end is closed."""
    global _serving
    _serving = True
    gc.disable()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the test's process
    control = socket.socket(fileno=number)
    running: dict[int, tuple[int, socket.socket]] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != number:
                pid, reply = running.pop(ready)
                poll.unregister(ready)
                os.close(ready)
                _told(reply, _STATUS.pack(os.waitpid(pid, 0)[1]))
                reply.close()
                continue
            request, given, _, _ = socket.recv_fds(control, _MOST, 16)
            if not request:
                return
            reply, network, files = socket.socket(fileno=given[0]), given[1], given[2:]
            try:
                be = pickle.loads(request)
            except Exception:
                _told(reply, traceback.format_exc().encode())
                reply.close()
            else:
                pid = _forked(be, network, files)
                handle = os.pidfd_open(pid)
                running[handle] = pid, reply
                poll.register(handle, select.POLLIN)
                socket.send_fds(reply, [_STATUS.pack(pid)], [handle])
            for file in (network, *files):
                os.close(file)


def _told(reply: socket.socket, text: bytes) -> None:
    try:
        reply.send(text)
    except (BrokenPipeError, ConnectionResetError):
        return  # whoever asked has ended, or does not wait for it


def _forked(be: Callable[..., NoReturn], network: int, files: Sequence[int]) -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        netns.enter_open(network)
        _become(be, files)
    return pid
