"""``sysctl:net.KEY``: one value under /proc/sys/net, in the namespace of this thread.

A key is written as sysctl(8) takes it: dots separate (``net.ipv4.conf.eth0/1.rp_filter`` for
the link ``eth0.1``), or slashes do (``net/ipv4/conf/eth0.1/rp_filter``). Values are words, one
space apart. Each write is read back: kernels clamp, cut off, and ignore.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from remedies.errors import InputError, NotPermitted, RemedyError, Unreadable, WriteFailed
from remedies.resources import shell
from remedies.resources.tasks import Task, done, looked

PROC = "/proc/sys"
"""Where the tree is mounted. Tests point it elsewhere for kernels that no test machine has."""


def file_of(key: str) -> str:
    """Return the file that holds ``key``; raise InputError for anything outside ``net``."""
    dot, slash = key.find("."), key.find("/")
    dotted = slash < 0 or -1 < dot < slash
    parts = key.split("." if dotted else "/")
    if dotted:
        parts = [part.replace("/", ".") for part in parts]
    plain = key.isascii() and key.isprintable() and " " not in key
    if not plain or parts[0] != "net" or len(parts) < 3 or {"", ".", ".."} & set(parts):
        raise InputError(
            f"sysctl:{key} is not a key that remedy writes", "keys under net., such as net.ipv4.x"
        )
    return "/".join((PROC, *parts))


def _words(value: str) -> str:
    return " ".join(value.split())


def read(path: str) -> str | None:
    """Return the value, None where there is no such key here; raise Unreadable, InputError."""
    name = file_of(path)
    try:
        with open(name, encoding="ascii", errors="replace") as file:
            return _words(file.read(1 << 16))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(f"sysctl {path}: {error.strerror}", "run as root") from error


def write(path: str, state: str | None) -> None:
    """Write the value and read it back; None is right only where the key is absent.

    Raises WriteFailed where the kernel refuses the value, has no such key, or reads back
    another value, and NotPermitted where /proc/sys or the key is read-only here.
    """
    if state is None:
        _must_be_absent(path)
        return
    try:
        descriptor = os.open(file_of(path), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, state.encode() + b"\n")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _failure(path, state, error) from error
    got = read(path)
    if got is None or not same(path, got, state):
        raise WriteFailed(f"sysctl {path}: wrote {state}, reads {got}")


def _must_be_absent(path: str) -> None:
    if read(path) is not None:
        raise WriteFailed(f"sysctl {path}: a key of the kernel cannot be removed")


def _failure(path: str, state: str, error: OSError) -> RemedyError:
    if error.errno == errno.EROFS:
        return NotPermitted(
            f"sysctl {path}: /proc/sys is mounted read-only here", "run on the host itself"
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return NotPermitted(
            f"sysctl {path}: the kernel does not let it be written here",
            "run as root; some keys can be set in the machine's own namespace only",
        )
    if error.errno == errno.ENOENT:
        return WriteFailed(
            f"sysctl {path}: no such key in this namespace", "load the module that has it"
        )
    return WriteFailed(f"sysctl {path}: the kernel refuses {state!r}: {error.strerror}")


def check(path: str, state: str | None) -> None:
    """Open the key for writing and write nothing; raise WriteFailed or NotPermitted.

    Whether the kernel takes the value shows only when it is written.
    """
    if state is None:
        _must_be_absent(path)
        return
    try:
        os.close(os.open(file_of(path), os.O_WRONLY | os.O_CLOEXEC))
    except OSError as error:
        raise _failure(path, state, error) from error


def same(path: str, one: str | None, other: str | None) -> bool:
    """Tell whether two values are the same words, however far apart."""
    if one is None or other is None:
        return one is other
    return _words(one) == _words(other)


def counters(path: str) -> dict[str, int]:
    """Return nothing: a sysctl counts nothing."""
    return {}


def text(path: str, state: str | None) -> str:
    """Return the value as a line of sysctl.conf(5); empty for None."""
    file_of(path)
    return "" if state is None else f"{path} = {state}\n"


def undo(path: str, before: str | None, after: str | None) -> shell.Undo:
    """Return the shell's way back: none where the key was absent. Raises InputError."""
    if before is None:
        return shell.Undo("")
    return shell.Undo(f"put {shell.word(file_of(path))} {shell.word(before)}\n")


def tasks(path: str, before: str | None, after: str | None) -> Iterator[Task]:
    """Yield a playbook's tasks; raise InputError for a key that is to be absent."""
    file_of(path)
    if after is None:
        raise InputError(f"sysctl:{path}: a key of the kernel cannot be removed")
    yield looked("Look at a sysctl", ["sysctl", "-n", path], (0,))
    yield done(
        "Set a sysctl",
        ["sysctl", "-q", "-w", f"{path}={after}"],
        "looked.stdout.split() | join(' ') != wanted[0]",
        wanted=_words(after),
    )
