"""The files of a journal: found in order, and opened only where they are of our making."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from remedies.errors import NotPermitted, RemedyError


def segments(path: str) -> list[str]:
    """Return the segments that exist of the journal whose first is ``path``, oldest first."""
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    try:
        found = os.listdir(folder or ".")
    except FileNotFoundError:
        return []
    except PermissionError as error:
        raise _unreadable(path, error) from None
    later = sorted(
        n
        for n in found
        if n.startswith(f"{stem}-")
        and n.endswith(suffix)
        and n[len(stem) + 1 : -len(suffix)].isdigit()
    )
    return [os.path.join(folder, n) for n in ([name] if name in found else []) + later]


Stamp = tuple[tuple[str, int, int, int], ...]
"""The segments of a journal, each with its inode, its size and the time (ns) it was written."""


def stamp(path: str) -> Stamp:
    """Return what changes with every record that is written, and with every change beside that."""
    found = [(each, os.lstat(each)) for each in segments(path)]
    return tuple((each, at.st_ino, at.st_size, at.st_mtime_ns) for each, at in found)


def reading(path: str) -> BinaryIO:
    """Open a segment.

    Raises NotPermitted where it may not be read, and for a link or what is no file: none is of our
    making.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = open(os.open(path, flags), "rb")  # noqa: SIM115
    except PermissionError as error:
        raise _unreadable(path, error) from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise not_ours(path) from None
    if not is_ours(file.fileno()):
        file.close()
        raise not_ours(path)
    return file


def _unreadable(path: str, error: OSError) -> RemedyError:
    return NotPermitted(f"cannot read the journal {path}: {error.strerror}", "run as root")


def is_ours(descriptor: int) -> bool:
    """Tell whether an open file is a plain one with one name."""
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def not_ours(path: str) -> RemedyError:
    """Return the error for one that is none."""
    return NotPermitted(f"the journal {path} is a link, or no file", "look at it and remove it")
