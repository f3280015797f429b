"""The journal: one JSON record a line, append-only, each with the hash of the one before.

A record is on disk (fsync of the file, and of the folder when the file is new) before
:meth:`Journal.append` returns. A torn last line, left by a crash or a full disk, is never cut off:
the next append ends it with a newline and a ``torn`` record that holds the fragment's hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional

from remedies import codec
from remedies.errors import InputError, NotPermitted, RemedyError
from remedies.probing import now

VERSION = 1
NAME = "journal.jsonl"
GENESIS = "0" * 64
_TAIL = 1 << 20
"""Bytes looked at from the end to find the last record; a record is far smaller."""


@dataclass(frozen=True)
class Record:
    """One line of the journal."""

    v: int
    seq: int
    time: str
    kind: str
    """``begin``, ``written``, ``effect``, ``undone``, ``end`` or ``torn``."""
    txn: str
    prev: str
    hash: str = ""
    data: dict[str, object] = field(default_factory=dict)


def _hash(plain: dict[str, Any]) -> str:
    body = {key: value for key, value in plain.items() if key != "hash"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def records(path: str) -> Iterator[Record]:
    """Yield every record; a file that does not exist holds none.

    Raises InputError naming ``path:line`` for a record that is not what was written, and
    NotPermitted where the journal may not be read. A torn last line ends the journal quietly:
    it was never acknowledged.
    """
    try:
        with open(path, "rb") as lines:
            yield from _checked(path, lines)
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise NotPermitted(
            f"cannot read the journal {path}: {error.strerror}", "run as root"
        ) from None


def _checked(path: str, lines: Any) -> Iterator[Record]:
    previous, expected = GENESIS, 1
    fragment: Optional[tuple[str, bytes]] = None
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        if not line.endswith(b"\n"):
            return
        try:
            record, plain = _parse(line, where)
        except InputError:
            if fragment is not None:
                raise
            fragment = (where, line[:-1])
            continue
        if fragment is not None:
            _check_torn(fragment, record)
            fragment = None
        if _hash(plain) != record.hash or record.prev != previous or record.seq != expected:
            raise InputError(
                f"{where}: record {record.seq} was altered or moved",
                "compare it with a copy: a journal that does not add up is not acted on",
            )
        previous, expected = record.hash, record.seq + 1
        yield record
    if fragment is not None:
        raise InputError(f"{fragment[0]}: not a journal record", "compare it with a copy")


def _check_torn(fragment: tuple[str, bytes], record: Record) -> None:
    where, text = fragment
    if record.kind != "torn" or record.data.get("sha256") != hashlib.sha256(text).hexdigest():
        raise InputError(f"{where}: not a journal record", "compare it with a copy")


def _parse(line: bytes, where: str) -> tuple[Record, dict[str, Any]]:
    plain = codec.loads(line.decode("utf-8", "replace"), where)
    record = codec.decode(Record, plain, where)
    if record.v > VERSION:
        raise RemedyError(
            f"{where}: written by a newer remedy (journal version {record.v})",
            f"this one knows version {VERSION}: use the newer one",
        )
    return record, plain


class Journal:
    """The journal of one namespace, open for appending. Hold the lock while you have it."""

    def __init__(self, folder: str) -> None:
        """Open (or make, 0600) the journal in ``folder`` and close a torn tail."""
        self.path = os.path.join(folder, NAME)
        new = not os.path.exists(self.path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        if new:
            _sync_folder(folder)
        self._seq, self._last = 0, GENESIS
        self._find_end()

    def __enter__(self) -> Journal:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def append(self, kind: str, txn: str, data: Optional[dict[str, object]] = None) -> Record:
        """Write one record and return it once it is on disk. Raises OSError as the kernel does."""
        plain = {
            "v": VERSION,
            "seq": self._seq + 1,
            "time": now(),
            "kind": kind,
            "txn": txn,
            "prev": self._last,
            "data": codec.encode(data or {}),
        }
        plain["hash"] = _hash(plain)
        line = json.dumps(plain, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        written = os.write(self._descriptor, line)
        if written != len(line):
            raise OSError(28, os.strerror(28), self.path)
        os.fsync(self._descriptor)
        self._seq, self._last = self._seq + 1, plain["hash"]
        return codec.decode(Record, plain, self.path)

    def _find_end(self) -> None:
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, min(size, _TAIL), max(0, size - _TAIL))
        whole, _, fragment = tail.rpartition(b"\n")
        lines = whole.split(b"\n") if whole else []
        if size > _TAIL:
            lines = lines[1:]
        for line in reversed(lines):
            try:
                record, _ = _parse(line, self.path)
            except InputError:
                continue
            self._seq, self._last = record.seq, record.hash
            break
        if fragment:
            self._close_torn(fragment)

    def _close_torn(self, fragment: bytes) -> None:
        """End a torn line. One that lacks nothing but its newline is a record like any other."""
        os.write(self._descriptor, b"\n")
        with contextlib.suppress(InputError):
            record, plain = _parse(fragment, self.path)
            if _hash(plain) == record.hash and record.prev == self._last:
                self._seq, self._last = record.seq, record.hash
                return
        self.append("torn", "", {"sha256": hashlib.sha256(fragment).hexdigest()})


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
