"""What a host is asked: the words of the command line and the documents on standard input."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from remedies import policy
from remedies.errors import ConfigError
from remedies.fleet.plans import Index, checked

WRONG_PARAMS = (
    "remedy_params: expected parameters by condition",
    "write them as 'remedy_params: {CONDITION: {PARAMETER: VALUE}}'",
)


def cache_folder() -> str:
    """Return the controller's folder for what can be made again, 0700; it is made if absent."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.join(base, "remedy", "fleet")
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


@dataclass(frozen=True)
class Order:
    """What the inventory and the command line say about one host."""

    policy: tuple[str, ...] = ()
    """Shipped names, or files on the controller; later wins."""
    params: Mapping[str, object] = field(default_factory=dict)
    """Parameters by condition, laid over the policy."""
    beside: tuple[str, ...] = ()
    """Folders in which a relative policy file is looked for, in this order."""
    netns: str = ""
    state_dir: str = ""
    backend: str = ""
    window: str = ""
    lock_timeout: str = ""

    def words(self, verb: str) -> list[str]:
        """Return the verb and the options that every verb takes."""
        words = [verb]
        for option in ("netns", "state_dir", "backend", "lock_timeout"):
            if getattr(self, option):
                words += [f"--{option.replace('_', '-')}", str(getattr(self, option))]
        return words

    def watching(self) -> list[str]:
        """Return the options of verbs that run detectors and need the policy (on stdin)."""
        window = ["--window", self.window] if self.window else []
        return ["--policy", "-", *window]

    def compiled_policy(self, cache: Optional[str] = None) -> str:
        """Return the policy as one line of JSON. Raises ConfigError.

        ``cache``: a folder that keeps compiled policies, one for all workers.
        """
        cache = cache_folder() if cache is None else cache
        sources = [_found(source, self.beside) for source in self.policy] or list(policy.DEFAULT)
        if not self.params:
            return policy.to_compiled(policy.load(tuple(sources), cache))
        overlay = _overlay(self.params, cache)
        try:
            loaded = policy.load((*sources, overlay), cache)
        except ConfigError as error:
            raise ConfigError(error.what.replace(overlay, "remedy_params"), error.hint) from None
        return policy.to_compiled(loaded)


def _found(source: str, beside: Sequence[str]) -> str:
    """Return a policy file's absolute path; a shipped name, or what is nowhere, as it is."""
    if os.path.isabs(source) or not ("/" in source or source.endswith((".yaml", ".yml", ".json"))):
        return source
    for folder in beside:
        path = os.path.join(folder, source)
        if os.path.exists(path):
            return os.path.abspath(path)
    return source


def _overlay(params: Mapping[str, object], cache: str) -> str:
    """Write the inventory's parameters as a policy file of their own and return its path."""
    if not all(isinstance(value, dict) for value in params.values()):
        raise ConfigError(*WRONG_PARAMS)
    text = json.dumps(
        {
            "apiVersion": "remedy/v1",
            "name": "remedy_params",
            "rules": {name: {"params": value} for name, value in params.items()},
        },
        sort_keys=True,
    )
    path = os.path.join(cache, f"params-{hashlib.sha256(text.encode()).hexdigest()[:32]}.yaml")
    if not os.path.exists(path):
        draft = f"{path}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(draft, path)
    return path


@dataclass(frozen=True)
class Approved:
    """An approved plan and the policy that it was made under, as they were saved."""

    plan: str
    policy: str


def approved(folder: str, host: str) -> Optional[Approved]:
    """Return the approved plan of a host; None where the folder has none for it.

    Raises InputError where a file is missing or not the one that was approved.
    """
    index = Index.read(folder)
    entry = index.hosts.get(host)
    if entry is None:
        return None
    plan = checked(folder, entry.file, entry.sha256)
    return Approved(plan, checked(folder, entry.policy, entry.policy_sha256))
