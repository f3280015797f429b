"""The journal: one JSON record a line, append-only, each with the hash of the one before.

A record is on disk (fsync of the file, and of the folder when the file is new) before
:meth:`Journal.append` returns. What a crash or a full disk leaves of a line was never
acknowledged and is never cut off either: the next append ends it with ``#`` and a newline, and a
``torn`` record holds the hash of everything that is torn there. Segments follow each other in one
chain: ``journal.jsonl``, then ``journal-SEQ.jsonl`` named for their first record, a
``checkpoint`` of what the segments before it leave in force. After damage the first record of the
next segment is ``repaired`` (:mod:`remedies.transaction.repair`): it names the damaged segments,
which stay where they are, and carries what could be read of them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Optional

from remedies import codec
from remedies.errors import InputError, NotPermitted, RemedyError
from remedies.transaction import crash_points
from remedies.transaction.record import (
    GENESIS,
    LOST,
    TORN,
    AnyRecord,
    Record,
    intact,
    line_of,
    parse,
    sealed,
    torn_hash,
    unread,
)
from remedies.transaction.segments import is_ours, not_ours, reading, segments
from remedies.transaction.wall import anchor

NAME = "journal.jsonl"
"""The first segment. It also names the journal: what stands beside it belongs to it."""
SEGMENT = 1 << 18
"""Bytes from which a segment is full. A transaction is never split over two.

