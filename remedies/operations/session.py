"""One run on one host and namespace: host, policy, journal, and how they are reached."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Optional, Protocol

from remedies.errors import InputError, NotPermitted
from remedies.facts import Facts
from remedies.facts.gather import now, read_facts
from remedies.model import Held, Host, Policy, Scan
from remedies.planning import engine
from remedies.planning.reads import Reads
from remedies.policy import waivers
from remedies.transaction import guarded, state
from remedies.transaction.host import HostResources
from remedies.transaction.journal import NAME, latest, newest_first
from remedies.transaction.ledger import Begin, Transaction, in_force, transactions, unfinished
from remedies.transaction.segments import Stamp, stamp
from remedies.transaction.store import Store
from remedies.values import dataclass, replace

if TYPE_CHECKING:
    from remedies.transaction.guard import Guard

LOST = (
    "the last record cannot be read and is ignored; the next change closes it, and 'remedy audit "
    "verify' continues to report it"
)


class Resources(Store, Reads, Protocol):
    """What a plan reads and a transaction writes."""


class Reader(Protocol):
    """Reads facts, as :func:`remedies.facts.gather.read_facts` does."""

    def __call__(
        self,
        host: Host,
        kinds: Iterable[type[Any]],
        *,
        window: float = ...,
        topics: frozenset[str] = ...,
        ours: tuple[str, ...] = ...,
        before: Any = ...,
        cache: Optional[str] = ...,
    ) -> Facts:
        """Return every fact of ``kinds`` and what those build on."""


Arm = Callable[[str, str, Begin, float], "Guard"]
"""Arms a guard, as :func:`remedies.transaction.guard.arm` does."""
Busy = Callable[[str], contextlib.AbstractContextManager[None]]
"""Shows what is being done while a ``with`` block runs."""


def _quiet(_doing: str) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def _silent(_line: str) -> None:
    return None


@dataclass(frozen=True)
class Ticket:
    """What a person enters about a change: ticket, comment, approver."""

    change_id: str = ""
    comment: str = ""
    approver: str = ""


@dataclass(frozen=True)
class HostSession:
    """One run of one verb on one host and namespace."""

    host: Host
    policy: Policy
    state_dir: str
    ledger: dict[str, Transaction]
    held: dict[str, Held]
    window: float = 0.0
    """Seconds for which counters and packets are watched."""
    dry_run: bool = False
    ticket: Ticket = Ticket()
    notify: Callable[[str], None] = _silent
    """Called with each warning, one line."""
    busy: Busy = _quiet
    store: Resources = HostResources()
    read: Reader = read_facts
    arm: Optional[Arm] = None
    """None: :func:`remedies.transaction.guard.arm`, which only who writes loads."""
    read_at: Stamp = ()
    """The journal's files as they were when ledger and held were read; empty: they are not."""

    @property
    def folder(self) -> str:
        """Return the folder of this namespace's state."""
        return state.folder(self.state_dir, self.host.netns)

    @property
    def cache(self) -> Optional[str]:
        """Return the folder of what only saves time; None for anybody but root."""
        return cache_of(self.state_dir)


def cache_of(state_dir: str) -> Optional[str]:
    """Return the folder of what only saves time in a state directory; None for anybody but root."""
    return os.path.join(state_dir, "cache") if os.geteuid() == 0 else None


