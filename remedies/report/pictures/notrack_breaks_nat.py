"""The packet that passes the raw hook and finds NAT skipped."""

from __future__ import annotations

import re
from typing import Optional

from remedies.report.evidence import Interfaces
from remedies.report.pictures.shapes import Path, Stop, Walk, link
from remedies.report.record import Judgement

_COMES_BY = re.compile(r'(?<!\S)iifname "?([^\s"]{1,15})"?')
_DNAT_TO = re.compile(r"\bdnat (?:ip6? )?to (\S+)")
_SEEN_BY_BOTH = re.compile(r"both see[^:]*: (.+)")


def draw(judgement: Judgement, interfaces: Interfaces) -> Optional[Path]:
    """Draw the packet that passes the raw hook and finds NAT skipped."""
    notrack, nat = judgement.details.get("notrack"), judgement.details.get("nat")
    if not (notrack and nat):
        return None
    notes = (e.note for e in judgement.evidence if e.value == nat)
    packet = _SEEN_BY_BOTH.search(next(notes, ""))
    places = {e.value: e.source for e in judgement.evidence}
    comes, to = _COMES_BY.search(nat), _DNAT_TO.search(nat)
    iface = next((i for i in interfaces if comes and i.name == comes[1]), None)
    stops = (
        Stop("Client", (packet[1],) if packet else (), "client"),
        *((link(iface, f"{iface.address}/{iface.prefix}"),) if iface else ()),
        Stop("notrack rule", tuple(filter(None, (places.get(notrack), notrack))), "rule"),
        Stop("NAT rule, passed over", tuple(filter(None, (places.get(nat), nat))), "nat"),
        Stop("Where it should have gone", (to[1],), "server")
        if to
        else Stop("Peer", ("expects the address that NAT gives",), "server"),
    )
    last = len(stops) - 1
    walks = (
        Walk(
            0,
            last - 2,
            "The packet meets the notrack rule first: conntrack does not see it.",
            "good",
        ),
        Walk(
            last - 2,
            last - 1,
            "NAT works on tracked packets alone, so its rule is passed over. The packet goes on "
            "with the address that NAT should have changed.",
            "lost",
        ),
    )
    return Path(
        f"A packet that '{notrack}' takes from conntrack dies at '{nat}', which is passed over",
        stops,
        walks,
    )
