"""Writing: check, record, write, read back, verify; and undo all of it when one step fails."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Optional

from remedies import codec
from remedies.errors import RemedyError, StalePlan, WriteFailed
from remedies.model import Change
from remedies.rules import kinds
from remedies.transaction import bootguard
from remedies.transaction.consent import Consent, demand
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import Begin, Pending, Transaction
from remedies.transaction.store import Arm, Armed, Result, Store, apart, arm_nothing, new_id, put
from remedies.transaction.undo import undisturbed, undo
from remedies.values import dataclass, field, replace


def check_fresh(store: Store, changes: tuple[Change, ...]) -> None:
    """Raise StalePlan naming the first resource that is not as the plan found it."""
    for change in changes:
        now = store.read(change.resource)
        if now is None and not kinds.comes_back(change.resource):
            continue  # a flow that ended by itself
        if not store.same(change.resource, now, change.before):
            found, there = apart(change.resource, change.before, now)
            raise StalePlan(
                f"{change.resource} moved: the plan found {found}, now it is {there}",
                "make a new plan",
            )


@dataclass(frozen=True)
class CheckedChange:
    """What verification found."""

    reason: Optional[str] = None
    """Why everything must be undone; None where it need not."""
    record: dict[str, object] = field(default_factory=dict)
    """Data of the journal's ``verified`` record; none is made of nothing."""


def apply(
    store: Store,
    journal: Journal,
    begin: Begin,
    consent: Consent,
    verify: Callable[[], CheckedChange],
    *,
    arm: Arm = arm_nothing,
    confirm: float = 0.0,
) -> Result:
    """Write every change of ``begin``, or none, as ``consent`` allows; the journal names it.

    The guard is armed, and every before-value on disk, before the first write. ``verify`` is
    called when all but the boot files is written; a reason it gives undoes everything. With
    ``confirm`` (seconds) the transaction is left waiting for :func:`confirm_it`, which writes the
    boot files; without, they are written now. Raises StalePlan or WriteFailed while nothing has
    been written yet. A signal (KeyboardInterrupt or any other exception) undoes what was written
    and is raised again.
    """
    demand(consent)
    begin = replace(begin, consent=consent.how)
    check_fresh(store, begin.changes)
    for change in begin.changes:
        store.check(change.resource, change.after)
        _check_way_back(store, change)
    txn = new_id()
    guard = arm(txn, begin)
    try:
        journal.append("begin", txn, begin.plain())
    except OSError as error:
        raise WriteFailed(f"{journal.path}: {error.strerror}", "nothing was changed") from error
    guard.begun()
    writing = _Writing(store, journal, txn, begin)
    pending: Optional[Pending] = None
    try:
        with unstopped():
            reason = writing.write(i for i in begin.order if not begin.changes[i].boot)
            reason = reason or writing.verify(verify)
            if reason is None and confirm:
                pending = deadline(confirm)
                reason = writing.note("pending", codec.encode(pending))
            elif reason is None:
                reason = writing.write_boot(guard.for_boot)
                reason = reason or writing.note("end", {"outcome": "applied"})
    except BaseException as error:
        result = writing.undo(f"interrupted: {type(error).__name__}", guard)
        if not (result.unrecorded or result.open):
            guard.dismiss()
        raise
    if reason is None:
        bootguard.disarm(journal.folder, txn)
    done = Result(txn, "applied", pending=pending)
    result = done if reason is None else writing.undo(reason, guard)
    if result.pending is not None:
        guard.waits(result.pending)
    elif not (result.unrecorded or result.open):
        guard.dismiss()
    return result


