"""What is in force, whether it still is what we wrote, and what our rules have counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Optional

from remedies import resources
from remedies.errors import RemedyError
from remedies.model import Held
from remedies.netfilter.libnftables import one_process
from remedies.values import dataclass, field

HeldState = Literal["ours", "drifted", "gone", "unknown"]
"""How a resource of ours stands: as we wrote it, changed by somebody, taken away, or it could not
be read."""


@dataclass(frozen=True)
class InForce:
    """One resource that the journal says is ours."""

    transaction: str
    fix: str
    resource: str
    state: HeldState
    counters: dict[str, int] = field(default_factory=dict)
    now: Optional[str] = None
    """What is there, when that is not ours."""
    reason: str = ""


def compare(held: Mapping[str, Held]) -> tuple[InForce, ...]:
    """Read every resource that is in force and compare it with what we wrote."""
    with one_process():
        return tuple(_judge(entry) for entry in held.values())


def _judge(entry: Held) -> InForce:
    driver, path = resources.driver(entry.resource)
    state: HeldState = "ours"
    now, counters, reason = None, {}, ""
    try:
        now = driver.read(path)
        if driver.same(path, now, entry.ours):
            counters = driver.counters(path)
        else:
            state = "gone" if driver.same(path, now, None) else "drifted"
    except RemedyError as error:
        state, reason = "unknown", str(error)
    return InForce(
        transaction=entry.transaction,
        fix=entry.fix,
        resource=entry.resource,
        state=state,
        counters=counters,
        now=now if state == "drifted" else None,
        reason=reason,
    )
