"""What the tests make facts, findings, changes and plans with: sound values, and what differs.

Each function has values for what a test does not care about, and takes every other field by its
name in ``remedies.model``.
"""

from __future__ import annotations

from typing import Any, Optional

from remedies.facts import Facts, name_of
from remedies.model import (
    Action,
    Change,
    Finding,
    Held,
    Host,
    Plan,
    Policy,
    PolicyRef,
    Rule,
    Scan,
)
from remedies.netlink.flow import Flow, Tuple
from remedies.rules.rule import Match, PacketRule
from remedies.transaction.ledger import Begin
from remedies.values import replace

ANY = Match()
HOST = Host("h", "m", "6.1.0-13-amd64", "host", "b")
TIME = "2026-01-01T00:00:00Z"


def facts(*known: object, **more: Any) -> Facts:
    """Return a snapshot that holds these facts, watched for a second."""
    return replace(Facts(HOST, TIME, 1.0, {name_of(type(f)): f for f in known}), **more)


def flow(source: str, sport: int, destination: str, dport: int, **more: Any) -> Flow:
    """Return a UDP flow that NAT left alone and that has had no reply."""
    way = Tuple(source, sport, destination, dport)
    return replace(Flow("udp", way, way.reversed, seen_reply=False, nat=False), **more)


def packet_rule(hook: str, action: str, match: Match = ANY, **more: Any) -> PacketRule:
    """Return a rule of an nftables chain ``c``, for IPv4, whose text is its action."""
    return replace(PacketRule("nft", "ip", "t", "c", hook, action, action, match), **more)


def finding(condition: str = "cond", subject: str = "s", **more: Any) -> Finding:
    """Return a finding that is exposed."""
    return replace(Finding(condition, subject, "exposed", "medium", "bad"), **more)


def change(
    resource: str, before: Optional[str] = None, after: Optional[str] = "1", **more: Any
) -> Change:
    """Return a change of the fix ``f`` that can be undone exactly."""
    action: Action = "create" if before is None else "remove" if after is None else "update"
    made = Change("f", None, resource, action, before, after, "", "exact", "low", "little")
    return replace(made, **more)


def scan(*findings: Finding, **more: Any) -> Scan:
    """Return a scan that found these."""
    return replace(Scan(HOST, TIME, findings, ()), **more)


def plan(*changes: Change, findings: tuple[Finding, ...] = (), **more: Any) -> Plan:
    """Return a plan of these changes."""
    made = Plan(scan(*findings), PolicyRef(("p",), "d"), changes, (), ())
    return replace(made, **more)


def begin(*changes: Change, **more: Any) -> Begin:
    """Return what the journal says before these are written."""
    return replace(Begin("apply", changes, "0", "h", "m", "b", "root", "remedy apply"), **more)


def back(*changes: Change) -> tuple[Change, ...]:
    """Return what puts back what these wrote, in the order in which that is done."""
    return tuple(c.reversed() for c in reversed(changes))


def held(resource: str, ours: Optional[str] = "1", base: Optional[str] = None, **more: Any) -> Held:
    """Return a resource of the fix ``f`` in force."""
    return replace(Held(resource, "f", base, ours, "t1"), **more)


def policy(rules: Optional[dict[str, Rule]] = None, **more: Any) -> Policy:
    """Return a policy with these rules."""
    return replace(Policy(("p",), "d", "nftables", False, rules or {}), **more)
