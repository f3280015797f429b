"""``remedy audit repair``: go on after a damaged journal, with what can be read of it."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any, Optional

from remedies import __version__
from remedies.errors import Locked, WriteFailed
from remedies.model import FORMAT_VERSION
from remedies.values import dataclass, replace

if TYPE_CHECKING:
    from remedies.cli.session import Session
    from remedies.transaction.ledger import Transaction
    from remedies.transaction.repair import Damage, Settled


@dataclass(frozen=True)
class _Outlook:
    """What a repair goes on with."""

    damage: Damage
    settled: Settled
    here: Session
    """With the ledger that the new segment has, but for what is adopted."""
    scripts: tuple[str, ...]
    """Ids of transactions whose undo script is there and whose ``begin`` is lost."""


def run(args: argparse.Namespace) -> int:
    """Repair and print; 0 where the journal can be read now, or could be before."""
    from remedies.cli import writing

    if args.dry_run:
        _print(args, _examine(args), "", None)
        return 0
    writing.need_root("audit repair")
    return _repair(args)


def _repair(args: argparse.Namespace) -> int:
    from remedies.cli import unowned, writing
    from remedies.transaction import bootguard, lock, repair, undofile

    found = _examine(args)
    if found is None:
        _print(args, None, "", None)
        return 0
    if not args.json and not args.quiet:
        print("\n".join(_lines(found)))
    agreed = writing.ask(args, "Start a new segment with what can be read?", "the journal")
    with lock.held(found.here.folder, args.lock_timeout):
        found = _examine(args)
        if found is None:
            _print(args, None, "", None)
            return 0
        _no_guard(found.here)
        changes = unowned.adoptions(found.here)
        entry = unowned.adopt(found.here, changes, agreed) if changes else None
        try:
            for txn in found.scripts:
                undofile.keep(found.here.folder, txn)
            path = repair.start(
                found.damage,
                (*found.settled.carried, *((entry,) if entry else ())),
                agreed,
                __version__,
            )
        except OSError as error:
            raise WriteFailed(
                f"{found.here.folder}: {error.strerror}", "the journal is as it was: free space"
            ) from error
        bootguard.sweep(found.here.folder, ())
    _print(args, found, path, entry)
    return 0


def _examine(args: argparse.Namespace) -> Optional[_Outlook]:
    """Return what is wrong and what can be gone on with; None where nothing is wrong."""
    from remedies.cli import session
    from remedies.facts.host import read_host
    from remedies.transaction import repair, undofile
    from remedies.transaction.host import HostResources
    from remedies.transaction.ledger import in_force

    here = session.Session(
        args=args, host=read_host(), policy=session.load_policy(args), ledger={}, held={}
    )
    damage = repair.examine(here.folder)
    if damage is None:
        return None
    settled = repair.settle(damage, HostResources())
    here = replace(here, ledger=settled.ledger, held=in_force(settled.ledger))
    scripts = tuple(t for t in undofile.those(here.folder) if t not in settled.ledger)
    return _Outlook(damage, settled, here, scripts)


def _no_guard(here: Session) -> None:
    """Raise Locked while a guard is about to write to this journal, or to undo."""
    from remedies.transaction.guard import strays

    for stray in strays(()):
        if os.path.abspath(here.folder) == stray.folder:
            raise Locked(
                f"the guard of transaction {stray.txn} is at work (pid {stray.pid}) and undoes it "
                "unless it was confirmed",
                f"wait for it, or 'kill -TERM {stray.pid}' lets it undo at once; then repair",
            )


def _lines(found: _Outlook) -> list[str]:
    """Return what is lost and what is kept, for a person who has to decide."""
    from remedies.cli import unowned
    from remedies.cli.terminal import clean
    from remedies.transaction import undofile

    damage, here = found.damage, found.here
    lines = [f"damaged: {damage.what}"]
    lines += [f"lost: {line}" for line in damage.lost]
    if damage.missing:
        lines.append(f"lost: {_numbers(damage.missing)}")
    lines += [
        f"lost: what transaction {txn} was, and what was there before it" for txn in damage.headless
    ]
    lines.append(f"kept: {len(damage.found)} transactions, {len(here.held)} resources in force")
    lines += [f"in force: {address}, by {held.transaction}" for address, held in here.held.items()]
    lines += [f"in force: {address}, in no record that can be read: adopted, undone by removing it"
              for address in unowned.addresses(here)]  # fmt: skip
    lines += [f"note: {note}" for note in found.settled.notes]
    lines += [
        f"not undone by remedy any more: transaction {txn}; 'sh {undofile.kept(here.folder, txn)}' "
        "puts back what was there before it"
        for txn in found.scripts
    ]
    return [clean(line) for line in lines]


def _numbers(missing: tuple[int, ...]) -> str:
    """Return record numbers as a phrase."""
    if len(missing) == 1:
        return f"record {missing[0]}"
    return f"{len(missing)} records, {missing[0]} to {missing[-1]}"


def _print(
    args: argparse.Namespace, found: Optional[_Outlook], path: str, adopted: Optional[Transaction]
) -> None:
    import json

    from remedies.cli.next_command import again
    from remedies.cli.terminal import clean

    if args.json:
        print(json.dumps(_plain(found, path, adopted), indent=2))
        return
    if found is None:
        print("Nothing to repair: every record can be read.")
        return
    if args.dry_run:
        print("\n".join(_lines(found)))
        print(f"Nothing was changed. Next: '{again(args, 'audit', 'repair')}' goes on so.")
        return
    print(clean(f"Repaired: {path} goes on; the damaged files stay as they are."))
    if adopted is not None:
        undoes = again(args, "rollback", adopted.id)
        print(f"Adopted as transaction {adopted.id}: '{undoes}' removes it.")
    if not args.quiet:
        print(f"Next: '{again(args, 'status')}' shows what is in force, "
              f"'{again(args, 'audit', 'verify')}' goes on naming the break.")  # fmt: skip


def _plain(found: Optional[_Outlook], path: str, adopted: Optional[Transaction]) -> dict[str, Any]:
    from remedies import codec
    from remedies.cli import unowned
    from remedies.transaction import undofile

    plain: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": "repair",
        "outcome": "repaired" if path else "nothing",
        "journal": path or None,
        "adopted": adopted.id if adopted else None,
    }
    if found is None:
        return {**plain, "damaged": {}}
    damage, here = found.damage, found.here
    left = [] if path else unowned.addresses(here)
    changes = adopted.begin.changes if adopted else ()
    return {
        **plain,
        "what": damage.what,
        "damaged": damage.digests,
        "lost": codec.encode(damage.lost),
        "missing": list(damage.missing),
        "headless": list(damage.headless),
        "transactions": list(damage.found),
        "in_force": list(here.held),
        "unowned": [*left, *(change.resource for change in changes)],
        "notes": list(found.settled.notes),
        "scripts": [undofile.kept(here.folder, txn) for txn in found.scripts],
    }
