"""``file:PATH``: a file of ours that a program of systemd's reads, at boot at the latest.

The programs are those of sysctl.d(5), modules-load.d(5), systemd.unit(5), systemd.link(5) and
networkd.conf(5).

Only regular files directly in one of :data:`FOLDERS`, with one name (a hard or symbolic link is
refused: it could lead anywhere); in a folder that others use too the name contains ``remedy``. A
write is a new file, synced, renamed over the old one, and the folder synced; mode, owner and
extended attributes of a file that was there stay. A folder of :data:`MADE` is made for the first
file and removed with the last. The canonical text is the content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from remedies.errors import InputError, NotPermitted, Unreadable, WriteFailed
from remedies.namespaces import machine
from remedies.resources import shell
from remedies.resources.tasks import Task, Text, done, looked

MADE = {
    "/etc/remedy/boot": "/etc",
    "/etc/systemd/system/multi-user.target.d": "/etc/systemd/system",
    "/etc/systemd/network": "/etc/systemd",
    "/etc/systemd/networkd.conf.d": "/etc/systemd",
}
"""Folders that are made when they are missing, and what must be there already."""
OWN = "/etc/remedy/boot"
"""Nobody else's: a file there may have any name."""
FOLDERS = ("/etc/sysctl.d", "/etc/modules-load.d", "/etc/systemd/system", *MADE)
MODE = 0o644
FOLDER_MODE = 0o755
_WITHOUT = "set 'persist: false' in the policy"
LIMIT = 1 << 20
"""Bytes; a file longer than that is none of ours."""

ROOT = machine.ROOT
"""What stands before every path: in a container that reads the machine, its files. Tests point it
at a folder of their own."""


def split(path: str) -> tuple[str, str]:
    """Split a path into folder and name; raise InputError where we do not write."""
    folder, name = os.path.split(path)
    ours = "remedy" in name or folder == OWN
    if folder not in FOLDERS or not ours or name.startswith(".") or "\0" in name:
        raise InputError(
            f"file:{path} is not a file of remedy", f"*remedy* directly in {' or '.join(FOLDERS)}"
        )
    return folder, name


def spare_of(path: str) -> str:
    """Return the name that a file has while it is written; a crash may leave it."""
    folder, name = os.path.split(path)
    return f"{folder}/.{name}.new"


def made_with(folder: str) -> Iterator[str]:
    """Yield a folder that may be made for a file of ours, and those it was made with, upwards."""
    base = MADE.get(folder, folder)
    while folder != base:
        yield folder
        folder = os.path.dirname(folder)


@contextlib.contextmanager
def _folder(folder: str, make: bool = False) -> Iterator[int]:
    """Open a folder, without following links below what must be there; with ``make``, make it.

    Raises Unreadable where somebody else could put something there.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    base = MADE.get(folder, folder)
    descriptor = os.open(ROOT + base, flags)
    try:
        _only_ours(descriptor, base)
        for part in folder[len(base) :].split("/")[1:]:
            if make:
                _make(descriptor, part)
            below = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
            _only_ours(descriptor, folder)
        yield descriptor
    finally:
        os.close(descriptor)


def _only_ours(descriptor: int, folder: str) -> None:
    status = os.fstat(descriptor)
    if status.st_mode & 0o022 or status.st_uid not in (0, os.geteuid()):
        raise Unreadable(f"{folder} can be written by others", f"chown root, chmod go-w {folder}")


def _make(parent: int, name: str) -> None:
    """Make a folder unless it is there; its name is on disk before anything is put into it."""
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=parent)
    except FileExistsError:
        return
    os.chmod(name, FOLDER_MODE, dir_fd=parent)  # whatever the umask
    os.fsync(parent)


def _remove_empty(folder: str) -> None:
    """Remove a folder that we may make, and those it was made with, while they are empty."""
    for part in made_with(folder):
        try:
            os.rmdir(ROOT + part)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return
            raise


@contextlib.contextmanager
def _existing(folder: int, name: str, path: str) -> Iterator[int | None]:
    """Give a descriptor of the file, None where there is none; raise Unreadable for a link."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        kind = os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        yield None
        return
    if not stat.S_ISREG(kind.st_mode):
        raise Unreadable(f"{path} is not a regular file", "look at it and remove it yourself")
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise Unreadable(
                f"{path} has {status.st_nlink} names (hard links)",
                "look at it and remove it yourself",
            )
        yield descriptor
    finally:
        os.close(descriptor)


def read(path: str) -> str | None:
    """Return the content, None where there is no such file; raise Unreadable, InputError."""
    folder, name = split(path)
    try:
        with _folder(folder) as where, _existing(where, name, path) as descriptor:
            if descriptor is None:
                return None
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}", "run as root") from error
    if len(content) > LIMIT:
        raise Unreadable(f"{path} is longer than {LIMIT} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path} is not UTF-8 text (byte {error.start})") from error


