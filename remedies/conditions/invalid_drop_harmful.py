"""A firewall's INVALID drop ends connections of which it sees one direction alone.

What it detects
    A rule of somebody's drops what conntrack calls INVALID, and it meets segments of a TCP
    connection that passes this host in one direction: conntrack has seen the SYN and no answer, and
    the client sends on, so that it was answered by another way. ``proven``: such segments were
    heard within the window, arrived and did not leave, conntrack counted INVALID meanwhile, and
    they would have passed that chain as ESTABLISHED.

Why it matters
    With direct server return, two routers, or a VPN beside the default route, answers take another
    way than requests. conntrack then takes a client's first ACK for INVALID, and a rule that drops
    INVALID, on nearly every list of good rules, ends the connection before its first byte: connect
    succeeds and nothing follows. ``nf_conntrack_tcp_be_liberal`` is no help, as no window is known.

Evidence
    The connection, what conntrack holds of it, its counter of INVALID over the same time, and the
    rule, where it stands, and whose it is.

False positives
    None known: a server that is down, and a scan, send no more than SYNs. Of connections whose
    answers alone pass here conntrack has no entry, and they cannot be told from strays: not
    reported. Connections that conntrack knows in both directions are tcp-invalid-stall; where a
    drop of ours does it, ``remedy status`` says so.

References
    tcp_conntracks[] in net/netfilter/nf_conntrack_proto_tcp.c ("ack" in SYN_SENT is sIV);
    kubernetes/kubernetes#94861, projectcalico/felix#1248, ufw-docker#153
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.dropped import Dropped, DroppedStream, one_way
from remedies.model import Evidence, Finding, Severity
from remedies.printable import both_ends
from remedies.rules.accepting import accepting
from remedies.rules.rule import PacketRule

TITLE = "A firewall drops as INVALID what it sees one direction of"
SYMPTOM = "connect succeeds and nothing follows, where answers take another way than requests"
SEVERITY: Severity = "high"
AREA = "conntrack"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-7")
NEEDS = (Dropped, Counters)
PARAMS: Mapping[str, object] = {}

_READ_APART = 2
"""How many segments may be heard for one that the counter shows: the counter is read earlier."""
_SHOWN = 3


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each rule. Raises Unreadable where what it does cannot be told."""
    invalid = facts.get(Counters).delta("nf_conntrack.invalid") or 0
    by_rule: dict[PacketRule, list[DroppedStream]] = {}
    doubts: dict[str, None] = {}
    for each in facts.get(Dropped).streams:
        if each.rule.ours or not one_way(each.stall):
            continue
        if each.stall.count > _READ_APART * invalid:
            continue
        if each.doubts:
            doubts[f"whether {each.rule.named} drops it depends on {', '.join(each.doubts)}"] = None
        else:
            by_rule.setdefault(each.rule, []).append(each)
    if doubts and not by_rule:
        raise Unreadable("; ".join(doubts))
    return tuple(_finding(rule, streams, invalid) for rule, streams in by_rule.items())


def _finding(rule: PacketRule, streams: list[DroppedStream], invalid: int) -> Finding:
    first = streams[0].stall
    more = f" and of {len(streams) - 1} more connections" if len(streams) > 1 else ""
    return Finding(
        condition="invalid-drop-harmful",
        subject=rule.place,
        verdict="proven",
        severity=SEVERITY,
        message=(
            f"{first.count} segments of {both_ends(*first.way.parts)}{more} arrived and did not "
            f"leave: conntrack has seen no answer, because answers take another way, calls them "
            f"INVALID, and {rule.named} drops them; lead both directions over this host, or let "
            f"these by before that rule: {accepting(rule, 'tcp', first.way)}"
        ),
        evidence=(
            Evidence("/proc/net/stat/nf_conntrack", "invalid", f"+{invalid}"),
            *(_heard(each) for each in streams[:_SHOWN]),
            Evidence(rule.place, rule.hook, rule.text, rule.owner),
        ),
    )


def _heard(each: DroppedStream) -> Evidence:
    return Evidence(
        "packet socket",
        "arrived and did not leave",
        both_ends(*each.stall.way.parts),
        f"{each.stall.count} segments; conntrack: no reply seen",
    )
