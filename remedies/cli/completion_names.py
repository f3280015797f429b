"""Names that only this host knows, for who presses the tab key: ``remedy completion --names``."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator

from remedies import catalogue, report, shipped, site
from remedies.cli.starting import load_policy
from remedies.cli.topics import TOPICS
from remedies.errors import NotPermitted, RemedyError
from remedies.facts.host import read_host
from remedies.fleet import rundir
from remedies.namespaces import netns
from remedies.operations import naming, session
from remedies.transaction import state

MOST = 200
"""Names that are offered: more are no choice, and a journal may hold years."""
_PLAIN = re.compile(r"[\w.:@+-]+", re.ASCII)
"""Shells split words and expand patterns in what they are offered."""


def _transactions(args: argparse.Namespace) -> Iterator[str]:
    yield naming.LAST
    for entry in session.newest(state.folder(args.state_dir, read_host().netns)):
        yield entry.id


def _namespaces(_args: argparse.Namespace) -> Iterable[str]:
    return _listed(netns.RUN_DIR)


def _policies(_args: argparse.Namespace) -> Iterable[str]:
    return shipped.policies()


def _formats(_args: argparse.Namespace) -> Iterable[str]:
    return (f"{name}:" for name in report.formats())


def _runs(_args: argparse.Namespace) -> Iterable[str]:
    return sorted(_listed(rundir.default_folder()), reverse=True)


def _conditions(args: argparse.Namespace) -> Iterator[str]:
    yield from catalogue.condition_ids()
    try:
        yield from filter(site.is_site, load_policy(args).rules)
    except RemedyError:  # what is wrong with it is told by the verb that is typed
        return


def _ids(args: argparse.Namespace) -> Iterator[str]:
    yield from _conditions(args)
    yield from catalogue.fix_ids()
    yield from TOPICS


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:  # none yet, or not ours to read
        return []


KINDS = {
    "transactions": _transactions,
    "namespaces": _namespaces,
    "policies": _policies,
    "formats": _formats,
    "runs": _runs,
    "conditions": _conditions,
    "ids": _ids,
}


def names(kind: str, args: argparse.Namespace) -> list[str]:
    """Return the names of one of :data:`KINDS`; none that may not be read, none a shell may run."""
    found: list[str] = []
    with contextlib.suppress(NotPermitted):
        found += filter(_PLAIN.fullmatch, itertools.islice(KINDS[kind](args), MOST))
    return found
