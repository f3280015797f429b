"""``remedy rollback``: put back what was there before us, unless somebody changed it since."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Optional

from remedies.cli.parser import consenting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remedies.cli.session import Session
    from remedies.model import Change
    from remedies.transaction.consent import Consent
    from remedies.transaction.journal import Journal
    from remedies.transaction.ledger import Transaction


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("transaction", nargs="?", metavar="TXN", help="see 'remedy history'")
    which.add_argument("--fix", metavar="ID", help="undo everything this fix has in force")
    which.add_argument("--every", action="store_true", help="undo everything that is in force")
    which.add_argument(
        "--unowned",
        action="store_true",
        help="remove tables remedy_*, chains REMEDY-* and boot files that no journal here knows "
        "(see 'status')",
    )
    consenting(parser)
    parser.add_argument(
        "--force", action="store_true", help="overwrite values that somebody changed since"
    )


def run(args: argparse.Namespace) -> int:
    """Roll back and print; 0, 1 for drift, 4 where something is stuck."""
    from remedies.cli import session, writing

    if args.dry_run:
        here = session.start(args, of_journal=True)
        _print(args, _with_diffs(_all_changes(here)), "nothing", [], [])
        return 0
    return writing.at_work("rollback", args, _write)


def _write(args: argparse.Namespace, here: Session) -> int:
    from remedies.cli import session, writing
    from remedies.transaction import lock
    from remedies.transaction.journal import Journal

    waits, agreed = _ask_about(args, here)
    with lock.held(here.folder, args.lock_timeout), Journal(here.folder) as journal:
        here = session.reread(here)
        dead = [entry.id for entry in here.ledger.values() if entry.outcome is None]
        entry = writing.waiting(here)
        if entry is not None and entry.id == waits and agreed is not None:
            reject(here, journal, entry, agreed)
            here = session.reread(here)
        here = writing.recover(here, journal)
        if (
            dead
            and not (args.fix or args.every or args.unowned)
            and args.transaction in (None, *dead)
        ):
            _print(args, [], "rolled-back", dead, [])
            return 0
        return _roll_back(args, here, journal, dead)


def _ask_about(args: argparse.Namespace, here: Session) -> tuple[str, Optional[Consent]]:
    """Ask whether the transaction that waits shall go, if it is among what is to be undone.

    Without the lock: while nobody answers, its guard must be able to undo it. Return its id and
    the consent; no id where there is nothing to ask about.
    """
    from remedies.cli import writing

    entry = writing.waiting(here)
    if entry is None or args.fix or args.unowned or args.transaction not in (None, entry.id):
        return "", None
    if not args.json and not args.quiet:
        _print_changes(args, _with_diffs([c.reversed() for c in reversed(entry.standing)]))
    return entry.id, writing.ask(args, "Undo this?")


def reject(here: Session, journal: Journal, entry: Transaction, agreed: Consent) -> None:
    """Undo a transaction that waits for its confirmation. Hold the lock.

    Raises RemedyError where something is stuck, or the journal does not say that it was undone.
    """
    from remedies.cli import writing
    from remedies.errors import RemedyError
    from remedies.transaction import guard, undo
    from remedies.transaction.host import HostResources

    last = not guard.alive(here.folder, entry.id)  # else it goes on where this has failed
    result = undo.recover(HostResources(), journal, entry, "rejected", agreed, last=last)
    guard.nudge(here.folder, entry.id)
    if result.stuck:
        raise RemedyError(f"transaction {entry.id} cannot be undone: {'; '.join(result.stuck)}",
                          "mend that first")  # fmt: skip
    writing.recorded(result)


def _roll_back(args: argparse.Namespace, here: Session, journal: Journal, dead: list[str]) -> int:
    from remedies.cli import writing
    from remedies.cli.parser import warn
    from remedies.errors import Drift
    from remedies.transaction import undo
    from remedies.transaction.host import HostResources

    steps = list(_steps(here))
    changes = _with_diffs([c for _, step in steps for c in step])
    if not changes:
        _print(args, [], "rolled-back" if dead else "nothing", dead, [])
        return 0
    if not args.json and not args.quiet:
        _print_changes(args, changes)
    agreed = writing.ask(args, "Undo this?")
    store, done, arming = HostResources(), list(dead), writing.Arming(here)
    drift: list[str] = []
    stuck: list[str] = []
    for undoes, step in steps:
        begin = writing.begin(here, "rollback", step, agreed, undoes=undoes)
        try:
            result = undo.roll_back(store, journal, begin, agreed, force=args.force, arm=arming)
        except Drift as error:
            drift.append(str(error))
            continue
        done += undoes or (result.transaction,)
        stuck += result.stuck
        if result.open:
            warn("the guard goes on undoing what is stuck: 'remedy status' says when it is done")
        writing.recorded(result)
    writing.sweep(here)
    outcome = "incomplete" if stuck else "refused" if drift else "rolled-back"
    _print(args, changes if args.json else [], outcome, done, drift)
    for line in stuck:
        warn(f"stuck: {line}")
    return 4 if stuck else 1 if drift else 0


def _steps(here: Session) -> Iterator[tuple[tuple[str, ...], tuple[Change, ...]]]:
    """Yield what to undo: the transactions it belongs to and the reversed changes."""
    from remedies.cli import session
    from remedies.errors import UsageError
    from remedies.model import Change
    from remedies.transaction.ledger import to_roll_back
    from remedies.values import replace

    args = here.args
    if args.unowned:
        from remedies.cli import unowned

        changes = unowned.removals(here)
        if changes:
            yield (), changes
        return
    if args.fix:
        entries = [h for h in reversed(list(here.held.values())) if h.fix == args.fix]
        if not entries:
            fixes = sorted({h.fix for h in here.held.values()})
            raise UsageError(f"no fix {args.fix!r} is in force",
                             f"in force: {', '.join(fixes) or 'nothing'}")  # fmt: skip
        reversed_changes = tuple(
            Change(
                fix=h.fix,
                finding=None,
                resource=h.resource,
                action="remove" if h.base is None else "update",
                before=h.ours,
                after=h.base,
                diff="",
                reversibility=h.reversibility,
                risk="low",
                impact="what was there before comes back",
            )
            for h in entries
        )
        touched = {h.resource for h in entries}
        undoes = tuple(
            txn
            for txn, changes in to_roll_back(here.ledger).items()
            if touched & {c.resource for c in changes}
        )
        yield undoes, reversed_changes
        return
    left = to_roll_back(here.ledger)
    if args.transaction:
        if args.transaction not in left:
            known = next(session.newest(here.folder, args.transaction), None) is not None
            raise UsageError(
                f"transaction {args.transaction!r} "
                + ("has nothing in force" if known else "is not in the journal"),
                "see 'remedy history'",
            )
        _on_top(left, args.transaction)
        left = {args.transaction: left[args.transaction]}
    elif not args.every:
        left = dict(list(left.items())[:1])
    for txn, changes in left.items():
        yield (
            (txn,),
            tuple(
                replace(c.reversed(), impact="what was there before comes back")
                for c in reversed(changes)
            ),
        )


def _on_top(left: dict[str, tuple[Change, ...]], txn: str) -> None:
    """Raise RemedyError where a newer transaction has changed what this one would put back.

    Its way back leads to what this one wrote: undone in the wrong order, that would stay for good.
    """
    from remedies.errors import RemedyError

    mine = {change.resource for change in left[txn]}
    for newer, changes in left.items():
        if newer == txn:
            return
        both = [change.resource for change in changes if change.resource in mine]
        if both:
            raise RemedyError(
                f"{both[0]} was changed again by transaction {newer}",
                f"'remedy rollback {newer}' first, or 'remedy rollback --every' for all",
            )


def _all_changes(here: Session) -> list[Change]:
    return [change for _, step in _steps(here) for change in step]


def _with_diffs(changes: list[Change]) -> list[Change]:
    from remedies.planning.reads import diff
    from remedies.transaction.host import HostResources
    from remedies.values import replace

    reads = HostResources()
    return [replace(c, diff=diff(reads, c.resource, c.before, c.after)) for c in changes]


def _print_changes(args: argparse.Namespace, changes: list[Change]) -> None:
    from remedies.cli.render import changes_text
    from remedies.cli.terminal import Style

    print("\n".join(changes_text(changes, Style(args))))


def _print(
    args: argparse.Namespace,
    changes: list[Change],
    outcome: str,
    transactions: list[str],
    drift: list[str],
) -> None:
    import json

    from remedies import codec
    from remedies.cli.next_command import again
    from remedies.cli.terminal import clean
    from remedies.model import FORMAT_VERSION

    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "rollback",
            "transactions": transactions,
            "outcome": outcome,
            "changes": codec.encode(changes),
            "drift": drift,
        }
        print(json.dumps(plain, indent=2))
        return
    if changes:
        _print_changes(args, changes)
    words = {
        "rolled-back": f"Rolled back {', '.join(transactions)}.",
        "nothing": "Nothing was changed." if changes else "Nothing is in force.",
        "refused": "Not everything was rolled back.",
        "incomplete": "The rollback is incomplete.",
    }
    print(words[outcome])
    for line in drift:
        print(f"  {clean(line)}")
    if not args.quiet and outcome == "rolled-back":
        print(f"Next: '{again(args, 'scan')}' shows what that brings back.")
    elif not args.quiet and args.dry_run and changes:
        print("Next: the same without --dry-run.")
