"""udp-redirect: what it writes, on which ways in, when it refuses, and how findings add up."""

from __future__ import annotations

from typing import Optional

import builder
import pytest
from fake_store import FakeStore
from hypothesis import given
from hypothesis import strategies as st

from remedies.errors import InputError, StalePlan, Unreadable
from remedies.facts import Facts
from remedies.facts.inputs import Inputs
from remedies.facts.nat import Nat
from remedies.facts.netfilter import Netfilter
from remedies.facts.sockets import BoundSocket, Sockets
from remedies.fixes import udp_redirect
from remedies.model import Change, Finding, Policy, Rule, Scan, Terms, Wanted
from remedies.netlink.links import Address, Link, Links
from remedies.planning import plan as planning
from remedies.planning.remake import Today, remake
from remedies.rules import flow_address
from remedies.rules.admission import InputChain
from remedies.rules.nft_syntax import nft_text
from remedies.rules.rule import Match, PacketRule
from remedies.values import replace

LINKS = Links(
    links=(
        Link(2, "eth0", "", up=True),
        Link(3, "docker0", "bridge", up=True),
        Link(4, "br-1", "bridge", up=True),
    ),
    addresses=(
        Address("10.21.17.99", 24, 2, "global"),
        Address("172.17.0.1", 16, 3, "global"),
        Address("fe80::1", 64, 3, "link"),
        Address("fd17::1", 64, 3, "global"),
        Address("172.18.0.1", 16, 4, "global"),
    ),
)
STALE = "udp/172.17.0.2/57275/10.21.17.99/56789"
FOUND = Finding(
    "udp-reply-source",
    "udp 0.0.0.0:56789",
    "proven",
    "high",
    "m",
    details={
        "port": "56789",
        "server": "wildcard",
        "redirect": "docker0/172.17.0.1",
        "stale": STALE,
    },
)
NFT, IPTABLES = Terms("nftables"), Terms("iptables")


def having(**details: str) -> Finding:
    return replace(FOUND, details={**FOUND.details, **details})


def facts(
    *rules: PacketRule,
    kernel: str = "6.1.0-13-amd64",
    netfilter: Optional[Netfilter] = None,
    bound: tuple[BoundSocket, ...] = (),
    nat: Optional[Nat] = None,
    links: Links = LINKS,
    inputs: tuple[InputChain, ...] = (),
) -> Facts:
    return builder.facts(
        netfilter or Netfilter(True, "nft", conntrack_used=True),
        nat or Nat(asked=True, rules=rules),
        links,
        Sockets(bound=bound),
        Inputs(asked=True, chains=inputs),
        host=replace(builder.HOST, kernel=kernel),
    )


def published(**match: object) -> PacketRule:
    whole = Match(protocols=("udp",), destination_ports=((56789, 56789),), **match)  # type: ignore[arg-type]
    return builder.packet_rule("prerouting", "dnat", whole, text="-A DOCKER ...")


def test_one_rule_of_the_table_is_what_the_guide_says() -> None:
    (wanted,) = udp_redirect.desired(FOUND, facts(), NFT)
    assert (wanted.resource, wanted.reversibility) == ("nft:inet/remedy_udp_redirect", "exact")
    assert nft_text(wanted.state) == (
        "table inet remedy_udp_redirect {\n"
        "\tchain prerouting {\n"
        "\t\ttype nat hook prerouting priority dstnat - 5; policy accept;\n"
        '\t\tiifname "docker0" fib daddr type local udp dport 56789 counter redirect\n'
        "\t}\n}\n"
    )


def test_stale_flows_go_once_the_rule_stands_those_of_late_clients_too() -> None:
    (wanted,) = udp_redirect.desired(FOUND, facts(), NFT)
    assert wanted.effects == (f"flow:{STALE}", "flow:udp/docker0/56789")
    (kept,) = udp_redirect.desired(having(stale=""), facts(), NFT)
    assert kept.effects == ()


BOTH = having(redirect="docker0/172.17.0.1 docker0/fd17::1")


@pytest.mark.parametrize("kernel", ["5.1.21", "4.19.0-27-amd64", "strange"])
def test_before_5_2_each_family_has_a_table_of_its_own(kernel: str) -> None:
    made = udp_redirect.desired(BOTH, facts(kernel=kernel), NFT)
    assert [w.resource for w in made] == [
        "nft:ip/remedy_udp_redirect",
        "nft:ip6/remedy_udp_redirect",
    ]
    assert [bool(w.effects) for w in made] == [False, True]
    (inet,) = udp_redirect.desired(BOTH, facts(kernel="5.2"), NFT)
    assert (inet.state or "").count("redirect") == 1 + (inet.state or "").count("remedy_udp_redir")


