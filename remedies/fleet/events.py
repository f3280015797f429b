"""What Ansible says while a playbook runs: its events, understood as words about hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from remedies import codec
from remedies.fleet.host_state import HostStanding
from remedies.outcomes import UNREACHED
from remedies.printable import clean

_RESULTS = ("runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped")

Tell = Callable[[HostStanding, bool], None]
"""Takes a word, and whether the host's worker has noted it in the run's log already."""


class Hearing:
    """Passes on each host's word once, in the order in which they come.

    Nothing is passed on before it is known how many hosts there are: who shows progress begins with
    that number. Where it is not given, the first answer of the action brings it.
    """

    def __init__(self, tell: Tell, begin: Optional[Callable[[int], None]] = None) -> None:
        """Take who is told; ``begin`` gets the number of hosts, before the first word."""
        self._tell, self._begin = tell, begin
        self._of: Optional[int] = None
        self._waiting: list[tuple[HostStanding, bool]] = []
        self._started: dict[str, None] = {}
        self.heard: set[str] = set()
        """The hosts that there was a word about."""

    def event(self, event: dict[str, Any]) -> bool:
        """Take an event of ansible-runner; return True, so that it is kept."""
        kind, data = event.get("event"), event.get("event_data") or {}
        host, result = data.get("host"), data.get("res")
        if isinstance(host, str):
            self._started.setdefault(host)  # Ansible starts them in the order of the inventory
            if kind in _RESULTS and isinstance(result, dict) and host not in self.heard:
                if isinstance(of := result.get("hosts"), int) and of > 0:
                    self.begin(of)
                self.word(_standing(host, str(kind), result), noted=bool(result.get("noted")))
        return True

    def begin(self, hosts: int) -> None:
        """Say how many hosts there are; only the first call counts."""
        if self._of is None:
            self._of = hosts
            if self._begin is not None:
                self._begin(hosts)
            for standing, noted in self._waiting:
                self._tell(standing, noted)

    def word(self, standing: HostStanding, *, noted: bool = False) -> None:
        """Take the word about a host."""
        self.heard.add(standing.host)
        if self._of is None:
            self._waiting.append((standing, noted))
        else:
            self._tell(standing, noted)

    def hosts(self) -> list[str]:
        """Return all hosts in the order of the inventory; none where not all were heard of."""
        return list(self._started) if len(self._started) == self._of else []


def _standing(host: str, kind: str, result: dict[str, Any]) -> HostStanding:
    """Return the word about a host that an event holds: the action's own, or Ansible's."""
    if "standing" in result:
        return codec.decode(HostStanding, result["standing"], f"result of {host}")
    message = clean(" ".join(str(result.get("msg", "no reason given")).split()))
    if kind == "runner_on_unreachable":
        return HostStanding(host, "unreachable", UNREACHED, message)
    return HostStanding(host, "needs-human", 70, message)
