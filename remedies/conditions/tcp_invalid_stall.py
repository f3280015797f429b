"""A firewall's INVALID drop eats segments of connections that both ends hold for healthy.

What it detects
    A rule of somebody's drops what conntrack calls INVALID, and data of an established TCP
    connection that conntrack knows came again and again, was acknowledged by nobody, and meets
    that rule. Or a rule answers such a segment with a TCP reset, and one left for a connection that
    conntrack knows and NAT does not rewrite. No NAT is needed. ``proven``: it was heard within the
    window, conntrack counted INVALID segments meanwhile, and a segment of the same connection in
    state ESTABLISHED would have passed that chain. ``unknown``: whether it meets the rule depends
    on a condition that is not modelled (a rate, a set that is not read). Without such a connection
    nothing is said, and so with ``--window 0``: a rule that drops INVALID is usual, and alone no
    fault.

Why it matters
    conntrack judges segments by the window that it believes an end to have. A box on the way that
    rewrites sequence numbers and forgets SACK blocks, or that takes away window scaling, makes
    healthy segments look out of the window. The receiver would take them; the firewall drops them,
    and each one that is sent again. The connection hangs until it times out, and no log says why.
    A firewall that rejects with a reset (OpenWrt's does for all that it does not know) ends it.

Evidence
    The connection and how often its data came; conntrack's counter of INVALID over the same time;
    the rule, where it stands, and whose it is.

False positives
    Data that another rule or a full receiver stops stands still, too: it counts only where the
    first rule that the segment surely meets drops it for its state. Strays that belong to no
    connection are dropped rightly, and are not counted: nobody waits for them. Resets of the ends
    themselves are told from a firewall's by their time to live, their flags and their checksum.

References
    net/netfilter/nf_conntrack_proto_tcp.c (tcp_in_window, nf_tcp_log_invalid);
    Documentation/networking/nf_conntrack-sysctl.rst (nf_conntrack_tcp_be_liberal); RFC 2018
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.dropped import REJECTED, Dropped, DroppedStream, one_way
from remedies.facts.netfilter import Netfilter
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding, Severity, mitigated
from remedies.printable import both_ends
from remedies.rules.rule import PacketRule

TITLE = "A firewall drops segments of healthy TCP connections as INVALID"
SYMPTOM = "connections hang in the middle and nobody resets them; a firewall drops INVALID"
SEVERITY: Severity = "high"
AREA = "conntrack"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-7", "CIS-Controls-8 4.4")
NEEDS = (Dropped, Netfilter, Sysctl, Counters)
PARAMS: Mapping[str, object] = {}

BE_LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
_SUBJECT = "tcp that a firewall takes for INVALID"
_READ_APART = 2
"""How many segments may be heard for one that the counter shows: the counter is read earlier."""
_SHOWN = 3


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return one finding if a connection is seen to stall, or the fix covers that; else none.

    Raises Unreadable where connections could not be heard, or sysctls not be read, and where a rule
    may take the segments of one that stalls and a condition that is not modelled decides.
    """
    if facts.get(Sysctl).values.get(BE_LIBERAL, "0") != "0":
        return _mitigated(facts)
    invalid = facts.get(Counters).delta("nf_conntrack.invalid") or 0
    seen = facts.get(Dropped)
    counted = [
        each
        for each in seen.streams
        if not each.rule.ours
        and not one_way(each.stall)
        and each.stall.count <= _READ_APART * invalid
    ]
    dropped = tuple(each for each in counted if not each.doubts)
    if not dropped:
        reasons = (*map(_doubtful, counted), *(seen.unread if invalid else ()))
        if reasons:
            raise Unreadable("; ".join(dict.fromkeys(reasons)))
        return ()
    return (
        Finding(
            condition="tcp-invalid-stall",
            subject=_SUBJECT,
            verdict="proven",
            severity=SEVERITY,
            message=_message(dropped),
            evidence=(
                Evidence("/proc/net/stat/nf_conntrack", "invalid", f"+{invalid}"),
                *(_heard(each) for each in dropped[:_SHOWN]),
                *(_standing(rule) for rule in dict.fromkeys(each.rule for each in dropped)),
            ),
        ),
    )


def _mitigated(facts: Facts) -> tuple[Finding, ...]:
    """Return that the setting covers it, where it is ours and a firewall drops INVALID."""
    drops = [rule for rule in facts.get(Netfilter).drops if not rule.ours]
    if f"sysctl:{BE_LIBERAL}" not in facts.ours or not drops:
        return ()
    covered = f"remedy sysctl:{BE_LIBERAL}"
    return (
        mitigated(
            "tcp-invalid-stall",
            _SUBJECT,
            by=covered,
            message=f"{drops[0].named} drops INVALID; with {covered} segments outside "
            "conntrack's window are not INVALID",
            evidence=tuple(_standing(rule) for rule in dict.fromkeys(drops)),
        ),
    )


def _message(dropped: tuple[DroppedStream, ...]) -> str:
    first = dropped[0]
    more = f" and of {len(dropped) - 1} more connections" if len(dropped) > 1 else ""
    whose = f"{both_ends(*first.stall.way.parts)}{more}"
    if first.stall.kind == REJECTED:
        return (
            f"a segment of {whose} was answered with a reset: conntrack calls it INVALID and "
            f"{first.rule.named} rejects it"
        )
    return (
        f"data of {whose} came {first.stall.count} times and was "
        f"not acknowledged: conntrack calls it INVALID and {first.rule.named} drops it"
    )


def _doubtful(each: DroppedStream) -> str:
    """Return what is not known of a connection that hangs."""
    happened = "was reset" if each.stall.kind == REJECTED else "is not acknowledged"
    return (
        f"data of {both_ends(*each.stall.way.parts)} {happened} while conntrack counted INVALID "
        f"segments; whether {each.rule.named} drops it depends on {', '.join(each.doubts)}"
    )


def _heard(each: DroppedStream) -> Evidence:
    return Evidence(
        "packet socket",
        "reset sent" if each.stall.kind == REJECTED else "data that is not acknowledged",
        both_ends(*each.stall.way.parts),
        f"{each.stall.count} times",
    )  # fmt: skip


def _standing(rule: PacketRule) -> Evidence:
    return Evidence(rule.place, rule.hook, rule.text, rule.owner)
