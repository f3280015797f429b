"""What the journal says: every transaction, what is in force, what was never finished. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from remedies import codec
from remedies.errors import InputError
from remedies.model import (
    Action,
    Backend,
    Change,
    Finding,
    Held,
    Reversibility,
    Risk,
    Severity,
    Verdict,
)
from remedies.outcomes import ENDS, DeedOutcome, Kind, Recorded, State
from remedies.rules import kinds
from remedies.transaction.record import AnyRecord
from remedies.values import dataclass, field, replace

_WORDS: codec.Words = {
    Verdict: "unknown",
    Severity: "medium",
    Risk: "high",
    Reversibility: "none",
    Action: "update",
    Backend: "nftables",
    Kind: "apply",
    Recorded: "incomplete",
}
"""What stands for a word that is none. Older versions took some from edited plans, and a record
cannot be written again: it must not keep what it tells of from being undone."""


@dataclass(frozen=True)
class Begin:
    """What is on disk before the first write."""

    kind: Kind
    changes: tuple[Change, ...]
    tool: str
    host: str
    machine_id: str
    boot_id: str
    user: str
    command: str
    plan_id: str = ""
    policy: tuple[str, ...] = ()
    undoes: tuple[str, ...] = ()
    """The transactions that a rollback undoes."""
    policy_digest: str = ""
    login_uid: str = ""
    """Who logged in, whatever sudo and su did since; empty where the kernel does not say."""
    ssh_from: str = ""
    """The address an SSH session came from."""
    change_id: str = ""
    comment: str = ""
    approver: str = ""
    """Who approved it, as ``--approved-by`` says; else who answered the question; empty with
    ``--yes`` alone."""
    findings: tuple[Finding, ...] = ()
    """What the changes answer, with the evidence at the time of the plan."""
    uid: str = ""
    """The real user id of the writer, whatever ``user`` says sudo's caller was."""
    consent: str = ""
    """How the change was agreed to (:mod:`remedies.transaction.consent`); older journals do not
    say."""

    @property
    def order(self) -> tuple[int, ...]:
        """Return the indices of the changes as they are written: boot files last."""
        return tuple(sorted(range(len(self.changes)), key=lambda i: self.changes[i].boot))

    def plain(self) -> dict[str, object]:
        """Return the data of the journal's ``begin`` record."""
        encoded: dict[str, object] = codec.encode(self)
        return encoded


@dataclass(frozen=True)
class Verified:
    """What the detectors said after the writing."""

    verified: tuple[dict[str, str], ...] = ()
    """Of each finding that was answered: ``finding``, ``condition``, ``before``, ``after``."""
    findings: tuple[Finding, ...] = ()
    """What they still saw, with newer evidence."""


@dataclass(frozen=True)
class Pending:
    """Until when a transaction waits to be confirmed."""

    until: str
    """RFC 3339, UTC: for people."""
    clock: float
    """The same moment in seconds of CLOCK_BOOTTIME, which nobody can set: what counts."""


