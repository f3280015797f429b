"""The guard: the process beside a writer that undoes what the writer cannot.

It is forked before the first write, into a session of its own: no terminal, no hang-up, not in
the writer's process group, and where systemd runs, in a unit of its own too (``scope``), so that
a logout does not end it. It was born in the writer's network namespace and, while it lives, that
namespace does: no mount has to hold it.

It waits for one of three things and then looks at the journal, which alone says what is to be
done. The writer's end of a socket pair closes: the writer is dead, however it died. Somebody
writes to its FIFO in the state folder: the transaction waits now, or was confirmed. Time is up.
A transaction that its dead writer did not end is undone; one that waits is undone when nobody has
confirmed it in time. Writer and guard never write at once: the guard acts under the writer's
lock, which is free once the writer and every program it had started are gone. A writer that lives
and makes no record any more (:data:`STALL`) is stopped or hung and is ended first (``holder``):
neither it nor whoever else sits on the lock may keep the guard from its work.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import time
from typing import NoReturn, Optional

from remedies.errors import Locked, RemedyError, WriteFailed
from remedies.model import Change
from remedies.resources import program
from remedies.transaction import consent, holder, ledger, lock, scope, undo
from remedies.transaction.announce import announce
from remedies.transaction.host import HostResources
from remedies.transaction.journal import NAME, Journal, Unwritable, latest
from remedies.transaction.ledger import Transaction
from remedies.transaction.store import Result

PATIENCE = 5.0
"""Seconds that a guard may take to report that it is in place; it needs a millisecond or two."""
STALL = 60.0
"""Seconds without a record after which a writer is taken for hung: twice what one program is
given (program.TIMEOUT). The time in which it watches the host itself comes on top."""
SITS = 60.0
"""Seconds that somebody else may hold the lock of a transaction that has to be undone."""


def clock() -> float:
    """Return CLOCK_BOOTTIME (clock_gettime(2)): seconds since boot, suspended ones too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _fifo(folder: str, txn: str) -> str:
    return os.path.join(folder, f"guard-{txn}")


def alive(folder: str, txn: str) -> bool:
    """Tell whether the guard of a transaction lives: whether its FIFO has a reader."""
    return _tell(folder, txn, b"")


def nudge(folder: str, txn: str) -> None:
    """Let the guard of a transaction look at the journal."""
    _tell(folder, txn, b"\n")


def _tell(folder: str, txn: str, word: bytes) -> bool:
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(_fifo(folder, txn), flags)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):  # fifo(7): nobody reads it
            return False
        raise
    try:
        os.write(descriptor, word)
    except BlockingIOError:
        pass  # full of nudges nobody has read yet: it will look anyway
    finally:
        os.close(descriptor)
    return True


def clear(folder: str, txn: str) -> None:
    """Remove the FIFO of a guard that has ended."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_fifo(folder, txn))


def sweep(folder: str) -> None:
    """Remove what guards that were killed left in the folder. Hold the lock."""
    for name in os.listdir(folder):
        prefix, _, txn = name.partition("-")
        if prefix == "guard" and not alive(folder, txn):
            clear(folder, txn)


def situation(folder: str, entry: Transaction, boot_id: str) -> str:
    """Say how an unfinished transaction stands now: see :func:`ledger.situation`."""
    return ledger.situation(entry, boot_id, clock(), alive(folder, entry.id))


class Guard:
    """The writer's side of its guard."""

    def __init__(self, folder: str, txn: str, pid: int, lifeline: socket.socket) -> None:
        self._folder, self._txn, self._pid, self._lifeline = folder, txn, pid, lifeline
        self.note = ""
        """Why it is weaker than it should be; empty where it is not."""

    def nudge(self) -> None:
        """Let it look at the journal."""
        nudge(self._folder, self._txn)

    def dismiss(self) -> None:
        """End it and wait until it is gone: the journal says how the transaction ended."""
        os.kill(self._pid, signal.SIGKILL)  # our own child, not yet waited for: the id is its own
        os.waitpid(self._pid, 0)
        self._lifeline.close()
        clear(self._folder, self._txn)

    def for_boot(self, changes: tuple[Change, ...]) -> None:
        """Let the next boot undo ``changes`` too: see :mod:`remedies.transaction.bootguard`."""
        from remedies.transaction import bootguard

        bootguard.arm(self._folder, self._txn, changes)

    def fileno(self) -> int:
        """Return a descriptor that is readable once the guard has ended."""
        return self._lifeline.fileno()


def arm(folder: str, txn: str, watching: float = 0.0) -> Guard:
    """Put a guard beside this process; return once it watches.

    ``watching``: seconds that the writer may spend on looking at the host between two records.
    Raises WriteFailed where that does not work: nothing may be written then.
    """
    folder = os.path.abspath(folder)
    path = _fifo(folder, txn)
    held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        os.mkfifo(path, 0o600)
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            _run(folder, txn, theirs, STALL + watching)
    except OSError as error:
        clear(folder, txn)
        raise WriteFailed(f"no guard could be started: {error.strerror}", "try again") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    theirs.close()
    ours.settimeout(PATIENCE)
    guard = Guard(folder, txn, pid, ours)
    try:
        said = ours.recv(1024).decode(errors="replace")
    except socket.timeout:
        said = ""
    if not said:
        guard.dismiss()
        raise WriteFailed("the guard did not start", "try again")
    ours.settimeout(None)
    guard.note = said[1:]
    return guard


