"""Journals for a guard that cannot have the one at its place: a file still open, or none at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Optional

from remedies.transaction.journal import NAME, Journal
from remedies.transaction.record import Record

LARGEST = 1 << 26
"""Bytes that are read of a journal that somebody may have put something else into."""


def content(descriptor: int) -> bytes:
    """Return what is in an open file, :data:`LARGEST` bytes at most; raise OSError."""
    found = b""
    while len(found) < LARGEST:
        part = os.pread(descriptor, 1 << 20, len(found))
        if not part:
            break
        found += part
    return found


class Detached(Journal):
    """A segment that is still open, wherever it is now: moved, removed, on what was unmounted."""

    def __init__(self, folder: str, path: str, descriptor: int) -> None:
        """Take up the chain in the file that is open as ``descriptor``.

        Raises InputError for a damaged end and OSError where it cannot be read.
        """
        self.folder, self.path = folder, path
        self._seq, self._last, self._doubtful = 0, "", True
        self._descriptor = os.dup(descriptor)
        try:
            self._find_end()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        yield self.path, content(self._descriptor)


class Unwritable(Journal):
    """Stands for a journal that cannot be opened: no record can be made, and all else can go on."""

    def __init__(self, folder: str, reason: str) -> None:
        """Remember where the journal would be, and why it is not."""
        self.folder, self.path, self._reason = folder, os.path.join(folder, NAME), reason

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def append(self, kind: str, txn: str, data: Optional[dict[str, object]] = None) -> Record:
        """Raise OSError."""
        raise OSError(errno.EIO, self._reason, self.path)
