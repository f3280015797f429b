"""The guard itself: the process beside a writer that undoes what the writer cannot.

It is forked before the first write, into a session of its own: no terminal, no hang-up, not in
the writer's process group, and where systemd runs, in a unit of its own too (``scope``), so that
a logout does not end it. It was born in the writer's network namespace and, while it lives, that
namespace does: no mount has to hold it.

It waits for one of three things and then looks at what it knows of the transaction (``memory``).
The writer's end of a socket pair closes: the writer is dead, however it died. Somebody writes to
its FIFO in the state folder: the transaction was confirmed, or rolled back. Time is up. A
transaction that its dead writer did not end is undone; one that waits is undone when nobody has
confirmed it in time (``rescue``). A writer that lives and makes no record any more
(:data:`STALL`) is stopped or hung and is ended first.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import time
from typing import NoReturn, Optional

from remedies.resources import program
from remedies.transaction import guarded, rescue, systemd_scope
from remedies.transaction.ledger import Transaction
from remedies.transaction.memory import Memory
from remedies.transaction.wall import announce

STALL = 60.0
"""Seconds without a record after which a writer is taken for hung: twice what one program is
given (program.TIMEOUT). The time in which it watches the host itself comes on top. They are
seconds of CLOCK_MONOTONIC: while the machine is suspended no writer can get on."""
LOOK = 1.0
"""Seconds after which the guard looks by itself: poll(2) does not count a suspend, the deadline
does, and the FIFO may be gone."""


def run(memory: Memory, path: str, lifeline: socket.socket, watching: float) -> NoReturn:
    """Be the guard. Never returns: what the writer's callers would do is not for this process."""
    txn = memory.txn
    try:
        gc.freeze()  # the writer's files belong to the writer: nothing here may close them again
        fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        _detach({fifo, lifeline.fileno(), *memory.descriptors})
        _end_on_term(fifo)
        note = ""
        try:
            systemd_scope.leave_session(f"remedy-guard-{txn}.scope")
        except OSError as error:
            note = f"the guard has no systemd unit of its own, so a logout may end it: {error}"
        lifeline.send(b"!" + note.encode()[:1000])
        entry = _watch(memory, lifeline, fifo, STALL + watching)
        if entry is not None:
            last = {"outcome": entry.outcome, "reason": entry.reason, "stuck": entry.stuck}
            with contextlib.suppress(OSError):  # nobody is there to hear it
                lifeline.send(json.dumps(last).encode())
    except BaseException as error:
        announce(f"the guard of transaction {txn} failed: {type(error).__name__}: {error}; "
                 "'remedy rollback' undoes it")  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
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
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGTERM, hurry)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _watch(
    memory: Memory, lifeline: socket.socket, fifo: int, stall: float
) -> Optional[Transaction]:
    """Wait, look, and act once; return how the transaction ended, None where it never began."""
    poll = select.poll()
    poll.register(fifo, select.POLLIN)
    poll.register(lifeline, select.POLLIN)
    writer = True
    while True:
        entry = memory.look()
        if entry.outcome is not None and rescue.is_over(memory):
            rescue.tidy(memory)  # a writer that was killed since may still look alive from here
            return entry
        if entry.pending is not None:
            if _hurried or guarded.clock() >= entry.pending.clock:
                return rescue.act(memory, "expired", rescue.SITS)
        elif not writer:
            return rescue.act(memory, "dead", rescue.SITS)
        elif memory.began and time.monotonic() >= memory.grown + stall:
            return rescue.act(memory, "hung", 0.0)
        now = guarded.clock()
        due = min(now + LOOK, entry.pending.clock) if entry.pending else now + LOOK
        for descriptor, _ in poll.poll(max(0.0, (due - now) * 1000 + 1)):
            if descriptor == fifo:
                os.read(fifo, 4096)
                continue
            said = lifeline.recv(4096)
            if said:
                memory.told(said)
            else:
                writer = False
                poll.unregister(lifeline)
