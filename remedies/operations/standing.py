"""The state of what is in force: what status and verify check."""

from __future__ import annotations

from collections.abc import Iterator

from remedies import catalogue
from remedies.model import SEEN, Finding, Scan
from remedies.operations import outlook, session, unowned
from remedies.operations.outlook import Outlook
from remedies.operations.session import HostSession
from remedies.planning import engine
from remedies.status import in_force
from remedies.status.in_force import InForce
from remedies.transaction import guarded
from remedies.transaction.guard import strays
from remedies.transaction.ledger import unfinished
from remedies.values import dataclass


@dataclass(frozen=True)
class HostStatus:
    """What status and verify found on this host."""

    entries: tuple[InForce, ...]
    outlook: Outlook
    unfinished: dict[str, str]
    """Transactions without an end, and how each stands (ledger.situation)."""
    unowned: tuple[str, ...]

    @property
    def bad(self) -> bool:
        """Tell whether something is not as we left it, does harm, or was never finished."""
        return (
            self.outlook.bad
            or bool(set(self.unfinished.values()) - {"pending"})
            or bool(self.unowned)
            or any(entry.state != "ours" for entry in self.entries)
        )


def status(here: HostSession) -> HostStatus:
    """Look at what is in force, and listen where a rule of ours could be doing harm."""
    entries = in_force.compare(here.held)
    return _standing(here, entries, outlook.look(here, entries))


def verify(here: HostSession) -> tuple[HostStatus, Scan]:
    """Look at what is in force, and scan on the same facts."""
    entries = in_force.compare(here.held)
    kinds = engine.needs_of_scan(here.policy)
    facts, harm = outlook.listen(here, here.held.values(), here.window, kinds)
    scan, _ = session.judge(here, facts)
    return _standing(here, entries, outlook.outlook(here, entries, harm)), scan


def faults(standing: HostStatus, scan: Scan) -> list[Finding]:
    """Return the findings that make a verification fail.

    Those that are active or proven, and those that are exposed although a fix for them is in force.
    """
    answered = {name for e in standing.entries for name in catalogue.fix(e.fix).ANSWERS}
    return [
        finding
        for finding in scan.findings
        if not finding.waived
        and (
            finding.verdict in SEEN
            or (finding.condition in answered and finding.verdict == "exposed")
        )
    ]


def _standing(here: HostSession, entries: tuple[InForce, ...], seen: Outlook) -> HostStatus:
    return HostStatus(entries, seen, dict(_unfinished(here)), unowned.addresses(here))


def _unfinished(here: HostSession) -> Iterator[tuple[str, str]]:
    """Yield every transaction that has no end, and how it stands (ledger.situation).

    An ``incomplete`` one counts too, as ``stuck``, while something that it wrote is in force.
    """
    for entry in unfinished(here.ledger):
        yield entry.id, guarded.situation(here.folder, entry, here.host.boot_id)
    for stray in strays(here.ledger):
        yield stray.txn, "stray"
    for name in dict.fromkeys(held.transaction for held in here.held.values()):
        if here.ledger[name].outcome == "incomplete":
            yield name, "stuck"
