"""The clamp on narrow links: what it writes, how links add up, when it is refused."""

from __future__ import annotations

import re
from typing import Optional

import pytest
from builder import facts, finding

from remedies import catalogue
from remedies.facts.netfilter import Netfilter
from remedies.fixes import clamp_mss
from remedies.model import Finding, Terms, Wanted
from remedies.rules.kinds import rules_of
from remedies.rules.nft_syntax import nft_text

NFT, IPTABLES = Terms("nftables"), Terms("iptables")
SEEN = facts(Netfilter(nf_tables=True, iptables="legacy"))


def narrow(link: str = "wg0", protocols: str = "tcp") -> Finding:
    details = {"sender": "172.17.0.2", "link": link, "protocols": protocols}
    return finding("mtu-black-hole", details=details)


def wanted(terms: Terms, link: str = "wg0") -> tuple[Wanted, ...]:
    made = clamp_mss.desired(narrow(link), SEEN, terms)
    assert all(catalogue.may_write("clamp-mss", one.resource) for one in made)
    return made


def test_both_directions_of_the_link_and_no_other_are_clamped() -> None:
    (table,) = wanted(NFT)
    lines = [line.strip() for line in nft_text(table.state).splitlines() if "maxseg" in line]
    assert lines == [
        f'{side} "wg0" tcp flags syn counter tcp option maxseg size set rt mtu '
        f'comment "remedy:clamp-mss"'
        for side in ("iifname", "oifname")
    ]
    assert "hook forward priority mangle" in nft_text(table.state)


def test_iptables_has_a_chain_for_each_ip_version() -> None:
    made = wanted(IPTABLES)
    assert [one.resource for one in made] == [
        f"{s}:{clamp_mss.CHAIN}" for s in ("iptables", "ip6tables")
    ]
    assert {one.reversibility for one in made} == {"lossy"}
    for one in made:
        assert one.state is not None
        assert "-A FORWARD -j REMEDY-CLAMP-MSS\n" in one.state
        assert one.state.count("-j TCPMSS --clamp-mss-to-pmtu") == 2
    rules = rules_of(made[0].resource, made[0].state)
    assert [(r.match.in_interfaces, r.match.out_interfaces) for r in rules] == [
        (("wg0",), ()),
        ((), ("wg0",)),
    ]
    assert {rule.action for rule in rules} == {"other"}, "it drops nothing and turns nothing"


@pytest.mark.parametrize("terms", [NFT, IPTABLES])
def test_two_links_are_one_table(terms: Terms) -> None:
    one, other = wanted(terms, "wg0")[0], wanted(terms, "ppp0")[0]
    both = clamp_mss.merge(one, other)
    assert both == clamp_mss.merge(other, one) == clamp_mss.merge(both, one)
    assert both.reversibility == one.reversibility
    assert clamp_mss._links_of(both.state) == {"wg0", "ppp0"}


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (None, "it needs a finding"),
        (finding("mtu-black-hole", details={"sender": "172.17.0.2"}), "a router elsewhere"),
        (narrow(protocols="tcp udp"), "udp is too big for wg0, too"),
        (narrow(protocols="udp"), "a clamp helps TCP alone"),
        (narrow("ppp+"), "'ppp\\+' cannot be written in a rule"),
    ],
)
def test_it_is_refused_where_it_would_not_help(seen: Optional[Finding], why: str) -> None:
    assert re.search(why, clamp_mss.guard(seen, SEEN, NFT) or "")
    assert clamp_mss.guard(narrow(), SEEN, NFT) is None
