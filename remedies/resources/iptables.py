"""``iptables:TABLE/REMEDY-NAME``: a chain of ours and the jumps to it, IPv4."""

from __future__ import annotations

from collections.abc import Iterator

from remedies.resources import xt_text, xtables
from remedies.resources.shell import Undo
from remedies.resources.tasks import Task


def read(path: str) -> str | None:
    """Return the canonical text of what is there; raise Unreadable or InputError."""
    return xtables.read(xtables.IPV4, path)


def write(path: str, state: str | None) -> None:
    """Make it so, one transaction a store; raise WriteFailed or InputError."""
    xtables.write(xtables.IPV4, path, state)


def check(path: str, state: str | None) -> None:
    """Let the restore program judge ``state``, changing nothing; raise WriteFailed."""
    xtables.check(xtables.IPV4, path, state)


def same(path: str, one: str | None, other: str | None) -> bool:
    """Tell whether two texts say the same of our chain and its jumps."""
    return xtables.same(xtables.IPV4, path, one, other)


def counters(path: str) -> dict[str, int]:
    """Return packets by rule of our chain; raise Unreadable."""
    return xtables.counters(xtables.IPV4, path)


def text(path: str, state: str | None) -> str:
    """Return the lines as iptables-save prints them; empty for None."""
    return xtables.text(path, state)


def undo(path: str, before: str | None, after: str | None) -> Undo:
    """Return the shell's way back, one transaction a store; raise InputError."""
    return xt_text.undo("iptables", path, before, after)


def tasks(path: str, before: str | None, after: str | None) -> Iterator[Task]:
    """Yield a playbook's tasks; raise InputError."""
    return xt_text.tasks("iptables", path, before, after)
