"""The command line of an older remedy, whose invalid-drop took every INVALID segment.

Journals of hosts that were never told otherwise hold that form; whoever watches for harm has to
hear what it does. Its words are those of ``remedy``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Optional

from older_drop import OLDER, OLDER_LINE

from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.fixes import invalid_drop
from remedies.model import Finding, Terms, Wanted
from remedies.rules import ours

KEPT_IN: tuple[dict[str, object], ...] = (
    {"match": {"op": "==", "left": {"&": [{"payload": {"protocol": "tcp", "field": "flags"}},
     "rst"]}, "right": "rst"}},
    ours.ct_state("invalid"), ours.counter(), ours.drop(),
)  # fmt: skip
"""The reset that the host answers an INVALID segment with, which is INVALID itself."""


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return a drop of INVALID TCP on input and forward."""
    if terms.backend == "nftables":
        kept_in = (ours.NftChain("output", "filter", "output", -10, (KEPT_IN,)),)
        table = "inet/remedy_invalid_drop"
        narrow = "REMEDY_OUTPUT_FORM" in os.environ
        return (Wanted(f"nft:{table}", ours.nft_table(table, kept_in) if narrow else OLDER),)
    store = facts.get(Netfilter).store
    chain = "mangle/REMEDY-INVALID"
    return tuple(
        Wanted(
            f"{scheme}:{chain}",
            ours.iptables_chain(chain, store, ("INPUT", "FORWARD"), (OLDER_LINE,)),
            reversibility=ours.REVERSIBILITY[store],
        )
        for scheme in ("iptables", "ip6tables")
    )


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Refuse nothing."""
    return None


REPLACED: Mapping[str, object] = {"desired": desired, "guard": guard}


def be_older() -> None:
    """Make this process's fix the older one."""
    for name, value in REPLACED.items():
        setattr(invalid_drop, name, value)
