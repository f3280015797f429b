"""Which machine and namespace this is. Not a probe: everything else is read *on* a host."""

from __future__ import annotations

import os

from remedies.errors import Unreadable
from remedies.model import Host
from remedies.namespaces import machine, netns

MACHINE_ID = machine.ROOT + "/etc/machine-id"  # machine-id(5)
BOOT_ID = "/proc/sys/kernel/random/boot_id"  # random(4)


def read_host() -> Host:
    """Return names and keys of the machine and of the namespace that this thread is in.

    A machine without an id (a minimal image) has the empty one. Raises Unreadable where /proc
    is not there: nothing can be told about a host then.
    """
    try:
        boot_id = _line(BOOT_ID)
        key = netns.key(boot_id)
    except OSError as error:
        raise Unreadable(
            f"{error.filename or '/proc'}: {error.strerror}", "mount /proc and try again"
        ) from error
    try:
        machine_id = _line(MACHINE_ID)
    except OSError:
        machine_id = ""
    names = os.uname()
    return Host(
        name=_machine_name() or names.nodename,
        machine_id=machine_id,
        kernel=names.release,
        netns=key,
        boot_id=boot_id,
    )


def _machine_name() -> str:
    """Return the machine's name in a container on it, whose own is the pod's; elsewhere nothing."""
    try:
        return _line(machine.ROOT + "/etc/hostname") if machine.ROOT else ""  # hostname(5)
    except OSError:
        return ""


def _line(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline().strip()
