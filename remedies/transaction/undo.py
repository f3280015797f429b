"""Putting back what was there: at once, after a crash, or when a person asks for it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Optional

from remedies.errors import Drift, RemedyError
from remedies.facts.owners import suspects
from remedies.model import Change
from remedies.outcomes import RECOVERIES, Written
from remedies.rules import kinds
from remedies.transaction import bootguard, undofile
from remedies.transaction.consent import Consent, demand
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import Begin, Transaction
from remedies.transaction.store import Arm, Result, Store, apart, arm_nothing, new_id, put
from remedies.values import replace


def undo(
    store: Store,
    journal: Journal,
    txn: str,
    changes: tuple[Change, ...],
    touched: Sequence[int],
    reason: str,
    *,
    own: Optional[int] = None,
    unsure: Collection[int] = (),
    outcome: Written = "rolled-back",
    gone: Callable[[Change], bool] = lambda _: False,
    last: bool = True,
) -> Result:
    """Put back the before-value of each change ``touched``, newest first, going on after an error.

    A value that is neither ours nor the old one is somebody else's and stays (``stuck``), except
    at the index ``own``, where our own write has just gone wrong; after a crash nobody can tell
    that apart. Of those that are ``unsure``, no record says that they were begun: they are put
    back where what is there is ours, and are nobody's business else. What is ``gone`` by itself is
    only recorded. A journal that cannot be written holds nothing up: the result says that the end
    is ``unrecorded``, and whoever comes next finds the transaction unfinished and its resources as
    they were. Where this is not the ``last`` try, an error that may pass leaves the transaction
    ``open``.
    """
    stuck, notes = _Stuck(), _Notes(journal, txn)
    with undisturbed():
        for index in reversed(touched):
            change = changes[index]
            try:
                over = gone(change) or not kinds.comes_back(change.resource)
                if index in unsure and not over and not _is_ours(store, change):
                    continue
                if not over:
                    _put_back(store, change, force=index == own)
            except Exception as error:  # the next change must be put back whatever a driver raises
                stuck.add(change, error)
                continue
            notes.add("undone", {"change": index})
        if stuck.passing and not last:
            return Result(txn, "incomplete", reason, stuck.lines, notes.failure, open=True)
        end: Written = "incomplete" if stuck.lines else outcome
        notes.add("end", {"outcome": end, "reason": reason, "stuck": list(stuck.lines)})
        bootguard.disarm(journal.folder, txn)
    if not stuck.lines:
        undofile.remove(journal.folder, txn)
    return Result(txn, end, reason=reason, stuck=stuck.lines, unrecorded=notes.failure)


class _Stuck:
    """What could not be put back, one line each."""

    def __init__(self) -> None:
        self.lines: tuple[str, ...] = ()
        self.passing = False
        """Another try may succeed: not all of it is a value that somebody else has set."""

    def add(self, change: Change, error: Exception) -> None:
        self.lines = (*self.lines, f"{change.resource}: {error}")
        self.passing = self.passing or not isinstance(error, Drift)


class _Notes:
    """Records that are made if they can be made; ``failure`` says why the first could not."""

    def __init__(self, journal: Journal, txn: str) -> None:
        self._journal, self._txn = journal, txn
        self.failure = ""

    def add(self, kind: str, data: dict[str, object]) -> None:
        try:
            self._journal.append(kind, self._txn, data)
        except OSError as error:
            self.failure = self.failure or f"{self._journal.path}: {error.strerror}"


def recover(
    store: Store,
    journal: Journal,
    entry: Transaction,
    why: str,
    consent: Consent,
    *,
    last: bool = True,
) -> Result:
    """Finish a transaction that its writer will not: ``why`` as :func:`ledger.situation` says.

    An apply is undone (``reverted`` where it waited for its confirmation), a rollback is carried
    to its end. After a reboot only boot files are there to be put back, and what they have brought
    back: everything else has gone with the kernel that held it. A change that no record calls
    begun is looked at, too: records may have been lost. ``last`` as in :func:`undo`.
    """
    demand(consent)
    changes, rollback = entry.begin.changes, entry.begin.kind == "rollback"
    files = any(changes[i].boot for i in (range(len(changes)) if rollback else entry.touched))

    def gone(change: Change) -> bool:
        if why != "rebooted" or change.boot:
            return False
        ours = change.before if rollback else change.after
        return not (files and store.same(change.resource, store.read(change.resource), ours))

    if rollback:
        left = [i for i in range(len(changes)) if i not in entry.written]
        return _write(store, journal, entry.id, changes, left, gone=gone, last=last)
    recovery = RECOVERIES[why]
    left = [i for i in entry.begin.order if i not in entry.undone]
    return undo(
        store,
        journal,
        entry.id,
        changes,
        left,
        recovery.reason,
        unsure=set(left) - set(entry.touched),
        outcome=recovery.end,
        gone=gone,
        last=last,
    )


def roll_back(
    store: Store,
    journal: Journal,
    begin: Begin,
    consent: Consent,
    *,
    force: bool = False,
    arm: Arm = arm_nothing,
) -> Result:
    """Undo by compare-and-swap: ``begin.changes`` are the reversed changes, newest first.

    A value that is neither ours nor already the old one raises Drift with all three values,
    before anything is written, unless ``force``. Goes on after an error; the result lists what
    is stuck.
    """
    demand(consent)
    begin = replace(begin, consent=consent.how)
    if not force:
        for change in begin.changes:
            _check_ours(store, change)
    txn = new_id()
    guard = arm(txn, begin)
    journal.append("begin", txn, begin.plain())
    guard.begun()
    if any(change.boot for change in begin.changes):
        with contextlib.suppress(RemedyError, OSError):  # undoing is worth more than its insurance
            guard.for_boot(tuple(change.reversed() for change in reversed(begin.changes)))
    every = range(len(begin.changes))
    result = _write(store, journal, txn, begin.changes, every, last=not guard.goes_on())
    if not (result.unrecorded or result.open):
        guard.dismiss()
    return result


def _write(
    store: Store,
    journal: Journal,
    txn: str,
    changes: tuple[Change, ...],
    left: Sequence[int],
    *,
    gone: Callable[[Change], bool] = lambda _: False,
    last: bool = True,
) -> Result:
    """Carry a rollback to its end, going on after an error as :func:`undo` does."""
    stuck, notes = _Stuck(), _Notes(journal, txn)
    with undisturbed():
        for index in left:
            change = changes[index]
            try:
                if not gone(change):
                    put(store, change.resource, change.after, exact=change.reversibility == "exact")
            except Exception as error:  # as in undo()
                stuck.add(change, error)
                continue
            notes.add("written", {"change": index})
        if stuck.passing and not last:
            return Result(txn, "incomplete", stuck=stuck.lines, unrecorded=notes.failure, open=True)
        outcome: Written = "incomplete" if stuck.lines else "rolled-back"
        notes.add("end", {"outcome": outcome, "stuck": list(stuck.lines)})
        bootguard.disarm(journal.folder, txn)
    return Result(txn, outcome, stuck=stuck.lines, unrecorded=notes.failure)


def _is_ours(store: Store, change: Change) -> bool:
    """Tell whether what is there is what ``change`` wrote, and not what was there before."""
    found = store.read(change.resource)
    return not store.same(change.resource, found, change.before) and store.same(
        change.resource, found, change.after
    )


def _check_ours(store: Store, change: Change) -> None:
    """Raise Drift unless the value is ours (``before`` of a reversed change) or already back."""
    found = store.read(change.resource)
    if not any(store.same(change.resource, found, v) for v in (change.after, change.before)):
        known = "".join(f"; {line}" for line in suspects(change.resource))
        before, ours, now = apart(change.resource, change.after, change.before, found)
        raise Drift(
            f"{change.resource} was changed by somebody else: before {before}, written by remedy "
            f"{ours}, now {now}{known}",
            "find out who did; 'remedy rollback --force' overwrites it",
        )


def _put_back(store: Store, change: Change, *, force: bool) -> None:
    reverse = change.reversed()
    if not force:
        _check_ours(store, reverse)
    put(store, reverse.resource, reverse.after, exact=change.reversibility == "exact")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals back while undoing: half an undo helps nobody, nor does a stopped one."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
    held |= {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
