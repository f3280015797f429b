"""Folders of the machine that daemons mount over, there for as long as one of them runs.

Daemons of several test processes run at once. Who removes a folder takes away what others have
mounted on it, in every mount namespace (detach_mounts(), fs/namespace.c): theirs would write into
the machine's own from then on. So what was made is removed by the last of them. Each holds a lock
on a file that says what was made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

_MADE = "/run/remedy-test-docker"


@contextlib.contextmanager
def there(folders: tuple[str, ...]) -> Iterator[None]:
    """Have folders, which are made where they are missing."""
    made = _shared()
    try:
        for folder in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
                os.write(made, f"{folder}\n".encode())
        yield
    finally:
        with os.fdopen(made) as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.seek(0)
            for folder in file.read().splitlines():
                with contextlib.suppress(OSError):  # a daemon of the machine's has begun to use it
                    os.rmdir(folder)
            os.unlink(_MADE)


def _shared() -> int:
    """Return the file, open and locked; one that was removed meanwhile is another one's."""
    while True:
        file = os.open(_MADE, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_SH)
        if os.fstat(file).st_nlink:
            return file
        os.close(file)
