"""How each host of a run stands, in a log that survives whatever happens to the controller.

One line of JSON is one word about one host; the last one counts. A line is appended by one
``write``, so that the controller and Ansible's workers can add to it side by side, and whoever is
killed leaves whole lines behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Optional

from remedies import codec
from remedies.errors import InputError
from remedies.facts.gather import now
from remedies.outcomes import HOSTS, WORST_FIRST, HostState
from remedies.values import replace


@dataclass(frozen=True)
class HostStanding:
    """One word about one host."""

    host: str
    state: HostState
    rc: int = 0
    """The exit code that remedy would have given for this host."""
    message: str = ""
    transaction: Optional[str] = None
    until: Optional[str] = None
    """Until when the host waits for its confirmation, as the host says (RFC 3339, UTC)."""
    changed: bool = False
    details: dict[str, object] = field(default_factory=dict)
    """What else the verb tells: counts, a plan's digest, what a group of hosts has in common."""
    time: str = ""


def worst(codes: Iterable[int]) -> int:
    """Return the worst of exit codes; one that is not in the order counts as 1."""
    known = {code if code in WORST_FIRST else 1 for code in codes}
    return next((code for code in WORST_FIRST if code in known), 0)


def in_force(standings: Iterable[HostStanding]) -> dict[str, str]:
    """Return, by host, the transaction of a run that is in force there: what there is to undo."""
    return {s.host: s.transaction for s in standings if s.transaction and HOSTS[s.state].in_force}


def append(path: str, standing: HostStanding) -> None:
    """Add a word to the log, on disk when this returns. Raises OSError."""
    line = codec.dumps(replace(standing, time=now())) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str) -> dict[str, HostStanding]:
    """Return the last word about each host; none where there is no log. Raises InputError.

    A torn last line (a full disk) does not count.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")[:-1]
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}", "start a new run") from None
    found = {}
    for number, line in enumerate(lines, 1):
        standing = codec.decode(
            HostStanding, codec.loads(line, f"{path}:{number}"), f"{path}:{number}"
        )
        found[standing.host] = standing
    return found


def plain(standing: HostStanding) -> dict[str, Any]:
    """Return a word as it is printed with ``--json``."""
    value: dict[str, Any] = json.loads(codec.dumps(standing))
    return {"kind": "host", **value}
