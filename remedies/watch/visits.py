"""How the watch looks into each namespace for a moment.

A thread of its own goes there: a process counts as one of the namespace that its first thread is
in, and who ends a namespace's processes (``ip netns pids``, ip-netns(8)) must not meet the watch.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Optional

from remedies.errors import NotPermitted
from remedies.namespaces import netns
from remedies.namespaces.find import Namespace
from remedies.watch import pulse
from remedies.watch.pulse import Pulse
from remedies.watch.sysctls import OpenSysctls

Beats = dict[str, tuple[Namespace, Pulse]]
"""By the namespace's key."""


class Visits:
    """Takes pulses; what it holds open between two looks keeps no namespace alive."""

    def __init__(self, boot_id: str, full_from: float) -> None:
        """Hold nothing yet. ``full_from``: see :func:`pulse.read`."""
        self._boot_id = boot_id
        self._full_from = full_from
        self._sysctls: dict[str, OpenSysctls] = {}

    def pulses(self, found: Iterable[Namespace], before: Callable[[str], Pulse]) -> Beats:
        """Return the pulse of each namespace that has not ended. ``before``: the last, by key."""
        looking = _Look(lambda: dict(self._each(found, before)))
        looking.start()
        looking.join()
        if looking.failure is not None:
            raise looking.failure
        beats = looking.beats
        for key in [key for key in self._sysctls if key not in beats]:
            self._sysctls.pop(key).close()
        return beats

    def close(self) -> None:
        """Hold nothing any longer."""
        for each in self._sysctls.values():
            each.close()
        self._sysctls.clear()

    def _each(
        self, found: Iterable[Namespace], before: Callable[[str], Pulse]
    ) -> Iterator[tuple[str, tuple[Namespace, Pulse]]]:
        its = netns.of_machine()
        room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2  # scans are forks, and need some
        for namespace in found:
            if not _entered(namespace):
                continue
            host = None if its is None else its == (namespace.device, namespace.inode)
            key = netns.key(self._boot_id, host=host)
            sysctls = self._sysctls.setdefault(key, OpenSysctls())
            beat = pulse.read(
                before(key),
                of_machine=key == "host",
                sysctl=sysctls.read,
                full_from=self._full_from,
            )
            room -= len(sysctls)
            if room < 0:
                sysctls.close()
            yield key, (namespace, beat)


class _Look(threading.Thread):
    """A thread that ends with its look, wherever that has led it."""

    def __init__(self, look: Callable[[], Beats]) -> None:
        super().__init__()
        self._look = look
        self.beats: Beats = {}
        self.failure: Optional[BaseException] = None

    def run(self) -> None:
        try:
            self.beats = self._look()
        except BaseException as error:  # it is raised where the look was asked for
            self.failure = error


def _entered(namespace: Namespace) -> bool:
    """Move this thread into a namespace; False where it has ended, or hides.

    A name or a process id may stand for another one by now: what was opened is compared.
    """
    for path in namespace.paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            info = os.fstat(descriptor)
            if (info.st_dev, info.st_ino) == (namespace.device, namespace.inode):
                netns.enter_open(descriptor)
                return True
        except NotPermitted:
            continue
        finally:
            os.close(descriptor)
    return False
