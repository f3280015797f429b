"""Which rule publishes an address and port, and the port that is asked for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from remedies.netlink.flow import Tuple
from remedies.rules.invalid_packet import target
from remedies.rules.matching import conjoin
from remedies.rules.rule import Match, PacketRule

_ANYBODY = Match()


def gives(rule: PacketRule, new: tuple[str, int]) -> bool:
    """Tell whether a rule may give this address and port; where it does not say, it may."""
    addresses, ports = target(rule.to)
    return (not addresses or new[0] in addresses) and (
        not ports or any(first <= new[1] <= last for first, last in ports)
    )


def leading_to(
    rules: Iterable[PacketRule], protocol: str, address: str, port: int, sender: Match = _ANYBODY
) -> Optional[PacketRule]:
    """Return the rule that sends requests to this address and port, by what it says.

    ``sender``: source and link of the packets that it has to see.
    """
    for rule in rules:
        protocols = rule.match.protocols
        if rule.action == "dnat" and rule.to and (not protocols or protocol in protocols):
            addresses, ports = target(rule.to)
            if address in addresses and gives(rule, (address, port)):
                asked = rule.match.destination_ports
                keeps = bool(ports) or not asked or any(a <= port <= b for a, b in asked)
                if keeps and conjoin(rule.match, sender) is not None:
                    return rule
    return None


def asked_port(rule: PacketRule, way: Tuple) -> int:
    """Return the port that a sender asked whom the rule sent ``way``; 0 where that is not known."""
    asked = rule.match.destination_ports
    if len(asked) == 1 and asked[0][0] == asked[0][1]:
        return asked[0][0]
    return 0 if target(rule.to)[1] else way.destination_port
