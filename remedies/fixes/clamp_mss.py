"""Let new TCP connections by a narrow link send no more than it carries.

What it changes
    Two rules on the forward hook for each narrow link that the findings name, one for SYN segments
    that come by it, one for those that leave by it: their MSS option is lowered to what the
    kernel's route there and the route back carry, never raised. With nftables the table ``inet
    remedy_clamp_mss``, with iptables the chain ``REMEDY-CLAMP-MSS``, which mangle FORWARD jumps to,
    for IPv4 and IPv6. A SYN-ACK says what the client may send, a SYN what the server may: both pass
    the link, so both directions fit. Where policy persists: files in /etc/remedy/boot and a unit
    that loads them at boot.

Safety
    No packet is dropped, delayed or sent elsewhere, and conntrack is not needed. It helps new TCP
    connections alone: one that hangs already goes on to hang, and UDP (QUIC, say) is helped by
    nothing but the message that is let by, so where what is too big is not TCP the fix is refused.
    Refused, too, where this host has not seen by which of its links the packets would leave: a
    narrow link of a router elsewhere is not known to its routes. What a host sends itself is sized
    by its own routes. TCP's authentication options (RFC 2385, RFC 5925) cover the MSS: a session
    that has them and is forwarded through the link would not be opened.

What rollback restores
    The table, or the chain and its jump, is removed, and the boot files. Connections that were
    opened meanwhile keep their smaller segments. A legacy table, once registered, stays until the
    namespace ends: ``lossy``.

References
    RFC 2923, 2.1; RFC 4821, 7.2 (what the rest of traffic needs); nft(8), "EXTENSION HEADER
    STATEMENT"; net/netfilter/nft_rt.c, get_tcpmss(); net/netfilter/nft_exthdr.c,
    nft_exthdr_tcp_set_eval(); net/netfilter/xt_TCPMSS.c
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.narrow import CLAMP
from remedies.facts.netfilter import Netfilter
from remedies.model import Finding, Risk, Terms, Wanted
from remedies.rules import ours

TITLE = "Clamp the segment size of TCP to what a narrow link carries"
ANSWERS = ("mtu-black-hole",)
RISK: Risk = "low"
HARMLESS = True
NEEDS = (Netfilter,)
TOPICS: tuple[str, ...] = ()
PARAMS: Mapping[str, object] = {}

TABLE = "inet/remedy_clamp_mss"
CHAIN = "mangle/REMEDY-CLAMP-MSS"
WRITES = (f"nft:{TABLE}", f"iptables:{CHAIN}", f"ip6tables:{CHAIN}")
PRIORITY = -150  # NF_IP_PRI_MANGLE (include/uapi/linux/netfilter_ipv4.h)
_SYN = "-p tcp -m tcp --tcp-flags SYN,RST SYN"
_CLAMP = f'-m comment --comment "{CLAMP}" -j TCPMSS --clamp-mss-to-pmtu'


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why a clamp would not help here, or None; raise Unreadable."""
    if finding is None:
        return "it needs a finding: which link is too narrow"
    link = finding.details.get("link", "")
    if not link:
        return (
            "it was not seen by which link of this host the packets would leave, and a clamp does "
            "not know how much a router elsewhere carries"
        )
    if not ours.nameable(link):
        return f"the interface name {link!r} cannot be written in a rule as it is"
    others = [name for name in finding.details["protocols"].split() if name != "tcp"]
    if others:
        return f"{', '.join(others)} is too big for {link}, too, and a clamp helps TCP alone"
    facts.get(Netfilter)
    return None


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return our table, or our chain for IPv4 and for IPv6; raise Unreadable.

    Each holds the finding's link alone: :func:`merge` puts those of several findings together.
    """
    if finding is None:
        return ()
    links = (finding.details["link"],)
    if terms.backend == "nftables":
        return (Wanted(f"nft:{TABLE}", _table(links)),)
    store = facts.get(Netfilter).store
    return tuple(
        Wanted(f"{scheme}:{CHAIN}", _chain(store, links), reversibility=ours.REVERSIBILITY[store])
        for scheme in ("iptables", "ip6tables")
    )


def _table(links: Iterable[str]) -> str:
    rules = tuple(
        (
            ours.meta(side, link),
            ours.tcp_flag("syn"),
            ours.counter(),
            ours.clamp_mss(),
            ours.comment(CLAMP),
        )
        for link in sorted(links)
        for side in ("iifname", "oifname")
    )
    return ours.nft_table(TABLE, (ours.NftChain("forward", "filter", "forward", PRIORITY, rules),))


def _chain(store: str, links: Iterable[str]) -> str:
    lines = tuple(
        f"{side} {link} {_SYN} {_CLAMP}" for link in sorted(links) for side in ("-i", "-o")
    )
    return ours.iptables_chain(CHAIN, store, ("FORWARD",), lines)


def merge(one: Wanted, other: Wanted) -> Wanted:
    """Return the first with the links of the second, too."""
    links = _links_of(one.state) | _links_of(other.state)
    if one.resource.startswith("nft:"):
        state = _table(links)
    else:
        (store,) = ours.iptables_sections(one.state)
        state = _chain(store, links)
    return Wanted(one.resource, state, one.reversibility, one.boot)


def _links_of(state: Optional[str]) -> set[str]:
    """Return the links of the rules of a state that :func:`desired` made."""
    found = set()
    for line in (state or "").splitlines():
        words = line.split()
        if "-i" in words:
            found.add(words[words.index("-i") + 1])
        elif line.startswith('{"rule"'):
            found.add(json.loads(line)["rule"]["expr"][0]["match"]["right"])
    return found


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the clamp does to traffic."""
    link = "the link" if finding is None else finding.details.get("link", "the link")
    return (
        f"new TCP connections through {link} send smaller segments; those that are open, UDP and "
        "what this host sends itself are not touched"
    )
