"""A protocol that needs a conntrack helper behind NAT has none: its data comes to the host itself.

What it detects
    A client behind NAT that speaks FTP in active mode, or TFTP or its like, and what its server
    sends it: FTP's server opens a connection, TFTP's answers from another port than the one that
    was asked. And an FTP server behind a published port, to which its client opens a connection in
    passive mode. conntrack expects none of them, so NAT does not turn it to the other end, and this
    host drops it.

Why it matters
    The client logs in and then hangs at the first listing or transfer. Up to Linux 5.19 the sysctl
    ``nf_conntrack_helper`` had each helper used by its port; since 6.0 it is gone, and what worked
    by itself on an older kernel needs a rule that assigns the helper.

Evidence
    ``proven``: the packets that were dropped here, for want of a socket or by the firewall, and the
    client's own flow to that very server, of which NAT gave out the address that they came to.
    FTP's data is known by port 20, or by a port from 32768 on, which programs wait at that name
    none. Without BTF or CAP_BPF it is unknown.

False positives
    A server that answers from another port by mistake looks the same; it cannot be reached through
    NAT either. Who has a session of FTP with the other end and tries a closed port from 32768 on
    for another reason looks the same, too. A session on another port than 21, and passive ports
    below 32768 that nobody published, are not told: nothing outside the session names them.

References
    Documentation/networking/nf_conntrack-sysctl.rst; commit b118509076b3 (netfilter: remove
    nf_conntrack_helper sysctl); nft(8), CT HELPER; iptables-extensions(8), CT; RFC 959, 3.2;
    RFC 1350, 4; moby/moby#22837, kubernetes/kubernetes#26718
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.strays import StrayPacket, Strays, evidence_of
from remedies.model import Finding, Severity
from remedies.printable import at

TITLE = "A protocol behind NAT lacks its conntrack helper"
SYMPTOM = "FTP or TFTP from a container, or FTP to one, hangs at the first transfer"
SEVERITY: Severity = "medium"
AREA = "NAT"
CONTROLS = ("NIST-800-53 CM-6",)
NEEDS = (Strays,)
PARAMS: Mapping[str, object] = {}

HELPERS = {("tcp", 21): "ftp", ("udp", 69): "tftp"}
"""The kernel's helpers for this, by the port that is asked (nf_conntrack_ftp.c, _tftp.c)."""
_FINDINGS = 8


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each server whose data was dropped here.

    Raises Unreadable where nothing was found and drops or flows could not be read.
    """
    strays = facts.get(Strays)
    by_server: dict[str, list[StrayPacket]] = {}
    for stray in strays.found:
        if stray.why != "forgotten":
            by_server.setdefault(_subject(stray), []).append(stray)
    if not by_server and strays.unread:
        raise Unreadable("; ".join(strays.unread))
    return tuple(_finding(name, found) for name, found in list(by_server.items())[:_FINDINGS])


def _subject(stray: StrayPacket) -> str:
    asked = stray.flow.original
    return f"{stray.flow.protocol} {at(asked.destination, asked.destination_port)}"


def _finding(subject: str, strays: list[StrayPacket]) -> Finding:
    first = strays[0]
    asked, way = first.flow.original, first.drop.way
    count = sum(stray.drop.count for stray in strays)
    talks = f"{asked.source} talks to {subject} through NAT here, and {count} packets that"
    sent = f"the server sent it from port {way.source_port}"
    passive = first.why == "passive"
    if passive:
        sent = f"it sent to port {way.destination_port} for its data"
    return Finding(
        condition="helper-missing",
        subject=subject,
        verdict="proven",
        severity=SEVERITY,
        message=(
            f"{talks} {sent} were dropped by this host, because conntrack did not expect them; "
            f"{cure(first.flow.protocol, asked.destination_port, passive=passive)}"
        ),
        evidence=evidence_of(strays[:_FINDINGS], "through NAT", "as"),
    )


def cure(protocol: str, port: int, *, passive: bool) -> str:
    """Return what lets the data of a service through; ``port``: the one that is asked.

    ``passive``: the server is behind a published port, and its client opens the data connection.
    """
    helper = HELPERS.get((protocol, port))
    if helper is None:
        return "have the server answer from the port that was asked: no helper is known for it"
    other = ", or have the client use passive mode" if helper == "ftp" else ""
    if passive:
        other = ", or publish the ports that the server uses in passive mode"
    return (
        f"load nf_nat_{helper} and assign the helper: iptables -t raw -A PREROUTING -p {protocol} "
        f"--dport {port} -j CT --helper {helper} (ip6tables for IPv6){other}"
    )
