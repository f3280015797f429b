"""The ways that INVALID segments of NAT's flows take, and which of them rules close. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from remedies.errors import Unreadable
from remedies.rules.rule import PacketRule

Ways = set[tuple[str, str]]
"""Family (``ip`` or ``ip6``) and hook that an INVALID segment takes."""

_HOOKS_OF = {
    "snat": ("input",),
    "masquerade": ("input",),
    "redirect": ("input",),
    "dnat": ("input", "forward"),
}
"""Which hooks segments of such a flow take: answers, and requests to a published port, stay
addressed to this host; what a container answers such requests is forwarded."""
_FAMILIES = {"ip": ("ip",), "ip6": ("ip6",), "inet": ("ip", "ip6")}
_IP = {"ip": "IPv4", "ip6": "IPv6"}


def needed(uses: Iterable[tuple[str, str, str, bool]], unread: Iterable[str]) -> Ways:
    """Return the ways of flows that are rewritten so: family, action and hook of each.

    And whether the addresses that it stands for are ``away``: none is this host's. Of this host's
    own connections none is forwarded. Families of NAT that is ``unread`` need all, and all are
    needed where nothing is known. Raises Unreadable where a family is unknown.
    """
    known = list(uses)
    found = [
        (family, hook)
        for family, action, where, away in known
        for hook in _HOOKS_OF[action]
        if (hook, where) != ("forward", "output") and (hook, away) != ("input", True)
    ]
    found += [(family, hook) for family in unread for hook in ("input", "forward")]
    if not found and not known:
        found = [("inet", "input"), ("inet", "forward")]
    return {(family, hook) for each, hook in found for family in families(each)}


def families(name: str) -> tuple[str, ...]:
    """Return the IP versions of a family of rules; raise Unreadable where facts name another."""
    if name not in _FAMILIES:
        raise Unreadable(f"rules of family {name!r}: only {', '.join(_FAMILIES)} are known")
    return _FAMILIES[name]


def kept_by(rule: PacketRule) -> Ways:
    """Return the ways that a drop closes; one on output keeps in what input would cause."""
    hook = "input" if rule.hook == "output" else rule.hook
    return {(family, hook) for family in families(rule.version or rule.family)}


def not_dropped(wanted: Ways, drops: Iterable[PacketRule]) -> Ways:
    """Return the ways on which nothing drops INVALID segments."""
    return wanted.difference(*(kept_by(rule) for rule in drops))


def told(ways: Ways) -> str:
    """Return ways as a person reads them: ``input (IPv4)``."""
    return ", ".join(f"{hook} ({_IP[family]})" for family, hook in sorted(ways))
