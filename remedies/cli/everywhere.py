"""From where every network namespace is looked at: what the verbs with ``--all-netns`` share."""

from __future__ import annotations

import argparse

from remedies.errors import UsageError
from remedies.namespaces import machine


def everywhere_from(args: argparse.Namespace) -> None:
    """Raise UsageError for another ``--netns`` than the machine's beside ``--all-netns``."""
    if args.netns not in (None, machine.SPEC):
        raise UsageError(
            f"--netns {args.netns} and --all-netns cannot be combined", "leave one of them out"
        )
