"""``file:PATH``: a drop-in file of ours, read at boot by sysctl.d(5) or modules-load.d(5).

Only regular files whose name contains ``remedy``, directly in one of :data:`FOLDERS`, with one
name (a hard or symbolic link is refused: it could lead anywhere). A write is a new file, synced,
renamed over the old one, and the folder synced; mode, owner and extended attributes of a file
that was there stay. The canonical text is the content.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from remedies.errors import InputError, NotPermitted, RemedyError, Unreadable, WriteFailed

FOLDERS = ("/etc/sysctl.d", "/etc/modules-load.d")
MODE = 0o644
LIMIT = 1 << 20
"""Bytes; a file longer than that is none of ours."""

ROOT = ""
"""What stands before every path. Tests point it at a folder of their own."""


def split(path: str) -> tuple[str, str]:
    """Split a path into folder and name; raise InputError where we do not write."""
    folder, name = os.path.split(path)
    if folder not in FOLDERS or "remedy" not in name or name.startswith(".") or "\0" in name:
        raise InputError(
            f"file:{path} is no file of ours", f"*remedy* directly in {' or '.join(FOLDERS)}"
        )
    return folder, name


@contextlib.contextmanager
def _folder(folder: str) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(ROOT + folder, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


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
        with _folder(folder) as where, _existing(where, name, path) as old:
            # One fixed name: what a crash leaves is removed by the next write.
            spare = f".{name}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(spare, dir_fd=where)
            if state is not None:
                _fill(where, spare, state.encode(), old)
                os.rename(spare, name, src_dir_fd=where, dst_dir_fd=where)
            elif old is not None:
                os.unlink(name, dir_fd=where)
            os.fsync(where)
    except Unreadable as error:
        raise WriteFailed(error.what, error.hint) from error
    except FileNotFoundError as error:
        if state is not None:
            raise _failure(path, error) from error
    except OSError as error:
        raise _failure(path, error) from error


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


def _failure(path: str, error: OSError) -> RemedyError:
    if isinstance(error, PermissionError):
        return NotPermitted(f"{path}: {error.strerror}", "run as root")
    if isinstance(error, FileNotFoundError):
        folder = os.path.dirname(path)
        return WriteFailed(f"{path}: there is no {folder}", "set 'persist: false' in the policy")
    return WriteFailed(f"{path}: {error.strerror}")


def check(path: str, state: str | None) -> None:
    """Tell whether the file could be written, changing nothing; raise WriteFailed, NotPermitted."""
    folder, name = split(path)
    try:
        with _folder(folder) as where, _existing(where, name, path):
            if not os.access(".", os.W_OK, dir_fd=where):
                read_only = os.fstatvfs(where).f_flag & os.ST_RDONLY
                reason = "the file system is read-only" if read_only else "not permitted"
                raise NotPermitted(f"{path}: {reason}", "run as root where /etc can be written")
    except Unreadable as error:
        raise WriteFailed(error.what, error.hint) from error
    except FileNotFoundError as error:
        if state is not None:
            raise _failure(path, error) from error
    except OSError as error:
        raise _failure(path, error) from error


def same(path: str, one: str | None, other: str | None) -> bool:
    """Tell whether two contents are equal byte for byte."""
    return one == other


def counters(path: str) -> dict[str, int]:
    """Return nothing: a file counts nothing."""
    return {}


def text(path: str, state: str | None) -> str:
    """Return the content; empty for None."""
    return state or ""
