"""End the flows that today's NAT rules would not send where they go, so that the next packet does.

What it changes
    Each flow of the finding is deleted from conntrack's table: that entry alone, by its tuple, the
    default zone and the kernel's id of it. The client's next packet begins a new flow, which takes
    today's rules. Nothing else is touched, and nothing stays in force.

Safety
    Each flow is looked at again before it is deleted: it has to be the same entry, to the same
    target, not answered since, of TCP still in SYN_SENT. An established TCP connection is never
    deleted, nor a flow of another zone or of a flowtable. At most 256 flows of a finding are
    deleted at a time, all of them named in the plan and the journal. Verified by a new scan: none
    of them may go on to its old target.

What rollback restores
    Nothing: a flow cannot be made again from outside, and nobody lacks it. Rollback does nothing;
    a client's next packet makes the flow anew. A plan that is undone half way leaves the flows
    deleted that were.

References
    conntrack(8), -D; net/netfilter/nf_conntrack_netlink.c, ctnetlink_del_conntrack()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.model import Finding, Risk, Terms, Wanted
from remedies.values import replace

TITLE = "End flows that go past today's NAT rules"
ANSWERS = ("stale-flow",)
RISK: Risk = "low"
HARMLESS = True
NEEDS: tuple[type[object], ...] = ()
TOPICS: tuple[str, ...] = ()
PARAMS: Mapping[str, object] = {}
WRITES = ("flow:*",)


def approved(was: Finding, now: Finding) -> Finding:
    """Return the finding of now with no other flows than a saved plan named."""
    named = was.details.get("stale", "").split()
    stale = [path for path in now.details.get("stale", "").split() if path in named]
    return replace(now, details={**now.details, "stale": " ".join(stale)})


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why no flow can be named, or None."""
    if finding is None:
        return "flush-stale-flow answers a finding; it cannot be required by itself"
    if not finding.details.get("stale"):
        return "none of these flows is there any more"
    return None


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return each flow of the finding as absent."""
    paths = finding.details.get("stale", "").split() if finding is not None else ()
    return tuple(Wanted(f"flow:{path}", None, reversibility="none") for path in paths)


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the deletion does to the client."""
    return (
        "ends this one flow; the client's next packet begins a new one, as today's rules say "
        "(rollback does nothing)"
    )