def confirm_it(
    store: Store,
    journal: Journal,
    entry: Transaction,
    consent: Consent,
    for_boot: Callable[[tuple[Change, ...]], None] = lambda _: None,
) -> None:
    """Keep a transaction that waits: write its boot files and end it.

    ``for_boot`` as in :class:`Armed`.
    Raises WriteFailed when a boot file cannot be written or the journal cannot say so; the boot
    files are then as before and the transaction waits on.
    """
    demand(consent)
    who: dict[str, object] = {"user": consent.who, "consent": consent.how}
    writing = _Writing(store, journal, entry.id, entry.begin)
    with undisturbed():
        reason = writing.note("confirming", who) or writing.write_boot(for_boot)
        reason = reason or writing.note("end", {"outcome": "confirmed", **who})
        stuck = writing.put_back() if reason is not None else ()
        if reason is not None:  # the end may be on disk although nobody was told so
            writing.note("pending", codec.encode(entry.pending))
        bootguard.disarm(journal.folder, entry.id)
    if reason is not None:
        raise WriteFailed(
            f"transaction {entry.id} is not confirmed: {'; '.join((reason, *stuck))}",
            "fix that and confirm again; otherwise it is reverted when the time is up",
        )


def _check_way_back(store: Store, change: Change) -> None:
    """Raise WriteFailed where what is there now, of somebody else's making, could not come back."""
    if change.before is None or not kinds.comes_back(change.resource):
        return
    try:
        store.check(change.resource, change.before)
    except RemedyError as error:
        raise WriteFailed(
            f"{change.resource}: what is there now could not be put back: {error.what}",
            "look at it and remove it yourself",
        ) from error


def deadline(seconds: float) -> Pending:
    """Return the moment ``seconds`` from now."""
    return Pending(
        until=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds)),
        clock=time.clock_gettime(time.CLOCK_BOOTTIME) + seconds,
    )


class _Writing:
    """One transaction while it is being written. What fails is returned as the reason, in words."""

    def __init__(self, store: Store, journal: Journal, txn: str, begin: Begin) -> None:
        self._store, self._journal, self._txn = store, journal, txn
        self._changes, self._order = begin.changes, begin.order
        self._touched: list[int] = []
        self._own: Optional[int] = None
        """The change at work: what is there now that is not the old value is ours."""

    def write(self, indices: Iterable[int]) -> Optional[str]:
        for index in indices:
            change = self._changes[index]
            self._touched.append(index)
            self._own = index
            try:
                put(self._store, change.resource, change.after)
                self._journal.append("written", self._txn, {"change": index})
                for effect in change.effects:
                    self._store.write(effect, None)
                    self._journal.append("effect", self._txn, {"change": index, "effect": effect})
            except (RemedyError, OSError) as error:
                return f"{change.resource}: {error}"
            self._own = None
        return None

    def write_boot(self, for_boot: Callable[[tuple[Change, ...]], None]) -> Optional[str]:
        boot = [i for i in self._order if self._changes[i].boot]
        try:
            if boot:
                for_boot(self._changes)
        except (RemedyError, OSError) as error:
            return f"what a boot needs to undo this: {error}"
        return self.write(boot)

    def verify(self, verify: Callable[[], CheckedChange]) -> Optional[str]:
        checked = verify()
        failed = self.note("verified", checked.record) if checked.record else None
        return checked.reason or failed

    def note(self, kind: str, data: dict[str, object]) -> Optional[str]:
        try:
            self._journal.append(kind, self._txn, data)
        except OSError as error:
            return f"{self._journal.path}: {error.strerror}"
        return None

    def undo(self, reason: str, guard: Armed) -> Result:
        return undo(
            self._store, self._journal, self._txn, self._changes, self._touched, reason,
            own=self._own, last=not guard.goes_on(),
        )  # fmt: skip

    def put_back(self) -> tuple[str, ...]:
        """Put back what this has written without ending the transaction; return what is stuck."""
        stuck = []
        for index in reversed(self._touched):
            change = self._changes[index]
            try:
                put(self._store, change.resource, change.before)
            except (RemedyError, OSError) as error:
                stuck.append(f"{change.resource}: {error}")
            else:
                self.note("undone", {"change": index})
        return tuple(stuck)


@contextmanager
def unstopped() -> Iterator[None]:
    """Put off being stopped (Ctrl-Z): a stopped writer would hold the lock over half a change."""
    held = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
