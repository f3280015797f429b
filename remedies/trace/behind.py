"""Who has sent a datagram through NAT here, so that it left with an address of this host."""

from __future__ import annotations

from typing import Optional

from remedies.netlink.flow import Flow, Tuple
from remedies.values import NamedTuple


class Behind(NamedTuple):
    """A sender behind NAT."""

    sent: Tuple
    """Its datagram, before NAT."""
    request: Optional[Flow]
    """What the receiver had asked on the same port of another address behind NAT, unanswered."""
