"""Network namespaces: one process works in one, entered before anything opens a socket.

``setns`` and ``unshare`` come from libc through ctypes because :mod:`os` has them only from 3.12.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Optional

from remedies.errors import NotPermitted, UsageError
from remedies.namespaces import machine

RUN_DIR = "/run/netns"
CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h, since Linux 5.14

OWN = "/proc/thread-self/ns/net"
"""The file of the namespace that this thread is in."""
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_FIRST_ONLY = "/proc/sys/net/core/netdev_max_backlog"


@functools.cache
def load() -> tuple[Any, Callable[[], int]]:
    """Return the C library, loaded once, and what asks for the errno of its last call."""
    import ctypes  # costs 3 ms that a process which stays where it is need not pay

    return ctypes.CDLL(None, use_errno=True), ctypes.get_errno


def _libc_call(name: str, *arguments: int) -> None:
    library, errno = load()
    if getattr(library, name)(*arguments) != 0:
        number = errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def end_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends (prctl(2))."""
    _libc_call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)


def path_of(spec: str) -> str:
    """Return the file that stands for a namespace: ``host``, or given as name, path or pid.

    Raises UsageError where there is no such namespace, and what :func:`machine.path` raises.
    """
    if spec == machine.SPEC:
        return machine.path()
    if "/" in spec:
        path = spec
    elif spec.isdigit() and os.path.exists(f"/proc/{spec}"):
        # Whether it is there may only be asked with ptrace's permission: opening it tells.
        return f"/proc/{spec}/ns/net"
    else:
        path = f"{machine.ROOT}{RUN_DIR}/{spec}"
    if not os.path.exists(path):
        raise UsageError(
            f"no network namespace {spec!r} (looked for {path})",
            "give a name from 'ip netns list', a path, or a process id",
        )
    return path


def enter(spec: str) -> None:
    """Move this thread into a namespace for good.

    Raises UsageError where there is none and NotPermitted without CAP_SYS_ADMIN.
    """
    path = path_of(spec)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise NotPermitted(f"cannot open network namespace {path}", "run as root") from error
    except OSError as error:  # the process has just ended
        raise UsageError(f"no network namespace {spec!r}: {path}: {error.strerror}") from error
    try:
        enter_open(descriptor, path)
    finally:
        os.close(descriptor)


def enter_open(descriptor: int, path: str = "") -> None:
    """Move this thread into the namespace whose file is open; ``path`` is for the message.

    Raises NotPermitted without CAP_SYS_ADMIN.
    """
    try:
        _libc_call("setns", descriptor, CLONE_NEWNET)
    except OSError as error:
        raise NotPermitted(
            f"cannot enter network namespace {path}: {error.strerror}",
            "run as root (CAP_SYS_ADMIN), and give a network namespace",
        ) from error


@contextlib.contextmanager
def inside(spec: str) -> Iterator[None]:
    """Enter a namespace for the length of a ``with`` block; sockets made there stay there."""
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(spec)
        try:
            yield
        finally:
            _libc_call("setns", home, CLONE_NEWNET)
    finally:
        os.close(home)


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """Work in a new, empty namespace that is gone after the ``with`` block."""
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _libc_call("unshare", CLONE_NEWNET)
        yield
    finally:
        _libc_call("setns", home, CLONE_NEWNET)
        os.close(home)


def of_machine() -> Optional[tuple[int, int]]:
    """Return device and inode of the machine's own namespace, that of process 1.

    None where process 1 may not be looked at (ptrace(2), access mode checks: not without its
    capabilities).
    """
    try:
        info = os.stat(machine.NET)
    except PermissionError:
        return None
    return info.st_dev, info.st_ino


def is_host() -> bool:
    """Tell whether this is the machine's own namespace.

    Where process 1 may not be looked at, the first namespace of the kernel counts: it alone has the
    sysctls that are of the whole machine (net/core/sysctl_net_core.c, netns_core_table and
    net_core_table).
    """
    its = of_machine()
    if its is None:
        return os.path.exists(_FIRST_ONLY)
    info = os.stat(OWN)
    return its == (info.st_dev, info.st_ino)


def key(boot_id: str, *, host: Optional[bool] = None) -> str:
    """Return the name under which this namespace's state is kept.

    ``host`` for the machine's own; else boot id and namespace cookie, because inodes and pids
    are reused. Before Linux 5.14 there is no cookie and the inode has to do. ``host``: whether it
    is the machine's own, for who knows.
    """
    if is_host() if host is None else host:
        return "host"
    try:
        return f"{boot_id[:8]}-{cookie()}"
    except OSError:
        return f"{boot_id[:8]}-i{os.stat(OWN).st_ino}"


def cookie() -> int:
    """Return the number of this thread's namespace that is never used again.

    Raises OSError before Linux 5.14 (net/core/sock.c, SO_NETNS_COOKIE).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        (number,) = struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))
        return int(number)
