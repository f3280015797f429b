"""The firewall drops answers to connections that were begun from here.

What it detects
    Packets of the reply direction of tracked connections that a rule, or a chain's policy, dropped
    while scan watched: conntrack knew them as ``ESTABLISHED``.

Why it matters
    A rule that drops by address alone, before what accepts established connections, also takes the
    answers of resolvers, package mirrors, gateways and APIs in that range. tailscaled drops
    100.64.0.0/10 on every other link, in which some clouds have their resolver; rules written by
    hand do the same with 10.0.0.0/8 or 169.254.0.0/16. The host itself has no DNS any more, while
    its containers may have: their answers pass another chain.

Evidence
    ``proven``: the kernel's reason for each packet (NETFILTER_DROP) with what conntrack held of it,
    counted at the tracepoint skb:kfree_skb, and the rule if it can be told. Without BTF or
    CAP_BPF it is unknown.

False positives
    A rule that names a single address is a block of that peer, and is not reported.

References
    net/core/skbuff.c, sk_skb_reason_drop(); include/uapi/linux/netfilter/nf_conntrack_common.h
    (enum ip_conntrack_info); tailscale/tailscale#21249, tailscale/tailscale#12829;
    siderolabs/talos#13926
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.drop_signs import drops_of, findings, rule_of
from remedies.facts.droppers import Droppers
from remedies.facts.drops import Drops, SeenDrop
from remedies.model import Finding, Severity
from remedies.rules.prefixes import parse

TITLE = "The firewall drops answers to connections that were begun from here"
SYMPTOM = "the host has no DNS or cannot fetch anything since a VPN or a firewall was set up"
SEVERITY: Severity = "high"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-7")
NEEDS = (Drops, Droppers)
PARAMS: Mapping[str, object] = {}


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each rule that drops answers. Raises Unreadable without the drops."""
    seen = drops_of("reply-dropped", facts)
    return findings("reply-dropped", SEVERITY, facts, [d for d in seen if not _meant(facts, d)])


def _meant(facts: Facts, drop: SeenDrop) -> bool:
    """Tell whether the rule that dropped a packet is ours, or names just this peer."""
    rule = rule_of(facts, drop)
    if rule is None:
        return False
    peers = (*rule.match.sources, *rule.match.destinations)
    return rule.ours or any(size == bits for bits, _, size in map(parse, peers))
