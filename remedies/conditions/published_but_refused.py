"""A port is published, and the firewall refuses what is sent on by it.

What it detects
    New TCP or UDP packets from elsewhere that a rule or a chain's policy dropped or rejected while
    scan watched, at an address and port that a DNAT rule sends such packets on to. The rule names
    neither an address, a port nor a link itself: it takes what nothing before it has let by.

Why it matters
    ``docker run -p`` and ``podman run -p`` succeed, the service answers on this host, and nobody
    outside gets in. firewalld with ``StrictForwardPorts=yes`` rejects everything that it has no
    forward port of its own for; a forward chain that somebody else wrote drops it by policy.

Evidence
    ``proven``: the kernel's reason for each packet (NETFILTER_DROP) with what conntrack held of it
    (new), the DNAT rule, and the rule that surely takes what DNAT has turned. Without BTF or
    CAP_BPF, or where a condition before the rule cannot be judged, it is unknown or not seen.

False positives
    A port that is published for this host's own use and is to be refused from outside: publish it
    on one address alone. A rule that names the port, the sender or the link is meant, and is not
    reported; nor is a single packet.

References
    firewalld.conf(5), StrictForwardPorts; firewalld.org, "Strict Filtering of Docker Containers";
    nft_reject_inet_eval() in net/netfilter/nft_reject_inet.c
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.drop_signs import drops_of, evidence
from remedies.facts.droppers import Droppers, RuledDrop
from remedies.facts.drops import Drops
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.flow import Tuple
from remedies.printable import at
from remedies.rules.accepting import accepting
from remedies.rules.invalid_packet import EVERYONE
from remedies.rules.publishing import asked_port
from remedies.rules.rule import PacketRule

TITLE = "The firewall refuses what a published port sends on"
SYMPTOM = "a published port answers on the host itself, and nobody outside reaches it"
SEVERITY: Severity = "high"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-7")
NEEDS = (Drops, Droppers)
PARAMS: Mapping[str, object] = {}

_LEAST = 2
_SHOWN = 3


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each service and rule. Raises Unreadable without the drops."""
    new = drops_of("published-but-refused", facts)
    found: dict[tuple[str, str, int, PacketRule, PacketRule], list[RuledDrop]] = {}
    for each in facts.get(Droppers).found if new else ():
        if each.drop in new and each.published is not None and each.rule is not None:
            if _meant(each.rule) or each.rule.ours:
                continue
            to = each.drop.way
            key = each.drop.protocol, to.destination, to.destination_port
            found.setdefault((*key, each.published, each.rule), []).append(each)
    return tuple(
        _finding(published, rule, drops)
        for (*_, published, rule), drops in found.items()
        if sum(each.drop.count for each in drops) >= _LEAST
    )


def _meant(rule: PacketRule) -> bool:
    """Tell whether a rule is about certain packets: then somebody meant it."""
    match = rule.match
    addresses = {*match.sources, *match.destinations} - set(EVERYONE.values())
    return any(
        (
            *(addresses, match.not_sources, match.not_destinations),
            *(match.source_ports, match.destination_ports),
            *(match.in_interfaces, match.not_in_interfaces),
            *(match.out_interfaces, match.not_out_interfaces),
        )
    )


def _finding(published: PacketRule, rule: PacketRule, drops: list[RuledDrop]) -> Finding:
    drop = drops[0].drop
    way, port = drop.way, asked_port(published, drop.way)
    return Finding(
        condition="published-but-refused",
        subject=f"{drop.protocol} {port or at(way.destination, way.destination_port)}",
        verdict="proven",
        severity=SEVERITY,
        message=(
            f"{sum(each.drop.count for each in drops)} packets for "
            f"{at(way.destination, way.destination_port)}, the first from {way.source}, were "
            f"dropped by {rule.named}, and {published.named} publishes it"
            f"{f' as port {port}' if port else ''}; to let them in: "
            f"{_command(rule, drop.protocol, way, port, drop.link)}"
        ),
        evidence=(
            *(evidence(each.drop) for each in drops[:_SHOWN]),
            Evidence(published.place, published.hook, published.text, published.owner),
            Evidence(rule.place, rule.hook, rule.text, rule.owner),
        ),
        details={"destination": way.destination, "port": str(way.destination_port)},
    )


def _command(rule: PacketRule, protocol: str, way: Tuple, port: int, link: str) -> str:
    """Return the command with which the owner of the rule lets these packets by."""
    if rule.owner == "firewalld" and port:
        zone = f'--zone="$(firewall-cmd --get-zone-of-interface={link})"' if link else ""
        return (
            f"firewall-cmd {zone} --add-forward-port=port={port}:proto={protocol}:"
            f"toport={way.destination_port}:toaddr={way.destination}".replace("  ", " ")
        )
    if rule.owner == "ufw":
        return f"ufw route allow proto {protocol} to {way.destination} port {way.destination_port}"
    return accepting(rule, protocol, way)
