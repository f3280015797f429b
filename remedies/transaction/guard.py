"""The guard as its writer, and every other verb, sees it: armed, alive, told, dismissed.

A writer forks it before the first write; what it then does is in :mod:`watch`. It has a FIFO in
the state folder, which says that it lives and through which anybody may let it look at the
journal, and one end of a socket pair, whose other end dies with the writer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Collection
from typing import Optional

from remedies import codec
from remedies.errors import RemedyError, WriteFailed
from remedies.model import Change
from remedies.transaction import bootguard, guarded, ledger, watch
from remedies.transaction.guarded import fifo
from remedies.transaction.journal import NAME, latest
from remedies.transaction.ledger import Begin, Pending, Transaction
from remedies.transaction.memory import Memory
from remedies.values import dataclass

PATIENCE = 5.0
"""Seconds that a guard may take to report that it is in place; it needs a millisecond or two."""


def clear(folder: str, txn: str) -> None:
    """Remove the FIFO of a guard that has ended."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fifo(folder, txn))


def sweep(folder: str) -> None:
    """Remove what guards that were killed left in the folder. Hold the lock."""
    for name in os.listdir(folder):
        prefix, _, txn = name.partition("-")
        if prefix == "guard" and not guarded.alive(folder, txn):
            clear(folder, txn)


@dataclass(frozen=True)
class Stray:
    """A guard of this namespace whose transaction the journal at hand does not hold open."""

    pid: int
    txn: str
    folder: str
    """The state folder, where it is or was."""


def strays(open_here: Collection[str]) -> tuple[Stray, ...]:
    """Return the guards that live in this network namespace, but for those of ``open_here``.

    Theirs is another state directory, or a journal that is gone. Found by the FIFO that each has
    open (/proc/PID/fd, proc(5)), which shows to root and to who started it alone.
    """
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            with open(f"/proc/{name}/comm", "rb") as file:
                if file.read() != b"remedy-guard\n":
                    continue
            if not os.path.samefile(f"/proc/{name}/ns/net", "/proc/thread-self/ns/net"):
                continue
            for number in os.listdir(f"/proc/{name}/fd"):
                path = os.readlink(f"/proc/{name}/fd/{number}").partition(" (deleted)")[0]
                folder, _, last = path.rpartition("/")
                prefix, _, txn = last.partition("-")
                if prefix == "guard" and txn not in open_here:
                    found.append(Stray(int(name), txn, folder))
                    break
    return tuple(found)


class Guard:
    """The writer's side of its guard."""

    def __init__(self, memory: Memory, pid: int, lifeline: socket.socket) -> None:
        self._folder, self._txn, self._begin = memory.folder, memory.txn, memory.begin
        self._pid, self._lifeline = pid, lifeline
        self.note = ""
        """Why it is weaker than it should be; empty where it is not."""

    def begun(self) -> None:
        """Let it know that something may be written from now on; whatever the journal can say."""
        self._send("begun")

    def waits(self, pending: Pending) -> None:
        """Let it know that the transaction waits until then; whatever the journal can say."""
        self._send(codec.dumps(codec.encode(pending)))

    def _send(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it was killed: that shows where it matters
            self._lifeline.send(line.encode() + b"\n")

    def goes_on(self) -> bool:
        """Tell whether it lives."""
        return guarded.alive(self._folder, self._txn)

    def ended(self) -> Optional[Transaction]:
        """Return the transaction as the guard, which has ended, last knew it.

        For a journal that cannot tell. None where the guard was killed.
        """
        said = b""
        with contextlib.suppress(OSError):
            while part := self._lifeline.recv(65536):
                said += part
        with contextlib.suppress(RemedyError):
            plain = codec.loads(said.decode(errors="replace"), "the guard's last word")
            entry = Transaction(id=self._txn, time="", begin=self._begin)
            entry.outcome = ledger.ended(plain["outcome"])
            entry.reason = str(plain["reason"])
            entry.stuck = tuple(map(str, plain["stuck"]))
            return entry
        return None

    def dismiss(self) -> None:
        """End it and wait until it is gone: the journal says how the transaction ended."""
        os.kill(self._pid, signal.SIGKILL)  # our own child, not yet waited for: the id is its own
        os.waitpid(self._pid, 0)
        self._lifeline.close()
        clear(self._folder, self._txn)

    def for_boot(self, changes: tuple[Change, ...]) -> None:
        """Let the next boot undo ``changes`` too: see :mod:`remedies.transaction.bootguard`."""
        bootguard.arm(self._folder, self._txn, changes)

    def fileno(self) -> int:
        """Return a descriptor that is readable once the guard has ended."""
        return self._lifeline.fileno()


def arm(folder: str, txn: str, begin: Begin, watching: float = 0.0) -> Guard:
    """Put a guard beside this process; return once it watches.

    ``begin`` is what it keeps in memory; ``watching``: seconds that the writer may spend on
    looking at the host between two records. Raises WriteFailed where that does not work: nothing
    may be written then.
    """
    folder = os.path.abspath(folder)
    path = fifo(folder, txn)
    held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    memory: Optional[Memory] = None
    try:
        os.mkfifo(path, 0o600)
        memory = Memory(folder, txn, begin)
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            watch.run(memory, path, theirs, watching)
    except OSError as error:
        clear(folder, txn)
        raise WriteFailed(f"no guard could be started: {error.strerror}", "try again") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        if memory is not None:
            memory.close()
    theirs.close()
    ours.settimeout(PATIENCE)
    guard = Guard(memory, pid, ours)
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


def outcome_of(folder: str, txn: str) -> Optional[Transaction]:
    """Return a transaction as the journal tells it now; None where it tells nothing of it."""
    with contextlib.suppress(RemedyError, OSError):
        return ledger.transactions(latest(os.path.join(folder, NAME))).get(txn)
    return None
