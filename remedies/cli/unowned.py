"""What is in force under our names and in no journal at hand.

``status`` finds it, ``rollback --unowned`` removes it, ``confirm --unowned`` adopts it. Its journal
is another one (another ``--state-dir``), or was lost. What is there now is on record before it is
removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remedies.rules.ours import WRITTEN
from remedies.values import replace

if TYPE_CHECKING:
    from remedies.cli.session import Session
    from remedies.model import Change
    from remedies.transaction.consent import Consent
    from remedies.transaction.ledger import Transaction

SAID = "no journal here knows it: it is of another --state-dir, or its journal was lost"


def addresses(here: Session) -> tuple[str, ...]:
    """Return the addresses of tables, chains and boot files of our names that are in no journal.

    Empty, with a warning, where the kernel does not say.
    """
    from remedies.cli.parser import warn
    from remedies.errors import Unreadable
    from remedies.transaction.host import unowned

    try:
        return unowned(here.ledger)
    except Unreadable as error:
        warn(f"{error}; rules under our names that no journal knows are not looked for")
        return ()


def adoptions(here: Session) -> tuple[Change, ...]:
    """Return the changes that would have put them in force, boot files last."""
    return tuple(
        replace(change.reversed(), impact="adopted as it is; undoing removes it")
        for change in reversed(removals(here))
    )


def adopt(here: Session, changes: tuple[Change, ...], agreed: Consent) -> Transaction:
    """Return the transaction that adopts ``changes``, its undo script on disk.

    Raises WriteFailed where the script cannot be written.
    """
    from remedies.cli import writing
    from remedies.transaction import adopt

    entry = adopt.adopted(writing.begin(here, "apply", changes, agreed), agreed)
    writing.write_undo(here, entry.id, changes)
    return entry


def removals(here: Session) -> tuple[Change, ...]:
    """Return the changes that remove them, each with what is there now."""
    from remedies.model import Change
    from remedies.rules.ours import iptables_in_force
    from remedies.transaction.host import HostResources

    found, store = [], HostResources()
    for address in addresses(here):
        there = store.read(address)
        lossy = not address.startswith(("nft:", "file:")) and "legacy" in iptables_in_force(
            there, address.rpartition("/")[2]
        )
        found.append(
            Change(
                fix=fix_of(address, there or ""),
                finding=None,
                resource=address,
                action="remove",
                before=there,
                after=None,
                diff="",
                reversibility="lossy" if lossy else "exact",
                risk="moderate",
                impact="what no journal knows is removed; 'remedy show' keeps what it was",
                boot=address.startswith("file:"),
            )
        )
    return tuple(sorted(found, key=lambda change: not change.boot))


def fix_of(address: str, content: str) -> str:
    """Return the fix that made what is at an address; ``unowned`` where it is none's."""
    from remedies import catalogue

    name = address.rpartition("/")[2]
    if address.startswith("file:"):
        for fix in catalogue.fix_ids():
            if fix in name or content.startswith(f"{WRITTEN}{fix})"):
                return fix
        return "unowned"
    part = name.lower().replace("-", "_").partition("_")[2].replace("_", "-")
    return next((fix for fix in catalogue.fix_ids() if part and part in fix), "unowned")
