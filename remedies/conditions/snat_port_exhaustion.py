"""NAT finds no free source port towards one destination, and drops new connections to it.

What it detects
    Packets that begin a TCP connection, that NAT had given an address of this host as their source
    already, and that were dropped while scan watched because a connection with the same addresses
    and ports is there; at least two of one destination.

Why it matters
    Behind one address there are as many connections to one address and port as there are source
    ports. Containers of a busy host that all call one service use them up: connecting takes one,
    three or seven seconds more, or fails, to that service alone. Nothing is logged.

Evidence
    ``proven``: the kernel's reason for each packet (NETFILTER_DROP, new, from this host's address
    on its way out), conntrack's ``insert_failed`` and ``drop``, which rise together by as much, and
    no rule of the firewall that drops such packets. Without BTF or CAP_BPF it is unknown.

False positives
    Many connections that are begun in one moment may choose the same port although others are free:
    then ``MASQUERADE --random-fully`` is enough. Two DNS queries at once are another fault.

References
    nf_nat_l4proto_unique_tuple() in net/netfilter/nf_nat_core.c, __nf_conntrack_confirm() in
    net/netfilter/nf_conntrack_core.c; flannel-io/flannel#1004, weaveworks/weave#3287
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.drop_signs import drops_of, evidence, rule_of
from remedies.facts.droppers import Droppers
from remedies.facts.drops import Drops, SeenDrop
from remedies.facts.pairs import here
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.links import Links
from remedies.printable import at

TITLE = "NAT has no free source port towards one destination"
SYMPTOM = "containers connect to one busy service slowly or not at all; to all others they do"
SEVERITY: Severity = "high"
AREA = "NAT"
CONTROLS = ("NIST-800-53 SC-5",)
NEEDS = (Drops, Droppers, Counters, Links)
PARAMS: Mapping[str, object] = {}

_LEAST = 2
_SHOWN = 3
_SYN = 0x02


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each destination. Raises Unreadable without the drops."""
    new = drops_of("snat-port-exhaustion", facts)
    failed = facts.get(Counters).delta("nf_conntrack.insert_failed") or 0
    if not new or not failed:
        return ()
    local = facts.get(Links).local
    found: dict[tuple[str, str, int], list[SeenDrop]] = {}
    for drop in new:
        way = drop.way
        leaves = here(way.source, local) and not here(way.destination, local)
        if drop.flags & _SYN and leaves and rule_of(facts, drop) is None:
            key = way.source, way.destination, way.destination_port
            found.setdefault(key, []).append(drop)
    counted = sum(drop.count for drops in found.values() for drop in drops)
    if counted > failed + _LEAST:  # the counter is read a moment before: more than that it is not
        return ()
    return tuple(
        _finding(drops, failed)
        for drops in found.values()
        if sum(drop.count for drop in drops) >= _LEAST
    )


def _finding(drops: list[SeenDrop], failed: int) -> Finding:
    way, count = drops[0].way, sum(drop.count for drop in drops)
    to = at(way.destination, way.destination_port)
    return Finding(
        condition="snat-port-exhaustion",
        subject=f"tcp {way.source} to {to}",
        verdict="proven",
        severity=SEVERITY,
        message=(
            f"{count} new connections to {to} were dropped: NAT found no source port of "
            f"{way.source} that is free towards it; let clients keep their connections, give the "
            "NAT rule more ports or addresses (--to-ports, --to-source), or, if ports are free, "
            "--random-fully; 'conntrack -L -p tcp --reply-src "
            f"{way.destination}' lists who holds them"
        ),
        evidence=(
            Evidence("/proc/net/stat/nf_conntrack", "insert_failed", f"+{failed}"),
            *(evidence(drop) for drop in drops[:_SHOWN]),
        ),
        details={"destination": way.destination, "port": str(way.destination_port)},
    )
