"""Checks the whole chain of a journal and names what was done to it; never acts on it.

:func:`remedies.transaction.journal.records` stops at the first record that does not add up, since
nothing may be done from there on. An auditor wants all of it, by number: what was altered, removed,
moved or replaced. One pass, and one more over what a repair names as damaged; records are handed on
as they are read, as long as they add up.

A chain proves order and wholeness up to its own head. Who can write the file can cut its tail off,
or write all of it anew: that shows only against a head hash that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Optional

from remedies.errors import NotPermitted
from remedies.transaction.record import GENESIS
from remedies.transaction.segments import segments
from remedies.transaction.usual_line import JournalLine, canonical, usual
from remedies.values import dataclass, field, replace

_KEYS = {
    "v": int,
    "seq": int,
    "time": str,
    "kind": str,
    "txn": str,
    "prev": str,
    "hash": str,
    "data": dict,
}
_IN_ORDER = (*(key for key in _KEYS if key != "hash"), "hash")
_TYPES = list(_KEYS.values())
_loads = json.JSONDecoder().decode
_written_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, with the number of the record it is about."""

    record: int
    what: str
    where: str
    """``file:line``."""
    repaired: bool = False
    """It is on record: the journal was repaired since (:mod:`remedies.transaction.repair`)."""

    def __str__(self) -> str:
        """Return it as one line."""
        return f"record {self.record} {self.what} ({self.where})"


@dataclass(frozen=True)
class RepairRecord:
    """One repair: everything before it that does not add up is on record in it."""

    record: int
    time: str
    """RFC 3339, UTC."""
    user: str
    segments: tuple[str, ...]
    """Names of the damaged files, which stay as the repair found them."""

    def __str__(self) -> str:
        """Return it as one line."""
        return (
            f"record {self.record} begins again after {', '.join(self.segments)}, as {self.user} "
            f"repaired the journal at {self.time}"
        )


@dataclass
class Audit:
    """What a walk over the journal found. Complete when the walk has ended."""

    records: int = 0
    head: str = GENESIS
    """Hash of the last record; zeros for a journal that holds none."""
    anchor: int = 0
    """Number of the record whose hash is the anchored head; 0: it is none of them."""
    problems: list[Problem] = field(default_factory=list)
    repairs: list[RepairRecord] = field(default_factory=list)

    @property
    def open(self) -> list[Problem]:
        """Return the problems that no repair has on record."""
        return [problem for problem in self.problems if not problem.repaired]

    def holds(self, head: Optional[str]) -> bool:
        """Tell whether nothing was altered, and ``head``, where one is given, is in the chain."""
        return not self.problems and (not head or bool(self.anchor))


def walk(path: str, audit: Audit, head: Optional[str] = None) -> Iterator[JournalLine]:
    """Yield the records of the journal whose first segment is ``path`` until one is wrong.

    After a repair on record, goes on. Reads to the end whatever it finds, and leaves in ``audit``
    what it found. ``head`` is a hash kept elsewhere. Raises NotPermitted where a segment may not be
    read.
    """
    chain = _ChainSoFar(audit, head)
    for segment in segments(path):
        try:
            with open(segment, "rb") as lines:
                name = os.path.basename(segment)
                chain.read[name] = segment
                for number, line in enumerate(lines, 1):
                    record = chain.take(line, f"{name}:{number}")
                    if record is not None and not chain.broken:
                        yield record
        except PermissionError as error:
            raise NotPermitted(
                f"cannot read the journal {segment}: {error.strerror}", "run as root"
            ) from None
    chain.end()


def verify(path: str, head: Optional[str] = None) -> Audit:
    """Check a whole journal, and that ``head``, a hash kept elsewhere, is one of its records."""
    audit = Audit()
    for _ in walk(path, audit, head):
        pass
    return audit


