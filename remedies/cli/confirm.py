"""``remedy confirm``: keep a transaction that waits for it; from any session."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remedies.cli.session import Session
    from remedies.model import Change
    from remedies.transaction.consent import Consent
    from remedies.transaction.guard import Guard
    from remedies.transaction.journal import Journal
    from remedies.transaction.ledger import Transaction


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "transaction", nargs="?", metavar="TXN", help="keep this one (default: the one that waits)"
    )
    which.add_argument(
        "--unowned",
        action="store_true",
        help="adopt tables remedy_*, chains REMEDY-* and boot files that no journal here knows: "
        "as they are, on record as remedy's, and removed by 'rollback'",
    )
    parser.add_argument(
        "-n",
        "--dry-run",
        action="store_true",
        help="show what would be kept, boot files that would be written, and change nothing",
    )
    parser.set_defaults(change_id="", message="", approved_by="")


def run(args: argparse.Namespace) -> int:
    """Confirm and print; 0 where it is kept or nothing waits, 7 where it was undone already."""
    from remedies.cli import session, writing
    from remedies.transaction import actor, consent, lock
    from remedies.transaction.journal import Journal

    if args.dry_run:
        return _dry_run(args)
    writing.need_root("confirm")
    here = session.start(args)
    folder = writing.prepare(here)
    with lock.held(folder, args.lock_timeout), Journal(folder) as journal:
        here = session.reread(here)
        if args.unowned:
            return _adopt(args, writing.recover(here, journal), journal)
        entry = writing.waiting(here)
        if entry is not None and args.transaction in (None, entry.id):
            agreed = consent.confirmed(actor.user(), dry_run=args.dry_run)
            confirm(here, journal, entry, agreed)
            code, outcome, name = 0, "confirmed", entry.id
        else:
            _no_stray(here, args.transaction)
            code, outcome, name = _too_late(writing.recover(here, journal), args.transaction)
    _print(args, outcome, name)
    return code


def _dry_run(args: argparse.Namespace) -> int:
    from remedies.cli import session, unowned, writing
    from remedies.cli.render import changes_text
    from remedies.cli.terminal import Style

    here = session.start(args, of_journal=True)
    if args.unowned:
        return _adopted(args, unowned.adoptions(here), "")
    entry = writing.waiting(here)
    if entry is None or args.transaction not in (None, entry.id):
        _print(args, "nothing", "")
        return 0
    if args.json:
        _print(args, "nothing", entry.id)
        return 0
    boot = [change for change in entry.begin.changes if change.boot]
    print("\n".join(changes_text(boot, Style(args))), end="")
    print(f"Transaction {entry.id} would stay; {len(boot)} boot files would be written.")
    return 0


def _adopt(args: argparse.Namespace, here: Session, journal: Journal) -> int:
    """Put on record as ours what is under our names and in no journal; the host stays as it is."""
    from remedies.cli import unowned
    from remedies.errors import WriteFailed
    from remedies.transaction import actor, adopt, consent

    changes = unowned.adoptions(here)
    if not changes:
        return _adopted(args, (), "")
    entry = unowned.adopt(here, changes, consent.confirmed(actor.user(), dry_run=args.dry_run))
    try:
        adopt.record(journal, entry)
    except OSError as error:
        raise WriteFailed(f"{journal.path}: {error.strerror}", "nothing is adopted") from error
    return _adopted(args, changes, entry.id)


def _adopted(args: argparse.Namespace, changes: tuple[Change, ...], name: str) -> int:
    """Print what was adopted as transaction ``name``, or would be."""
    import json

    from remedies.cli.next_command import again
    from remedies.cli.terminal import clean
    from remedies.model import FORMAT_VERSION

    resources = [change.resource for change in changes]
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "confirm",
            "transaction": name or None,
            "outcome": "adopted" if name else "nothing",
            "resources": resources,
        }
        print(json.dumps(plain, indent=2))
        return 0
    if not resources:
        print("Nothing to adopt: all that is under remedy's names is in this journal.")
        return 0
    for address in resources:
        print(clean(f"+ {address}"))
    if not name:
        print("These would be adopted.")
    else:
        undoes = again(args, "rollback", name)
        print(f"Adopted as transaction {name}: nothing was changed; '{undoes}' removes them.")
    return 0


def confirm(here: Session, journal: Journal, entry: Transaction, agreed: Consent) -> None:
    """Keep a transaction that waits, as ``agreed``, and let its guard go. Hold the lock."""
    from functools import partial

    from remedies.transaction import bootguard, guard
    from remedies.transaction.host import HostResources
    from remedies.transaction.run import confirm_it

    for_boot = partial(bootguard.arm, here.folder, entry.id)
    confirm_it(HostResources(), journal, entry, agreed, for_boot)
    guard.nudge(here.folder, entry.id)


def _no_stray(here: Session, wanted: str | None) -> None:
    """Raise RemedyError where a transaction waits that this journal knows nothing of."""
    from remedies.errors import RemedyError
    from remedies.transaction.guard import strays

    for stray in strays(here.ledger):
        if wanted in (None, stray.txn):
            raise RemedyError(
                f"transaction {stray.txn} is not in this journal and cannot be confirmed here: its "
                f"guard (pid {stray.pid}) has {stray.folder}",
                "where that is another --state-dir, name it; where it is gone, the guard undoes it "
                f"in time, or at once by 'kill -TERM {stray.pid}'",
            )


def _too_late(here: Session, wanted: str | None) -> tuple[int, str, str]:
    """Return exit code, outcome and transaction where nothing waits (any more)."""
    from remedies.cli import session
    from remedies.errors import UsageError

    entry = next(session.newest(here.folder, wanted or ""), None)
    if wanted is not None and entry is None:
        raise UsageError(f"transaction {wanted!r} is not in the journal", "see 'remedy history'")
    if entry is not None and entry.outcome == "reverted":
        return 7, "reverted", entry.id
    return 0, "nothing", wanted or ""


def _print(args: argparse.Namespace, outcome: str, name: str) -> None:
    import json

    from remedies.model import FORMAT_VERSION

    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "confirm",
            "transaction": name or None,
            "outcome": outcome,
        }
        print(json.dumps(plain, indent=2))
        return
    words = {
        "confirmed": f"Confirmed: transaction {name} stays.",
        "reverted": f"Too late: transaction {name} was undone, the host is as before it.",
        "nothing": "Nothing waits to be confirmed.",
    }
    print(words[outcome])
    if outcome != "nothing" and not args.quiet:
        from remedies.cli.next_command import again

        print(f"Next: '{again(args, 'status')}' shows what is in force.")


def await_end(
    args: argparse.Namespace, here: Session, name: str, until: str, guard: Guard
) -> Transaction:
    """Return the transaction once it is confirmed or undone.

    Asks on a terminal: ``y`` keeps it, ``n`` undoes it now; another session's answer, or none in
    time, counts as well. Raises RemedyError where the guard was killed: nobody undoes it then.
    """
    import select
    import sys

    from remedies.cli.parser import warn
    from remedies.cli.terminal import local
    from remedies.errors import RemedyError
    from remedies.transaction.guard import outcome_of

    warn(f"applied as {name}: undone at {local(until)} unless confirmed")
    poll = select.poll()
    poll.register(guard, select.POLLIN)
    asking = not args.no_input and sys.stdin.isatty()
    if asking:
        poll.register(sys.stdin, select.POLLIN)
        print("Keep these changes? [y/N] ", end="", file=sys.stderr, flush=True)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if guard.fileno() in ready:
            break
        answer = sys.stdin.readline()
        if answer:
            _answer(args, here, name, answer)
        poll.unregister(sys.stdin)
    entry = outcome_of(here.folder, name)
    if entry is None or entry.outcome is None:
        entry = guard.ended()  # the journal cannot tell
    if entry is None or entry.outcome is None:
        raise RemedyError(
            f"the guard of transaction {name} was killed",
            "'remedy confirm' keeps the change, 'remedy rollback' undoes it",
        )
    return entry


def _answer(args: argparse.Namespace, here: Session, name: str, answer: str) -> None:
    """Do as the person says, unless the transaction has ended meanwhile."""
    from remedies.cli import session, writing
    from remedies.cli.parser import warn
    from remedies.cli.rollback import reject
    from remedies.transaction import actor, consent, lock
    from remedies.transaction.journal import Journal

    agreed = consent.answered(answer, actor.user(), dry_run=args.dry_run)
    with lock.held(here.folder, args.lock_timeout), Journal(here.folder) as journal:
        entry = writing.waiting(session.reread(here))
        if entry is None or entry.id != name:
            warn(f"the journal does not say that transaction {name} waits: nothing is kept")
            return
        if agreed is not None:
            confirm(here, journal, entry, agreed)
        else:
            reject(here, journal, entry, consent.recovering(dry_run=args.dry_run))