@dataclass
class Transaction:
    """One transaction as the journal tells it."""

    id: str
    time: str
    begin: Begin
    written: list[int] = field(default_factory=list)
    """Indices of the changes that were written and read back, in order."""
    undone: list[int] = field(default_factory=list)
    outcome: Optional[Recorded] = None
    """None: it was never finished."""
    stuck: tuple[str, ...] = ()
    ended: str = ""
    """RFC 3339, UTC: when it ended; empty while it has not."""
    verified: Verified = field(default_factory=Verified)
    pending: Optional[Pending] = None
    """Everything but the boot files is written, and that is how long it may wait."""
    confirming: bool = False
    """Somebody confirmed it: its boot files are being written."""
    reason: str = ""
    """Why it was undone."""
    confirmed_by: str = ""
    """Who kept it; empty where nobody was asked to."""

    @property
    def told(self) -> DeedOutcome:
        """Return its outcome as it is shown."""
        return self.outcome or "unfinished"

    @property
    def state(self) -> State:
        """Return where it is in its life (:data:`remedies.outcomes.LIFE`)."""
        if self.outcome is not None:
            return self.outcome
        if self.pending is None:
            return "writing"
        return "confirming" if self.confirming else "pending"

    @property
    def touched(self) -> tuple[int, ...]:
        """Return the changes that may be in force, in order: those written, and the next one."""
        done = set(self.written)
        may = tuple(i for i in self.begin.order if i in done)
        for index in self.begin.order:
            if index not in done:
                begun = self.pending is None or self.confirming
                return (*may, index) if begun else may
        return may

    @property
    def stands(self) -> tuple[int, ...]:
        """Return the indices of the changes that this left in force, in the order of writing.

        What it could neither finish nor undo is among them: somebody has to come back to it. What
        cannot be put back is not: it is done, and nothing of it is in force.
        """
        left = [i for i in self.written if i not in self.undone]
        if self.outcome == "incomplete" and self.begin.kind == "apply":
            names = {line.partition(": ")[0] for line in self.stuck}
            begun = (i for i in self.touched if i not in self.written and i not in self.undone)
            left += [i for i in begun if self.begin.changes[i].resource in names]
        return tuple(i for i in left if kinds.comes_back(self.begin.changes[i].resource))

    @property
    def standing(self) -> tuple[Change, ...]:
        """Return the changes of :attr:`stands`."""
        return tuple(self.begin.changes[i] for i in self.stands)


def transactions(records: Iterable[AnyRecord]) -> dict[str, Transaction]:
    """Return every transaction by id, oldest first. Raises InputError on one that has no begin."""
    found: dict[str, Transaction] = {}
    for record in records:
        where = f"journal record {record.seq}"
        if record.kind == "begin":
            begin = codec.decode(Begin, record.data, where, _WORDS)
            found[record.txn] = Transaction(id=record.txn, time=record.time, begin=begin)
            continue
        if record.kind in ("torn", "effect"):
            continue
        if record.kind in ("checkpoint", "repaired", "adopted"):
            if not found or record.kind != "checkpoint":  # which only tells again
                found.update((entry.id, entry) for entry in _carried(record.data, where))
            continue
        if record.kind == "verified":
            if record.txn in found:
                found[record.txn].verified = codec.decode(Verified, record.data, where, _WORDS)
            continue
        if record.txn not in found:
            raise InputError(f"{where}: transaction {record.txn!r} never began")
        entry = found[record.txn]
        if record.kind == "end":
            entry.outcome = ended(record.data.get("outcome"))
            entry.ended = record.time
            entry.reason = str(record.data.get("reason", ""))
            entry.confirmed_by = str(record.data.get("user", ""))
            stuck = record.data.get("stuck")
            entry.stuck = tuple(map(str, stuck)) if isinstance(stuck, list) else ()
            continue
        if record.kind == "pending":
            entry.pending = codec.decode(Pending, record.data, where)
            entry.outcome, entry.confirming = None, False
            continue
        if record.kind == "confirming":
            entry.confirming = True
            continue
        index = record.data.get("change")
        if not isinstance(index, int) or not 0 <= index < len(entry.begin.changes):
            raise InputError(f"{where}: it names no change of {record.txn}")
        if record.kind == "written":
            if index in entry.undone or index in entry.written:
                entry.undone = [i for i in entry.undone if i != index]
                entry.written = [i for i in entry.written if i != index]
            entry.written.append(index)
        else:
            entry.undone.append(index)
    return found


def ended(word: object) -> Recorded:
    """Return how a transaction ended, as an ``end`` record says it.

    A word that this version does not know stands for an end that somebody has to look at.
    """
    return word if word in ENDS else "incomplete"


def unfinished(found: dict[str, Transaction]) -> tuple[Transaction, ...]:
    """Return the transactions that the journal does not end."""
    return tuple(t for t in found.values() if t.outcome is None)


def situation(entry: Transaction, boot_id: str, clock: float, guarded: bool) -> str:
    """Say how an unfinished transaction stands now.

    ``clock`` is CLOCK_BOOTTIME, ``guarded`` whether its guard lives. ``pending``: it waits for
    its confirmation; ``unguarded``: it waits and nobody will undo it; ``expired``: nobody
    confirmed it in time; ``rebooted``: the machine has started again since; ``writing``: its
    writer is at work, or its guard about to undo it; ``dead``: neither is there.
    """
    if entry.begin.boot_id != boot_id:
        return "rebooted"
    if entry.pending is None:
        return "writing" if guarded else "dead"
    if clock >= entry.pending.clock:
        return "expired"
    return "pending" if guarded else "unguarded"


