"""A protocol that needs a conntrack helper behind NAT has none: its data comes to the host itself.

What it detects
    A client behind NAT that speaks FTP in active mode, or TFTP or its like, and what its server
    sends it: FTP's server opens a connection from port 20, TFTP's answers from another port than
    the one that was asked. conntrack expects neither, so NAT does not turn it to the client, and
    this host drops it.

Why it matters
    The client logs in and then hangs at the first listing or transfer. Up to Linux 5.19 the sysctl
    ``nf_conntrack_helper`` had each helper used by its port; since 6.0 it is gone, and what worked
    by itself on an older kernel needs a rule that assigns the helper.

Evidence
    ``proven``: the packets that were dropped here, for want of a socket or by the firewall, and the
    client's own flow to that very server, of which NAT gave out the address that they came to.
    Without BTF or CAP_BPF it is unknown.

False positives
    A server that answers from another port by mistake looks the same; it cannot be reached through
    NAT either. FTP in passive mode, and servers that open their data connection from another port
    than 20, are not told.

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
SYMPTOM = "FTP (active mode) or TFTP from a container hangs at the first transfer"
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
    return Finding(
        condition="helper-missing",
        subject=subject,
        verdict="proven",
        severity=SEVERITY,
        message=(
            f"{asked.source} talks to {subject} through NAT here, and {count} packets that the "
            f"server sent it from port {way.source_port} were dropped by this host, because "
            f"conntrack did not expect them; {cure(first.flow.protocol, asked.destination_port)}"
        ),
        evidence=evidence_of(strays[:_FINDINGS], "through NAT", "as"),
    )


def cure(protocol: str, port: int) -> str:
    """Return what lets the data of a service through; ``port``: the one that is asked."""
    helper = HELPERS.get((protocol, port))
    if helper is None:
        return "have the server answer from the port that was asked: no helper is known for it"
    passive = ", or have the client use passive mode" if helper == "ftp" else ""
    return (
        f"load nf_nat_{helper} and assign the helper: iptables -t raw -A PREROUTING -p {protocol} "
        f"--dport {port} -j CT --helper {helper} (ip6tables for IPv6){passive}"
    )
