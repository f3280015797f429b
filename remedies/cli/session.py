"""What verbs share: the host, the policy, the journal, and how they look at the kernel."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional

from remedies import codec, engine
from remedies.cli.parser import warn
from remedies.errors import InputError, NotPermitted
from remedies.facts import Facts
from remedies.facts.host import read_host
from remedies.model import Held, Host, Plan, Policy, Scan
from remedies.probing import now, read_facts
from remedies.transaction import state
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.transaction.ledger import Transaction


@dataclass(frozen=True)
class Session:
    """One run of one verb on one host and namespace."""

    args: argparse.Namespace
    host: Host
    policy: Policy
    ledger: dict[str, Transaction]
    held: dict[str, Held]

    @property
    def folder(self) -> str:
        """Return the folder of this namespace's state."""
        return state.folder(self.args.state_dir, self.host.netns)


def load_policy(args: argparse.Namespace) -> Policy:
    """Load the policy that the settings name, with ``--backend`` laid over it."""
    from remedies import policy

    cache = os.path.join(args.state_dir, "cache") if os.geteuid() == 0 else None
    if args.policy == ["-"]:
        loaded = policy.from_compiled(next_document(), "standard input")
    else:
        loaded = policy.load(tuple(args.policy or ("default",)), cache)
    return replace(loaded, backend=args.backend) if args.backend else loaded


def start(args: argparse.Namespace) -> Session:
    """Read host, policy and journal. Without permission for the journal: none, with a warning."""
    host = read_host()
    session = Session(args=args, host=host, policy=load_policy(args), ledger={}, held={})
    return reread(session)


def reread(session: Session) -> Session:
    """Return the session with the journal as it is now."""
    if not state.begun(session.folder):
        return replace(session, ledger={}, held={})
    # A host without a journal, which is most, need not pay for what reads it.
    from remedies.transaction.journal import NAME, latest
    from remedies.transaction.ledger import in_force, transactions

    try:
        ledger = transactions(latest(os.path.join(session.folder, NAME)))
    except NotPermitted as error:
        warn(f"{error}; what is ours cannot be told from what is not")
        ledger = {}
    return replace(session, ledger=ledger, held=in_force(ledger))


def read_ledger(folder: str) -> dict[str, Transaction]:
    """Return every transaction of the journal in ``folder``."""
    from remedies.transaction.journal import NAME, records
    from remedies.transaction.ledger import transactions

    return transactions(records(os.path.join(folder, NAME)))


def look(
    session: Session,
    *,
    for_plan: bool,
    window: Optional[float] = None,
    kinds: Optional[Iterable[type[Any]]] = None,
) -> Facts:
    """Read the facts that a scan, or a plan, asks for."""
    topics: frozenset[str] = frozenset()
    if kinds is None:
        kinds = engine.needs_of_scan(session.policy)
        if for_plan:
            kinds, topics = engine.needs_of_plan(session.policy)
    return read_facts(
        session.host,
        kinds,
        window=session.args.window if window is None else window,
        topics=topics,
        ours=tuple(session.held),
    )


def with_ours(session: Session, addresses: tuple[str, ...]) -> Session:
    """Return the session as it is once these resources are in force, before the journal says so."""
    held = {
        address: Held(resource=address, fix="", base=None, ours=None, transaction="")
        for address in addresses
    }
    return replace(session, held={**session.held, **held})


def judge(session: Session, facts: Facts) -> tuple[Scan, tuple[str, ...]]:
    """Detect, and lay the waivers over what is found; return the scan and the warnings."""
    from remedies.policy import waivers

    scanned = engine.scan(session.policy, facts)
    findings, warnings = waivers.apply(scanned.findings, session.policy.waivers, now()[:10])
    return replace(scanned, findings=findings), warnings


def make_plan(session: Session, *, prune: bool) -> tuple[Plan, Facts]:
    """Scan and plan on the host as it is."""
    from remedies import planning
    from remedies.transaction.host import HostResources

    facts = look(session, for_plan=True)
    scanned, warnings = judge(session, facts)
    plan = planning.plan(
        session.policy,
        facts,
        scanned,
        session.held,
        HostResources(),
        prune=prune,
        warnings=warnings,
    )
    if plan.changes:
        from remedies.cli import weighing

        plan = replace(plan, warnings=plan.warnings + weighing.hints(session, plan))
    return plan, facts


def warn_unfinished(session: Session) -> None:
    """Say so when a transaction waits or its writer died: read-only verbs do not mend it."""
    if not session.ledger:
        return
    from remedies.transaction.guard import situation
    from remedies.transaction.ledger import unfinished

    for entry in unfinished(session.ledger):
        if situation(session.folder, entry, session.host.boot_id) == "pending":
            warn(f"transaction {entry.id} waits for 'remedy confirm'")
        else:
            warn(f"transaction {entry.id} was never finished: 'remedy rollback' puts things back")


def read_file(path: str, orders: str = "") -> str:
    """Return a file a person named (``-``: see below); raise InputError that says what to do.

    ``orders`` says what root will obey it as (``plan``): one that others can write is refused then.
    No more is read than :func:`codec.loads` takes.
    """
    if path == "-":
        return next_document()
    try:
        with open(path, encoding="utf-8") as file:
            if orders and os.geteuid() == 0:
                _trusted(path, os.fstat(file.fileno()), orders)
            return file.read(codec.SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", "check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder", "give a file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text", "give the file as it was saved") from None
    except PermissionError:
        raise NotPermitted(f"{path}: may not be read", "run as its owner") from None


def _trusted(path: str, status: os.stat_result, what: str) -> None:
    from remedies.errors import ConfigError
    from remedies.policy import sources

    try:
        sources.trusted(path, path, status, what)
    except ConfigError as error:
        raise InputError(error.what, error.hint) from None


def next_document() -> str:
    """Return the next JSON document of standard input: each ``-`` on the command line takes one.

    Raises InputError where there is none left, or what is there is no JSON.
    """
    import json

    if not _DOCUMENTS:
        _DOCUMENTS.append(sys.stdin.read(codec.SIZE_LIMIT + 1))
    text = _DOCUMENTS[-1].lstrip()
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        raise InputError("standard input: no JSON document where '-' wants one",
                         "give the policy first, then the plan") from None  # fmt: skip
    _DOCUMENTS.append(text[end:])
    return text[:end]


_DOCUMENTS: list[str] = []
"""What of standard input is not taken yet, last; empty while nothing was read."""


def write_file(path: str, text: str) -> None:
    """Write a file a person named, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: str, data: bytes, mode: int = 0o666) -> None:
    """Write a file a person named, whole or not at all; the umask cuts ``mode``."""
    folder = os.path.dirname(os.path.abspath(path))
    part = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(part, path)
    except OSError as error:
        if os.path.exists(part):
            os.unlink(part)
        raise InputError(f"{path}: cannot be written: {error.strerror}", "name another") from None
