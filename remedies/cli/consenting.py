"""Who agrees to a change: ``--yes``, or a person at a terminal."""

from __future__ import annotations

import argparse
import select
import sys

from remedies.errors import RemedyError, UsageError
from remedies.transaction import actor, consent
from remedies.transaction.consent import Consent

HEARS = 1000
"""Milliseconds after which a wait for an answer begins anew. A signal that came between a question
and the wait for its answer would else not be heard before the next line."""


def ask(args: argparse.Namespace, question: str, what: str = "the host") -> Consent:
    """Return the consent of ``--yes``, or of the person who answers.

    Raises UsageError where nobody can be asked, RemedyError where the answer is not yes, and
    TypeError in a dry run: it has to end before it asks.
    """
    who = actor.user()
    agreed = consent.stated(args.yes, who, dry_run=args.dry_run)
    if agreed is not None:
        return agreed
    if args.no_input or not sys.stdin.isatty():
        raise UsageError(f"this changes {what} and there is no terminal to ask on", "add --yes")
    sys.stdout.flush()
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answered = select.poll()
    answered.register(sys.stdin, select.POLLIN)
    while not answered.poll(HEARS):
        pass
    agreed = consent.answered(sys.stdin.readline(), who, dry_run=args.dry_run)
    if agreed is None:
        raise RemedyError("nothing was changed", "answer y to continue")
    return agreed
