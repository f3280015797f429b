"""The sysctls of one namespace, held open from one look to the next.

A look by path takes the kernel longer the more namespaces there are: all their sysctls of one name
stand in one chain of its name cache, and each is compared (proc_sys_compare() in
fs/proc/proc_sysctl.c). One that is open is its own namespace's wherever the reader is, and keeps
nothing alive: once the namespace or the module has gone, reading fails with ENOENT (grab_header()).
"""

from __future__ import annotations

import os
from collections.abc import Callable

SysctlReader = Callable[[str], bytes]
"""Returns what a sysctl of this thread's namespace holds; empty where there is none."""
_SHORT = 256
"""Octets of a sysctl: the kernel clears as many as are asked for (proc_sys_call_handler())."""


def by_path(key: str) -> bytes:
    """Return what a sysctl of this thread's namespace holds, and keep nothing open."""
    passing = OpenSysctls()
    try:
        return passing.read(key)
    finally:
        passing.close()


class OpenSysctls:
    """Those of the namespace in which each was read first."""

    def __init__(self) -> None:
        """Have none yet."""
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def read(self, key: str) -> bytes:
        """Return what a sysctl holds; empty where there is none, or it may not be read."""
        if key in self._open:
            try:
                return os.pread(self._open[key], _SHORT, 0)
            except OSError:  # its module has gone, and may be back
                os.close(self._open.pop(key))
        try:
            descriptor = os.open(f"/proc/sys/{key.replace('.', '/')}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        self._open[key] = descriptor
        try:
            return os.pread(descriptor, _SHORT, 0)
        except OSError:
            return b""

    def close(self) -> None:
        """Hold none any longer."""
        while self._open:
            os.close(self._open.popitem()[1])
