"""invalid-drop: what it wants for each backend, and where it must not be used."""

from __future__ import annotations

from typing import Any

import builder
import pytest

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.netfilter import NatUse, Netfilter
from remedies.facts.routes import DefaultRoute, Routes
from remedies.facts.sysctl import Sysctl
from remedies.fixes import invalid_drop
from remedies.model import Finding, Terms
from remedies.netfilter.accepts import Accepts
from remedies.rules.nft_syntax import nft_text
from remedies.rules.rule import PacketRule

ETH0 = DefaultRoute(family=4, links=("eth0",), table=254, metric=0, gateway="192.0.2.1")
TERMS = Terms()


def facts(
    routes: Routes | None = None,
    *,
    loose: str = "1",
    moved: dict[str, int] | None = None,
    accepts: Accepts | None = Accepts(),  # noqa: B008 (frozen)
    in_force: tuple[str, ...] = (),
    **netfilter: Any,
) -> Facts:
    seen = {"nf_tables": True, "iptables": "none", "conntrack_used": True, **netfilter}
    return builder.facts(
        Netfilter(accepts=accepts, **seen),
        Routes(defaults=(ETH0,)) if routes is None else routes,
        Sysctl({invalid_drop.LOOSE: loose}),
        Counters({"nf_conntrack.invalid": 0, "Tcp.OutRsts": 0}, moved or {}),
        ours=in_force,
    )


def rule(hook: str, owner: str = "ufw", family: str = "ip") -> PacketRule:
    text = "-m conntrack --ctstate INVALID -j DROP"
    where: dict[str, Any] = {
        "backend": "iptables-nft",
        "family": family,
        "table": "filter",
        "chain": hook.upper(),
    }
    return builder.packet_rule(hook, "drop-invalid", **where, owner=owner, text=text)


def finding(mitigated_by: str | None = None) -> Finding:
    verdict = "mitigated" if mitigated_by else "exposed"
    return builder.finding("tcp-invalid-reset", verdict=verdict, mitigated_by=mitigated_by)


def test_with_nftables_it_wants_its_own_table() -> None:
    (wanted,) = invalid_drop.desired(None, facts(), Terms(backend="nftables", persist=True))
    assert wanted.resource == "nft:inet/remedy_invalid_drop"
    assert wanted.reversibility == "exact"
    assert nft_text(wanted.state) == (
        "table inet remedy_invalid_drop {\n"
        "\tchain output {\n"
        "\t\ttype filter hook output priority filter - 10; policy accept;\n"
        "\t\ttcp flags == rst ct state invalid counter drop"
        ' comment "remedy:invalid-drop"\n\t}\n\n'
        "\tchain forward {\n"
        "\t\ttype filter hook forward priority filter - 10; policy accept;\n"
        "\t\ttcp flags == rst ct state invalid counter drop"
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
@pytest.mark.parametrize("near", ["input", "output"])
def test_somebody_elses_drop_for_all_that_nat_serves_is_named(family: str, near: str) -> None:
    drops = (rule(near, family=family), rule("forward", family=family))
    seen = facts(drops=drops, nat_uses=(NatUse(family, "masquerade"),))
    reason = str(invalid_drop.guard(None, seen, TERMS))
    assert f"(iptables-nft {family} filter {near.upper()}, ufw)" in reason
    assert f"(iptables-nft {family} filter FORWARD, ufw)" in reason


@pytest.mark.parametrize(
    ("uses", "drops"),
    [
        ((), ()),
        (("ip",), (rule("forward", owner="kube-proxy"),)),
        (("ip",), (rule("input"), rule("forward", family="ip6"))),
        (("inet",), (rule("input"), rule("forward"))),
        ((), (rule("input"), rule("forward"))),
        (("ip", "ip6"), (rule("input"), rule("forward"), rule("input", family="ip6"))),
        (("ip",), (rule("input", owner="remedy"), rule("forward", owner="remedy"))),
    ],
)
def test_a_drop_that_leaves_a_family_open_does_not_refuse(
    uses: tuple[str, ...], drops: tuple[PacketRule, ...]
) -> None:
    """A host with IPv6 and the usual hardening of IPv4 alone is still open."""
    nat = tuple(NatUse(family, "masquerade") for family in uses)
    assert invalid_drop.guard(finding(), facts(drops=drops, nat_uses=nat), TERMS) is None


@pytest.mark.parametrize(
    "place",
    ["nft:inet/remedy_invalid_drop", "iptables:mangle/REMEDY-INVALID", "nft:inet/remedy_notrack"],
)
def test_ours_in_force_stays_beside_a_later_rule_of_somebodys(place: str) -> None:
    """Of this fix: another one that covers the fault says nothing about it."""
    drops = (rule("input", family="inet"), rule("forward", family="inet"))
    refused = invalid_drop.guard(finding("ufw"), facts(drops=drops, in_force=(place,)), TERMS)
    assert (refused is None) == ("notrack" not in place)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"accepts": Accepts(invalid="nft ip f forward: ct state invalid accept")},
         "nft ip f forward: ct state invalid accept"),
        ({"accepts": Accepts(synproxy="nft inet sp input: synproxy")}, "nft inet sp input"),
        ({"loose": "0"}, "nf_conntrack_tcp_loose = 0"),
        ({"moved": {"nf_conntrack.invalid": 48, "Tcp.OutRsts": 0}}, "48 INVALID packets"),
    ],
)  # fmt: skip
def test_whoever_lives_by_invalid_segments_is_named(given: dict[str, Any], words: str) -> None:
    reason = str(invalid_drop.guard(finding(), facts(**given), TERMS))
    assert words in reason
    assert reason.endswith("use tcp-be-liberal instead")


@pytest.mark.parametrize(
    "moved",
    [{"nf_conntrack.invalid": 0, "Tcp.OutRsts": 0}, {"nf_conntrack.invalid": 4, "Tcp.OutRsts": 2}],
)
def test_invalid_that_is_answered_is_the_fault_itself(moved: dict[str, int]) -> None:
    assert invalid_drop.guard(finding(), facts(moved=moved), TERMS) is None


def test_rules_that_cannot_be_read_may_accept_invalid() -> None:
    with pytest.raises(Unreadable, match="too many"):
        invalid_drop.guard(finding(), facts(accepts=Accepts(unread=("too many",))), TERMS)
    with pytest.raises(Unreadable, match="not asked for"):
        invalid_drop.guard(finding(), facts(accepts=None), TERMS)


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
    blind = builder.facts(unknown={"netfilter": "not permitted"})
    with pytest.raises(Unreadable, match="not permitted"):
        invalid_drop.guard(None, blind, TERMS)


def test_the_impact_is_one_line() -> None:
    assert "\n" not in invalid_drop.impact(None, facts(), TERMS)
