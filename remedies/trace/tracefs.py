"""A private tracing instance: made, found again after a crash, and removed.

An instance (Documentation/trace/ftrace.rst, "Instances") has its own events and its own buffer:
nobody else's tracing is touched. It is named ``remedy-<pid>``, so that a run after a SIGKILL finds
what is left over. Where tracefs is mounted that mount is used; else it is mounted for us alone,
as a file descriptor that stands in no directory (fsmount(2), Linux 5.2), so that the machine's
mounts stay as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Iterator
from typing import Optional

MOUNTED = "/sys/kernel/tracing"
PREFIX = "remedy-"

# include/uapi/asm-generic/unistd.h (one number on every architecture), include/uapi/linux/mount.h
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC, _FSMOUNT_CLOEXEC, _CMD_CREATE = 1, 1, 6
_GONE = (errno.ENOENT, errno.ENODEV)
"""ENODEV: the name is there, and what it stands for was removed, or is being removed at this moment
(instance_rmdir() and tracing_open_pipe(), kernel/trace/trace.c)."""
_TRIES = 5
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def root() -> int:
    """Return a descriptor of tracefs' top directory. Raises OSError where there is none for us."""
    if os.path.isdir(f"{MOUNTED}/instances"):
        return os.open(MOUNTED, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    context = _call(_FSOPEN, b"tracefs", _FSOPEN_CLOEXEC)
    try:
        _call(_FSCONFIG, context, _CMD_CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)


def _call(number: int, *arguments: object) -> int:
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Instance:
    """The tracing instance of this process. Paths given to its methods are relative to it."""

    def __init__(self) -> None:
        """Name it; nothing is made before :meth:`make`."""
        self.name = f"{PREFIX}{os.getpid()}"
        self._root: Optional[int] = None

    def make(self) -> int:
        """Remove what dead runs left, make the instance, and return its ``trace_pipe``.

        A run in another process namespace takes this process for dead. It cannot remove what is
        held open; what it removed before that is made again. Raises OSError.
        """
        self._root = root()
        sweep(self._root)
        for _ in range(_TRIES):
            os.mkdir(f"instances/{self.name}", dir_fd=self._root)
            try:
                return self.open("trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
        raise OSError(errno.ENOENT, "other runs remove the instance as soon as it is made")

    def open(self, path: str, flags: int) -> int:
        """Return a descriptor of one of the instance's files. Raises OSError."""
        full = f"instances/{self.name}/{path}"
        return os.open(full, flags | os.O_CLOEXEC, dir_fd=self._root)

    def read(self, path: str) -> str:
        """Return what a file says. Raises OSError."""
        with open(self.open(path, os.O_RDONLY), encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)

    def names(self, path: str) -> list[str]:
        """Return what is in one of the instance's directories. Raises OSError."""
        return _names(self.open(path, os.O_RDONLY | os.O_DIRECTORY))

    def write(self, path: str, text: str) -> None:
        """Write a file. Raises OSError with the kernel's refusal."""
        descriptor = self.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Remove the instance; safe to repeat. Its files must be closed."""
        if self._root is not None:
            _remove(self._root, self.name)
            os.close(self._root)
            self._root = None


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C, SIGTERM and SIGHUP waiting until the ``with`` block has been left."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def sweep(tracefs: int) -> None:
    """Remove the instances whose maker is gone; before this process makes its own.

    One whose pid is dead, or belongs to something else by now, is tried; the kernel itself
    refuses (EBUSY) while anybody holds a file of it open. Raises OSError.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    for name in _names(os.open("instances", flags, dir_fd=tracefs)):
        pid = name[len(PREFIX) :]
        gone = pid.isdigit() and (int(pid) == os.getpid() or not _is_remedy(pid))
        if name.startswith(PREFIX) and gone:
            _remove(tracefs, name)


def _names(directory: int) -> list[str]:
    try:
        return os.listdir(directory)
    finally:
        os.close(directory)


def _remove(tracefs: int, name: str) -> None:
    try:
        os.rmdir(f"instances/{name}", dir_fd=tracefs)
    except OSError as error:
        if error.errno not in (*_GONE, errno.EBUSY):  # EBUSY: it is held
            raise


def _is_remedy(pid: str) -> bool:
    """Tell whether a process that could be a run of ours has this pid."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"remed" in file.read(4096)
    except OSError:
        return False
