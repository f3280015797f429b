"""What a guard knows of its transaction, whatever becomes of the journal.

It has the ``begin`` in memory, with every before-value, and the journal's newest segment and the
lock open: they are there still when their folder was removed, moved away or unmounted. A record
that was seen once stays known, and one that bears its own hash counts whatever is around it. So
does one in the journal that is at the old place now: a copy may have been put there, and whoever
confirmed then confirmed in the copy.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Optional, Union

from remedies import codec
from remedies.errors import InputError, RemedyError
from remedies.transaction import ledger, lock, lock_holder
from remedies.transaction.fallback import Detached, Unwritable, content
from remedies.transaction.journal import NAME, Journal, latest
from remedies.transaction.ledger import Begin, Pending, Transaction
from remedies.transaction.record import GENESIS, VERSION, AnyRecord, Record, intact
from remedies.transaction.segments import reading, segments


class Memory:
    """One transaction as its guard knows it."""

    def __init__(self, folder: str, txn: str, begin: Begin) -> None:
        """Open lock and journal. Raises NotPermitted or OSError where that does not work."""
        self.folder, self.txn, self.begin = folder, txn, begin
        self._pending: Optional[Pending] = None
        """Until when it waits, as the writer itself has said."""
        self._begun = False
        """The writer itself has said that something may be written."""
        self.grown = time.monotonic()
        """When a record of it was last seen to be new."""
        self._seen: dict[str, AnyRecord] = {}
        self._looked: Optional[tuple[object, ...]] = None
        made = lock.opened(folder)
        self._lock = os.open(f"/proc/self/fd/{made}", os.O_PATH | os.O_CLOEXEC)
        """Names the lock, and does not look like holding it (``holder``)."""
        os.close(made)
        self._path = self._place() or os.path.join(folder, NAME)
        self._journal: Optional[int] = None
        with contextlib.suppress(FileNotFoundError):
            flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._journal = os.open(self._path, flags)

    def close(self) -> None:
        """Close what this process has open of it."""
        for descriptor in self.descriptors:
            os.close(descriptor)

    @property
    def descriptors(self) -> set[int]:
        """Return what must stay open."""
        return {self._lock} | ({self._journal} if self._journal is not None else set())

    @property
    def began(self) -> bool:
        """Tell whether ``begin`` is on record, or was: nothing is written before it is."""
        return self._begun or any(record.kind == "begin" for record in self._seen.values())

    def told(self, said: bytes) -> None:
        """Take in what the writer says: a line ``begun``, or until when it waits."""
        for line in said.decode(errors="replace").splitlines():
            if line == "begun":
                self._begun = True
                continue
            with contextlib.suppress(RemedyError):
                self._pending = codec.decode(Pending, codec.loads(line, "writer"), "writer")

    def look(self) -> Transaction:
        """Return the transaction as far as it is known now."""
        stamp = tuple(map(_stamp, (self._journal, self._place())))
        if stamp != self._looked:
            self._looked, known = stamp, len(self._seen)
            for there in self._contents():
                for record in intact(there, self.txn):
                    self._seen.setdefault(record.hash, record)
            if len(self._seen) > known:
                self.grown = time.monotonic()
        records = [record for record in self._seen.values() if record.kind != "begin"]
        entry = ledger.transactions([self._first(), *records])[self.txn]
        entry.pending = entry.pending or self._pending
        return entry

    def _first(self) -> Record:
        data = self.begin.plain()
        return Record(VERSION, 0, "", "begin", self.txn, GENESIS, data=data)

    def _place(self) -> Optional[str]:
        """Return the newest segment that is at the journal's place now, if any is."""
        with contextlib.suppress(RemedyError, OSError):
            return next(iter(segments(os.path.join(self.folder, NAME))[::-1]), None)
        return None

    def _contents(self) -> Iterator[bytes]:
        """Yield what can be read: the segment that was opened, and what is at its place now."""
        if self._journal is not None:
            with contextlib.suppress(OSError):
                yield content(self._journal)
        place = self._place()
        if place is not None and not self._is_place(place):
            with contextlib.suppress(RemedyError, OSError), reading(place) as file:
                yield content(file.fileno())

    def _is_place(self, place: str) -> bool:
        return self._journal is not None and _same_file(self._journal, place)

    @contextlib.contextmanager
    def locked(self, patience: Optional[float]) -> Iterator[None]:
        """Hold the lock that the writer had, and the one that is at its place now.

        Raises Locked as :func:`lock.taken` does.
        """
        work = f"guard of {self.txn}"
        with contextlib.ExitStack() as stack:
            for opened in self._locks():
                stack.callback(os.close, opened)
                stack.enter_context(lock.taken(opened, patience, work))
            yield

    def _locks(self) -> Iterator[int]:
        """Open the writer's lock, and the one that is in its place, if another one is."""
        yield lock.reopened(self._lock)
        if not _same_file(self._lock, os.path.join(self.folder, lock.NAME)):
            with contextlib.suppress(RemedyError):
                yield lock.opened(self.folder)

    def end_holders(self) -> None:
        """Kill whoever holds the lock, and the one at its place."""
        for opened in self._locks():
            lock_holder.end(opened)
            os.close(opened)

    def trouble(self) -> str:
        """Say what is wrong with the journal; empty where nothing is."""
        path, place = self._path, self._place()
        if place is None:
            return f"its journal {path} is gone"
        try:
            if self.txn in ledger.transactions(latest(os.path.join(self.folder, NAME))):
                return ""
        except (RemedyError, OSError) as error:
            return f"its journal is damaged: {error}"
        return f"the journal {path} was replaced, or cut off"

    def journal(self) -> Journal:
        """Return where to record what is done, with the transaction in it. Hold the lock.

        That is the journal at its place, where it knows the transaction; else the file that was
        opened, while it has a name; else a new journal in its place. Undoing is worth more than a
        record of it: where none of them can be had, none is made.
        """
        try:
            journal = self._open()
        except (RemedyError, OSError) as error:
            return Unwritable(self.folder, str(error))
        if not journal.knows(self.txn):
            with contextlib.suppress(OSError):  # the next record says so, too
                journal.append("begin", self.txn, self.begin.plain())
        return journal

    def _open(self) -> Journal:
        place = self._place()
        if place is not None:
            with reading(place) as file:
                known = any(True for _ in intact(content(file.fileno()), self.txn))
            if known or self._is_place(place):
                return Journal(self.folder)
        if self._journal is not None and os.fstat(self._journal).st_nlink:
            return Detached(self.folder, self._path, self._journal)
        if place is None and os.path.isdir(self.folder):
            return Journal(self.folder)
        raise InputError(f"{self.folder}: the journal of this transaction is gone")


def _stamp(file: Union[int, str, None]) -> Optional[tuple[int, ...]]:
    """Return what is different once a file was written, or is another one."""
    if file is None:
        return None
    try:
        found = os.stat(file)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _same_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False