Every verb that asks what is in force reads one segment, so this is what a long journal costs it:
about 350 records, 15 ms.
"""
_LOST = 1
"""Lines at the end that may be unreadable though they end well: a crash can lose a block in the
middle of the last append, and zeros are no line ends. Such a line is passed over as a torn one is,
and closed by the same record; ``audit verify`` goes on naming it."""
_GO_ON = (
    "'remedy audit repair --dry-run' shows what can be read and what is lost; without --dry-run it "
    "starts a new segment with it and changes nothing else. Or restore {} from a copy"
)
"""How to go on after a damaged record, which must not lose a before-value."""


def records(path: str) -> Iterator[AnyRecord]:
    """Yield every record of every segment; a journal that does not exist holds none.

    Raises InputError naming ``file:line`` for a record that is not what was written, and
    NotPermitted where the journal may not be read. A torn end is passed over quietly: it was
    never acknowledged.
    """
    return _chained(segments(path), GENESIS, 1)


def latest(path: str, lost: Optional[list[str]] = None) -> Iterator[AnyRecord]:
    """Yield the records from the newest checkpoint on; all of them where there is none.

    In ``lost`` is put where a last line is passed over that cannot be read.

    What is in force and what is unfinished follows from these alone. The chain is checked within
    them; :func:`records` checks all of it.
    """
    found = segments(path)
    for index in range(len(found) - 1, 0, -1):
        first = next(iter(_chained(found[index : index + 1], None, None)), None)
        if first is not None and first.kind in ("checkpoint", "repaired"):
            return _chained(found[index:], first.prev, first.seq, lost)
    return _chained(found, GENESIS, 1, lost)


def newest_first(path: str, txn: str = "") -> Iterator[list[AnyRecord]]:
    """Yield the records of each segment, in order, the newest segment first.

    With ``txn``, only of the segments that mention this transaction; the others are not decoded.
    The chain is checked within a segment, and from it to the one that was yielded before. Raises
    as :func:`records` does. Segments that a newer ``repaired`` record has given up are passed over.
    """
    found = segments(path)
    given_up, repaired = _repairs(found)
    after: Optional[AnyRecord] = None
    for index in range(len(found) - 1, -1, -1):
        segment = found[index]
        if os.path.basename(segment) in given_up or (txn and not _mentions(segment, txn)):
            after = None
            continue
        oldest = index == 0 and not repaired
        there = list(_chained([segment], GENESIS if oldest else None, 1 if oldest else None))
        if not there:
            continue
        if after is not None and index >= repaired and after.prev != there[-1].hash:
            raise InputError(
                f"{segment}: it does not end where record {after.seq} goes on",
                "'remedy audit verify' names what is missing, 'remedy audit repair' goes on",
            )
        after = there[0]
        yield there


def _mentions(segment: str, txn: str) -> bool:
    name = json.dumps(txn)
    with reading(segment) as file:
        content = file.read()
    # A checkpoint tells of it, too, and only again; a repair may be all that is left.
    carried = b'"kind":"repaired"' in content and f'"id":{name}'.encode() in content
    return carried or f'"txn":{name}'.encode() in content


def _repairs(paths: list[str]) -> tuple[set[str], int]:
    """Return the names of the segments that are given up, and where the last repair goes on."""
    names: set[str] = set()
    last = 0
    for index, path in enumerate(paths):
        with reading(path) as lines:
            first = lines.readline()
        if b'"kind":"repaired"' in first:
            with contextlib.suppress(RemedyError):  # it is damaged itself: whoever reads it says so
                files = parse(first, path)[0].data.get("damaged")
                names.update(files if isinstance(files, dict) else ())
                last = index
    return names, last


def _chained(
    paths: Iterable[str],
    previous: Optional[str],
    expected: Optional[int],
    lost: Optional[list[str]] = None,
) -> Iterator[AnyRecord]:
    """Yield the records of these segments, each checked against the one before it."""
    for path in paths:
        with reading(path) as lines:
            previous, expected = yield from _checked(path, lines, previous, expected, lost)


def _checked(
    path: str,
    lines: Iterable[bytes],
    previous: Optional[str],
    expected: Optional[int],
    lost: Optional[list[str]],
) -> Generator[AnyRecord, None, tuple[Optional[str], Optional[int]]]:
    """Yield the records of one segment; return the hash and the number that come next."""
    torn: list[bytes] = []
    where, first, start, end = path, 0, 0, 0
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            if LOST in line and lost is not None:
                lost.append(f"{path}:{number}")
            return previous, expected
        here, start, end = f"{path}:{number}", end, end + len(line)
        try:
            record, whole = parse(line, here)
        except InputError:
            where, first = (where, first) if torn else (here, start)
            torn.append(line[:-1])
            continue
        if torn and (record.kind != "torn" or record.data.get("sha256") != torn_hash(torn)):
            raise _damaged(where, f"not a journal record, from byte {first} to {start}")
        torn = []
        moved = record.prev != (previous or record.prev) or record.seq != (expected or record.seq)
        if moved or not whole:
            raise _damaged(here, f"record {record.seq} was altered or moved, at byte {start}")
        previous, expected = record.hash, record.seq + 1
        yield record
    if sum(map(unread, torn)) > _LOST:
        raise _damaged(where, f"not a journal record, from byte {first} to {end}")
    if any(map(unread, torn)) and lost is not None:
        lost.append(where)
    return previous, expected


def _damaged(where: str, what: str) -> InputError:
    return InputError(f"{where}: {what}", _GO_ON.format(os.path.dirname(where)))


def segment_name(seq: int) -> str:
    """Return the file name of the segment whose first record has this number."""
    stem, suffix = os.path.splitext(NAME)
    return f"{stem}-{seq:012}{suffix}"


def start_segment(folder: str, plain: dict[str, Any]) -> str:
    """Put a new segment into ``folder`` that holds this one record, whole or not at all.

    Return its path. Raises OSError; FileExistsError where one of that name is there.
    """
    path = os.path.join(folder, segment_name(plain["seq"]))
    part = os.path.join(folder, f".{segment_name(plain['seq'])}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(part, flags, 0o600), "wb") as file:
            file.write(line_of(plain))
            file.flush()
            os.fsync(file.fileno())
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        os.rename(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    _sync_folder(folder)
    return path


class Journal:
    """The journal of one namespace, open for appending. Hold the lock while you have it."""

    def __init__(self, folder: str) -> None:
        """Open (or make, 0600) the newest segment in ``folder`` and close what is torn there.

        Where a full disk has no room to close it, the first append tries again. Raises
        NotPermitted where the segment cannot be opened, InputError for a damaged end.
        """
        self.folder = folder
        there = segments(os.path.join(folder, NAME))
        self.path = there[-1] if there else os.path.join(folder, NAME)
        self._seq, self._last, self._doubtful = 0, GENESIS, True
        self._descriptor = self._open()
        try:
            with contextlib.suppress(OSError):
                self._find_end()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Journal:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            new = not os.path.lexists(self.path)
            descriptor = os.open(self.path, flags, 0o600)
            if new:
                _sync_folder(self.folder)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        if not is_ours(descriptor):
            os.close(descriptor)
            raise not_ours(self.path)
        return descriptor

    def append(self, kind: str, txn: str, data: Optional[dict[str, object]] = None) -> Record:
        """Write one record and return it once it is on disk. Raises OSError as the kernel does.

        After an error nobody knows whether the record is on disk: the next append looks.
        """
        crash_points.hit(f"before {kind}")
        if self._doubtful:
            self._find_end()
        record = self._write(b"", kind, txn, codec.encode(data or {}))
        crash_points.hit(f"after {kind}")
        if kind == "end":
            anchor(self.path, record.seq, record.hash)
        return record

    def _write(self, before: bytes, kind: str, txn: str, data: dict[str, object]) -> Record:
        plain = sealed(kind, txn, data, self._seq + 1, self._last)
        line = before + line_of(plain)
        self._doubtful = True
        if os.write(self._descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        os.fsync(self._descriptor)
        self._doubtful = False
        self._seq, self._last = self._seq + 1, plain["hash"]
        return codec.decode(Record, plain, self.path)

    def knows(self, txn: str) -> bool:
        """Tell whether the ``begin`` of a transaction is in it, whatever is around it."""
        return any(
            record.kind == "begin"
            for _, content in self._contents()
            for record in intact(content, txn)
        )

    @property
    def full(self) -> bool:
        """Tell whether this segment has had enough."""
        return os.fstat(self._descriptor).st_size >= SEGMENT

    def rotate(self, checkpoint: dict[str, object]) -> None:
        """Begin a new segment with a ``checkpoint``: what this and the earlier ones leave behind.

        Not within a transaction. Raises RemedyError or OSError, and the old segment goes on.
        """
        old, path = self._descriptor, self.path
        self.path = os.path.join(self.folder, segment_name(self._seq + 1))
        try:
            self._descriptor = self._open()
        except RemedyError:
            self.path = path
            raise
        os.close(old)
        self.append("checkpoint", "", checkpoint)

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        """Yield path and bytes of each segment, the newest first."""
        for path in reversed(segments(os.path.join(self.folder, NAME))):
            with reading(path) as file:
                yield path, file.read()

    def _find_end(self) -> None:
        """Take up the chain at the last record, and close what is torn after it."""
        self._seq, self._last = 0, GENESIS
        torn: list[bytes] = []
        cut = False
        for path, content in self._contents():
            *lines, tail = content.split(b"\n")
            if path == self.path and tail:
                torn, cut = [tail + TORN], True
            found = _last_record(path, lines, torn)
            if found is not None:
                self._seq, self._last = found.seq, found.hash
                break
        self._doubtful = False
        if torn:
            self._write(TORN + b"\n" if cut else b"", "torn", "", {"sha256": torn_hash(torn)})


def _last_record(path: str, lines: list[bytes], torn: list[bytes]) -> Optional[AnyRecord]:
    """Return the last record of these lines; put the torn ones after it first in ``torn``."""
    for number in range(len(lines), 0, -1):
        try:
            return parse(lines[number - 1], f"{path}:{number}")[0]
        except InputError:
            torn.insert(0, lines[number - 1])
            if sum(map(unread, torn)) > _LOST:
                raise
    return None


def _unwritable(path: str, error: OSError) -> RemedyError:
    return NotPermitted(
        f"cannot write the journal {path}: {error.strerror}",
        "nothing is changed without a journal: free space, or name another --state-dir",
    )


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
