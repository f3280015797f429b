"""An answer that went over a bridge past NAT: its client asked a service, and refuses a neighbour.

The kernel's own words come as a port unreachable that passes the bridge; conntrack has the flow of
the request, and saw no answer.
"""

from __future__ import annotations

from typing import Optional

from remedies.conditions.bridge_netfilter_missing import KEYS
from remedies.facts import sysctl
from remedies.netlink.flow import Flow, Tuple
from remedies.printable import at
from remedies.tap.lookups import Questions
from remedies.trace.event import Meaning


def bridged(questions: Questions, protocol: str, way: Tuple) -> Optional[tuple[Flow, Meaning]]:
    """Return the flow that a refused datagram ``way`` answers past NAT, and what that means.

    None where conntrack saw the answer, or the switch that would show it what is bridged is on.
    """
    flow = questions.flow(protocol, way)
    if flow is None or not flow.nat or flow.seen_reply or flow.reply != way:
        return None
    key = KEYS[6 if ":" in way.source else 4]
    try:
        value = sysctl.value(key)
    except FileNotFoundError:
        lacks = f"{key} is not there (module br_netfilter)"
    except OSError:
        return None
    else:
        if value == "1":
            return None
        lacks = f"{key} is {value}"
    asked, client = flow.original, at(way.destination, way.destination_port)
    text = (
        f"{client} asked {at(asked.destination, asked.destination_port)}, which NAT sends to "
        f"{at(way.source, way.source_port)}, and refused the answer, which its neighbour sent over "
        f"the bridge past NAT: {lacks}"
    )
    return flow, Meaning(text, "bridge-netfilter-missing")
