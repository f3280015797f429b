"""One answer about this host, within a time limit, for a monitoring system."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

from remedies import codec
from remedies.errors import UsageError
from remedies.model import SEEN, Finding, Policy, Rule, Scan
from remedies.namespaces import workers
from remedies.operations import session
from remedies.operations.session import HostSession
from remedies.planning import engine
from remedies.values import dataclass, replace

State = Literal["ok", "warning", "critical", "unknown"]
_GRAVE = ("high", "critical")
"""Severities of faults for which somebody is called."""
_OFF = Rule("off", "proven", ())


@dataclass(frozen=True)
class HealthAnswer:
    """A state, and what it rests on in some words."""

    state: State
    text: str


def only(policy: Policy, conditions: Collection[str]) -> Policy:
    """Return the policy with every condition but these switched off; with none named, as it is.

    Raises UsageError for a condition that does not exist.
    """
    for name in conditions:
        if name not in engine.conditions(policy):
            raise UsageError(f"no condition is called {name!r}", "see 'remedy list'")
    if not conditions:
        return policy
    rules = {name: _OFF for name in engine.conditions(policy) if name not in conditions}
    return replace(policy, rules={**policy.rules, **rules})


def check(begin: Callable[[], HostSession], limit: float) -> HealthAnswer:
    """Begin a session and scan in a process that is ended after ``limit`` seconds, and judge.

    What ``begin`` does counts too: a policy that is compiled there, a journal that is long.
    """

    def work() -> str:
        here = begin()
        scan, _ = session.judge(here, session.look(here, for_plan=False))
        return codec.dumps(scan)

    (done,) = workers.visit_all([work], limit)
    if done.failure:
        return HealthAnswer("unknown", f"not scanned: {done.failure}")
    return judge(codec.decode(Scan, codec.loads(done.text, "scan"), "scan"))


def judge(scan: Scan) -> HealthAnswer:
    """Return ``critical`` where a grave fault is seen now, ``warning`` for another one.

    What could not be judged is ``unknown``, unless a fault is seen beside it. What is only exposed
    or waived is ``ok``.
    """
    now = [f for f in scan.findings if f.verdict in SEEN and not f.waived]
    vague = engine.unjudged(scan)
    exposed = [f for f in scan.findings if f.verdict == "exposed" and not f.waived]
    if now:
        grave = any(finding.severity in _GRAVE for finding in now)
        return HealthAnswer("critical" if grave else "warning", _told(now))
    if vague:
        return HealthAnswer("unknown", f"not judged: {', '.join(vague)}")
    return HealthAnswer(
        "ok", f"nothing fails now; {_told(exposed)}" if exposed else "nothing found"
    )


def _told(findings: list[Finding]) -> str:
    """Return the condition of each kind of fault once, the strongest first, with its verdict."""
    return ", ".join(dict.fromkeys(f"{f.condition} {f.verdict}" for f in findings))
