"""Will this cut me off? What a plan does to the session that applies it, and to the next one.

Every rule of a plan is matched against the packets of the live session, of a new connection like
it, and of the host's own DNS queries. Pure: the facts are read before.

What counts (net/netfilter/nf_conntrack_proto_tcp.c): a segment of a connection that conntrack
does not know is INVALID unless it may pick connections up in the middle
(``nf_conntrack_tcp_loose``); one of a connection of which it has seen a single direction is
INVALID too. A connection that ends at this host passes conntrack in both directions whatever
links it takes, so several default routes do not harm it; what is forwarded they do.
"""

from __future__ import annotations

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.routes import Routes
from remedies.facts.session import Connection, Session
from remedies.model import Change, Plan
from remedies.rules import kinds
from remedies.rules.matching import conjoin
from remedies.rules.rule import Match, PacketRule
from remedies.values import dataclass

NEEDS = (Session, Routes)
SEVERITIES = ("none", "mild", "severe")

_EVERY_PORT = ((0, 65535),)
_LO = ("lo",)
_INWARD, _OUTWARD = ("prerouting", "input"), ("output", "postrouting")


@dataclass(frozen=True)
class Impact:
    """What one change does to the session and to the host's own traffic."""

    resource: str
    severity: str
    """``none``; ``mild``: something may be noticed; ``severe``: it can cut somebody off."""
    reason: str


def judge(plan: Plan, facts: Facts) -> tuple[Impact, ...]:
    """Return the impact of every change that is not for boot only, the worst first."""
    found = [_worst(_of_change(c, facts), c) for c in plan.changes if not c.boot]
    return tuple(sorted(found, key=lambda impact: -SEVERITIES.index(impact.severity)))


def is_remote(facts: Facts) -> bool:
    """Tell whether a live session comes from another machine, as far as is known."""
    connections = facts.get(Session).connections
    return any(c.live and c.peer != c.address and not _loopback(c.peer) for c in connections)


def _loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def _worst(found: list[tuple[str, str]], change: Change) -> Impact:
    level, reason = max(
        found, key=lambda item: SEVERITIES.index(item[0]), default=("none", change.impact)
    )
    return Impact(change.resource, level, reason)


def _of_change(change: Change, facts: Facts) -> list[tuple[str, str]]:
    """Return every severity and reason found for one change."""
    try:
        session = facts.get(Session)
    except Unreadable as error:
        return [("mild", f"the session that applies this is not known: {error}")]
    kind, path = kinds.of(change.resource)
    unjudged = kind.unjudged(path)
    found = [("mild", unjudged)] if unjudged else []
    for rule in kinds.rules_of(change.resource, change.after):
        for connection in session.connections:
            found += _on_session(rule, connection, session)
        found += _on_dns(rule, session)
        found += _on_forwarded(rule, facts)
    flows = change.effects
    if flows:
        found.append(("mild", f"{len(flows)} entries for stale flows are deleted: {flows[0]}, ..."))
    return found


def _on_session(
    rule: PacketRule, connection: Connection, session: Session
) -> list[tuple[str, str]]:
    """Return what a rule does to a live connection, and to a new one like it."""
    if not _hits(rule, connection):
        return []
    if rule.action == "drop" and rule.match.states:
        if "invalid" not in rule.match.states:
            return [("severe", f"'{rule.text}' could drop your session {connection.text}")]
        if rule.match.unmodelled:  # the flags of a reset: no segment of a live session is one
            return []
        return _as_invalid(connection, session) if connection.live else []
    what = {
        "drop": "drops",
        "reject": "rejects",
        "notrack": "takes out of conntrack, so that rules which accept established connections "
        "no longer see it,",
    }.get(rule.action, f"changes ({rule.action})")
    whom = "your session" if connection.live else "a session like yours"
    return [("severe", f"'{rule.text}' {what} {whom} {connection.text}, and every new one like it")]


def _as_invalid(connection: Connection, session: Session) -> list[tuple[str, str]]:
    """Return what dropping INVALID does to a live connection."""
    named = f"your session {connection.text}"
    if connection.tracked and connection.replied is False:
        return [("severe", f"conntrack has seen one direction only of {named}: its segments are "
                 "INVALID and would be dropped")]  # fmt: skip
    if connection.tracked:
        return []
    if connection.tracked is None:
        return [("mild", f"it is not known whether conntrack has {named}")]
    if session.loose is False:
        why = "conntrack does not pick up running connections (nf_conntrack_tcp_loose is 0)"
        return [("severe", f"{why} and does not know {named}: it would be dropped as INVALID")]
    return [
        ("mild", f"conntrack does not know {named} yet and picks it up as a running connection")
    ]


def _hits(rule: PacketRule, connection: Connection) -> bool:
    """Tell whether a rule could see a packet of a connection, or of a new one like it."""
    peer, own = (connection.peer,), (connection.address,)
    port = ((connection.port, connection.port),)
    ports = ((connection.peer_port, connection.peer_port),) if connection.live else _EVERY_PORT
    inward = Match(
        protocols=("tcp",), sources=peer, source_ports=ports, destinations=own,
        destination_ports=port, destination_local=True,
        in_interfaces=_LO if _loopback(connection.peer) else (),
    )  # fmt: skip
    outward = Match(
        protocols=("tcp",), sources=own, source_ports=port, destinations=peer,
        destination_ports=ports,
    )  # fmt: skip
    return _sees(rule, _INWARD, inward) or _sees(rule, _OUTWARD, outward)


def _sees(rule: PacketRule, hooks: tuple[str, ...], packet: Match) -> bool:
    address = (packet.sources or packet.destinations)[0]
    if rule.family != "inet" and (rule.family == "ip6") != (":" in address):
        return False
    return rule.hook in hooks and conjoin(rule.match, packet) is not None


def _on_dns(rule: PacketRule, session: Session) -> list[tuple[str, str]]:
    """Return what a rule does to the host's own queries; a drop of INVALID does nothing to them.

    The query's own port is one of the many that the kernel picks, so a rule for one port that
    is not 53 is ignored.
    """
    found = []
    for server in session.nameservers:
        udp, port = ("udp",), ((53, 53),)
        query = Match(protocols=udp, destinations=(server,), destination_ports=port)
        answer = Match(
            protocols=udp, sources=(server,), source_ports=port,
            in_interfaces=_LO if _loopback(server) else (),
            not_destinations=() if _loopback(server) or ":" in server else ("127.0.0.0/8",),
        )  # fmt: skip
        asked = _sees(rule, _OUTWARD, query) and not rule.match.source_ports
        answered = _sees(rule, _INWARD, answer) and not rule.match.destination_ports
        if (asked or answered) and "invalid" not in rule.match.states:
            level = "severe" if rule.action in ("drop", "reject") else "mild"
            found.append((level, f"'{rule.text}' sees this host's DNS queries to {server}"))
    return found


def _on_forwarded(rule: PacketRule, facts: Facts) -> list[tuple[str, str]]:
    """Return what dropping INVALID does to connections that pass through by several ways."""
    narrowed = bool(rule.match.unmodelled)  # to resets that answer what nobody knows
    if rule.hook != "forward" or "invalid" not in rule.match.states or narrowed:
        return []
    routes = facts.known.get("routes")
    if not isinstance(routes, Routes):
        return []
    for family in (4, 6):
        links = {link for way in routes.defaults if way.family == family for link in way.links}
        if len(links) > 1:
            why = f"IPv{family} default routes leave by {', '.join(sorted(links))}"
            return [("mild", f"{why}: what is forwarded and answered another way is dropped")]
    return []
