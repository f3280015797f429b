"""The session of one command line, from its options and settings."""

from __future__ import annotations

import argparse
from functools import partial

from remedies import policy
from remedies.cli import files, progress
from remedies.cli.parser import warn
from remedies.facts.host import read_host
from remedies.model import Plan, Policy
from remedies.operations import session
from remedies.operations.session import HostSession, Ticket, cache_of
from remedies.values import replace


def load_policy(args: argparse.Namespace) -> Policy:
    """Load the policy that the settings name, with ``--backend`` and ``persist`` laid over it."""
    if args.policy == ["-"]:
        loaded = policy.from_compiled(files.next_document(), "standard input")
    else:
        loaded = policy.load(tuple(args.policy or ("default",)), cache_of(args.state_dir))
    if args.backend:
        loaded = replace(loaded, backend=args.backend)
    if args.persist is not None:
        loaded = replace(loaded, persist=args.persist)
    return replace(loaded, source=args.policy_source)


def fresh(args: argparse.Namespace) -> HostSession:
    """Return the session of these options, its journal not read yet."""
    return HostSession(
        host=read_host(),
        policy=load_policy(args),
        state_dir=args.state_dir,
        ledger={},
        held={},
        window=float(getattr(args, "window", 0.0)),
        dry_run=bool(getattr(args, "dry_run", False)),
        ticket=Ticket(
            *(getattr(args, name, None) or "" for name in ("change_id", "message", "approved_by"))
        ),
        notify=warn,
        busy=partial(progress.shown, args),
    )


def start(args: argparse.Namespace, *, of_journal: bool = False) -> HostSession:
    """Return the session of these options, with the journal; see :func:`session.reread`."""
    return session.reread(fresh(args), of_journal=of_journal)


def warn_unfinished(here: HostSession) -> None:
    """Warn of pending and unfinished transactions: verbs that only read leave them alone."""
    for line in session.unfinished_lines(here):
        warn(line)


def warn_of(plan: Plan) -> None:
    """Print the warnings of a plan on standard error."""
    for warning in plan.warnings:
        warn(warning)