class _ChainSoFar:
    """The chain up to here: what must come next, and what is still to be explained."""

    def __init__(self, audit: Audit, head: Optional[str]) -> None:
        self.audit, self.head = audit, head
        self.expected = 1
        self.previous: Optional[str] = GENESIS
        """None after a record that tells nothing of its own hash."""
        self.seen: set[int] = set()
        self.gaps: list[tuple[int, int, str]] = []
        """From, to (not included), where: removed, or only moved, which the end tells."""
        self.torn: list[tuple[bytes, str]] = []
        self.read: dict[str, str] = {}
        """The path of each segment so far, by name."""

    @property
    def broken(self) -> bool:
        """Tell whether something did not add up so far."""
        return bool(self.gaps or (self.audit.problems and self.audit.open))

    def take(self, line: bytes, where: str) -> Optional[JournalLine]:
        """Take in one line; return its record where it adds up in itself."""
        record = _read(line)
        if record is None:
            self.torn.append((line, where))
            return None
        true = hashlib.sha256(record.canonical.encode()).hexdigest()
        if self.torn:
            self._settle_torn(record)
        if record.hash != true:
            self._wrong(self.expected, "was altered", where)
            self.seen.add(self.expected)
            self.expected, self.previous = self.expected + 1, None
            return None
        if not record.exact:
            self._wrong(record.seq, "was altered", where)
        if record.kind == "repaired":
            self._repaired(record, where)
        else:
            self._place(record.seq, record.prev, where)
        self.previous = true
        self.audit.records += 1
        self.audit.head = true
        if true == self.head:
            self.audit.anchor = record.seq
        return record

    def _place(self, number: int, previous: str, where: str) -> None:
        """Compare a record's number and link with what must come here."""
        if number in self.seen:
            self._wrong(number, "is there twice", where)
        elif number < self.expected:
            self._wrong(number, f"was moved: it comes after record {self.expected - 1}", where)
        elif number > self.expected:
            self.gaps.append((self.expected, number, where))
        elif self.previous is not None and previous != self.previous:
            what = "was replaced" if number > 1 else "has something before it"
            self._wrong(max(1, number - 1), what, where)
        self.seen.add(number)
        self.expected = number + 1

    def _repaired(self, record: JournalLine, where: str) -> None:
        """Take everything so far for known; the damaged files must be as the repair left them."""
        self._settle_gaps()
        data = record.data
        damaged = data.get("damaged")
        damaged = damaged if isinstance(damaged, dict) else {}
        self.audit.problems = [replace(p, repaired=True) for p in self.audit.problems]
        for name, digest in damaged.items():
            if name not in self.read:
                self._wrong(record.seq, f"names {name}, which is missing", where)
            elif _digest_of(self.read[name]) != digest:
                self._wrong(record.seq, f"names {name}, which was changed since", where)
        self.audit.repairs.append(
            RepairRecord(record.seq, record.time, str(data.get("user", "")), tuple(damaged))
        )
        self.seen.add(record.seq)
        self.expected = record.seq + 1

    def _settle_torn(self, record: JournalLine) -> None:
        """Lines that are no records: explained by a ``torn`` record, or garbled records."""
        text = b"\n".join(line[:-1] for line, _ in self.torn)
        data = record.data
        closed = record.kind == "torn" and data.get("sha256") == hashlib.sha256(text).hexdigest()
        if closed and all(line.endswith(b"#\n") for line, _ in self.torn):
            self.torn = []
            return
        self._garbled(closed)
        self.torn = []

    def _garbled(self, closed: bool = False) -> None:
        """Name lines that are no records; of those ``closed`` the chain goes on without them."""
        for line, where in self.torn:
            if closed:
                if not line.endswith(b"#\n"):
                    self._wrong(self.expected, "cannot be read, and later records follow it", where)
                continue
            self._wrong(self.expected, "cannot be read", where)
            self.seen.add(self.expected)
            self.expected, self.previous = self.expected + 1, None

    def _wrong(self, record: int, what: str, where: str) -> None:
        self.audit.problems.append(Problem(record, what, where))

    def end(self) -> None:
        """Tell removed records from moved ones, and a torn end from a garbled one."""
        if any(not line.endswith(b"#\n") for line, _ in self.torn if line.endswith(b"\n")):
            self._garbled()
        self._settle_gaps()
        self.audit.problems.sort(key=lambda problem: problem.record)

    def _settle_gaps(self) -> None:
        for first, after, where in self.gaps:
            missing = [n for n in range(first, min(after, first + 1000)) if n not in self.seen]
            if missing:
                many = f"to {missing[-1]} were removed"
                self._wrong(missing[0], many if len(missing) > 1 else "was removed", where)
        self.gaps = []


def _digest_of(segment: str) -> str:
    with open(segment, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _read(line: bytes) -> Optional[JournalLine]:
    """Return a record, or None where the line is none."""
    if not line.endswith(b"\n"):
        return None
    try:
        text = line[:-1].decode("ascii")
        return usual(text) or _plain(text)
    except (ValueError, RecursionError):
        return None


def _plain(text: str) -> Optional[JournalLine]:
    """Return the record of any line, given without its end, or None where it is none."""
    plain = _loads(text)
    if not isinstance(plain, dict) or plain.keys() != _KEYS.keys():
        return None
    if list(map(type, map(plain.get, _KEYS))) != _TYPES:
        return None
    exact = text == _written_json({key: plain[key] for key in _IN_ORDER})
    own = plain.pop("hash")
    return JournalLine(**plain, hash=own, canonical=canonical(plain), exact=exact)
