"""Files named on the command line: read with checks of owner and size, written atomically."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Iterable

from remedies import codec
from remedies.errors import ConfigError, InputError, NotPermitted, RemedyError, UsageError
from remedies.policy import sources


def read_file(path: str, orders: str = "") -> str:
    """Return a file a person named (``-``: see below); raise InputError that says what to do.

    ``orders``: what root will carry out of it (``plan``); a file that others can
    write is refused then.
    No more is read than :func:`codec.loads` takes.
    """
    if path == "-":
        return next_document()
    try:
        # O_NONBLOCK: a FIFO that nobody writes to must not hang the open.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
                folder = stat.S_ISDIR(status.st_mode)
                raise InputError(
                    f"{path}: is {'a folder' if folder else 'not a file'}", "give a file"
                )
            if orders and os.geteuid() == 0:
                _trusted(path, status, orders)
            os.set_blocking(descriptor, True)
            with open(descriptor, encoding="utf-8", closefd=False) as file:
                return file.read(codec.SIZE_LIMIT + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", "check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text", codec.AS_SAVED) from None
    except PermissionError:
        raise NotPermitted(f"{path}: permission denied", "run as its owner") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", "give a file") from None


def _trusted(path: str, status: os.stat_result, what: str) -> None:
    try:
        sources.trusted(path, path, status, what)
    except ConfigError as error:
        raise InputError(error.what, error.hint) from None


def next_document() -> str:
    """Return the next JSON document of standard input: each ``-`` on the command line takes one.

    Raises InputError where there is none left, or what is there is no JSON.
    """
    if not _DOCUMENTS:
        _DOCUMENTS.append(sys.stdin.read(codec.SIZE_LIMIT + 1))
    text = _DOCUMENTS[-1].lstrip()
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        raise InputError("standard input: expected a JSON document for '-'",
                         "give the policy first, then the plan") from None  # fmt: skip
    _DOCUMENTS.append(text[end:])
    return text[:end]


_DOCUMENTS: list[str] = []
"""Documents of standard input that no ``-`` has taken yet, the next one last."""


def format_and_file(text: str, example: str) -> tuple[str, str]:
    """Return both parts of a ``FORMAT:FILE``; raise UsageError where there are none."""
    name, colon, file = text.partition(":")
    if not colon or not file:
        raise UsageError(f"-o {text!r} is not FORMAT:FILE", example)
    return name, file


def write_file(path: str, text: str) -> None:
    """Write a file a person named, whole or not at all."""
    write_bytes(path, text.encode())


def is_device(path: str) -> bool:
    """Tell whether a path is a device or pipe to write into, not a file to replace.

    ``/dev/null``, a pipe, and the links to our own descriptors (``/dev/stdout``). Any other link
    is replaced, not followed: in /tmp somebody else may have put it there.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    if stat.S_ISLNK(mode):
        return os.path.dirname(os.path.abspath(path)) in ("/dev", "/dev/fd", "/proc/self/fd")
    return not stat.S_ISREG(mode)


def _device(path: str) -> int:
    """Open what is no regular file for writing.

    Raises RemedyError where it belongs to another user, who would read what root writes, and
    where it is a FIFO that nobody reads: opening that would wait for a reader for ever.
    """
    own = os.path.dirname(os.path.abspath(path)) in ("/dev", "/dev/fd", "/proc/self/fd")
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags | (0 if own else os.O_NOFOLLOW))
    except OSError as error:
        if error.errno != errno.ENXIO:  # fifo(7): no reader; unix(7): a socket
            raise
        raise RemedyError(
            f"{path}: a pipe without a reader", "start the reader, or name a file"
        ) from None
    if not own and os.fstat(descriptor).st_uid not in (0, os.geteuid()):
        os.close(descriptor)
        raise RemedyError(f"{path}: belongs to another user", "name a file of your own")
    os.set_blocking(descriptor, True)
    return descriptor


def write_bytes(path: str, data: bytes, mode: int = 0o666) -> None:
    """Write a file a person named, whole or not at all; see :func:`write_pieces`."""
    write_pieces(path, (data,), mode)


def write_pieces(path: str, pieces: Iterable[bytes], mode: int = 0o666) -> None:
    """Write a file a person named, whole or not at all, a piece at a time.

    The umask cuts ``mode``. Raises RemedyError where it cannot be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    part = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}")
    try:
        if is_device(path):
            with os.fdopen(_device(path), "wb") as device:
                device.writelines(pieces)
            return
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(pieces)
        os.replace(part, path)
    except OSError as error:
        raise RemedyError(f"{path}: cannot be written: {error.strerror}", "name another") from None
    finally:
        if os.path.exists(part):
            os.unlink(part)