@pytest.mark.parametrize(
    ("netfilter", "variant", "reversibility"),
    [
        (Netfilter(True, "nft", conntrack_used=True), "nft", "exact"),
        (Netfilter(True, "legacy", conntrack_used=True), "legacy", "lossy"),
        (Netfilter(False, "none", conntrack_used=True), "legacy", "lossy"),
    ],
)
def test_with_iptables_it_is_a_chain_for_each_ip_version(
    netfilter: Netfilter, variant: str, reversibility: str
) -> None:
    made = udp_redirect.desired(BOTH, facts(netfilter=netfilter), IPTABLES)
    assert [(w.resource, w.reversibility) for w in made] == [
        ("iptables:nat/REMEDY-REDIRECT", reversibility),
        ("ip6tables:nat/REMEDY-REDIRECT", reversibility),
    ]
    assert made[0].state == (
        f"# iptables-{variant}\n*nat\n:PREROUTING\n:REMEDY-REDIRECT -\n"
        "-A PREROUTING -j REMEDY-REDIRECT\n"
        "-A REMEDY-REDIRECT -i docker0 -p udp -m udp --dport 56789 -m addrtype "
        "--dst-type LOCAL -j REDIRECT\nCOMMIT\n"
    )


def test_a_proven_fault_with_a_neighbour_behind_a_bridge_is_not_refused() -> None:
    assert udp_redirect.guard(FOUND, facts(), NFT) is None
    assert udp_redirect.guard(BOTH, facts(), IPTABLES) is None


@pytest.mark.parametrize(
    ("finding", "seen", "reason"),
    [
        (None, facts(), "cannot be required"),
        (having(redirect=""), facts(), "no interface to redirect on"),
        (having(server=""), facts(), "no socket listens"),
        (having(redirect="docker0/172.17.0.9"), facts(), "goes to 172.17.0.1"),
        (having(redirect="gone/172.17.0.1"), facts(), "goes to no address"),
        (having(redirect='a"b/172.17.0.1'), facts(), "cannot be written in a rule"),
        (having(redirect="docker+/172.17.0.1"), facts(), "cannot be written in a rule"),
        (
            FOUND,
            facts(bound=(BoundSocket("10.21.17.99", 56789, 5),)),
            "another socket serves 10.21.17.99",
        ),
        (FOUND, facts(netfilter=Netfilter(True, "none")), "nothing in this namespace tracks"),
        (FOUND, facts(published()), "the NAT rule '-A DOCKER ...'"),
        (FOUND, facts(published(destination_local=True)), "matches requests to port 56789"),
        (FOUND, facts(published(unmodelled=("-m mark",))), "could match"),
        (FOUND, facts(nat=Nat(asked=True, unread=("nft ip x: why",))), "nft ip x: why"),
        (FOUND, facts(nat=Nat(asked=False)), "could not be read"),
    ],
)
def test_it_is_refused(finding: Optional[Finding], seen: Facts, reason: str) -> None:
    assert reason in (udp_redirect.guard(finding, seen, NFT) or "")


@pytest.mark.parametrize(
    "beside",
    [
        published(not_in_interfaces=("docker0",)),  # Docker's own, on its own bridge
        published(in_interfaces=("br-1",)),
        published(destinations=("192.0.2.7",)),
        published(destination_local=False),
        replace(published(), match=Match(("udp",), destination_ports=((53, 53),))),
        replace(published(), match=Match(("tcp",))),
        replace(published(), hook="output"),
        replace(published(), action="masquerade", hook="postrouting"),
        replace(published(), owner="remedy"),
    ],
)
def test_nat_that_does_not_match_the_same_requests_is_no_obstacle(beside: PacketRule) -> None:
    assert udp_redirect.guard(FOUND, facts(beside), NFT) is None


def test_a_rule_for_the_other_ip_version_counts_only_in_an_inet_table() -> None:
    other = replace(published(), family="ip6")
    assert udp_redirect.guard(FOUND, facts(other), IPTABLES) is None
    assert udp_redirect.guard(FOUND, facts(other), NFT) is not None


def test_what_is_in_force_stays_while_its_bridge_is_away() -> None:
    assert udp_redirect.guard(having(redirect="gone/0.0.0.0"), facts(), NFT) is None
    (wanted,) = udp_redirect.desired(having(redirect="gone/0.0.0.0", stale=""), facts(), NFT)
    assert '"gone"' in (wanted.state or "")
    (six,) = udp_redirect.desired(having(redirect="gone/::", stale=""), facts(), IPTABLES)
    assert six.resource.startswith("ip6tables:")


def test_a_socket_on_another_port_is_no_obstacle() -> None:
    other_port = BoundSocket("10.21.17.99", 53, 5)
    assert udp_redirect.guard(FOUND, facts(bound=(other_port,)), NFT) is None


