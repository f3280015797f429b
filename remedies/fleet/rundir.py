"""A run's folder: what was asked, and every word about every host, whoever is killed when.

A run is a rollout, or a ``confirm`` or ``rollback`` over many hosts.
``run.json`` is written before the first host is touched, ``states.jsonl`` grows while it runs
(controller and workers append to it), ``ansible/`` is Ansible's own record, ``summary.json`` comes
last and is there only when the run came to its end.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from remedies import __version__, codec, model
from remedies.errors import InputError, UsageError
from remedies.facts.gather import now
from remedies.fleet import host_state
from remedies.fleet.host_state import HostStanding
from remedies.fleet.plans import write_new
from remedies.outcomes import HOSTS, HostState
from remedies.transaction.consent import Consent
from remedies.values import replace


def default_folder() -> str:
    """Return the folder that holds a user's runs."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "remedy", "runs")


@dataclass(frozen=True)
class RunTerms:
    """What hosts were asked to do."""

    inventories: tuple[str, ...]
    hosts: tuple[str, ...]
    """In the order of the rollout."""
    batch: tuple[str, ...]
    variables: dict[str, object] = field(default_factory=dict)
    """What the playbooks get."""
    forks: int = 0
    extra: tuple[str, ...] = ()
    folder: str = "."
    undo: str = "batch"
    max_fail: int = 0
    max_fail_percentage: float = 0.0
    format_version: str = model.FORMAT_VERSION
    kind: str = "fleet-run"
    action: str = "apply"
    """The action of the fleet that it is a run of."""
    tool: str = __version__
    time: str = ""


@dataclass(frozen=True)
class Run:
    """One run and its folder."""

    folder: str
    asked: RunTerms

    @property
    def id(self) -> str:
        """Return the name of the run."""
        return os.path.basename(self.folder)

    @property
    def log(self) -> str:
        """Return the file of words about hosts."""
        return os.path.join(self.folder, "states.jsonl")

    def standings(self) -> dict[str, HostStanding]:
        """Return how every host of the run stands; one that was never told of is untouched."""
        found = host_state.read(self.log)
        return {host: found.get(host, HostStanding(host, "untouched")) for host in self.asked.hosts}

    def tell(self, standing: HostStanding) -> None:
        """Add a word about a host."""
        host_state.append(self.log, standing)

    def next_folder(self, name: str) -> str:
        """Return a folder for Ansible's record of the next play."""
        top = os.path.join(self.folder, "ansible")
        os.makedirs(top, mode=0o700, exist_ok=True)
        return os.path.join(top, f"{len(os.listdir(top)) + 1:03}-{name}")

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary."""
        write_new(os.path.join(self.folder, "summary.json"), (codec.dumps(summary) + "\n").encode())


def approved_by(asked: RunTerms, agreed: Consent) -> RunTerms:
    """Return what is asked with the person who answered the question as the one who approved it.

    Where ``--approved-by`` names somebody, that counts.
    """
    if agreed.how != "question" or "remedy_approved_by" in asked.variables:
        return asked
    return replace(asked, variables={**asked.variables, "remedy_approved_by": agreed.who})


def begin(top: str, asked: RunTerms, plans: str = "") -> Run:
    """Make the folder of a new run in ``top``; ``plans``: a folder that is copied into it.

    Raises InputError where that cannot be.
    """
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(2)}"
    folder = os.path.join(os.path.abspath(top), name)
    variables = dict(asked.variables)
    if plans:
        variables["remedy_plans"] = os.path.join(folder, "approved")
    run = Run(folder, replace(asked, variables=variables, time=now()))
    try:
        os.makedirs(run.folder, mode=0o700)
        if plans:
            shutil.copytree(plans, os.path.join(folder, "approved"))
        write_new(os.path.join(run.folder, "run.json"), (codec.dumps(run.asked) + "\n").encode())
    except OSError as error:
        raise InputError(
            f"{run.folder}: cannot be written: {error.strerror}", "name another with --run-dir"
        ) from None
    return run


def find(top: str, name: str) -> Run:
    """Return a run by its name in ``top``, or by its folder. Raises InputError."""
    folder = name if "/" in name else os.path.join(top, name)
    path = os.path.join(folder, "run.json")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        known = ", ".join(sorted(os.listdir(top))[-3:]) if os.path.isdir(top) else ""
        raise InputError(f"{path}: no such run", f"the newest: {known or 'none'}") from None
    return Run(os.path.abspath(folder), codec.decode(RunTerms, codec.loads(text, path), path))


def rollout(top: str, name: str) -> Run:
    """Return a run that applied. Raises InputError, UsageError where it did something else."""
    run = find(top, name)
    if run.asked.action != "apply":
        raise UsageError(f"{run.id} is a {run.asked.action}", "name the run of a 'fleet apply'")
    return run


def counts(standings: Iterable[HostStanding]) -> dict[HostState, int]:
    """Return how many hosts there are in each state."""
    found = Counter(standing.state for standing in standings)
    return {state: found[state] for state in HOSTS}