def write(path: str, state: str | None) -> None:
    """Replace or remove the file; raise WriteFailed, NotPermitted, InputError."""
    folder, name = split(path)
    try:
        make = state is not None
        with _folder(folder, make) as where, _existing(where, name, path) as old:
            # One fixed name: what a crash leaves is removed by the next write.
            spare = os.path.basename(spare_of(path))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(spare, dir_fd=where)
            if state is not None:
                _fill(where, spare, state.encode(), old)
                os.rename(spare, name, src_dir_fd=where, dst_dir_fd=where)
            elif old is not None:
                os.unlink(name, dir_fd=where)
            os.fsync(where)
        if state is None:
            _remove_empty(folder)
    except (OSError, Unreadable) as error:
        _fail(path, state, error)


def _fill(folder: int, name: str, content: bytes, old: int | None) -> None:
    """Write a new file with the attributes of ``old``, or ours; remove it if that fails."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if old is None:
                os.fchmod(descriptor, MODE)
            else:
                status = os.fstat(old)
                os.fchown(descriptor, status.st_uid, status.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
                for key in os.listxattr(old):
                    os.setxattr(descriptor, key, os.getxattr(old, key))
            os.fsync(descriptor)
    except OSError:
        os.unlink(name, dir_fd=folder)
        raise


def _fail(path: str, state: str | None, error: OSError | Unreadable) -> None:
    """Raise WriteFailed or NotPermitted; nothing where the folder of what shall go is gone, too."""
    if isinstance(error, Unreadable):
        raise WriteFailed(error.what, error.hint) from error
    if isinstance(error, PermissionError):
        raise NotPermitted(f"{path}: {error.strerror}", "run as root") from error
    if not isinstance(error, FileNotFoundError):
        raise WriteFailed(f"{path}: {error.strerror}") from error
    if state is not None:
        folder = os.path.dirname(path)
        needed = MADE.get(folder, folder)
        raise WriteFailed(f"{path}: there is no {needed}", _WITHOUT) from error


def check(path: str, state: str | None) -> None:
    """Tell whether the file could be written, changing nothing; raise WriteFailed, NotPermitted."""
    folder, name = split(path)
    try:
        try:
            with _folder(folder) as where, _existing(where, name, path):
                _check_writable(where, path)
        except FileNotFoundError:
            with _folder(MADE.get(folder, folder)) as where:  # where it would be made
                _check_writable(where, path)
    except (OSError, Unreadable) as error:
        _fail(path, state, error)


def _check_writable(folder: int, path: str) -> None:
    if not os.access(".", os.W_OK, dir_fd=folder):
        if os.fstatvfs(folder).f_flag & os.ST_RDONLY:
            raise WriteFailed(f"{path}: the file system is read-only", _WITHOUT)
        raise NotPermitted(f"{path}: not permitted", "run as root")


def same(path: str, one: str | None, other: str | None) -> bool:
    """Tell whether two contents are equal byte for byte."""
    return one == other


def counters(path: str) -> dict[str, int]:
    """Return nothing: a file counts nothing."""
    return {}


def text(path: str, state: str | None) -> str:
    """Return the content; empty for None."""
    return state or ""


def undo(path: str, before: str | None, after: str | None) -> shell.Undo:
    """Return the shell's way back; raise InputError for a name or content that no shell takes."""
    folder = os.path.dirname(path)
    if any(not character.isprintable() for character in path):
        raise InputError("its name holds a control character", shell.HINT)
    name = shell.word(ROOT + path)
    if before is not None:
        make = f"try mkdir -p -- {shell.word(ROOT + folder)}\n" if folder in MADE else ""
        return shell.Undo(f"{make}put {name} {shell.word(before)}\n")
    gone = "".join(
        f"rmdir -- {shell.word(ROOT + part)} 2>/dev/null\n" for part in made_with(folder)
    )
    return shell.Undo(f"try rm -f -- {name}\n{gone}")


def tasks(path: str, before: str | None, after: str | None) -> Iterator[Task]:
    """Yield a playbook's tasks: the file, and its folder where that comes and goes with it."""
    folder, _ = split(path)
    if after is not None:
        write = {"dest": Text(path), "content": Text(after), "mode": f"{MODE:04o}"}
        task = {"name": "Write a file", "ansible.builtin.copy": write}
        if folder in MADE:
            made = {"path": Text(folder), "state": "directory", "mode": f"{FOLDER_MODE:04o}"}
            yield {"name": "Make its folder", "ansible.builtin.file": made, "register": "made"}
            task["when"] = "not (ansible_check_mode and made is changed)"
        yield task
        return
    gone = {"path": Text(path), "state": "absent"}
    yield {"name": "Remove a file", "ansible.builtin.file": gone}
    for part in made_with(folder):
        yield looked("Look into its folder", ["ls", "-A", part], (0, 2))
        empty = "looked.rc == 0 and not looked.stdout"
        yield done("Remove its folder if that is empty", ["rmdir", part], empty)
