"""``remedy audit repair``: replace a damaged journal by what can be read of it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from remedies import codec
from remedies.cli import consenting, starting, writing
from remedies.cli.next_command import again
from remedies.cli.terminal import clean
from remedies.model import FORMAT_VERSION
from remedies.operations import repair
from remedies.operations.repair import Prospect, Repaired
from remedies.outcomes import ANSWERS, Outcome
from remedies.transaction import undofile
from remedies.transaction.consent import Consent


def run(args: argparse.Namespace) -> int:
    """Repair and print; 0 where the journal can be read now, or could be before."""
    if not args.dry_run:
        writing.need_root("audit repair")
    here = starting.fresh(args)
    if args.dry_run:
        _print(args, Repaired(repair.examine(here)))
        return 0

    def agree(found: Prospect) -> Consent:
        if not args.json and not args.quiet:
            print("\n".join(_lines(found)))
        return consenting.ask(args, "Start a new segment with what can be read?", "the journal")

    _print(args, repair.run(here, agree, lock_timeout=args.lock_timeout))
    return 0


def _lines(found: Prospect) -> list[str]:
    """Return lines that say what is lost and what is kept, for the question."""
    damage, here = found.damage, found.here
    lines = [f"damaged: {damage.what}"]
    lines += [f"lost: {line}" for line in damage.lost]
    if damage.missing:
        lines.append(f"lost: {_numbers(damage.missing)}")
    lines += [f"lost: transaction {txn}, and the values from before it" for txn in damage.headless]
    lines.append(f"kept: {len(damage.found)} transactions, {len(here.held)} resources in force")
    lines += [f"in force: {address}, by {held.transaction}" for address, held in here.held.items()]
    lines += [f"in force: {address}, in no readable record: adopted; 'rollback' removes it"
              for address in found.unowned]  # fmt: skip
    lines += [f"note: {note}" for note in found.settled.notes]
    lines += [
        f"remedy can no longer undo transaction {txn}; 'sh {undofile.kept(here.folder, txn)}' "
        f"restores what was there before it"
        for txn in found.scripts
    ]
    return [clean(line) for line in lines]


def _numbers(missing: tuple[int, ...]) -> str:
    """Return record numbers as a phrase."""
    if len(missing) == 1:
        return f"record {missing[0]}"
    return f"{len(missing)} records, {missing[0]} to {missing[-1]}"


def _print(args: argparse.Namespace, done: Repaired) -> None:
    found, adopted = done.prospect, done.adopted
    answer = ANSWERS["repair", _outcome(done)]
    if args.json:
        print(json.dumps(_plain(done), indent=2))
        return
    if found is None:
        print(answer.text)
        return
    if args.dry_run:
        print("\n".join(_lines(found)))
        print(f"Nothing was changed. Next: '{again(args, 'audit', 'repair')}' goes on so.")
        return
    print(clean(answer.text.format(done.path)))
    if adopted is not None:
        undoes = again(args, "rollback", adopted.id)
        print(f"Adopted as transaction {adopted.id}: '{undoes}' removes it.")
    if not args.quiet:
        print(f"Next: '{again(args, answer.next)}' {answer.why}, "
              f"'{again(args, 'audit', 'verify')}' reports the break again.")  # fmt: skip


def _outcome(done: Repaired) -> Outcome:
    return "repaired" if done.path else "nothing"


def _plain(done: Repaired) -> dict[str, Any]:
    found, path, adopted = done.prospect, done.path, done.adopted
    plain: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": "repair",
        "outcome": _outcome(done),
        "journal": path or None,
        "adopted": adopted.id if adopted else None,
    }
    if found is None:
        return {**plain, "damaged": {}}
    damage, here = found.damage, found.here
    left = () if path else found.unowned
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
