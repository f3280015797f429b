"""Keep in the resets with which hosts answer TCP segments that conntrack calls INVALID.

What it changes
    One drop for TCP resets that are INVALID themselves, on the output and forward hooks, for IPv4
    and IPv6: with nftables the table ``inet remedy_invalid_drop``, just before the filter chains;
    with iptables the chain ``REMEDY-INVALID``, which mangle OUTPUT and mangle FORWARD jump to. A
    segment outside the window still reaches whoever does not know it, as NAT is not undone for it;
    the reset with which that end answers goes no further, so the connection lives. Output, because
    it is this host that answers what it masquerades for and what clients send to a published port;
    forward, because it is the client that answers what comes from behind such a port. Only a reset
    without an acknowledgment is dropped: that is what a host sends to a segment that it does not
    know (net/ipv4/tcp_ipv4.c, tcp_v4_send_reset()), while a refused connection and an abort carry
    one. Both rules count what they drop. Where policy persists: files in /etc/remedy/boot and a
    unit that loads them at boot, after the firewalls that empty rulesets when they start.

Safety
    No segment that carries data is dropped. What can be lost is the news that a connection is over:
    where conntrack sees one direction only, a peer's own reset is INVALID too, and whoever waits
    for it hangs until a time-out. So for what is only exposed this fix is refused unless the policy
    accepts it (``accept_harm``). What each form of it, and tcp-be-liberal, was seen to do (Linux
    6.18, IPv4 and IPv6; this fix with nftables and both variants of iptables;
    tests/kernel/test_harm_matrix.py makes the table):

    world                       tcp-be-liberal  invalid-drop  output  socket  link   every
    masquerade                  heals           heals         heals   heals   -      heals
    port reused                 -               -             -       -       -      -
    published port              heals           heals         -       -       heals  heals
    sequence numbers rewritten  heals           hangs         hangs   hangs   -      hangs
    SYNPROXY on the host        -               -             -       -       -      ends
    SYNPROXY, published port    -               -             -       ends    -      ends
    requests only, one link     -               -             -       -       -      ends
    SYN-ACKs only, one link     -               ends          -       -       -      ends
    requests only, two links    -               -             -       -       -      ends
    SYN-ACKs only, two links    -               ends          -       -       ends   ends
    INVALID accepted by a rule  -               ends          -       -       ends   ends
    forgotten, tcp_loose = 0    -               -             -       -       -      ends
    bridged, one link           heals           heals         -       -       -      heals
    direct return               -               -             -       -       -      ends
    two uplinks, NAT on one     heals           heals         heals   heals   -      heals

    ``heals``: the connection goes on. ``ends``: a connection that worked fails. ``hangs``: a reset
    becomes a hang, because the dropped segment is one that the connection needs. ``-``: no
    difference. ``invalid-drop`` is this fix; ``output`` its rule on output alone; ``socket`` drops
    on input what no socket takes; ``link`` drops on forward what comes from an address that NAT
    serves and leaves by another link; ``every`` drops each INVALID segment on input and forward
    (this fix in earlier versions).

    Refused, and tcp-be-liberal used instead, where somebody lives by INVALID segments: a rule
    accepts them, SYNPROXY is in use, ``nf_conntrack_tcp_loose`` is 0, they move while this host
    sends no reset, conntrack sees one direction only (several ways out, IPVS with direct routing).
    Refused where somebody else's rules do the same for every family that NAT serves, and where
    nothing tracks connections yet, because the rule would switch tracking on for every packet of
    the namespace.

What rollback restores
    The table, or the chain and its jumps, is removed, with the built-in nf_tables chains that
    only the jumps had brought into being; the boot files go. A legacy table, once registered,
    stays until the namespace ends: ``lossy``.

References
    moby/libnetwork#1090; kubernetes/kubernetes#74839 and #94861 (harm with several ways out);
    firewalld/firewalld#1061 (harm with one way out); netfilter-devel, March 2024: "The proper
    solution is to (log and) drop INVALID packets"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.netfilter import ACCEPTS_TOPIC, Netfilter
from remedies.facts.routes import Routes
from remedies.facts.sysctl import Sysctl
from remedies.model import Finding, Risk, Terms, Wanted
from remedies.rules import ours

TITLE = "Drop the resets that answer INVALID TCP segments"
ANSWERS = ("tcp-invalid-reset",)
RISK: Risk = "moderate"
HARMLESS = False
NEEDS = (Netfilter, Routes, Sysctl, Counters)
TOPICS = (ACCEPTS_TOPIC,)
PARAMS: Mapping[str, object] = {}

TABLE = "inet/remedy_invalid_drop"
CHAIN = "mangle/REMEDY-INVALID"
WRITES = (f"nft:{TABLE}", f"iptables:{CHAIN}", f"ip6tables:{CHAIN}")
COMMENT = "remedy:invalid-drop"
PRIORITY = -10  # ten before NF_IP_PRI_FILTER (include/uapi/linux/netfilter_ipv4.h)
HOOKS = ("output", "forward")
LINE = (
    "-p tcp -m tcp --tcp-flags RST,ACK RST -m conntrack --ctstate INVALID "
    f'-m comment --comment "{COMMENT}" -j DROP'
)
LOOSE = "net.netfilter.nf_conntrack_tcp_loose"

_LIBERAL = "use tcp-be-liberal instead"


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why the drop would do harm or nothing here, or None; raise Unreadable."""
    netfilter = facts.get(Netfilter)
    if not netfilter.conntrack_used:
        return (
            "nothing in this namespace tracks connections, and the rule would switch that on "
            "for every packet; without tracking there is no NAT whose replies could be lost"
        )
    if _in_force(facts):
        # Ours stays beside a rule that came later, and whatever moved while somebody watched:
        # harm that it does is heard (remedies/status/harm.py), not guessed at each apply.
        return _other_way(facts.get(Routes))
    return _same_rule(netfilter) or _lived_by(facts) or _other_way(facts.get(Routes))