@dataclass(frozen=True)
class _Carried:
    """What one record keeps of a whole transaction.

    Of those in force when a segment is full, of those read from a damaged one, of what was adopted.
    """

    id: str
    time: str
    begin: Begin
    written: tuple[int, ...]
    """Indices of what still stands of it."""
    outcome: Recorded
    ended: str
    reason: str = ""
    undone: tuple[int, ...] = ()
    stuck: tuple[str, ...] = ()


def carried(entries: Iterable[Transaction]) -> dict[str, object]:
    """Return the data of a record that keeps whole transactions, all of which have an outcome."""
    kept = tuple(
        _Carried(
            entry.id,
            entry.time,
            entry.begin,
            tuple(entry.written),
            entry.outcome or "incomplete",
            entry.ended,
            entry.reason,
            tuple(entry.undone),
            entry.stuck,
        )
        for entry in entries
    )
    return {"transactions": codec.encode(kept)}


def checkpoint(found: dict[str, Transaction]) -> dict[str, object]:
    """Return the data of a ``checkpoint``: the transactions in force, and the newest of all.

    Nothing may be unfinished.
    """
    standing = stacks(found)
    kept = []
    for entry in found.values():
        stands = tuple(
            i
            for i in entry.stands
            if (entry.id, entry.begin.changes[i]) in standing[entry.begin.changes[i].resource]
        )
        if stands or entry is list(found.values())[-1]:
            kept.append(replace(entry, written=list(stands), undone=[]))
    return carried(kept)


def _carried(data: dict[str, object], where: str) -> list[Transaction]:
    plain = data.get("transactions")
    entries = codec.decode(tuple[_Carried, ...], plain, where, _WORDS)
    return [
        Transaction(
            id=entry.id,
            time=entry.time,
            begin=entry.begin,
            written=list(entry.written),
            outcome=entry.outcome,
            ended=entry.ended,
            reason=entry.reason,
            undone=list(entry.undone),
            stuck=entry.stuck,
        )
        for entry in entries
    ]


def stacks(found: dict[str, Transaction]) -> dict[str, list[tuple[str, Change]]]:
    """Return, by address, what stands there of ours: transaction and change, oldest first."""
    there: dict[str, list[tuple[str, Change]]] = {}
    for entry in found.values():
        for change in entry.standing:
            stack = there.setdefault(change.resource, [])
            if entry.begin.kind == "rollback":
                stack[:] = [(t, c) for t, c in stack if t not in entry.begin.undoes]
            elif stack and change.after == stack[0][1].before:
                stack.clear()
            else:
                stack.append((entry.id, change))
    return there


def in_force(found: dict[str, Transaction]) -> dict[str, Held]:
    """Return what is in force by address, oldest first.

    Each with the value that was there before we first wrote it, and the last one we wrote.
    """
    return {
        address: _held(found[stack[-1][0]], stack[0][1], stack[-1][1])
        for address, stack in stacks(found).items()
        if stack
    }


def _held(newest: Transaction, first: Change, last: Change) -> Held:
    """Return a resource that ``first`` made ours and ``last``, of ``newest``, wrote last."""
    return Held(
        resource=last.resource,
        fix=last.fix,
        base=first.before,
        ours=last.after,
        transaction=newest.id,
        reversibility=first.reversibility,
        boot=last.boot,
        policy=newest.begin.policy,
        answered=tuple(f for f in newest.begin.findings if f.id in last.answers),
    )


def to_roll_back(found: dict[str, Transaction]) -> dict[str, tuple[Change, ...]]:
    """Return, newest transaction first, the changes that still stand of each."""
    standing = stacks(found)
    left = {
        entry.id: tuple(
            change
            for change in entry.standing
            if any(txn == entry.id for txn, _ in standing[change.resource])
        )
        for entry in reversed(list(found.values()))
    }
    return {txn: changes for txn, changes in left.items() if changes}
