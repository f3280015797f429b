"""Drop the TCP segments that conntrack calls INVALID before the host can answer them.

What it changes
    One drop for TCP on the input and forward hooks, for IPv4 and IPv6: with nftables the table
    ``inet remedy_invalid_drop``, just before the filter chains; with iptables the chain
    ``REMEDY-INVALID``, which mangle INPUT and mangle FORWARD jump to. Both hooks, because the
    reply to a masqueraded client arrives as addressed to the host (input), and the reply to a
    published or balanced service is passed on (forward). Both count what they drop. Where policy
    persists: files in /etc/remedy/boot and a unit that loads them at boot, after the firewalls
    that empty rulesets when they start.

Safety
    TCP only: an ICMP error about an untracked flow is INVALID too, and dropping it would break
    path MTU discovery. Refused where conntrack sees one direction only (several ways out, IPVS
    with direct routing): there good segments are INVALID. Refused where somebody else's rule
    does the same, and where nothing tracks connections yet, because the rule would switch
    tracking on for every packet of the namespace. Established flows are not touched.

What rollback restores
    The table, or the chain and its jumps, is removed, with the built-in nf_tables chains that
    only the jumps had brought into being; the boot files go. A legacy table, once registered,
    stays until the namespace ends: ``lossy``.

References
    moby/libnetwork#1090; kubernetes/kubernetes#74839 and #94861 (harm with several ways out);
    netfilter-devel, March 2024: "The proper solution is to (log and) drop INVALID packets"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.facts.routes import Routes
from remedies.model import Finding, Risk, Terms, Wanted
from remedies.netfilter import ours

TITLE = "Drop INVALID TCP segments on input and forward"
ANSWERS = ("tcp-invalid-reset",)
RISK: Risk = "moderate"
NEEDS = (Netfilter, Routes)
TOPICS: tuple[str, ...] = ()
PARAMS: Mapping[str, object] = {}

TABLE = "inet/remedy_invalid_drop"
CHAIN = "mangle/REMEDY-INVALID"
COMMENT = "remedy:invalid-drop"
PRIORITY = -10  # ten before NF_IP_PRI_FILTER (include/uapi/linux/netfilter_ipv4.h)
HOOKS = ("input", "forward")
LINE = f'-p tcp -m conntrack --ctstate INVALID -m comment --comment "{COMMENT}" -j DROP'

_LIBERAL = "use tcp-be-liberal instead"


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why dropping would do harm or nothing here, or None; raise Unreadable."""
    netfilter = facts.get(Netfilter)
    if not netfilter.conntrack_used:
        return (
            "nothing in this namespace tracks connections, and the rule would switch that on "
            "for every packet; without tracking there is no NAT whose replies could be lost"
        )
    in_force = finding is not None and (finding.mitigated_by or "").startswith("remedy ")
    # Ours stays beside a rule that came later: giving it up would only bring the next fix.
    same_rule = None if in_force else _same_rule(netfilter)
    return same_rule or _other_way(facts.get(Routes))


def _same_rule(netfilter: Netfilter) -> Optional[str]:
    """Return whose rules drop INVALID on both hooks of one family already, or None."""
    foreign = [rule for rule in netfilter.drops if rule.owner != "remedy"]
    for family in ("ip", "ip6"):
        seen = {r.hook: r for r in reversed(foreign) if r.family in (family, "inet")}
        if all(hook in seen for hook in HOOKS):
            names = ", ".join(f"{seen[h].owner or 'a rule'} ({seen[h].place})" for h in HOOKS)
            return f"INVALID segments are dropped on input and forward already, by {names}"
    return None


def _other_way(routes: Routes) -> Optional[str]:
    """Return why conntrack may see one direction of a flow only, or None."""
    if routes.ipvs:
        return (
            "IPVS balances services here, and with direct routing their answers never pass "
            f"this host, so that good segments are INVALID; {_LIBERAL}"
        )
    for family in (4, 6):
        ways = [way for way in routes.defaults if way.family == family]
        links = sorted({link for way in ways for link in way.links})
        if len(links) > 1:
            why = f"IPv{family} default routes leave by {', '.join(links)}"
        elif len(ways) > 1 and routes.policy_rules:
            why = f"routing rules choose among {len(ways)} IPv{family} default routes"
        else:
            continue
        return f"{why}: answers may take another way than requests; {_LIBERAL}"
    return None


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return our table, or our chain for IPv4 and for IPv6; raise Unreadable."""
    if terms.backend == "nftables":
        return (Wanted(resource=f"nft:{TABLE}", state=table()),)
    store = facts.get(Netfilter).store
    hooks = tuple(hook.upper() for hook in HOOKS)
    return tuple(
        Wanted(
            resource=f"{scheme}:{CHAIN}",
            state=ours.iptables_chain(CHAIN, store, hooks, (LINE,)),
            reversibility=ours.REVERSIBILITY[store],
        )
        for scheme in ("iptables", "ip6tables")
    )


def table() -> str:
    """Return the canonical text of our nftables table."""
    rule = (
        ours.meta("l4proto", "tcp"),
        ours.ct_state("invalid"),
        ours.counter(),
        ours.drop(),
        ours.comment(COMMENT),
    )
    chains = tuple(ours.NftChain(hook, "filter", hook, PRIORITY, (rule,)) for hook in HOOKS)
    return ours.nft_table(TABLE, chains)


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the drop does to traffic."""
    return (
        "INVALID TCP segments are dropped instead of answered with a reset; "
        "tracked connections, UDP and ICMP are not touched"
    )
