"""The flow table is nearly full: new connections are about to be dropped.

What it detects
    ``nf_conntrack_count`` at or above ``threshold_percent`` (80) of ``nf_conntrack_max`` in this
    namespace, which local UDP service owns most of the flows, and which addresses began them:
    with the container's name where Docker or podman gives it, the protocol and TCP's state.

Why it matters
    When the table is full the kernel drops the first packet of every new connection and logs
    *nf_conntrack: table full, dropping packet*. Established connections live on, so the host looks
    healthy to whoever is already connected. A busy UDP service without NAT fills the table for
    nothing: its flows need no tracking.

Evidence
    Count and maximum; over the window the counters ``drop`` (no room), ``early_drop`` (an
    unassured flow gave way) and ``insert_failed``; the services that own the flows, counted in one
    dump of 16,384 flows at most, by service and by source, protocol and state. ``active`` from the
    threshold on; severity ``critical`` from 90 % on or while packets are dropped, but not where
    unassured flows give way (``early_drop``) and nothing is dropped: then new connections still
    pass.

False positives
    A short burst (a port scan, a load test) that ends by itself: look at the trend.
    ``insert_failed`` alone also counts clashes of two packets of one flow and is no sign of a full
    table.

References
    Documentation/networking/nf_conntrack-sysctl.rst of the kernel; __nf_conntrack_alloc() in
    net/netfilter/nf_conntrack_core.c; config/plugin/network_problem.sh of node-problem-detector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Facts, name_of
from remedies.facts.counters import Counters
from remedies.facts.docker import Docker
from remedies.facts.flows import Flows, FlowSource, Share
from remedies.facts.process import Process
from remedies.facts.sockets import Sockets
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.links import Links
from remedies.values import replace

TITLE = "The connection tracking table is nearly full"
SYMPTOM = '"nf_conntrack: table full, dropping packet"; new connections time out, old ones live'
SEVERITY: Severity = "high"
AREA = "conntrack"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-5")
NEEDS = (Sysctl, Counters, Flows, Links, Sockets, Docker)
PARAMS: Mapping[str, object] = {"threshold_percent": 80}
IN_PULSE = True

CONDITION = "conntrack-pressure"
_CRITICAL_PERCENT = 90
_COUNT = "net.netfilter.nf_conntrack_count"
_MAX = "net.netfilter.nf_conntrack_max"
_SHOWN = 5
_LEADING = 10
"""A tenth of the flows, at least, is worth a word on who began them."""
_BESIDE: Mapping[str, object] = {
    name_of(kind): kind() for kind in (Counters, Flows, Links, Sockets, Docker)
}
"""What says who fills the table, and stands for it where it could not be read: a dump of a full
table may well be out of time, and the table is full all the same."""


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return the finding, none below the threshold or where the kernel tracks nothing.

    Raises Unreadable where count or maximum are there and could not be read.
    """
    count, most = _number(facts, _COUNT), _number(facts, _MAX)
    if count is None or not most:
        return ()
    percent = 100 * count / most
    if percent < threshold(params):
        return ()
    unread = [f"{name}: {facts.unknown.get(name, 'not read')}" for name in _BESIDE
              if name not in facts.known]  # fmt: skip
    facts = replace(facts, known={**_BESIDE, **facts.known})
    counters = facts.get(Counters)
    dropped = counters.delta("nf_conntrack.drop") or 0
    evicted = counters.delta("nf_conntrack.early_drop") or 0
    shares = facts.get(Flows).shares
    largest = _largest_local(facts, shares)
    message = f"{count} of {most} flows are in use ({percent:.0f} %)"
    if largest is not None:
        share, owner = largest
        name = owner.name if owner is not None else "a service"
        message += f"; {name} on udp port {share.port} owns {share.flows}"
    leading = _leading(facts.get(Flows), count)
    if leading is not None:
        message += f"; the address that began most is {_told(facts, leading)}"
    elif facts.get(Flows).sources:
        message += "; no address began a tenth of them"
    counted = facts.get(Flows).counted
    if 0 < counted < count:
        message += f" ({counted} of them were counted)"
    if dropped:
        message += f"; {dropped} packets were dropped during the scan"
    elif evicted:
        message += (
            f"; {evicted} unassured flows were evicted early during the scan, no packet was dropped"
        )
    lossy = dropped or (percent >= _CRITICAL_PERCENT and not evicted)
    return (
        Finding(
            condition=CONDITION,
            subject="nf_conntrack",
            verdict="active",
            severity="critical" if lossy else SEVERITY,
            message=message,
            evidence=_evidence(facts, count, most, counters, shares, unread),
            details={**_details(largest), **_source_details(facts, leading)},
        ),
    )