def test_what_cannot_be_read_is_passed_on() -> None:
    with pytest.raises(Unreadable):
        udp_redirect.guard(FOUND, builder.facts(), NFT)


ways = st.sets(
    st.tuples(st.sampled_from(("docker0", "br-1")), st.integers(1, 65535)), min_size=1, max_size=6
)


def made(some: set[tuple[str, int]], terms: Terms) -> Wanted:
    """Return the merged wishes of one finding for each way."""
    address = {"docker0": "172.17.0.1", "br-1": "172.18.0.1"}
    wishes: list[Wanted] = []
    for name, port in some:
        finding = having(redirect=f"{name}/{address[name]}", port=str(port), stale="")
        wishes += udp_redirect.desired(finding, facts(), terms)
    whole = wishes[0]
    for wish in wishes[1:]:
        whole = udp_redirect.merge(whole, wish)
    return whole


@given(ways, ways, st.sampled_from((NFT, IPTABLES)))
def test_findings_add_up_in_whatever_order(
    one: set[tuple[str, int]], other: set[tuple[str, int]], terms: Terms
) -> None:
    first, second = made(one, terms), made(other, terms)
    both = udp_redirect.merge(first, second)
    assert both.state == udp_redirect.merge(second, first).state == made(one | other, terms).state
    assert udp_redirect.merge(both, first).state == both.state
    for name, port in one | other:
        assert name in (both.state or "")
        assert str(port) in (both.state or "")


def test_effects_add_up_once() -> None:
    (wanted,) = udp_redirect.desired(FOUND, facts(), NFT)
    assert udp_redirect.merge(wanted, wanted) == wanted
    nothing = Wanted(wanted.resource, None)
    assert udp_redirect.merge(wanted, nothing) == wanted


def test_effects_are_told_to_people() -> None:
    (wanted,) = udp_redirect.desired(FOUND, facts(), NFT)
    exact, behind = map(flow_address.text, wanted.effects)
    assert exact == "deletes the unreplied flow udp 172.17.0.2:57275 -> 10.21.17.99:56789"
    assert "behind docker0" in behind
    assert "[fd17::2]:9" in flow_address.text("flow:udp/fd17::2/9/fd10::99/53")
    assert flow_address.text("other:thing") == "other:thing"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "udp",
        "tcp/a/1/b/2",
        "udp/a/1/b",
        "udp/a/x/b/2",
        "udp/l/65536",
        "udp//53",
        "udp/a/-1",
        "tcp/eth0/53",
    ],
)
def test_a_path_that_names_no_flow_is_refused(path: str) -> None:
    with pytest.raises(InputError):
        flow_address.split(path)


def remade(was: Finding, now: Finding, seen: Optional[Facts] = None) -> tuple[Change, ...]:
    """Return the changes of a plan that was made of one finding, made again where another is."""
    rules = {"udp-reply-source": Rule("fix", "exposed", ("udp-redirect",))}
    wanted = Policy(("p",), "d", "nftables", False, rules)
    seen = seen or facts()
    honest = Scan(seen.host, seen.time, (was,), ())
    with pytest.MonkeyPatch.context() as patch:  # whoever edits a plan asks no guard
        patch.setattr(udp_redirect, "guard", lambda *_: None)
        plan = planning.plan(wanted, seen, honest, {}, FakeStore(), prune=False)
    assert plan.changes
    today = Today(seen, Scan(seen.host, seen.time, (now,), ()), {}, FakeStore())
    return remake(plan, today).changes


def test_of_a_saved_plan_only_the_flows_that_are_stale_now_go() -> None:
    live = "udp/172.17.0.3/40000/10.21.17.99/56789"
    (change,) = remade(having(stale=f"{STALE} {live}"), FOUND)
    assert change.effects == (f"flow:{STALE}", "flow:udp/docker0/56789")
    (change,) = remade(FOUND, having(stale=live))
    assert change.effects == ()


@pytest.mark.parametrize(
    ("was", "now", "why"),
    [
        (having(redirect="lo/0.0.0.0"), FOUND, "no failing client"),
        (FOUND, having(server=""), "no socket listens on every address"),
        (having(server="wildcard", redirect="gone/172.17.0.1"), FOUND, "goes to no address"),
    ],
)
def test_what_a_saved_plan_says_of_a_finding_is_not_believed(
    was: Finding, now: Finding, why: str
) -> None:
    with pytest.raises(StalePlan, match=why):
        remade(was, now)


def test_a_saved_plan_holds_for_the_clients_it_names_where_others_are_seen() -> None:
    (change,) = remade(FOUND, having(redirect="", stale=""))
    assert '"right": "docker0"' in (change.after or "")
    assert change.effects == ()
    with pytest.raises(StalePlan, match=r"was proven .*accept_harm: \[udp-redirect\]"):
        remade(FOUND, replace(having(redirect="", stale=""), verdict="exposed"))
