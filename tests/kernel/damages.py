"""What can become of a state folder while a guard waits: lost, moved, damaged, not writable."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from faulty import Host

from remedies.transaction.journal import NAME, Journal


def removed(state: Path) -> None:
    """Take the whole state directory away, as a cleaning job does."""
    shutil.rmtree(state.parent, ignore_errors=True)  # a mount point stays


def unlinked(state: Path) -> None:
    """Take away the journal alone."""
    (state / NAME).unlink()


def moved(state: Path) -> None:
    """Put an empty folder in its place."""
    state.rename(state.with_name("moved"))
    state.mkdir(mode=0o700)


def unmounted(state: Path) -> None:
    """Unmount the file system that it is on, though it is in use."""
    subprocess.run(["umount", "-l", state.parent], check=True)


def emptied(state: Path) -> None:
    """Cut the journal to nothing."""
    os.truncate(state / NAME, 0)


def cut(state: Path) -> None:
    """Cut the journal in the middle of its first record."""
    os.truncate(state / NAME, (state / NAME).read_bytes().index(b"\n") // 2)


def flipped(state: Path) -> None:
    """Change one byte of its first record."""
    with (state / NAME).open("r+b") as file:
        file.seek(300)
        byte = file.read(1)
        file.seek(300)
        file.write(bytes([byte[0] ^ 1]))


def zeroed(state: Path) -> None:
    """Lose a block."""
    with (state / NAME).open("r+b") as file:
        file.seek(512)
        file.write(bytes(512))


def replaced(state: Path) -> None:
    """Put the journal of another host in its place."""
    other = state.with_name("other")
    other.mkdir(mode=0o700)
    with Journal(str(other)) as journal:
        journal.append("torn", "", {"sha256": "0" * 64})
    os.replace(other / NAME, state / NAME)
    other.rmdir()


def copied(state: Path) -> None:
    """Put a copy of the folder in its place, as a restored backup is."""
    away = state.with_name("away")
    state.rename(away)
    subprocess.run(["cp", "-a", away, state], check=True)
    shutil.rmtree(away)


def read_only(state: Path) -> None:
    """Let nothing be written there any more."""
    subprocess.run(["mount", "--bind", state.parent, state.parent], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", state.parent], check=True)


def full(state: Path) -> None:
    """Leave no room for another byte."""
    with contextlib.suppress(OSError), (state.parent / "filler").open("wb", 0) as file:
        while True:
            file.write(bytes(1 << 16))
    with contextlib.suppress(OSError), (state.parent / "filler").open("ab", 0) as file:
        while True:
            file.write(b"0")


def limited(state: Path) -> None:
    """Let the guard open nothing and write nothing more, by limits that it can lift."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{name}/comm").read_text() != "remedy-guard\n":
                continue
            links = [os.readlink(link) for link in Path(f"/proc/{name}/fd").iterdir()]
            if any(link.startswith(f"{state}/guard-") for link in links):
                for limit, soft in ((resource.RLIMIT_NOFILE, 3), (resource.RLIMIT_FSIZE, 0)):
                    hard = resource.prlimit(int(name), limit)[1]
                    resource.prlimit(int(name), limit, (soft, hard))


Damage = Callable[[Path], None]
ALL: tuple[Damage, ...] = (
    removed, unlinked, moved, unmounted, emptied, cut, flipped, zeroed, replaced, copied, read_only,
    full, limited,
)  # fmt: skip
KEEPING = (copied, limited)
"""After these the journal can still be read, and written."""


@contextmanager
def mounted(host: Host) -> Iterator[Host]:
    """Have the state directory on a small file system of its own."""
    folder = host.state.parent
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "t", folder], check=True)
    try:
        yield host
    finally:
        while os.path.ismount(folder):
            subprocess.run(["umount", "-l", folder], check=True)
