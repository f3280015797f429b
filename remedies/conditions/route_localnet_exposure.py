"""Others reach a service that listens on 127.0.0.1 alone.

What it detects
    A link that takes packets for 127.0.0.0/8 (``net.ipv4.conf.LINK.route_localnet``, or that of
    ``all``), a TCP service that listens on such an address, and no rule of the firewall that keeps
    out what the link's neighbours send there. ``mitigated`` where a rule does, for who is connected
    already, too.

Why it matters
    Programs listen on 127.0.0.1 in the belief that nobody else reaches them, and ask for no
    password: databases, metrics, a Kubernetes API without authentication. kube-proxy sets the key
    for all links (``kube-proxy --iptables-localhost-nodeports``), Docker without its proxy for its
    bridges.

Evidence
    ``exposed``: the setting, the listening socket, and the chains that such a packet passes.
    ``proven``: a connection to the service from an address that is not this host's is open now.
    Where a condition of a rule that may drop it cannot be judged, it is unknown.

False positives
    Who is on that link is trusted as this host is: waive it. Services over UDP are not looked at.

References
    ip-sysctl.rst of the kernel: route_localnet; ip_route_input_slow() in net/ipv4/route.c;
    kubernetes/kubernetes#90259 (CVE-2020-8558); moby/moby#45610
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.loopback import ALL, Loopback, LoopbackDoor
from remedies.facts.switches import Switches, key_of
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding, Severity, mitigated
from remedies.printable import at

TITLE = "Others reach a service that listens on the loopback alone"
SYMPTOM = "a service on 127.0.0.1 answers machines of the network, or containers"
SEVERITY: Severity = "medium"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 SC-7", "CIS-Controls-8 4.4")
NEEDS = (Loopback, Switches, Sysctl)
PARAMS: Mapping[str, object] = {}

SWITCH = "route_localnet"
_SHOWN = 3
_OUT = "iptables -t raw -I PREROUTING ! -i lo -d 127.0.0.0/8 -j DROP"


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each link with open doors. Raises Unreadable where that is not known."""
    by_link: dict[str, list[LoopbackDoor]] = {}
    for door in facts.get(Loopback).doors:
        by_link.setdefault(door.link, []).append(door)
    found, doubts = [], []
    for link, doors in by_link.items():
        reached = [d for d in doors if d.kept_out_by is None and (d.peers or not d.doubts)]
        covered = next((door for door in doors if door.kept_out_by is not None), None)
        doubts += [f"{link}: {word}" for door in doors if not door.peers for word in door.doubts]
        if reached:
            found.append(_finding(facts, link, reached))
        elif covered is not None and not any(door.doubts for door in doors):
            found.append(_mitigated(link, covered))
    if doubts and not any(finding.verdict != "mitigated" for finding in found):
        raise Unreadable(
            "a rule may keep others out of 127.0.0.0/8, by a condition that is not judged: "
            + ", ".join(dict.fromkeys(doubts))
        )
    return tuple(found)


def _key(facts: Facts, link: str) -> str:
    """Return the sysctl that opens a link."""
    own = facts.get(Switches).of(link)
    return key_of(link, SWITCH) if own is not None and own.route_localnet else ALL


def _finding(facts: Facts, link: str, doors: list[LoopbackDoor]) -> Finding:
    peers = tuple(dict.fromkeys(peer for door in doors for peer in door.peers))
    key = _key(facts, link)
    seen = f", and {', '.join(peers)} has a connection there now" if peers else ""
    return Finding(
        condition="route-localnet-exposure",
        subject=link,
        verdict="proven" if peers else "exposed",
        severity="high" if peers else SEVERITY,
        message=(
            f"neighbours on {link} reach {', '.join(map(_named, doors[:_SHOWN]))}"
            f"{f' and {len(doors) - _SHOWN} more' if len(doors) > _SHOWN else ''}{seen}: {key} is "
            f"1, and no rule drops what comes for the loopback; to keep them out: {_OUT}"
        ),
        evidence=(
            Evidence("/proc/sys", key, "1"),
            *(
                Evidence("sock_diag", f"listens on {at(door.address, door.port)}", _who(door))
                for door in doors[:_SHOWN]
            ),
            *(Evidence("sock_diag", "connected from", peer) for peer in peers[:_SHOWN]),
        ),
        details={"link": link, "key": key},
    )


def _who(door: LoopbackDoor) -> str:
    return "a program" if door.owner is None else f"{door.owner.name} (process {door.owner.pid})"


def _named(door: LoopbackDoor) -> str:
    return f"{at(door.address, door.port)} of {_who(door)}"


def _mitigated(link: str, door: LoopbackDoor) -> Finding:
    rule = door.kept_out_by
    covered = "a rule" if rule is None else rule.named
    if rule is not None and rule.ours:
        covered = f"remedy {rule.place}"
    return mitigated(
        "route-localnet-exposure",
        link,
        by=covered,
        message=f"{link} takes packets for the loopback, and {covered} drops them",
        link=link,
    )
