"""Drop what comes for the loopback by any link but the loopback.

What it changes
    One drop, before conntrack and NAT, of packets for 127.0.0.0/8 that arrive by another link than
    ``lo``: with nftables the table ``ip remedy_loopback_drop`` (prerouting, priority raw), with
    iptables the chain ``REMEDY-LOOPBACK``, which raw PREROUTING jumps to. It counts what it drops.
    Where policy persists: files in /etc/remedy/boot and a unit that loads them at boot.

Safety
    A packet is judged as it came, before NAT. So whoever needs ``route_localnet`` is not touched:
    what a host sends to a node port or a published port of its own loopback leaves by DNAT and
    masquerading, and its answers come for the host's own address, which NAT turns into 127.0.0.1
    behind this rule; a port that DNAT leads to the loopback on purpose is asked by the host's own
    address. Seen on the kernel: tests/kernel/test_harm_matrix.py. Who is cut off is a neighbour
    that sends to 127.0.0.1 itself, as it has to be to keep others out; connections of that kind
    end. Refused where a VRF is: there its own device stands for ``lo``. kubelet makes a rule for
    the same (KUBE-FIREWALL) that lets by what conntrack calls established.

What rollback restores
    The table, or the chain and its jump, is removed, and the boot files. A legacy table, once
    registered, stays until the namespace ends: ``lossy``.

References
    ip-sysctl.rst of the kernel: route_localnet; kubernetes/kubernetes#90259 (CVE-2020-8558);
    Documentation/networking/vrf.rst
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.model import Finding, Risk, Terms, Wanted
from remedies.netlink.links import Links
from remedies.rules import ours

TITLE = "Keep others out of the loopback"
ANSWERS = ("route-localnet-exposure",)
RISK: Risk = "moderate"
HARMLESS = False
NEEDS = (Netfilter, Links)
TOPICS: tuple[str, ...] = ()
PARAMS: Mapping[str, object] = {}

TABLE = "ip/remedy_loopback_drop"
CHAIN = "raw/REMEDY-LOOPBACK"
WRITES = (f"nft:{TABLE}", f"iptables:{CHAIN}")
COMMENT = "remedy:loopback-drop"
PRIORITY = -300  # NF_IP_PRI_RAW (include/uapi/linux/netfilter_ipv4.h): before conntrack
LINE = f'-d 127.0.0.0/8 ! -i lo -m comment --comment "{COMMENT}" -j DROP'


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return whom the drop would cut off, or None; raise Unreadable."""
    facts.get(Netfilter)
    vrfs = [link.name for link in facts.get(Links).links if link.kind == "vrf"]
    if vrfs:
        return f"{', '.join(vrfs)} is a VRF: its own loopback's packets come by it, not by lo"
    return None


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return our table, or our chain; raise Unreadable."""
    if terms.backend == "nftables":
        return (Wanted(f"nft:{TABLE}", table()),)
    store = facts.get(Netfilter).store
    state = ours.iptables_chain(CHAIN, store, ("PREROUTING",), (LINE,))
    return (Wanted(f"iptables:{CHAIN}", state, reversibility=ours.REVERSIBILITY[store]),)


def table() -> str:
    """Return the canonical text of our nftables table."""
    rule = (
        ours.meta("iifname", "lo", "!="),
        ours.payload("ip", "daddr", ours.prefix("127.0.0.0", 8)),
        ours.counter(),
        ours.drop(),
        ours.comment(COMMENT),
    )
    chain = ours.NftChain("prerouting", "filter", "prerouting", PRIORITY, (rule,))
    return ours.nft_table(TABLE, (chain,))


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the drop does to traffic."""
    return (
        "what others send to 127.0.0.0/8 is dropped, and connections that they hold there end; "
        "this host's own use of its loopback and answers behind NAT are not touched"
    )
