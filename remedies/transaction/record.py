"""One record of the journal: a line of JSON with its own hash and that of the record before it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Union

from remedies import codec
from remedies.errors import InputError, RemedyError
from remedies.facts.gather import now
from remedies.hashing import sha256
from remedies.transaction.usual_line import JournalLine, canonical, usual
from remedies.values import dataclass, field

VERSION = 2
GENESIS = "0" * 64
TORN = b"#"
"""What a torn line ends with. No record does: one that lacks its newline alone is torn too."""
LOST = b"\0"
"""What a lost block is full of. No record has it; and what a full disk cuts off has not either."""


@dataclass(frozen=True)
class Record:
    """One line of the journal."""

    v: int
    seq: int
    time: str
    kind: str
    """``begin``, ``written``, ``effect``, ``verified``, ``pending``, ``confirming``, ``undone``,
    ``end``, ``checkpoint``, ``repaired``, ``adopted`` or ``torn``.
    """
    txn: str
    prev: str
    hash: str = ""
    data: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class LostRecord:
    """A line of a segment that is no record any more."""

    line: int
    byte: int
    """Where it begins in the file."""
    length: int
    """Bytes, without its end."""


def digest(plain: dict[str, Any]) -> str:
    """Return the hash that a record must bear, which it may bear already."""
    body = {key: value for key, value in plain.items() if key != "hash"}
    return sha256(canonical(body).encode()).hexdigest()


AnyRecord = Union[Record, JournalLine]
"""A record, or the line that says it: a second value of each takes time."""


def parse(line: bytes, where: str) -> tuple[AnyRecord, bool]:
    """Return a record, and whether it bears its own hash.

    Raises InputError for what is no record, RemedyError for one of a newer remedy.
    """
    text = line.decode("utf-8", "replace")
    found = usual(text[:-1] if text.endswith("\n") else text)
    record: AnyRecord
    if found is not None:
        record, true = found, sha256(found.canonical.encode()).hexdigest()
    else:
        plain = codec.loads(text, where, recorded=True)
        record, true = codec.decode(Record, plain, where), digest(plain)
    if record.v > VERSION:
        raise RemedyError(
            f"{where}: written by a newer remedy (journal version {record.v})",
            f"this one knows version {VERSION}: use the newer one",
        )
    return record, record.hash == true


def unread(line: bytes) -> bool:
    """Tell whether a line that is no record is no torn one either: a block of it was lost."""
    return not line.endswith(TORN)


def torn_hash(lines: list[bytes]) -> str:
    """Return what a ``torn`` record says of the lines before it."""
    return sha256(b"\n".join(lines)).hexdigest()


def sealed(kind: str, txn: str, data: dict[str, object], seq: int, prev: str) -> dict[str, Any]:
    """Return a record of now as plain values, with its hash; ``data`` are plain values too."""
    plain: dict[str, Any] = {
        "v": VERSION,
        "seq": seq,
        "time": now(),
        "kind": kind,
        "txn": txn,
        "prev": prev,
        "data": data,
    }
    return {**plain, "hash": digest(plain)}


def line_of(plain: dict[str, Any]) -> bytes:
    """Return the very bytes of a record."""
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def intact(content: bytes, txn: str) -> Iterator[AnyRecord]:
    """Yield the records of one transaction that bear their own hash, whatever is around them."""
    mark = f'"txn":{json.dumps(txn)}'.encode()
    for line in content.split(b"\n"):
        if mark in line:
            with contextlib.suppress(RemedyError):
                record, whole = parse(line, "")
                if record.txn == txn and whole:
                    yield record


def readable(content: bytes) -> tuple[list[AnyRecord], list[LostRecord]]:
    """Return the records of a segment that bear their own hash, and the lines that are none.

    A line that was torn, and one that was cut off, were never acknowledged: they are neither.
    Raises RemedyError where a newer remedy wrote one.
    """
    found: list[AnyRecord] = []
    lost: list[LostRecord] = []
    start = 0
    *lines, tail = content.split(b"\n")
    if LOST in tail:
        lines.append(tail)
    for number, line in enumerate(lines, 1):
        try:
            record, whole = parse(line, "")
        except InputError:
            whole = not unread(line)
        else:
            found += [record] if whole else []
        if not whole:
            lost.append(LostRecord(number, start, len(line)))
        start += len(line) + 1
    return found, lost