def reread(here: HostSession, *, of_journal: bool = False) -> HostSession:
    """Return the session with the journal as it is now; itself where that has not changed since.

    Without permission to read it, the journal is empty, with a warning. With ``of_journal`` that
    raises NotPermitted: the verb shows the journal, and "nothing" would be false.
    Raises InputError where its last record is lost and may be the end of a transaction: a crash of
    the machine can lose a block of what it is writing, nothing else can.
    """
    if not state.begun(here.folder):
        return with_ledger(here, {})
    lost: list[str] = []
    path = os.path.join(here.folder, NAME)
    try:
        now_at = stamp(path)  # before it is read: what is written meanwhile is read the next time
        if now_at and now_at == here.read_at:
            return here
        ledger = transactions(latest(path, lost))
    except NotPermitted as error:
        if of_journal:
            raise
        here.notify(f"{error}; it is not known which rules are remedy's own")
        ledger, now_at = {}, ()
    for where in lost:
        for entry in unfinished(ledger):
            if entry.begin.boot_id == here.host.boot_id:
                raise InputError(
                    f"{where}: the last record cannot be read, and may be the end of {entry.id}: "
                    "the machine has not been restarted since, so no crash has torn it",
                    "'remedy audit repair --dry-run' shows what can be read; a repair keeps what "
                    "is in force",
                )
        here.notify(f"{where}: {LOST}")
    return with_ledger(here, ledger, now_at)


def with_ledger(
    here: HostSession, ledger: dict[str, Transaction], read_at: Stamp = ()
) -> HostSession:
    """Return the session with these transactions, and with what they have in force."""
    return replace(here, ledger=ledger, held=in_force(ledger), read_at=read_at)


def newest(folder: str, txn: str = "") -> Iterator[Transaction]:
    """Yield the transactions of the journal in ``folder``, newest first; with ``txn`` it alone.

    No more of the journal is read, and its chain checked, than is asked for.
    """
    seen: set[str] = set()
    for segment in newest_first(os.path.join(folder, NAME), txn):
        # A checkpoint says again what an older segment has said, and a repair may.
        found = transactions(record for record in segment if record.kind != "checkpoint")
        for entry in reversed(found.values()):
            if txn in ("", entry.id) and entry.id not in seen:
                seen.add(entry.id)
                yield entry


def look(
    here: HostSession,
    *,
    for_plan: bool,
    window: Optional[float] = None,
    kinds: Optional[Iterable[type[Any]]] = None,
    topics: frozenset[str] = frozenset(),
    uses: tuple[tuple[str, Mapping[str, object]], ...] = (),
) -> Facts:
    """Return the facts that a scan or a plan needs; or those of ``kinds``, about ``topics``.

    ``uses``: the fixes of a saved plan, with their parameters: their guards ask for facts too.
    """
    if kinds is None:
        kinds = engine.needs_of_scan(here.policy)
        if for_plan:
            kinds, topics = engine.needs_of_plan(here.policy, uses)
    window = here.window if window is None else window
    with here.busy(f"watching for {window:g} s ..." if window else "reading the kernel ..."):
        return here.read(
            here.host,
            kinds,
            window=window,
            topics=topics | engine.topics_of_scan(here.policy),
            ours=tuple(here.held),
            cache=here.cache,
        )


def judge(
    here: HostSession, facts: Facts, only: Optional[Collection[str]] = None
) -> tuple[Scan, tuple[str, ...]]:
    """Run the detectors (or of ``only`` these) and mark waived findings; return scan and warnings.

    Warnings name what could not be read (a limit, a permission), unless a finding says so.
    """
    scanned = engine.scan(here.policy, facts, only)
    findings, warnings = waivers.apply(scanned.findings, here.policy.waivers, now()[:10])
    said = "\n".join(
        [
            *(unknown.reason for unknown in scanned.unknown if not unknown.partly),
            *(item.value for finding in findings for item in finding.evidence),
        ]
    )
    return replace(scanned, findings=findings), (
        *warnings,
        *(f"not read: {reason}" for reason in facts.unread if reason not in said),
    )


def unfinished_lines(here: HostSession) -> list[str]:
    """Return a line for each transaction that is pending, or whose writer died."""
    lines = []
    for entry in unfinished(here.ledger):
        if guarded.situation(here.folder, entry, here.host.boot_id) == "pending":
            lines.append(f"transaction {entry.id} waits for 'remedy confirm'")
        else:
            lines.append(f"transaction {entry.id} was never finished: 'remedy rollback' undoes it")
    return lines
