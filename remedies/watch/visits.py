"""How the watch looks into a namespace for a moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Optional

from remedies.errors import NotPermitted, UsageError
from remedies.namespaces import netns
from remedies.namespaces.find import Namespace
from remedies.watch import pulse
from remedies.watch.pulse import Pulse

_OWN = "/proc/thread-self/ns/net"


def pulse_of(
    namespace: Namespace, boot_id: str, before: Callable[[str], Pulse]
) -> Optional[tuple[str, Pulse]]:
    """Return a namespace's key and pulse; None where it has ended. ``before``: the last, by key.

    The key is asked for inside: a name or a process id may stand for another one by now.
    """
    if namespace.own:
        key = netns.key(boot_id)
        return key, pulse.read(before(key), of_machine=key == "host")
    for path in namespace.paths:
        try:
            with netns.inside(path):
                info = os.stat(_OWN)
                if (info.st_dev, info.st_ino) == (namespace.device, namespace.inode):
                    key = netns.key(boot_id)
                    return key, pulse.read(before(key), of_machine=key == "host")
        except (UsageError, NotPermitted):  # it ended just now, or hides
            continue
    return None