def _in_force(facts: Facts) -> bool:
    """Tell whether this fix is in force, in either backend."""
    places = (f"nft:{TABLE}", f"iptables:{CHAIN}", f"ip6tables:{CHAIN}")
    return any(place in facts.ours for place in places)


def _same_rule(netfilter: Netfilter) -> Optional[str]:
    """Return whose rules do the same for every family that NAT serves, or None."""
    foreign = [rule for rule in netfilter.drops if rule.owner != "remedy"]
    served = {f for use in netfilter.nat_uses for f in _families(use.family)} or {"ip", "ip6"}
    named: dict[str, None] = {}
    for family in sorted(served):
        for hooks in (("input", "output"), ("forward",)):
            rule = next((r for r in foreign if r.hook in hooks and family in r.versions), None)
            if rule is None:
                return None
            named[rule.named] = None
    return f"INVALID segments are dropped on both hooks already, by {', '.join(named)}"


def _families(family: str) -> tuple[str, ...]:
    return ("ip", "ip6") if family == "inet" else (family,)


def _lived_by(facts: Facts) -> Optional[str]:
    """Return who lives by segments that conntrack calls INVALID, or None; raise Unreadable."""
    accepts = facts.get(Netfilter).lived_by
    if accepts.invalid:
        return f"a rule accepts INVALID segments ({accepts.invalid}): {_LIBERAL}"
    if accepts.synproxy:
        return (
            f"SYNPROXY answers for services ({accepts.synproxy}), by INVALID segments: {_LIBERAL}"
        )
    if facts.get(Sysctl).values.get(LOOSE) == "0":
        return f"{LOOSE} = 0: the segments of a forgotten connection are INVALID: {_LIBERAL}"
    counters = facts.get(Counters)
    moved, resets = counters.delta("nf_conntrack.invalid"), counters.delta("Tcp.OutRsts")
    if facts.window > 0 and moved and resets == 0:
        return (
            f"{moved} INVALID packets passed in {facts.window:g} s and this host sent no reset: "
            f"some traffic depends on them; {_LIBERAL}"
        )
    if accepts.blind is not None:
        raise Unreadable(accepts.blind)
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
        ours.tcp_flags("rst"),
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
        "resets that answer INVALID TCP segments are dropped; no segment with data, no refusal of "
        "a connection, no UDP and no ICMP is touched"
    )
