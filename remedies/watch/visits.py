"""How the watch looks into each namespace for a moment."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator

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
        home = os.open(netns.OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            beats = dict(self._each(found, before))
        finally:
            netns.enter_open(home)
            os.close(home)
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
