"""What a service manager is told: sd_notify(3), a datagram to the socket that it named."""

from __future__ import annotations

import os
import socket
from typing import Optional

from remedies.values import dataclass


@dataclass(frozen=True)
class ServiceManager:
    """The one that started this process; telling none does nothing."""

    path: str = ""
    watchdog: Optional[float] = None
    """Seconds after which it restarts what has said nothing."""

    def tell(self, *lines: str) -> None:
        """Send ``READY=1`` and the like. One that has gone is no reason to stop."""
        if not self.path:
            return
        path = "\0" + self.path[1:] if self.path.startswith("@") else self.path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
            try:
                client.connect(path)
                client.send("\n".join(lines).encode())
            except OSError:
                return


NOBODY = ServiceManager()


def from_environment() -> ServiceManager:
    """Return who is to be told, and take its variables away: no child speaks for the watch."""
    path = os.environ.pop("NOTIFY_SOCKET", "")
    pid, period = os.environ.pop("WATCHDOG_PID", ""), os.environ.pop("WATCHDOG_USEC", "")
    watched = period.isdigit() and pid in ("", str(os.getpid()))
    return ServiceManager(path, int(period) / 1_000_000 if watched else None)
