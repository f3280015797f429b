"""Rules for containers stand in both variants of iptables, or where iptables cannot show them.

What it detects
    Rules of iptables-legacy and of iptables-nft in chains that forwarded packets pass; and rules of
    nft in a table of iptables-nft, which that tool cannot list.

Why it matters
    Every packet meets both sets of rules, and whoever looks with ``iptables -S`` sees one. A rule
    that nobody sees drops packets, or sends them to a container that is no more, while the rules
    that are shown are right. Beside a rule of nft, ``iptables -S`` fails with "table is
    incompatible, use 'nft' tool", and Docker, k3s and kube-proxy fail with it.

Evidence
    ``exposed``: the chains, and for a rule of nft its handle. ``proven``: the kernel dropped
    packets because of a rule in one variant, while NAT is done by the other alone.

False positives
    Two programs that know of each other and use one variant each. A rule that names ports is taken
    as meant, and what a policy drops is forward-policy-drop. Several programs that use the
    same variant are not reported, nor is a legacy table without rules, which any
    ``iptables-legacy -L`` leaves behind. Of iptables-nft's tables the base chains are read.

References
    xtables-nft(8); nft_is_expr_compatible() in iptables/nft.c; iptables_mode.sh of
    node-problem-detector; kubernetes/kubernetes#112477, moby/moby#46636,
    cloudnativelabs/kube-router#1588
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.drop_signs import evidence
from remedies.facts.droppers import Droppers, RuledDrop
from remedies.facts.drops import Drops
from remedies.facts.netfilter import Netfilter
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.links import Links
from remedies.printable import both_ends
from remedies.rules.prefixes import contains
from remedies.rules.rule import PacketRule
from remedies.rules.unlisted import UnlistedRules

TITLE = "Rules for containers stand in both variants of iptables"
SYMPTOM = "packets are dropped, or go to a container that is gone, and no rule says so"
SEVERITY: Severity = "high"
AREA = "NAT"
CONTROLS = ("NIST-800-53 CM-6",)
NEEDS = (Netfilter, Drops, Droppers, Links)
PARAMS: Mapping[str, object] = {}

_POLICY = "policy drop"
_VARIANTS = ("iptables-nft", "iptables-legacy")


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for the mixture, and one for each chain that cannot be listed."""
    netfilter = facts.get(Netfilter)
    mixed = (_mixture(netfilter, _hidden(facts, netfilter)),) if netfilter.mixed else ()
    return (*mixed, *map(_unlisted, netfilter.unlisted))


def _hidden(facts: Facts, netfilter: Netfilter) -> tuple[RuledDrop, ...]:
    """Return what of containers a rule dropped whose variant does no NAT, where the other does.

    A rule that names ports is meant; what a policy drops is another condition.
    """
    doing = {place.partition(" ")[0] for place in netfilter.nat} & set(_VARIANTS)
    if len(doing) != 1 or not {"drops", "droppers", "links"} <= facts.known.keys():
        return ()
    seen = facts.get(Drops).seen
    subnets = [network.subnet for network in facts.get(Links).networks()]
    return tuple(
        each
        for each in facts.get(Droppers).found
        if each.drop in seen
        and each.rule is not None
        and each.rule.backend in set(_VARIANTS) - doing
        and each.rule.hook == "forward"
        and each.rule.text != _POLICY
        and not (each.rule.match.source_ports or each.rule.match.destination_ports)
        and any(contains(net, end) for net in subnets for end in _ends(each))
    )


def _ends(each: RuledDrop) -> tuple[str, str]:
    return each.drop.way.source, each.drop.way.destination


def _mixture(netfilter: Netfilter, hidden: tuple[RuledDrop, ...]) -> Finding:
    message = (
        f"forwarded packets meet rules of both variants of iptables: {'; '.join(netfilter.mixed)}"
    )
    extra: tuple[Evidence, ...] = ()
    if hidden:
        first, rule = hidden[0].drop, hidden[0].rule
        assert rule is not None  # noqa: S101  # _hidden() asks for it
        message = (
            f"{sum(each.drop.count for each in hidden)} packets were dropped by {rule.place} "
            f"({rule.text}), and NAT is done by the other variant of iptables, which does not show "
            f"that rule; the most of {first.protocol} {both_ends(*first.way.parts)}{_removes(rule)}"
        )
        extra = (evidence(first), Evidence(rule.place, "rule", rule.text))
    tables = dict.fromkeys(tuple(place.split()[:3]) for place in netfilter.mixed)
    shown = "; ".join(
        f"{_tool(family)}-{backend.partition('-')[2]} -t {table} -S"
        for backend, family, table in tables
    )
    return Finding(
        condition="mixed-backends",
        subject="iptables-nft and iptables-legacy",
        verdict="proven" if hidden else "exposed",
        severity=SEVERITY if hidden else "medium",
        message=f"{message}; both sets are shown by: {shown}",
        evidence=(*(Evidence("rules", "base chain", place) for place in netfilter.mixed), *extra),
    )


def _removes(rule: PacketRule) -> str:
    """Return what removes a rule that nobody meant, where its whole text is known."""
    if not rule.line.startswith("-A ") or "[" in rule.line:
        return ""
    tool = rule.backend.replace("iptables", _tool(rule.family))
    return f"; if it is left over: {tool} -t {rule.table} -D {rule.line[len('-A ') :]}"


def _unlisted(found: UnlistedRules) -> Finding:
    chain = f"{found.family} {found.table} {found.chain}"
    removes = "; ".join(f"nft delete rule {chain} handle {each}" for each in found.handles)
    return Finding(
        condition="mixed-backends",
        subject=chain,
        verdict="exposed",
        severity="medium",
        message=(
            f"{chain} holds rules of nft ({', '.join(found.words)}) that iptables-nft cannot list: "
            f"'{_tool(found.family)} -t {found.table} -S' fails, and programs that use it do; move "
            f"them to a table of their own: nft -a list chain {chain} shows them, and here they "
            f"are removed by: {removes}"
        ),
        evidence=tuple(
            Evidence("rules", "cannot be listed", chain, f"handle {each}") for each in found.handles
        ),
    )


def _tool(family: str) -> str:
    return "ip6tables" if family == "ip6" else "iptables"
