"""Tables, chains and boot files with our names that are in no journal here.

``status`` finds it, ``rollback --unowned`` removes it, ``confirm --unowned`` adopts it. Its journal
is another one (another ``--state-dir``), or was lost. What is there now is on record before it is
removed.
"""

from __future__ import annotations

from remedies import catalogue
from remedies.errors import Unreadable
from remedies.model import Change
from remedies.operations import recovery
from remedies.operations.session import HostSession
from remedies.rules import kinds
from remedies.transaction import adopt as adopting
from remedies.transaction.consent import Consent
from remedies.transaction.ledger import Transaction
from remedies.transaction.unowned import unowned
from remedies.values import replace

SAID = "not in this journal: it was made with another --state-dir, or its journal was lost"


def addresses(here: HostSession) -> tuple[str, ...]:
    """Return the addresses of tables, chains and boot files with our names that are in no journal.

    Empty, with a warning, where the kernel does not say.
    """
    try:
        return unowned(here.ledger)
    except Unreadable as error:
        here.notify(f"{error}; unowned rules (remedy_*, REMEDY-*) were not looked for")
        return ()


def adoptions(here: HostSession) -> tuple[Change, ...]:
    """Return the changes that would have put them in force, boot files last."""
    return tuple(
        replace(change.reversed(), impact="adopted as it is; undoing removes it")
        for change in reversed(removals(here))
    )


def adopt(here: HostSession, changes: tuple[Change, ...], agreed: Consent) -> Transaction:
    """Return the transaction that adopts ``changes``, its undo script on disk.

    Raises WriteFailed where the script cannot be written.
    """
    entry = adopting.adopted(recovery.begin(here, "apply", changes, agreed), agreed)
    recovery.write_undo(here, entry.id, changes)
    return entry


def removals(here: HostSession) -> tuple[Change, ...]:
    """Return the changes that remove them, each with what is there now."""
    found = []
    for address in addresses(here):
        there = here.store.read(address)
        kind, path = kinds.of(address)
        found.append(
            Change(
                fix=kind.made_by(path, there or "", catalogue.fix_ids()) or "unowned",
                finding=None,
                resource=address,
                action="remove",
                before=there,
                after=None,
                diff="",
                reversibility=kind.removal(path, there),
                risk="moderate",
                impact="rules that no journal has are removed; 'remedy show' keeps what they were",
                boot=kind.boot,
            )
        )
    return tuple(sorted(found, key=lambda change: not change.boot))
