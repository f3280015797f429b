"""What a program needs to be told so that it serves UDP from the address it was asked on."""

from __future__ import annotations

from remedies.values import NamedTuple


class DaemonOption(NamedTuple):
    """What to write where, so that one program answers from the right address."""

    names: tuple[str, ...]
    """The program's process names, as of /proc/PID/comm and argv[0]; comm has 15 bytes."""
    title: str
    where: str
    """The file, and the part of it, that takes the lines; empty: they go on the command line."""
    bind: str
    """What binds one address; ``{address}``, ``{port}`` and ``{endpoint}`` (both) are filled in.
    Empty: it has none."""
    source: str
    bind6: str = ""
    """The same for an IPv6 address where it is written otherwise."""
    also: tuple[str, ...] = ()
    """What is needed beside, once."""
    keeps: str = ""
    """What makes it answer from the address asked, on every address."""
    note: str = ""
    """A sentence on what else there is to know."""
    single: bool = False
    """It binds one address and no more."""


POD = DaemonOption(
    (),
    "A pod with the host's network",
    "",
    "",
    "Kubernetes documentation: Downward API (status.hostIP, status.podIPs; env and $(NAME) in "
    "args); kubernetes/kubernetes#95565, #98884",
    note="Its pod has the host's network, and the address is another on each node: take it from "
    "status.hostIP in the pod's template.",
)
"""Stands beside a program's own row, whichever it is."""
