"""What verbs share: the host, the policy, the journal, and how they look at the kernel."""

from __future__ import annotations

import argparse
import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Optional

from remedies import codec
from remedies.cli import progress
from remedies.cli.parser import warn
from remedies.errors import InputError, NotPermitted, RemedyError
from remedies.facts import Facts
from remedies.facts.gather import now, read_facts
from remedies.facts.host import read_host
from remedies.model import Held, Host, Plan, Policy, Scan
from remedies.planning import engine
from remedies.transaction import state
from remedies.values import dataclass, replace

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

    @property
    def cache(self) -> Optional[str]:
        """Return the folder of compiled policies; None for anybody but root."""
        return _cache(self.args)


def _cache(args: argparse.Namespace) -> Optional[str]:
    return os.path.join(args.state_dir, "cache") if os.geteuid() == 0 else None


def load_policy(args: argparse.Namespace) -> Policy:
    """Load the policy that the settings name, with ``--backend`` and ``persist`` laid over it."""
    from remedies import policy

    if args.policy == ["-"]:
        loaded = policy.from_compiled(next_document(), "standard input")
    else:
        loaded = policy.load(tuple(args.policy or ("default",)), _cache(args))
    if args.backend:
        loaded = replace(loaded, backend=args.backend)
    if args.persist is not None:
        loaded = replace(loaded, persist=args.persist)
    return replace(loaded, source=args.policy_source)


def start(args: argparse.Namespace, *, of_journal: bool = False) -> Session:
    """Read host, policy and journal.

    Without permission for the journal: none, with a warning; or NotPermitted, ``of_journal``: the
    verb tells what the journal says, and "nothing" would be false.
    """
    host = read_host()
    session = Session(args=args, host=host, policy=load_policy(args), ledger={}, held={})
    return reread(session, of_journal=of_journal)


def reread(session: Session, *, of_journal: bool = False) -> Session:
    """Return the session with the journal as it is now."""
    if not state.begun(session.folder):
        return replace(session, ledger={}, held={})
    # A host without a journal, which is most, need not pay for what reads it.
    from remedies.transaction.journal import NAME, latest
    from remedies.transaction.ledger import in_force, transactions

    lost: list[str] = []
    try:
        ledger = transactions(latest(os.path.join(session.folder, NAME), lost))
    except NotPermitted as error:
        if of_journal:
            raise
        warn(f"{error}; what is ours cannot be told from what is not")
        ledger = {}
    for where in lost:
        warn(f"{where}: the last record cannot be read and does not count; the next change closes "
             "it, and 'remedy audit verify' goes on naming it")  # fmt: skip
    return replace(session, ledger=ledger, held=in_force(ledger))


def newest(folder: str, txn: str = "") -> Iterator[Transaction]:
    """Yield the transactions of the journal in ``folder``, newest first; with ``txn`` it alone.

    No more of the journal is read, and its chain checked, than is asked for.
    """
    from remedies.transaction.journal import NAME, newest_first
    from remedies.transaction.ledger import transactions

    told: set[str] = set()
    for segment in newest_first(os.path.join(folder, NAME), txn):
        # A checkpoint tells again what an older segment has told, and a repair may.
        found = transactions(record for record in segment if record.kind != "checkpoint")
        for entry in reversed(found.values()):
            if txn in ("", entry.id) and entry.id not in told:
                told.add(entry.id)
                yield entry


def look(
    session: Session,
    *,
    for_plan: bool,
    window: Optional[float] = None,
    kinds: Optional[Iterable[type[Any]]] = None,
    topics: frozenset[str] = frozenset(),
    fixes: tuple[str, ...] = (),
) -> Facts:
    """Read the facts that a scan, or a plan, asks for; or ``kinds``, about ``topics``.

    ``fixes``: those of a saved plan, whose guards ask for facts too.
    """
    if kinds is None:
        kinds = engine.needs_of_scan(session.policy)
        if for_plan:
            kinds, topics = engine.needs_of_plan(session.policy, fixes)
    window = float(session.args.window if window is None else window)
    doing = f"watching for {window:g} s ..." if window else "reading the kernel ..."
    with progress.shown(session.args, doing):
        return read_facts(
            session.host, kinds, window=window, topics=topics, ours=tuple(session.held)
        )