def threshold(params: Mapping[str, object]) -> float:
    """Return the percent of the table from which on it is nearly full."""
    return float(str(params.get("threshold_percent", PARAMS["threshold_percent"])))


def _number(facts: Facts, key: str) -> Optional[int]:
    text = facts.get(Sysctl).get(key)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise Unreadable(f"{key} is not a number: {text!r}") from error


def _largest_local(
    facts: Facts, shares: tuple[Share, ...]
) -> Optional[tuple[Share, Optional[Process]]]:
    """Return the largest share that a local address is asked for, and the socket's owner."""
    local = facts.get(Links).local
    share = next((share for share in shares if share.destination in local), None)
    if share is None:
        return None
    family = 6 if ":" in share.destination else 4
    owners = (
        item.owner
        for item in facts.get(Sockets).wildcard
        if item.port == share.port and family in item.serves and item.owner is not None
    )
    return share, next(owners, None)


def _leading(flows: Flows, count: int) -> Optional[FlowSource]:
    """Return the source of most flows; None where it has too few to be what fills the table."""
    first = flows.sources[0] if flows.sources else None
    if first is None or first.flows * _LEADING < (flows.counted or count):
        return None
    return first


def _told(facts: Facts, source: FlowSource) -> str:
    """Return a source in words: ``172.17.0.2 (container web): 225000, tcp SYN_SENT``."""
    name, here = _container(facts, source.address), facts.get(Links).addresses
    place = f" (container {name})" if name else ""
    if any(item.address == source.address for item in here):
        place = " (this host)"
    return f"{source.address}{place}: {source.flows}, {source.protocol} {source.state}".rstrip()


def _container(facts: Facts, address: str) -> str:
    known = facts.get(Docker).containers
    return next((each.name for each in known if address in each.addresses), "")


def _source_details(facts: Facts, first: Optional[FlowSource]) -> dict[str, str]:
    """Return the largest source, as the advice on the finding is told it."""
    if first is None:
        return {}
    return {
        "source": first.address,
        "source_container": _container(facts, first.address),
        "source_flows": str(first.flows),
        "source_protocol": first.protocol,
        "source_state": first.state,
    }


def _evidence(
    facts: Facts,
    count: int,
    most: int,
    counters: Counters,
    shares: tuple[Share, ...],
    unread: Iterable[str],
) -> tuple[Evidence, ...]:
    found = [
        Evidence("/proc/sys", _COUNT, str(count)),
        Evidence("/proc/sys", _MAX, str(most)),
    ]
    for name in ("drop", "early_drop", "insert_failed"):
        delta = counters.delta(f"nf_conntrack.{name}")
        if delta is not None and facts.window > 0:
            found.append(
                Evidence("/proc/net/stat/nf_conntrack", name, f"+{delta}", f"in {facts.window:g} s")
            )
    found += [
        Evidence(
            "conntrack", f"{share.protocol} {share.destination}:{share.port}", str(share.flows)
        )
        for share in shares[:_SHOWN]
    ]
    flows = facts.get(Flows)
    for source in flows.sources[:_SHOWN]:
        told = _told(facts, source).partition(": ")
        whole = f"of {flows.counted} that were counted" if flows.counted < count else ""
        found.append(Evidence("conntrack", f"from {told[0]}", told[2], whole))
    reasons = (*unread, *flows.unread)
    found += [Evidence("conntrack", "not read", reason) for reason in reasons]
    return tuple(found)


def _details(largest: Optional[tuple[Share, Optional[Process]]]) -> dict[str, str]:
    """Return the service that owns most, as the ``notrack`` fix would be told it."""
    if largest is None:
        return {}
    share, owner = largest
    details = {"protocol": share.protocol, "address": share.destination, "port": str(share.port)}
    if owner is not None:
        details.update(
            process=owner.name, pid=str(owner.pid), unit=owner.unit, container=owner.container
        )
    return details
