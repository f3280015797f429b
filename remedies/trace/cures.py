"""What to do about a dropped packet, as commands for this host. Pure.

A rule that drops may be meant: then there is nothing to do, so its command begins with a condition.
"""

from __future__ import annotations

from typing import Optional

from remedies.facts.drop_signs import SIGNS
from remedies.rules.accepting import accepting, clamping
from remedies.rules.rule import PacketRule
from remedies.trace.event import DropEvent

_OWNERS = {
    "docker": "Docker writes its rules anew; publish the port (-p), or accept it in DOCKER-USER: ",
    "ufw": "ufw writes its rules anew; use 'ufw allow' or 'ufw route allow', or for now: ",
    "firewalld": "firewalld writes its rules anew; use firewall-cmd, or for now: ",
    "kube-proxy": "kube-proxy drops what has no endpoint: kubectl get endpointslices -A",
}
_COMPLETE = ("kube-proxy",)


def condition(drop: DropEvent) -> str:
    """Return the condition that a drop is a sign of by itself, or empty."""
    if drop.invalid:
        return "tcp-invalid-stall"
    seen = drop.seen
    if seen is None:
        return ""
    return next((name for name, sign in SIGNS.items() if sign.alone and sign.fits(seen)), "")


def of_rule(drop: DropEvent, rule: PacketRule) -> str:
    """Return what lets a packet by that a rule, or a chain's policy, drops."""
    if drop.way is None:
        return ""
    if rule.ours:
        return "'remedy status' shows the fix that this rule belongs to"
    if drop.invalid:
        return (
            "let INVALID segments of known connections reach their socket, or set "
            "'sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1'; 'remedy plan' shows it as "
            "tcp-be-liberal"
        )
    owner = _OWNERS.get(rule.owner, "")
    if rule.owner in _COMPLETE:
        return owner
    command = accepting(
        rule, drop.protocol.split()[0], drop.way, answer=drop.conntrack.endswith("reply")
    )
    return f"if it is to pass: {owner}{command}"


def look(drop: DropEvent) -> str:
    """Return where to look, with the link and the addresses of the packet."""
    text = drop.look
    for word, value in (
        ("LINK", drop.link),
        ("SOURCE", drop.way.source if drop.way else ""),
        ("DESTINATION", drop.way.destination if drop.way else ""),
    ):
        text = text.replace(word, value) if value else text
    if drop.way is not None and ":" in drop.way.source:
        text = text.replace("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
        text = text.replace("net.ipv4.conf", "net.ipv6.conf").replace("ip route", "ip -6 route")
        text = text.replace("ip neigh", "ip -6 neigh").replace("net.ipv4.neigh", "net.ipv6.neigh")
    return text


def forwarding(six: bool) -> str:
    """Return the command that lets this host forward."""
    key = "net.ipv6.conf.all.forwarding" if six else "net.ipv4.ip_forward"
    return f"sysctl -w {key}=1"


def smaller(protocol: str, link: str, mtu: int, six: bool) -> str:
    """Return what makes packets fit a link."""
    if protocol != "tcp":
        return f"send packets of at most {mtu} octets, or let ICMP back to the sender"
    return f"let ICMP back to the sender, or {clamping(six)}"


def listen(protocol: str, port: int, others: tuple[str, ...], address: str) -> Optional[str]:
    """Return what makes a port answer; ``others``: the addresses on which it is open."""
    if not port:
        return None
    if others:
        return f"have the program listen on {address} too, or on every address"
    return f"start the program, or publish the port it listens on: ss -ln{protocol[0]}p"
