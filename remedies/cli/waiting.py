"""A pending transaction, watched from the session that began it."""

from __future__ import annotations

import argparse
import os
import select
import sys
from datetime import datetime, timezone

from remedies.cli.consenting import HEARS
from remedies.cli.parser import warn
from remedies.local_time import local
from remedies.operations import apply, confirm
from remedies.operations.apply import Ended
from remedies.operations.session import HostSession
from remedies.transaction import actor, consent
from remedies.transaction.guard import Guard


def until_the_end(args: argparse.Namespace, here: HostSession, ended: Ended, guard: Guard) -> Ended:
    """Return how it ended once it is confirmed or undone.

    Asks on a terminal, and counts the seconds down: ``y`` keeps it, ``n`` undoes it now; another
    session's answer, or none in time, counts as well.

    Raises RemedyError where the guard was killed: nobody undoes it then.
    """
    name = ended.transaction or ""
    warn(f"applied as {name}: undone at {local(ended.until or '')} unless confirmed")
    poll = select.poll()
    poll.register(guard, select.POLLIN)
    asks = not args.no_input and sys.stdin.isatty()
    counts = asks and not args.plain and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if asks:
        poll.register(sys.stdin, select.POLLIN)
        left = _left(ended.until or "") if counts else ""
        print(f"{left}Keep these changes? [y/N] ", end="", file=sys.stderr, flush=True)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(HEARS)}
        if not ready:
            if counts:  # what has been typed stays where it is
                left = _left(ended.until or "")
                print(f"\x1b7\r{left}\x1b8", end="", file=sys.stderr, flush=True)
            continue
        if guard.fileno() in ready:
            break
        counts = False
        answer = sys.stdin.readline()
        if answer:
            _answer(args, here, name, answer)
        poll.unregister(sys.stdin)
    return apply.settled(ended, confirm.end_of(here, name, guard))


def _left(until: str) -> str:
    """Return how long it is until then, always as wide; "" for what is no time."""
    try:
        end = datetime.fromisoformat(until[:-1]).replace(tzinfo=timezone.utc)
    except ValueError:
        return ""
    seconds = (end - datetime.now(timezone.utc)).total_seconds()
    return f"{max(0, round(seconds)):5d} s left. "


def _answer(args: argparse.Namespace, here: HostSession, name: str, answer: str) -> None:
    """Do as the person says, unless the transaction has ended meanwhile."""
    agreed = consent.answered(answer, actor.user(), dry_run=args.dry_run)
    if not confirm.answer(here, name, agreed, lock_timeout=args.lock_timeout):
        warn(f"transaction {name} is not pending in the journal: nothing was confirmed")
