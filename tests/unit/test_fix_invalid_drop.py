"""invalid-drop: what it wants for each backend, and where it must not be used."""

from __future__ import annotations

from typing import Any

import pytest

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.facts.routes import DefaultRoute, Routes
from remedies.fixes import invalid_drop
from remedies.model import Finding, Host, Terms
from remedies.netfilter.nft_syntax import nft_text
from remedies.netfilter.rule import PacketRule

HOST = Host(name="h", machine_id="m", kernel="6.1", netns="host", boot_id="b")
ETH0 = DefaultRoute(family=4, links=("eth0",), table=254, metric=0, gateway="192.0.2.1")
TERMS = Terms()


def facts(routes: Routes | None = None, **netfilter: Any) -> Facts:
    seen = {"nf_tables": True, "iptables": "none", "conntrack_used": True, **netfilter}
    known: dict[str, object] = {"netfilter": Netfilter(**seen)}
    known["routes"] = Routes(defaults=(ETH0,)) if routes is None else routes
    return Facts(host=HOST, time="", window=0.0, known=known)


def rule(hook: str, owner: str = "ufw", family: str = "ip") -> PacketRule:
    return PacketRule(
        backend="iptables-nft",
        family=family,
        table="filter",
        chain=hook.upper(),
        hook=hook,
        action="drop-invalid",
        text="-m conntrack --ctstate INVALID -j DROP",
        owner=owner,
    )


def finding(mitigated_by: str | None = None) -> Finding:
    return Finding(
        condition="tcp-invalid-reset",
        subject="tcp through NAT",
        verdict="mitigated" if mitigated_by else "exposed",
        severity="medium",
        message="",
        mitigated_by=mitigated_by,
    )


def test_with_nftables_it_wants_its_own_table() -> None:
    (wanted,) = invalid_drop.desired(None, facts(), Terms(backend="nftables", persist=True))
    assert wanted.resource == "nft:inet/remedy_invalid_drop"
    assert wanted.reversibility == "exact"
    assert nft_text(wanted.state) == (
        "table inet remedy_invalid_drop {\n"
        "\tchain input {\n"
        "\t\ttype filter hook input priority filter - 10; policy accept;\n"
        "\t\tmeta l4proto tcp ct state invalid counter drop"
        ' comment "remedy:invalid-drop"\n\t}\n\n'
        "\tchain forward {\n"
        "\t\ttype filter hook forward priority filter - 10; policy accept;\n"
        "\t\tmeta l4proto tcp ct state invalid counter drop"
        ' comment "remedy:invalid-drop"\n\t}\n}\n'
    )


@pytest.mark.parametrize(
    ("iptables", "nf_tables", "variant", "reversibility"),
    [
        ("nft", True, "nft", "exact"),
        ("both", True, "nft", "exact"),
        ("none", True, "nft", "exact"),
        ("legacy", True, "legacy", "lossy"),
        ("none", False, "legacy", "lossy"),
    ],
)
def test_with_iptables_it_wants_a_chain_of_each_family_where_the_rules_live(
    iptables: str, nf_tables: bool, variant: str, reversibility: str
) -> None:
    seen = facts(iptables=iptables, nf_tables=nf_tables)
    four, six = invalid_drop.desired(None, seen, Terms(backend="iptables"))
    assert four.resource == "iptables:mangle/REMEDY-INVALID"
    assert six.resource == "ip6tables:mangle/REMEDY-INVALID"
    assert four.state == six.state
    assert str(four.state).startswith(f"# iptables-{variant}\n*mangle\n")
    assert four.reversibility == reversibility


def test_an_ordinary_host_is_not_refused() -> None:
    assert invalid_drop.guard(finding(), facts(), TERMS) is None


def test_where_nothing_is_tracked_it_would_switch_tracking_on() -> None:
    reason = invalid_drop.guard(None, facts(conntrack_used=False), TERMS)
    assert "switch that on" in str(reason)


@pytest.mark.parametrize("family", ["ip", "ip6", "inet"])
def test_somebody_elses_drop_on_both_hooks_is_named(family: str) -> None:
    drops = (rule("input", family=family), rule("forward", family=family))
    reason = str(invalid_drop.guard(None, facts(drops=drops), TERMS))
    assert f"ufw (iptables-nft {family} filter INPUT)" in reason
    assert f"ufw (iptables-nft {family} filter FORWARD)" in reason


@pytest.mark.parametrize(
    "drops",
    [
        (),
        (rule("forward", owner="kube-proxy"),),
        (rule("input"), rule("forward", family="ip6")),
        (rule("input", owner="remedy"), rule("forward", owner="remedy")),
        (rule("input", owner="remedy"), rule("forward", owner="kube-proxy")),
    ],
)
def test_half_a_drop_or_our_own_does_not_refuse(drops: tuple[PacketRule, ...]) -> None:
    assert invalid_drop.guard(finding(), facts(drops=drops), TERMS) is None


def test_ours_in_force_stays_beside_a_later_rule_of_somebodys() -> None:
    drops = (rule("input"), rule("forward"))
    ours = finding("remedy nft inet remedy_invalid_drop input")
    assert invalid_drop.guard(ours, facts(drops=drops), TERMS) is None
    assert invalid_drop.guard(finding("ufw"), facts(drops=drops), TERMS) is not None


WLAN0 = DefaultRoute(family=4, links=("wlan0",), table=254, metric=600)
SIX = DefaultRoute(family=6, links=("tun0",), table=254, metric=0)


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        (Routes((ETH0, WLAN0)), "IPv4 default routes leave by eth0, wlan0"),
        (Routes((DefaultRoute(4, ("a", "b"), 254, 0),)), "leave by a, b"),
        (Routes((ETH0, ETH0), policy_rules=1), "routing rules choose among 2"),
        (Routes((ETH0,), ipvs=True), "IPVS"),
        (Routes((SIX, DefaultRoute(6, ("tun1",), 254, 0))), "IPv6 default routes leave by"),
    ],
)
def test_several_ways_out_are_refused_with_the_alternative(routes: Routes, words: str) -> None:
    reason = str(invalid_drop.guard(finding(), facts(routes), TERMS))
    assert words in reason
    assert reason.endswith("use tcp-be-liberal instead")


@pytest.mark.parametrize(
    "routes",
    [
        Routes(),
        Routes((ETH0, SIX)),
        Routes((ETH0, ETH0)),
        Routes((ETH0,), policy_rules=3),
    ],
)
def test_one_way_out_is_fine(routes: Routes) -> None:
    assert invalid_drop.guard(finding(), facts(routes), TERMS) is None


def test_what_cannot_be_seen_is_not_judged() -> None:
    blind = Facts(host=HOST, time="", window=0.0, unknown={"netfilter": "not permitted"})
    with pytest.raises(Unreadable, match="not permitted"):
        invalid_drop.guard(None, blind, TERMS)


def test_the_impact_is_one_line() -> None:
    assert "\n" not in invalid_drop.impact(None, facts(), TERMS)
