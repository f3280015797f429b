"""A rollout: batch after batch, until all hosts are done or a batch goes wrong.

A host that was never reached, whose plan is stale, or that refuses before anything is written is
told of and left alone. One that was changed and did not come through counts against the batch.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from remedies.fleet import batches, controller, records, runner
from remedies.fleet.apply import GRACE
from remedies.fleet.events import Hearing
from remedies.fleet.host_state import HostStanding, in_force, worst
from remedies.fleet.rundir import Run, counts
from remedies.fleet.runner import Site
from remedies.outcomes import HOSTS
from remedies.transaction.consent import Consent, demand
from remedies.values import replace

_REFUSED = (5, 8)
"""Exit codes of a host that says no to a change, which says nothing about the others."""

_KEPT = frozenset(
    f"remedy_{name}"
    for name in (
        "policy",
        "params",
        "window",
        "netns",
        "state_dir",
        "lock_timeout",
        "change_id",
        "message",
        "approved_by",
    )
)
"""Variables of a rollout that hold for undoing it, too."""


@dataclass(frozen=True)
class RolloutEnded:
    """How a rollout ended."""

    standings: dict[str, HostStanding]
    halted: str = ""
    """Why it stopped before its end; empty where it did not."""

    @property
    def code(self) -> int:
        """Return the exit code: the worst of all hosts'."""
        return worst(standing.rc for standing in self.standings.values())


class RunningRollout:
    """One run on its way."""

    def __init__(
        self,
        run: Run,
        agreed: Consent,
        tell: Callable[[HostStanding], None],
        out: Sequence[str] = (),
    ) -> None:
        """Take the run, and the hosts that are left out of it (``out``): nothing touches them."""
        demand(agreed)
        self._out = frozenset(out)
        self._run, self._agreed, self._tell = run, agreed, tell
        asked = run.asked
        self._site = Site(
            asked.inventories, forks=asked.forks, extra=asked.extra, folder=asked.folder
        )

    def go(self, hosts: Sequence[str]) -> RolloutEnded:
        """Apply to these hosts in batches; undo as asked when one goes wrong."""
        asked, halted, failed = self._run.asked, "", 0
        for batch in batches.split(hosts, asked.batch):
            self._apply(batch)
            standings = self._run.standings()
            bad = [host for host in batch if counts_against(standings[host])]
            failed += len(bad)
            halted = self._why_halt(batch, bad, failed, standings)
            if halted:
                self._undo(batch)
                break
        standings = self._run.standings()
        ended = RolloutEnded({h: s for h, s in standings.items() if h not in self._out}, halted)
        self._run.finish(
            {"halted": halted, "exit": ended.code, "hosts": counts(ended.standings.values())}
        )
        return ended

    def _apply(self, batch: Sequence[str]) -> None:
        known = self._run.standings()
        previous = {h: known[h].transaction for h in batch if known[h].transaction}
        variables = {**self._run.asked.variables, "remedy_run": self._run.log,
                     "remedy_controller": controller.this(), **self._record()}  # fmt: skip
        if previous:
            variables["remedy_previous"] = previous
        folder = self._run.next_folder("apply")
        runner.play("apply", self._site, batch, variables, folder, Hearing(self._heard),
                    self._agreed)  # fmt: skip

    def _record(self) -> dict[str, object]:
        return {"remedy_record": records.folder(self._run), "remedy_since": records.SINCE}

    def _heard(self, standing: HostStanding, noted: bool) -> None:
        """Note what Ansible says of a host, unless its worker has noted it, and better."""
        if not noted:
            said = self._run.standings()[standing.host]
            if said.state == "applied" and standing.state == "unreachable":
                standing = replace(standing, details={"touched": True})
            self._run.tell(standing)
        self._tell(standing)

    def _why_halt(
        self, batch: Sequence[str], bad: Sequence[str], failed: int, now: dict[str, HostStanding]
    ) -> str:
        asked = self._run.asked
        allowed = failed <= asked.max_fail or (
            len(bad) * 100 <= asked.max_fail_percentage * len(batch)
        )
        if bad and not allowed:
            return f"{len(bad)} of {len(batch)} hosts of the batch failed: {', '.join(bad[:5])}"
        if not bad and all(now[host].rc not in (0, *_REFUSED) for host in batch):
            return f"no host of the batch succeeded: {', '.join(batch[:5])}"
        return ""

    def _undo(self, batch: Sequence[str]) -> None:
        """Roll back what the run has in force on the batch, or on every host."""
        asked, standings = self._run.asked, self._run.standings()
        among = {"batch": batch, "all": asked.hosts, "none": ()}[asked.undo]
        which = in_force(standings[host] for host in among if host not in self._out)
        if not which:
            return
        variables = {k: v for k, v in asked.variables.items() if k in _KEPT}
        variables.update(self._record())
        variables["remedy_transactions"] = which

        def heard(standing: HostStanding, _noted: bool) -> None:
            said = standings[standing.host]
            told = replace(
                standing,
                transaction=said.transaction,
                message=standing.message or "undone: its batch failed",
                rc=4 if standing.state == "needs-human" else standing.rc,
            )
            if standing.state == "untouched" and standing.rc == 0:  # its own timer was first
                told = replace(told, state="reverted")
            if standing.state == "unreachable":
                told = replace(told, message=f"could not be undone: {standing.message}")
            self._run.tell(told)
            self._tell(told)

        folder = self._run.next_folder("rollback")
        runner.play("rollback", self._site, list(which), variables, folder, Hearing(heard),
                    self._agreed)  # fmt: skip


def counts_against(standing: HostStanding) -> bool:
    """Tell whether a host was changed and did not come through."""
    return HOSTS[standing.state].failed or bool(standing.details.get("touched"))


def left(run: Run) -> list[str]:
    """Return the hosts that a resumed run still has to do: all that did not end well."""
    spoken = {host: s for host, s in run.standings().items() if s.time}
    done = {h for h, s in spoken.items() if s.rc == 0 and HOSTS[s.state].well}
    return [host for host in run.asked.hosts if host not in done]


def unsettled(run: Run, out: Sequence[str] = ()) -> float:
    """Return seconds until each host that a killed controller left waiting is settled.

    Those that are left ``out`` need not be.
    """
    standings = (s for host, s in run.standings().items() if host not in out)
    timeout = run.asked.variables.get("remedy_confirm_timeout", 120)
    ends = [_ends(s, timeout) for s in standings if s.state == "applied" and s.time]
    return max(0.0, max(ends) + GRACE - time.time()) if ends else 0.0


def _ends(standing: HostStanding, timeout: object) -> float:
    """Return when the time of a host that was told to apply is up, by this machine's clock.

    ``timeout``: the run's; a host's own word of it, from when the run was resumed, counts more.
    """
    began = calendar.timegm(time.strptime(standing.time, "%Y-%m-%dT%H:%M:%SZ"))
    return began + float(str(standing.details.get("timeout", timeout)))
