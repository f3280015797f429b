"""Approved plans: a folder with one plan a host, the policies they were made under, and an index.

The index has the digest of every file, so that what is applied is what was approved. Hosts with
the same change form a group.
"""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remedies import __version__, codec, model
from remedies.errors import InputError
from remedies.facts.gather import now
from remedies.fleet.host_state import HostStanding
from remedies.model import Action, Change, Risk
from remedies.planning import reads, savedplan
from remedies.rules import kinds
from remedies.transaction.host import HostResources

INDEX = "index.json"


@dataclass(frozen=True)
class HostPlan:
    """The plan of one host."""

    file: str
    sha256: str
    policy: str
    """The compiled policy it was made under, as a file of the folder."""
    policy_sha256: str
    plan_id: str
    group: str
    """The same for hosts on which the same would change."""
    summary: tuple[str, ...]
    """One line a change; empty where nothing would change."""


@dataclass(frozen=True)
class Shown:
    """One change as it is shown before anybody agrees to it."""

    resource: str
    fix: str
    action: Action
    risk: Risk
    diff: str
    accept_harm: tuple[str, ...] = ()
    """The conditions for which policy accepts its harm."""


@dataclass(frozen=True)
class Group:
    """Hosts on which the same would change."""

    summary: tuple[str, ...]
    """One line a change; empty where nothing would change."""
    hosts: tuple[str, ...]
    changes: tuple[Shown, ...]


@dataclass(frozen=True)
class Index:
    """What is in the folder, and which hosts gave no plan."""

    format_version: str
    kind: str
    tool: str
    time: str
    hosts: dict[str, HostPlan]
    without: dict[str, str]
    """Hosts that gave no plan, and why."""

    @staticmethod
    def of(hosts: Mapping[str, HostPlan], without: Mapping[str, str]) -> Index:
        """Return the index of these hosts, made now."""
        return Index(
            model.FORMAT_VERSION, "fleet-plan", __version__, now(), dict(hosts), dict(without)
        )

    @staticmethod
    def read(folder: str) -> Index:
        """Return the index of a folder. Raises InputError."""
        path = os.path.join(folder, INDEX)
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise InputError(f"{path}: {reason}", "make one with 'remedy fleet plan -o'") from None
        index = codec.decode(Index, codec.loads(text, path), path)
        if index.kind != "fleet-plan":
            raise InputError(f"{path}: not an index of plans", "give the folder of 'fleet plan -o'")
        for host, entry in index.hosts.items():
            if any(os.path.isabs(n) or ".." in n.split("/") for n in (entry.file, entry.policy)):
                raise InputError(f"{path}: {host}: names a file outside the folder")
        return index

    def write(self, folder: str) -> None:
        """Write the index, whole or not at all."""
        write_new(os.path.join(folder, INDEX), (codec.dumps(self) + "\n").encode())


def save(folder: str, host: str, plan: str, policy: str) -> HostPlan:
    """Write one host's plan (JSON, as the host gave it) and its policy; return its entry.

    Raises InputError where it is none that could be applied, as a host is not believed.
    """
    read = savedplan.read(plan, f"plan of {host}")
    plan_file = f"plans/{urllib.parse.quote(host, safe='')}.json"
    policy_file = f"policies/{_sha256(policy)[:32]}.json"
    for name, text in ((plan_file, plan), (policy_file, policy)):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_new(path, text.encode())
    return HostPlan(
        file=plan_file,
        sha256=_sha256(plan),
        policy=policy_file,
        policy_sha256=_sha256(policy),
        plan_id=read.id,
        group=group(read.changes),
        summary=summary(read.changes),
    )


def group(changes: Sequence[Change]) -> str:
    """Return what is the same for two hosts on which the same would change."""
    return model.digest([[c.fix, c.resource, c.before, c.after] for c in changes])[:16]


def shown(changes: Sequence[Change]) -> tuple[Shown, ...]:
    """Return what is shown of a plan's changes.

    The diff is made here, of the values that are acted on: what the plan calls its diff is text.
    """
    resources = HostResources()
    return tuple(
        Shown(
            resource=c.resource,
            fix=c.fix,
            action=c.action,
            risk=c.risk,
            diff=reads.diff(resources, c.resource, c.before, c.after),
            accept_harm=c.accept_harm,
        )
        for c in changes
    )


def saved(folder: str, entry: HostPlan) -> tuple[Shown, ...]:
    """Return what is shown of a saved plan. Raises InputError where it is not as it was saved."""
    path = os.path.join(folder, entry.file)
    return shown(savedplan.read(checked(folder, entry.file, entry.sha256), path).changes)


def checked(folder: str, name: str, sha256: str) -> str:
    """Return the text of a file of the folder. Raises InputError unless it has that digest."""
    path = os.path.join(folder, name)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "make new plans") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{path}: is not what was approved (its digest differs from the index)",
                         "make new plans")  # fmt: skip
    return data.decode(errors="replace")


def summary(changes: Sequence[Change]) -> tuple[str, ...]:
    """Return one line for each change: ``+ nft:inet/remedy_x``, ``be_liberal 0 -> 1``."""
    return tuple(
        kinds.of(c.resource)[0].summary(c.resource, c.action, c.before, c.after) for c in changes
    )


def heard(
    found: Mapping[str, HostStanding],
) -> tuple[dict[str, HostPlan], dict[str, tuple[Shown, ...]]]:
    """Return the plans and the diffs that hosts gave with their words. Raises InputError."""
    entries, changes = {}, {}
    for host, standing in found.items():
        details, where = standing.details, f"plan of {host}"
        if "summary" not in details:
            continue
        lines = details["summary"] if isinstance(details["summary"], list) else []
        changes[host] = codec.decode(tuple[Shown, ...], details.get("diffs", []), where)
        entries[host] = (
            codec.decode(HostPlan, details["entry"], where)
            if "entry" in details
            else HostPlan("", "", "", "", "", str(details.get("group")), tuple(map(str, lines)))
        )
    return entries, changes


def grouped(hosts: Mapping[str, HostPlan], changes: Mapping[str, tuple[Shown, ...]]) -> list[Group]:
    """Return groups of hosts: the largest first, those without change last.

    Hosts whose diffs differ are never in one group, whatever the index says.
    """
    groups: dict[tuple[str, tuple[Shown, ...]], list[str]] = {}
    for host, entry in hosts.items():
        groups.setdefault((entry.group, changes.get(host, ())), []).append(host)
    found = [
        Group(hosts[names[0]].summary, tuple(sorted(names)), same)
        for (_, same), names in groups.items()
    ]
    return sorted(found, key=lambda g: (not g.summary, -len(g.hosts), g.hosts))


def write_new(path: str, data: bytes) -> None:
    """Write a file, whole or not at all, for its owner alone. Raises OSError."""
    draft = f"{path}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        os.unlink(draft)
        raise


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
