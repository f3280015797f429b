"""Going on after a damaged journal: what can be read of it, compared with what the host shows.

A repair writes one record, ``repaired``, as the first of a new segment. The damaged segments stay
where they are, byte for byte: the record has the SHA-256 of each, the lines that are lost, and
every transaction that can still be read. What of them is in force is asked of the host, because
the records that would say so may be the ones that are lost: a resource that is as a transaction
wrote it is in force, one that is as it was before is not. The host itself is not changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Literal

from remedies.errors import InputError, RemedyError
from remedies.hashing import sha256
from remedies.model import Change
from remedies.planning.reads import Reads
from remedies.transaction import ledger
from remedies.transaction.consent import Consent, demand
from remedies.transaction.journal import (
    NAME,
    latest,
    newest_first,
    segment_name,
    start_segment,
)
from remedies.transaction.ledger import Transaction
from remedies.transaction.record import GENESIS, AnyRecord, LostRecord, Record, readable, sealed
from remedies.transaction.segments import reading, segments
from remedies.transaction.wall import anchor
from remedies.values import dataclass

UNKNOWN: Literal["unknown"] = "unknown"
"""The outcome of a transaction whose end is lost, or was never made."""


@dataclass(frozen=True)
class LostLine:
    """A line that is no record any more, and where it is."""

    segment: str
    """Name of the file."""
    line: int
    byte: int
    length: int

    def __str__(self) -> str:
        """Return it as one phrase."""
        return f"{self.segment}:{self.line}: {self.length} bytes from byte {self.byte} on"


@dataclass(frozen=True)
class Damage:
    """A journal that does not add up, as far as it can be read."""

    folder: str
    what: str
    """The first thing that is wrong, with file and line."""
    digests: dict[str, str]
    """SHA-256 of each damaged segment, by name."""
    lost: tuple[LostLine, ...]
    missing: tuple[int, ...]
    """Numbers of the records that should be there and cannot be read, as far as others show it."""
    found: dict[str, Transaction]
    """Every transaction whose ``begin`` can be read, oldest first."""
    headless: tuple[str, ...]
    """Ids of transactions whose ``begin`` is lost, so that nobody knows what they changed."""
    kept: frozenset[str]
    """Ids of the transactions of damaged segments: no other segment tells of them."""
    last: int
    """Number that the last record has, or would have."""
    prev: str
    """Hash of the last record that can be read; zeros where none can."""


def examine(folder: str) -> Damage | None:
    """Return what is wrong with the journal in ``folder``; None where nothing is.

    Raises NotPermitted where it may not be read or is none of our making, and RemedyError where a
    newer remedy wrote it.
    """
    path = os.path.join(folder, NAME)
    wrong = _first_wrong(path)
    if wrong is None:
        return None
    records: dict[int, AnyRecord] = {}
    lost: list[LostLine] = []
    digests: dict[str, str] = {}
    kept: set[str] = set()
    for segment in segments(path):
        name = os.path.basename(segment)
        with reading(segment) as file:
            content = file.read()
        there, gone = readable(content)
        if _is_damaged(there, gone):
            digests[name] = sha256(content).hexdigest()
            lost += [LostLine(name, each.line, each.byte, each.length) for each in gone]
            kept |= {record.txn for record in there if record.txn}
        for record in there:
            records.setdefault(record.seq, record)
    ordered = [records[number] for number in sorted(records)]
    found, headless = _transactions(ordered)
    top = ordered[-1].seq if ordered else 0
    return Damage(
        folder=folder,
        what=wrong,
        digests=digests,
        lost=tuple(lost),
        missing=tuple(n for n in range(1, top) if n not in records),
        found=found,
        headless=headless,
        kept=frozenset(kept & found.keys()),
        last=top + len(lost),
        prev=ordered[-1].hash if ordered else GENESIS,
    )


def _first_wrong(path: str) -> str | None:
    """Return why verbs cannot read the journal, or ``history`` not all of it; None if they can."""
    lost: list[str] = []
    try:
        ledger.transactions(latest(path, lost))
        for segment in newest_first(path):
            ledger.transactions(r for r in segment if r.kind != "checkpoint")
    except InputError as error:
        return error.what
    return f"{lost[0]}: the last record cannot be read" if lost else None


def _is_damaged(there: list[AnyRecord], gone: list[LostRecord]) -> bool:
    """Tell whether a segment does not add up in itself."""
    follow = zip(there, there[1:])
    linked = all(b.prev == a.hash and b.seq == a.seq + 1 for a, b in follow)
    return not linked or bool(gone)


def _transactions(records: Iterable[AnyRecord]) -> tuple[dict[str, Transaction], tuple[str, ...]]:
    """Return what can be told of transactions, and the ids of those that lack their ``begin``."""
    known: list[AnyRecord] = []
    begun: set[str] = set()
    headless: dict[str, None] = {}
    for record in records:
        if record.kind in ("checkpoint", "repaired", "adopted"):
            entries = ledger.transactions([record])
            if record.kind == "checkpoint":  # it only tells again, but for what is lost
                fresh = [entry for name, entry in entries.items() if name not in begun]
                record = Record(
                    record.v, record.seq, record.time, "adopted", record.txn, record.prev,
                    data=ledger.carried(fresh),
                )  # fmt: skip
            begun |= entries.keys()
        elif record.kind == "begin":
            begun.add(record.txn)
        elif record.txn and record.txn not in begun:
            headless[record.txn] = None
            continue
        known.append(record)
    return ledger.transactions(known), tuple(name for name in headless if name not in begun)


@dataclass(frozen=True)
class Settled:
    """What is kept of a damaged journal, as the host shows it."""

    carried: tuple[Transaction, ...]
    """All that no other segment tells of, and all whose standing is told anew, oldest first."""
    ledger: dict[str, Transaction]
    """Every transaction that can be read, with what is in force of it now."""
    notes: tuple[str, ...]
    """Resources that are not as the records left them, a sentence each."""


def settle(damage: Damage, store: Reads) -> Settled:
    """Compare what the readable records say is in force with the host; nothing is written.

    A resource that has the value from before us is taken for given back, whatever lost record or
    whoever else did it; one that is neither that nor ours stays ours and drifted.
    """
    found = damage.found
    for name in damage.kept:
        _assume(found[name])
    told = {txn for stack in ledger.stacks(found).values() for txn, _ in stack}
    notes: list[str] = []
    for address, stack in ledger.stacks(found).items():
        if stack:
            notes += _compare(found, address, stack, store)
    carried = tuple(e for name, e in found.items() if name in damage.kept or name in told)
    return Settled(carried, found, tuple(notes))


def _assume(entry: Transaction) -> None:
    """Say of a transaction what lost records would have said; of one without an end, that it wrote.

    Whether that is in force is then asked of the host.
    """
    apply, every = entry.begin.kind == "apply", list(entry.begin.order)
    if entry.outcome in ("applied", "confirmed") or (entry.outcome is None and apply):
        entry.written, entry.undone = every, []
    elif entry.outcome in ("rolled-back", "reverted"):
        entry.written = entry.written if apply else every
        entry.undone = list(entry.written) if apply else []
    entry.outcome = entry.outcome or UNKNOWN


def _compare(
    found: dict[str, Transaction], address: str, stack: list[tuple[str, Change]], store: Reads
) -> Iterator[str]:
    """Take from the stack of one resource what the host does not show; yield a note if anything."""
    try:
        now = store.read(address)
        ours = [store.same(address, now, change.after) for _, change in stack]
        given_back = store.same(address, now, stack[0][1].before)
    except RemedyError as error:
        yield f"{address} could not be compared and is assumed to be in force: {error.what}"
        return
    if ours[-1]:
        return
    if not any(ours) and not given_back:
        yield f"{address} is neither what remedy wrote nor what was there before: it has drifted"
        return
    above = len(ours) - ours[::-1].index(True) if any(ours) else 0
    for name, change in stack[above:]:
        entry = found[name]
        entry.undone.append(entry.begin.changes.index(change))
    yield f"{address} is not in force any more: it is as it was before {stack[above][0]}"


def start(damage: Damage, carried: Iterable[Transaction], consent: Consent, tool: str) -> str:
    """Go on in a new segment that has ``carried`` on record; return its path. Hold the lock.

    Raises OSError, and then nothing is changed.
    """
    demand(consent)
    data = {
        **ledger.carried(carried),
        "damaged": damage.digests,
        "what": damage.what,
        "lost": [str(line) for line in damage.lost],
        "missing": list(damage.missing),
        "headless": list(damage.headless),
        "user": consent.who,
        "consent": consent.how,
        "tool": tool,
    }
    seq = damage.last + 1
    while os.path.lexists(os.path.join(damage.folder, segment_name(seq))):
        seq += 1
    plain = sealed("repaired", "", data, seq, damage.prev)
    path = start_segment(damage.folder, plain)
    anchor(path, seq, plain["hash"])
    return path
