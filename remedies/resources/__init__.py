"""The only code that writes the host. One file per kind of state; the address names the kind.

What a kind is to those that do not write it is in :mod:`remedies.rules.kinds`.

A driver is a module with these functions; ``path`` is the address behind the scheme
(``net.netfilter.nf_conntrack_tcp_be_liberal``, ``inet/remedy_invalid_drop``,
``mangle/REMEDY-INVALID``):

``read(path) -> str | None``
    the canonical text of what is there, None for absent; raises Unreadable.
``write(path, state) -> None``
    makes it so (None removes it), atomically where the kernel can; raises WriteFailed.
    Must not assume what was there before: apply, undo and restore are the same call.
``check(path, state) -> None``
    the kernel's own dry run of ``write``; raises WriteFailed with the kernel's words.
``same(path, one, other) -> bool``
    whether two canonical texts mean the same state.
``counters(path) -> dict[str, int]``
    what our rules have counted, by a name for people; empty where nothing counts.
``text(path, state) -> str``
    the state as its users write it (nft syntax, iptables-save lines): what a diff shows.
``undo(path, before, after) -> Undo``
    how a plain shell script puts ``before`` back on a host without this tool; raises InputError
    where none could.
``tasks(path, before, after) -> Iterator[Task]``
    how a playbook makes it ``after`` with Ansible's own modules; raises InputError.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional, Protocol, cast

from remedies.rules.kinds import split

if TYPE_CHECKING:
    from remedies.resources.shell import Undo
    from remedies.resources.tasks import Task


class Driver(Protocol):
    """What every module of this folder offers (see the folder's docstring)."""

    def read(self, path: str) -> Optional[str]:
        """Return the canonical text of what is there, None for absent."""

    def write(self, path: str, state: Optional[str]) -> None:
        """Make it so; None removes it."""

    def check(self, path: str, state: Optional[str]) -> None:
        """Ask the kernel whether ``write`` would work, changing nothing."""

    def same(self, path: str, one: Optional[str], other: Optional[str]) -> bool:
        """Tell whether two canonical texts mean the same state."""

    def counters(self, path: str) -> dict[str, int]:
        """Return what our rules have counted."""

    def text(self, path: str, state: Optional[str]) -> str:
        """Return the state as its users write it; empty for absent."""

    def undo(self, path: str, before: Optional[str], after: Optional[str]) -> Undo:
        """Return how a shell script puts ``before`` back."""

    def tasks(self, path: str, before: Optional[str], after: Optional[str]) -> Iterator[Task]:
        """Yield how a playbook makes it ``after``."""


def driver(address: str) -> tuple[Driver, str]:
    """Return the driver that serves an address, and the path behind its scheme.

    Raises InputError for a scheme that is not in :mod:`remedies.rules.kinds`.
    """
    scheme, path = split(address)
    module = importlib.import_module(f"remedies.resources.{scheme}")
    return cast(Driver, module), path
