"""Where a report is made: what of the machine an auditor asks for beyond its name. Reads only."""

from __future__ import annotations

import ctypes
import shlex
import subprocess

from remedies.model import Host
from remedies.namespaces import machine
from remedies.report.record import Place

_ADJTIMEX_BYTES = 1024
"""More than struct timex has on any architecture (208 on 64 bits)."""
_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_TIME_ERROR = 5  # include/uapi/linux/timex.h: the clock is not synchronised


def read_place(host: Host) -> Place:
    """Return the place of a host; what cannot be read is empty, or ``unknown`` for the clock."""
    return Place(
        name=host.name,
        machine_id=host.machine_id,
        netns=host.netns,
        boot_id=host.boot_id,
        kernel=host.kernel,
        distribution=_distribution(),
        nft=_version("nft", "--version"),
        iptables=_version("iptables", "--version"),
        clock=_clock(),
    )


def _distribution() -> str:
    """Return PRETTY_NAME of the machine's os-release(5), which is written as for a shell."""
    for path in _OS_RELEASE:
        try:
            with open(machine.ROOT + path, encoding="utf-8") as file:
                lines = [line for line in file if line.startswith("PRETTY_NAME=")]
            return shlex.split(lines[-1].partition("=")[2])[0][:200] if lines else ""
        except (OSError, ValueError, IndexError):
            continue
    return ""


def _version(*argv: str) -> str:
    """Return the first line a program says, or nothing where it is not installed."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip()[:80]


def _clock() -> str:
    """Ask adjtimex(2), which with no mode set only reads."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_ADJTIMEX_BYTES))
    except (OSError, AttributeError):
        return "unknown"
    if state < 0:
        return "unknown"
    return "not synchronised" if state == _TIME_ERROR else "synchronised"