def _run(folder: str, txn: str, lifeline: socket.socket, stall: float) -> NoReturn:
    """Be the guard. Never returns: what the writer's callers would do is not for this process."""
    try:
        gc.freeze()  # the writer's files belong to the writer: nothing here may close them again
        fifo = os.open(_fifo(folder, txn), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        _detach({fifo, lifeline.fileno()})
        _end_on_term(fifo)
        note = ""
        try:
            scope.leave_session(f"remedy-guard-{txn}.scope")
        except OSError as error:
            note = f"the guard has no unit of its own, so that a logout may end it: {error}"
        lifeline.send(b"!" + note.encode()[:1000])
        _watch(folder, txn, lifeline, fifo, stall)
    except BaseException as error:
        announce(f"the guard of transaction {txn} failed: {type(error).__name__}: {error}; "
                 "'remedy rollback' puts things back")  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            clear(folder, txn)
        os._exit(0)


def _detach(keep: set[int]) -> None:
    """Leave the writer's session, folder, terminal and files; be the last one killed for memory."""
    os.setsid()
    program.KEPT.clear()
    os.chdir("/")
    os.umask(0o077)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number not in keep:
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed already
                os.close(number)
    for name, text in (("oom_score_adj", "-1000"), ("comm", "remedy-guard")):
        with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w") as file:
            file.write(text)


_hurried = False
"""SIGTERM came: the machine goes down, or somebody wants an end now."""


def _end_on_term(fifo: int) -> None:
    """Ignore what would end us, but for SIGTERM: that means time is up."""

    def hurry(_number: int, _frame: object) -> None:
        global _hurried
        _hurried = True
        with contextlib.suppress(BlockingIOError):
            os.write(fifo, b"\n")

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGTERM, hurry)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _watch(folder: str, txn: str, lifeline: socket.socket, fifo: int, stall: float) -> None:
    """Wait, look, and act once at most."""
    poll = select.poll()
    poll.register(fifo, select.POLLIN)
    poll.register(lifeline, select.POLLIN)
    writer, due = True, clock() + stall
    known: Optional[tuple[object, ...]] = None
    while True:
        ready = poll.poll(max(0.0, (due - clock()) * 1000 + 1))
        for descriptor, _ in ready:
            if descriptor == fifo:
                os.read(fifo, 4096)
            elif not lifeline.recv(1):
                writer = False
                poll.unregister(lifeline)
        entry = _read(folder).get(txn)
        if entry is None and not writer:
            return
        if entry is not None and entry.outcome is not None:
            if not writer:
                _tidy(folder, txn)
            return
        if entry is not None and entry.pending is not None:
            due = entry.pending.clock
            if _hurried or clock() >= due:
                _act(folder, txn, "expired", SITS)
                return
        elif not writer:
            _act(folder, txn, "dead", SITS)
            return
        elif entry is None or _progress(entry) != known:  # no begin yet: nothing is written
            known = None if entry is None else _progress(entry)
            due = clock() + stall
        elif clock() >= due:
            _act(folder, txn, "hung", 0.0)
            return


def _tidy(folder: str, txn: str) -> None:
    """Take away what a writer that died after the end has left; another one does it too."""
    from remedies.transaction import bootguard

    if bootguard.armed(folder, txn):
        with contextlib.suppress(RemedyError), lock.held(folder, SITS, f"guard of {txn}"):
            bootguard.disarm(folder, txn)


def _progress(entry: Transaction) -> tuple[object, ...]:
    """Return what is different after every record of a writer."""
    return (len(entry.written), len(entry.undone), entry.verified)


def _read(folder: str) -> dict[str, Transaction]:
    return ledger.transactions(latest(os.path.join(folder, NAME)))


def _act(folder: str, txn: str, why: str, patience: float) -> None:
    """Undo the transaction; whoever sits on the lock longer than ``patience`` seconds is ended."""
    try:
        _undo(folder, txn, why, patience)
    except Locked as error:
        entry = _read(folder).get(txn)
        if entry is None or entry.outcome is not None:
            return
        holder.end(folder)
        announce(f"transaction {txn} had to be undone, and was in the way: {error.what}; "
                 "it made no record any more and was killed")  # fmt: skip
        _undo(folder, txn, why, None)


def _undo(folder: str, txn: str, why: str, patience: Optional[float]) -> None:
    """Undo the transaction under the lock, unless it has ended meanwhile, and say so loudly."""
    with lock.held(folder, patience, f"guard of {txn}"):
        entry = _read(folder).get(txn)
        if entry is None or entry.outcome is not None:
            return
        with _journal(folder) as journal:
            why = "expired" if entry.pending is not None else why
            result = undo.recover(
                HostResources(), journal, entry, why, consent.recovering(dry_run=False)
            )
    announce(_sentence(entry, result))


def _journal(folder: str) -> Journal:
    """Open the journal; where that does not work, undoing is worth more than a record of it."""
    try:
        return Journal(folder)
    except RemedyError:
        return Unwritable(folder)


def _sentence(entry: Transaction, result: Result) -> str:
    what = f"transaction {entry.id} ({entry.begin.kind}, by {entry.begin.user})"
    why = "was not confirmed in time" if entry.pending is not None else "lost its writer"
    if result.outcome == "incomplete":
        return f"{what} {why} and cannot be undone: {'; '.join(result.stuck)}"
    end = "carried to its end" if entry.begin.kind == "rollback" else "undone: all is as before"
    note = f" (not on record: {result.unrecorded})" if result.unrecorded else ""
    return f"{what} {why} and was {end}{note}"


def outcome_of(folder: str, txn: str) -> Optional[Transaction]:
    """Return a transaction as the journal tells it now; None where it tells nothing of it."""
    return _read(folder).get(txn)