def with_ours(session: Session, addresses: tuple[str, ...]) -> Session:
    """Return the session as it is once these resources are in force, before the journal says so."""
    held = {
        address: Held(resource=address, fix="", base=None, ours=None, transaction="")
        for address in addresses
    }
    return replace(session, held={**session.held, **held})


def judge(session: Session, facts: Facts) -> tuple[Scan, tuple[str, ...]]:
    """Detect, and lay the waivers over what is found; return the scan and the warnings.

    They say, too, what was not read (a limit, a permission) and no finding speaks of.
    """
    from remedies.policy import waivers

    scanned = engine.scan(session.policy, facts)
    findings, warnings = waivers.apply(scanned.findings, session.policy.waivers, now()[:10])
    said = "\n".join([*(unknown.reason for unknown in scanned.unknown),
                      *(e.value for finding in findings for e in finding.evidence)])  # fmt: skip
    return replace(scanned, findings=findings), (
        *warnings,
        *(f"not read: {reason}" for reason in facts.unread if reason not in said),
    )


def make_plan(session: Session, *, prune: bool) -> tuple[Plan, Facts]:
    """Scan and plan on the host as it is."""
    from remedies.planning import plan as planning
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

        plan = weighing.weigh(session, plan, facts)
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
        # O_NONBLOCK: a FIFO that nobody writes to must not hang the open.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
                folder = stat.S_ISDIR(status.st_mode)
                raise InputError(f"{path}: is {'a folder' if folder else 'no file'}", "give a file")
            if orders and os.geteuid() == 0:
                _trusted(path, status, orders)
            os.set_blocking(descriptor, True)
            with open(descriptor, encoding="utf-8", closefd=False) as file:
                return file.read(codec.SIZE_LIMIT + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", "check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text", "give the file as it was saved") from None
    except PermissionError:
        raise NotPermitted(f"{path}: may not be read", "run as its owner") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", "give a file") from None


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


def is_device(path: str) -> bool:
    """Tell whether what stands there is to be written to, and no new file may take its place.

    ``/dev/null``, a pipe, and the links to our own descriptors (``/dev/stdout``). Any other link
    is replaced, not followed: in /tmp somebody else may have put it there.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    if stat.S_ISLNK(mode):
        return os.path.dirname(os.path.abspath(path)) in ("/dev", "/dev/fd", "/proc/self/fd")
    return not stat.S_ISREG(mode)


def _device(path: str) -> int:
    """Open what is no regular file for writing.

    Raises RemedyError where it belongs to another user, who would read what root writes, and
    where it is a FIFO that nobody reads: opening that would wait for a reader for ever.
    """
    own = os.path.dirname(os.path.abspath(path)) in ("/dev", "/dev/fd", "/proc/self/fd")
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags | (0 if own else os.O_NOFOLLOW))
    except OSError as error:
        if error.errno != errno.ENXIO:  # fifo(7): no reader; unix(7): a socket
            raise
        raise RemedyError(f"{path}: nobody reads it", "start the reader, or name a file") from None
    if not own and os.fstat(descriptor).st_uid not in (0, os.geteuid()):
        os.close(descriptor)
        raise RemedyError(f"{path}: belongs to another user", "name a file of your own")
    os.set_blocking(descriptor, True)
    return descriptor


def write_bytes(path: str, data: bytes, mode: int = 0o666) -> None:
    """Write a file a person named, whole or not at all; see :func:`write_pieces`."""
    write_pieces(path, (data,), mode)


def write_pieces(path: str, pieces: Iterable[bytes], mode: int = 0o666) -> None:
    """Write a file a person named, whole or not at all, a piece at a time.

    The umask cuts ``mode``. Raises RemedyError where it cannot be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    part = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}")
    try:
        if is_device(path):
            with os.fdopen(_device(path), "wb") as device:
                device.writelines(pieces)
            return
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(pieces)
        os.replace(part, path)
    except OSError as error:
        raise RemedyError(f"{path}: cannot be written: {error.strerror}", "name another") from None
    finally:
        if os.path.exists(part):
            os.unlink(part)
