"""Who holds a socket, and whether it asked for IP_PKTINFO. Not a probe: ``sockets`` uses it.

A socket's inode is found among the descriptors in /proc/PID/fd (proc_pid_fd(5)). The program's
socket is then duplicated (pidfd_getfd(2), Linux 5.6, needs PTRACE_MODE_ATTACH) and asked with
getsockopt(2): the program notices nothing.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from typing import Any, Optional

from remedies.facts.process import Process, process
from remedies.values import NamedTuple

_PIDFD_GETFD = 438  # include/uapi/asm-generic/unistd.h; the same number on every architecture
_FIRST = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_IP_PKTINFO = 8  # include/uapi/linux/in.h
_IPV6_RECVPKTINFO = 49  # include/uapi/linux/in6.h


class Seen(NamedTuple):
    """What was found out about one socket."""

    owner: Process
    pktinfo: Optional[bool]
    """None: not permitted to look, or this kernel cannot."""


def look_up(wanted: dict[int, int], deadline: float) -> tuple[dict[int, Seen], tuple[str, ...]]:
    """Find the sockets of ``wanted`` (inode to family, 4 or 6) among all processes' descriptors.

    Returns what was found by inode, and why the rest was not. Of processes that share a socket
    the one that comes first in /proc, the oldest as a rule, is its owner. Stops as soon as every
    socket is found, or at ``deadline`` (monotonic seconds).
    """
    missing = {f"socket:[{inode}]": inode for inode in wanted}
    seen: dict[int, Seen] = {}
    unread: dict[str, None] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if not missing:
            break
        if time.monotonic() > deadline:
            unread["owners of sockets: /proc took too long to walk"] = None
            break
        try:
            held = _held(pid, missing)
        except PermissionError:
            unread["owners of some sockets: not permitted; run as root"] = None
            continue
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended in between
        if held:
            seen.update(_describe(int(pid), {i: (fd, wanted[i]) for i, fd in held.items()}))
    return seen, tuple(unread) if missing else ()


def sees_all() -> bool:
    """Tell whether /proc shows every process of the machine: in its first PID namespace."""
    try:
        return os.readlink("/proc/self/ns/pid") == _FIRST
    except OSError:
        return False


def _held(pid: str, missing: dict[str, int]) -> dict[int, int]:
    """Return inode and descriptor of the wanted sockets of a process; they are missing no more."""
    held: dict[int, int] = {}
    folder = f"/proc/{pid}/fd/"
    for number in os.listdir(folder):
        try:
            inode = missing.pop(os.readlink(folder + number), None)
        except FileNotFoundError:  # closed in between
            continue
        if inode is not None:
            held[inode] = int(number)
            if not missing:
                break
    return held


def _describe(pid: int, held: dict[int, tuple[int, int]]) -> dict[int, Seen]:
    """Return owner and PKTINFO of one process's sockets (inode to descriptor and family)."""
    owner = process(pid)
    try:
        handle = os.pidfd_open(pid)
    except OSError:  # before Linux 5.3, or it ended: the owner is known, the option is not
        return {inode: Seen(owner, None) for inode in held}
    try:
        return {
            inode: Seen(owner, _pktinfo(handle, descriptor, family))
            for inode, (descriptor, family) in held.items()
        }
    finally:
        os.close(handle)


def copy_of(handle: int, descriptor: int) -> int:
    """Return a copy of another process's descriptor (pidfd_getfd(2)), below 0 where refused."""
    return int(_syscall()(_PIDFD_GETFD, handle, descriptor, 0))


@functools.cache
def _syscall() -> Any:
    """Return libc's syscall(2); few runs look into other processes, and ctypes takes long."""
    import ctypes

    return ctypes.CDLL(None).syscall


def _pktinfo(handle: int, descriptor: int, family: int) -> bool | None:
    """Ask a process's socket for IP_PKTINFO and IPV6_RECVPKTINFO; None where that is refused."""
    copy = copy_of(handle, descriptor)
    if copy < 0:
        return None
    number = socket.AF_INET6 if family == 6 else socket.AF_INET
    with socket.socket(number, socket.SOCK_DGRAM, 0, fileno=copy) as duplicate:
        try:
            if duplicate.getsockopt(socket.IPPROTO_IP, _IP_PKTINFO):
                return True
            if family == 6:
                return bool(duplicate.getsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO))
        except OSError:
            return None
        return False
