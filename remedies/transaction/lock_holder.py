"""Ending a writer that neither goes on nor dies: stopped by a signal, or hung in what it called.

The kernel says who has the lock file open (/proc/PID/fd) and who only waits for the lock
(/proc/locks, lines with ``->``; proc(5)). What is left holds it: the writer, and the programs it
has started, which inherit it. SIGKILL ends a stopped process too.
"""

from __future__ import annotations

import contextlib
import os
import signal


def end(lock: int) -> tuple[int, ...]:
    """Kill every process but this one that holds the lock open as ``lock``; return their ids."""
    found = os.fstat(lock)
    file = (found.st_dev, found.st_ino)
    waiting = _waiting(found.st_ino)
    holders = [
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit() and int(name) not in (os.getpid(), *waiting) and _has_open(name, file)
    ]
    for pid in holders:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return tuple(holders)


def _waiting(inode: int) -> set[int]:
    """Return the processes that wait for a lock on a file of this number."""
    waiting = set()
    with open("/proc/locks", encoding="ascii") as locks:
        for line in locks:
            # 1: -> FLOCK  ADVISORY  WRITE 4711 00:2f:815 0 EOF
            words = line.split()
            if words[1] == "->" and words[6].rpartition(":")[2] == str(inode):
                waiting.add(int(words[5]))
    return waiting


def _has_open(pid: str, file: tuple[int, int]) -> bool:
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it has ended
        return False
    for number in numbers:
        with contextlib.suppress(OSError):
            found = os.stat(f"/proc/{pid}/fd/{number}")
            if (found.st_dev, found.st_ino) == file and not _is_path(pid, number):
                return True
    return False


def _is_path(pid: str, number: str) -> bool:
    """Tell whether a descriptor only names the file, as a guard's does: it can hold no lock."""
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as info:
        flags = next(line for line in info if line.startswith("flags:"))
    return bool(int(flags.split()[1], 8) & os.O_PATH)
