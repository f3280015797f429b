"""What stands under our names and no journal at hand knows: found by status, removed by rollback.

Its journal is another one (another ``--state-dir``), or was lost with its before-values: what was
there before it cannot be known. What is there now is on record before it is removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remedies.cli.session import Session
    from remedies.model import Change

SAID = "no journal here knows it: it is of another --state-dir, or its journal was lost"


def addresses(here: Session) -> tuple[str, ...]:
    """Return the addresses of tables ``remedy_*`` and chains ``REMEDY-*`` that nobody owns.

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


def removals(here: Session) -> tuple[Change, ...]:
    """Return the changes that remove them, each with what is there now."""
    from remedies.model import Change
    from remedies.rules.ours import iptables_in_force
    from remedies.transaction.host import HostResources

    found, store = [], HostResources()
    for address in addresses(here):
        there = store.read(address)
        lossy = not address.startswith("nft:") and "legacy" in iptables_in_force(
            there, address.rpartition("/")[2]
        )
        found.append(
            Change(
                fix=fix_of(address),
                finding=None,
                resource=address,
                action="remove",
                before=there,
                after=None,
                diff="",
                reversibility="lossy" if lossy else "exact",
                risk="moderate",
                impact="what no journal knows is removed; 'remedy show' keeps what it was",
            )
        )
    return tuple(found)


def fix_of(address: str) -> str:
    """Return the fix whose name is in an address; ``unowned`` where it is none's."""
    from remedies import catalogue

    name = address.rpartition("/")[2].lower().replace("-", "_")
    part = name.partition("_")[2].replace("_", "-")
    return next((fix for fix in catalogue.fix_ids() if part and part in fix), "unowned")
