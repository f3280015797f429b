"""The journal: one JSON record a line, append-only, each with the hash of the one before.

A record is on disk (fsync of the file, and of the folder when the file is new) before
:meth:`Journal.append` returns. What a crash or a full disk leaves of a line was never
acknowledged and is never cut off either: the next append ends it with ``#`` and a newline, and a
``torn`` record holds the hash of everything that is torn there. Segments follow each other in one
chain: ``journal.jsonl``, then ``journal-SEQ.jsonl`` named for their first record, a
``checkpoint`` of what the segments before it leave in force.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from remedies import codec
from remedies.errors import InputError, NotPermitted, RemedyError
from remedies.facts.gather import now
from remedies.hashing import sha256
from remedies.transaction import crash_points
from remedies.transaction.segments import is_ours, not_ours, reading, segments
from remedies.transaction.wall import anchor
from remedies.values import dataclass, field

VERSION = 2
NAME = "journal.jsonl"
"""The first segment. It also names the journal: what stands beside it belongs to it."""
GENESIS = "0" * 64
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
    "nothing is done by a journal that does not add up: put a copy back, or move {} aside; "
    "the undo-*.sh in it put back what was there, and 'remedy status' names what is left"
)
"""How to go on after a damaged record, which must not lose a before-value."""
_TORN = b"#"
"""What a torn line ends with. No record does: one that lacks its newline alone is torn too."""


@dataclass(frozen=True)
class Record:
    """One line of the journal."""

    v: int
    seq: int
    time: str
    kind: str
    """``begin``, ``written``, ``effect``, ``verified``, ``pending``, ``confirming``, ``undone``,
    ``end``, ``checkpoint`` or ``torn``.
    """
    txn: str
    prev: str
    hash: str = ""
    data: dict[str, object] = field(default_factory=dict)


def _hash(plain: dict[str, Any]) -> str:
    body = {key: value for key, value in plain.items() if key != "hash"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode()).hexdigest()


def records(path: str) -> Iterator[Record]:
    """Yield every record of every segment; a journal that does not exist holds none.

    Raises InputError naming ``file:line`` for a record that is not what was written, and
    NotPermitted where the journal may not be read. A torn end is passed over quietly: it was
    never acknowledged.
    """
    return _chained(segments(path), GENESIS, 1)


def latest(path: str, lost: Optional[list[str]] = None) -> Iterator[Record]:
    """Yield the records from the newest checkpoint on; all of them where there is none.

    In ``lost`` is put where a last line is passed over that cannot be read.

    What is in force and what is unfinished follows from these alone. The chain is checked within
    them; :func:`records` checks all of it.
    """
    found = segments(path)
    for index in range(len(found) - 1, 0, -1):
        first = next(iter(_chained(found[index : index + 1], None, None)), None)
        if first is not None and first.kind == "checkpoint":
            return _chained(found[index:], first.prev, first.seq, lost)
    return _chained(found, GENESIS, 1, lost)


def newest_first(path: str, txn: str = "") -> Iterator[list[Record]]:
    """Yield the records of each segment, in order, the newest segment first.

    With ``txn``, only of the segments that mention this transaction; the others are not decoded.
    The chain is checked within a segment, and from it to the one that was yielded before. Raises
    as :func:`records` does.
    """
    found = segments(path)
    after: Optional[Record] = None
    for segment in reversed(found):
        if txn and not _mentions(segment, txn):
            after = None
            continue
        oldest = segment == found[0]
        there = list(_chained([segment], GENESIS if oldest else None, 1 if oldest else None))
        if there and after is not None and after.prev != there[-1].hash:
            raise InputError(
                f"{segment}: it does not end where record {after.seq} goes on",
                "'remedy audit verify' says what is missing",
            )
        if there:
            after = there[0]
            yield there


def intact(content: bytes, txn: str) -> Iterator[Record]:
    """Yield the records of one transaction that bear their own hash, whatever is around them."""
    mark = f'"txn":{json.dumps(txn)}'.encode()
    for line in content.split(b"\n"):
        if mark in line:
            with contextlib.suppress(RemedyError):
                record, plain = _parse(line, "")
                if record.txn == txn and _hash(plain) == record.hash:
                    yield record


def _mentions(segment: str, txn: str) -> bool:
    mark = f'"txn":{json.dumps(txn)}'.encode()
    with reading(segment) as file:
        return mark in file.read()


def _chained(
    paths: Iterable[str],
    previous: Optional[str],
    expected: Optional[int],
    lost: Optional[list[str]] = None,
) -> Iterator[Record]:
    """Yield the records of these segments, each checked against the one before it."""
    for path in paths:
        try:
            with reading(path) as lines:
                for record in _checked(path, lines, previous, expected, lost):
                    previous, expected = record.hash, record.seq + 1
                    yield record
        except PermissionError as error:
            raise NotPermitted(
                f"cannot read the journal {path}: {error.strerror}", "run as root"
            ) from None


def _checked(
    path: str,
    lines: Iterable[bytes],
    previous: Optional[str],
    expected: Optional[int],
    lost: Optional[list[str]],
) -> Iterator[Record]:
    torn: list[bytes] = []
    where = path
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        here = f"{path}:{number}"
        try:
            record, plain = _parse(line, here)
        except InputError:
            where = where if torn else here
            torn.append(line[:-1])
            continue
        if torn and (record.kind != "torn" or record.data.get("sha256") != _torn_hash(torn)):
            raise InputError(f"{where}: not a journal record", _GO_ON.format(os.path.dirname(path)))
        torn = []
        moved = record.prev != (previous or record.prev) or record.seq != (expected or record.seq)
        if moved or _hash(plain) != record.hash:
            raise InputError(
                f"{here}: record {record.seq} was altered or moved",
                _GO_ON.format(os.path.dirname(path)),
            )
        previous, expected = record.hash, record.seq + 1
        yield record
    if sum(map(_unread, torn)) > _LOST:
        raise InputError(f"{where}: not a journal record", _GO_ON.format(os.path.dirname(path)))
    if any(map(_unread, torn)) and lost is not None:
        lost.append(where)


def _unread(line: bytes) -> bool:
    """Tell whether a line that is no record is no torn one either: a block of it was lost."""
    return not line.endswith(_TORN)


def _torn_hash(lines: list[bytes]) -> str:
    return sha256(b"\n".join(lines)).hexdigest()


def _parse(line: bytes, where: str) -> tuple[Record, dict[str, Any]]:
    plain = codec.loads(line.decode("utf-8", "replace"), where, recorded=True)
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
        plain: dict[str, Any] = {
            "v": VERSION,
            "seq": self._seq + 1,
            "time": now(),
            "kind": kind,
            "txn": txn,
            "prev": self._last,
            "data": data,
        }
        plain["hash"] = _hash(plain)
        line = before + json.dumps(plain, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
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
        stem, suffix = os.path.splitext(NAME)
        self.path = os.path.join(self.folder, f"{stem}-{self._seq + 1:012}{suffix}")
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
                torn, cut = [tail + _TORN], True
            found = _last_record(path, lines, torn)
            if found is not None:
                self._seq, self._last = found.seq, found.hash
                break
        self._doubtful = False
        if torn:
            self._write(_TORN + b"\n" if cut else b"", "torn", "", {"sha256": _torn_hash(torn)})


def _last_record(path: str, lines: list[bytes], torn: list[bytes]) -> Optional[Record]:
    """Return the last record of these lines; put the torn ones after it first in ``torn``."""
    for number in range(len(lines), 0, -1):
        try:
            return _parse(lines[number - 1], f"{path}:{number}")[0]
        except InputError:
            torn.insert(0, lines[number - 1])
            if sum(map(_unread, torn)) > _LOST:
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
