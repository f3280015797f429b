"""The commands by which a person lets packets by that a rule or a narrow link stops. Pure."""

from __future__ import annotations

from remedies.netlink.flow import Tuple
from remedies.rules.rule import PacketRule

_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite")


def accepting(rule: PacketRule, protocol: str, way: Tuple, *, answer: bool = False) -> str:
    """Return the command that accepts what goes to this address and port before the rule does.

    ``answer``: what is established instead. Docker's forward chains have one for a person's rules.
    """
    six = ":" in way.source
    port = way.destination_port if protocol in _PORTS else 0
    if rule.backend == "nft":
        match = [f"{'ip6' if six else 'ip'} daddr {way.destination}"]
        match.append(f"{protocol} dport {port}" if port else f"meta l4proto {_nft(protocol)}")
        met = "ct state established,related" if answer else " ".join(match)
        return f"nft insert rule {rule.family} {rule.table} {rule.chain} {met} accept"
    tool = rule.backend.replace("iptables", "ip6tables" if six else "iptables")
    parts = [f"-d {way.destination}", f"-p {protocol}", *([f"--dport {port}"] if port else [])]
    met = "-m conntrack --ctstate ESTABLISHED,RELATED" if answer else " ".join(parts)
    chain = "DOCKER-USER" if rule.owner == "docker" and rule.hook == "forward" else rule.chain
    return f"{tool} -t {rule.table} -I {chain} {met} -j ACCEPT"


def clamping(six: bool) -> str:
    """Return the command by which TCP of both directions sends no more than both links carry.

    Without a link in it: a SYN-ACK says what its receiver may send by the other one.
    """
    tool = "ip6tables" if six else "iptables"
    match = "-p tcp --tcp-flags SYN,RST SYN"
    return f"{tool} -t mangle -A FORWARD {match} -j TCPMSS --clamp-mss-to-pmtu"


def _nft(protocol: str) -> str:
    return "ipv6-icmp" if protocol == "icmpv6" else protocol
