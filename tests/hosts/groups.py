"""Control groups of a test's own: what is left in them is ended, and they are removed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from functools import partial
from pathlib import Path

from waiting import eventually


def remove(top: Path) -> None:
    """Take a group away, those below it first, and end the processes that are still in them.

    Whoever has heard that a program has ended may find a child of it there for a moment, and no
    group is removed that has a process. Nothing tells when the last one has left in both versions
    of control groups (cgroups(7)).
    """
    for folder, _, _ in os.walk(top, topdown=False):
        eventually(partial(_removed, Path(folder)), 60, f"{folder} still has processes")


def _removed(group: Path) -> bool:
    for pid in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    try:
        group.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
