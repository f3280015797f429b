"""How a verb that writes begins: as root, with its state folder made."""

from __future__ import annotations

import argparse
import os

from remedies.cli import starting
from remedies.errors import NotPermitted
from remedies.namespaces import machine
from remedies.operations import recovery
from remedies.operations.session import HostSession


def need_root(verb: str, instead: str = "use --dry-run") -> None:
    """Raise NotPermitted for anybody but root, and in a container that was given the machine.

    What it writes would be the machine's, and its guard and its files the container's. ``instead``
    says what they can do.
    """
    if os.geteuid() != 0:
        raise NotPermitted(f"'remedy {verb}' changes the host", f"run as root, or {instead}")
    if machine.ROOT:
        raise NotPermitted(
            f"'remedy {verb}' changes the machine, and this is a container on it: what undoes the "
            "change would end with the container",
            f"run it on the machine itself, or {instead}",
        )


def start(args: argparse.Namespace, verb: str, instead: str = "use --dry-run") -> HostSession:
    """Return a session that may write, its state folder made; raises as :func:`need_root`."""
    need_root(verb, instead)
    here = starting.start(args)
    recovery.prepare(here)
    return here
