"""What the journal says: every transaction, what is in force, what was never finished. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

from remedies import codec
from remedies.errors import InputError
from remedies.model import Change, Held
from remedies.transaction.journal import Record


@dataclass(frozen=True)
class Begin:
    """What is on disk before the first write."""

    kind: str
    """``apply`` or ``rollback``."""
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

    def plain(self) -> dict[str, object]:
        """Return the data of the journal's ``begin`` record."""
        encoded: dict[str, object] = codec.encode(self)
        return encoded


@dataclass
class Transaction:
    """One transaction as the journal tells it."""

    id: str
    time: str
    begin: Begin
    written: list[int] = field(default_factory=list)
    """Indices of the changes that were written and read back, in order."""
    undone: list[int] = field(default_factory=list)
    outcome: Optional[str] = None
    """None: it was never finished."""
    stuck: tuple[str, ...] = ()

    @property
    def standing(self) -> tuple[Change, ...]:
        """Return the changes that this transaction left in force, in the order of writing."""
        return tuple(self.begin.changes[i] for i in self.written if i not in self.undone)


def transactions(records: Iterable[Record]) -> dict[str, Transaction]:
    """Return every transaction by id, oldest first. Raises InputError on one that has no begin."""
    found: dict[str, Transaction] = {}
    for record in records:
        where = f"journal record {record.seq}"
        if record.kind == "begin":
            begin = codec.decode(Begin, record.data, where)
            found[record.txn] = Transaction(id=record.txn, time=record.time, begin=begin)
            continue
        if record.kind in ("torn", "effect"):
            continue
        if record.txn not in found:
            raise InputError(f"{where}: transaction {record.txn!r} never began")
        entry = found[record.txn]
        if record.kind == "end":
            entry.outcome = str(record.data.get("outcome"))
            stuck = record.data.get("stuck")
            entry.stuck = tuple(map(str, stuck)) if isinstance(stuck, list) else ()
            continue
        index = record.data.get("change")
        if not isinstance(index, int) or not 0 <= index < len(entry.begin.changes):
            raise InputError(f"{where}: it names no change of {record.txn}")
        (entry.written if record.kind == "written" else entry.undone).append(index)
    return found


def unfinished(found: dict[str, Transaction]) -> tuple[Transaction, ...]:
    """Return the transactions whose writer died before it could say how they ended."""
    return tuple(t for t in found.values() if t.outcome is None)


def _stacks(found: dict[str, Transaction]) -> dict[str, list[tuple[str, Change]]]:
    """Return, by address, what stands there of ours: transaction and change, oldest first."""
    stacks: dict[str, list[tuple[str, Change]]] = {}
    for entry in found.values():
        for change in entry.standing:
            stack = stacks.setdefault(change.resource, [])
            if entry.begin.kind == "rollback":
                stack[:] = [(t, c) for t, c in stack if t not in entry.begin.undoes]
            elif stack and change.after == stack[0][1].before:
                stack.clear()
            else:
                stack.append((entry.id, change))
    return stacks


def in_force(found: dict[str, Transaction]) -> dict[str, Held]:
    """Return what is in force by address, oldest first.

    Each with the value that was there before we first wrote it, and the last one we wrote.
    """
    return {
        address: Held(
            resource=address,
            fix=stack[-1][1].fix,
            base=stack[0][1].before,
            ours=stack[-1][1].after,
            transaction=stack[-1][0],
            reversibility=stack[0][1].reversibility,
            boot=stack[-1][1].boot,
        )
        for address, stack in _stacks(found).items()
        if stack
    }


def to_roll_back(found: dict[str, Transaction]) -> dict[str, tuple[Change, ...]]:
    """Return, newest transaction first, the changes that still stand of each."""
    stacks = _stacks(found)
    left = {
        entry.id: tuple(
            change
            for change in entry.standing
            if any(txn == entry.id for txn, _ in stacks[change.resource])
        )
        for entry in reversed(list(found.values()))
    }
    return {txn: changes for txn, changes in left.items() if changes}
