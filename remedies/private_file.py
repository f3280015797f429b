"""Small files that only save time, kept where nobody but the caller can write.

Whatever is wrong with one, it counts as absent; what cannot be kept is not kept.
"""

from __future__ import annotations

import os
import stat
from typing import Any, Optional


def read(path: str) -> Optional[bytes]:
    """Return a file that nobody else can have written; None for any other."""
    try:
        if not _private(os.lstat(os.path.dirname(path)), stat.S_ISDIR):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not _private(os.fstat(descriptor), stat.S_ISREG):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def write(path: str, content: str) -> None:
    """Keep a file, mode 0600, whole or not at all; its folder and the one above are made, 0700.

    A folder that is not the caller's alone, or cannot be written, gets none.
    """
    folder = os.path.dirname(path)
    draft = f"{path}.{os.getpid()}"
    try:
        for part in (os.path.dirname(folder), folder):  # what lies above gets the umask's mode
            os.makedirs(part, mode=0o700, exist_ok=True)
        if not _private(os.lstat(folder), stat.S_ISDIR):
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o600)
    except OSError:
        return
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(draft, path)
    except OSError:  # disk full: no file, and no half of one left behind
        os.unlink(draft)


def _private(status: os.stat_result, kind: Any) -> bool:
    """Tell whether a file or its folder is of this kind and the caller's alone to write."""
    mine = status.st_uid == os.geteuid()
    return bool(kind(status.st_mode)) and mine and not status.st_mode & 0o022
