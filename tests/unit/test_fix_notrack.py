"""The notrack fix: parameters, states and refusals."""

from __future__ import annotations

import json
from typing import Optional

import builder
import pytest
from builder import packet_rule

from remedies.errors import ConfigError, Unreadable
from remedies.facts import Facts
from remedies.facts.inputs import Inputs
from remedies.facts.nat import Nat
from remedies.facts.netfilter import Netfilter
from remedies.fixes import notrack
from remedies.model import Backend, Terms
from remedies.netfilter.accepts import Accepts
from remedies.netlink.links import Address, Link, Links
from remedies.rules.admission import InputChain, InputRule
from remedies.rules.rule import Match, PacketRule
from remedies.values import replace

GOOD: dict[str, object] = {
    "protocol": "udp",
    "ports": [5061, 5060],
    "addresses": ["192.0.2.10", "2001:DB8::A"],
}
LINKS = Links(
    links=(Link(2, "eth0", "", True),),
    addresses=(Address("192.0.2.10", 24, 2, "global"), Address("2001:db8::a", 64, 2, "global")),
)


def facts(
    nat: Nat,
    *more: object,
    iptables: str = "nft",
    accepts: Accepts = Accepts(),  # noqa: B008 (frozen)
) -> Facts:
    netfilter = Netfilter(nf_tables=True, iptables=iptables, accepts=accepts)
    return builder.facts(Inputs(asked=True), LINKS, nat, netfilter, *more)


def dnat(port: int, owner: str = "docker") -> PacketRule:
    match = Match(("udp",), destination_ports=((port, port),), destination_local=True)
    text = f"-A DOCKER -p udp --dport {port} -j DNAT"
    return packet_rule("prerouting", "dnat", match, text=text, owner=owner)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("protocol", None),
        ("protocol", "sctp"),
        ("protocol", ["udp"]),
        ("ports", None),
        ("ports", []),
        ("ports", 5060),
        ("ports", ["5060"]),
        ("ports", [0]),
        ("ports", [65536]),
        ("ports", [True]),
        ("addresses", None),
        ("addresses", []),
        ("addresses", "192.0.2.10"),
        ("addresses", ["192.0.2.0/24"]),
        ("addresses", ["0.0.0.0"]),
        ("addresses", ["::"]),
        ("addresses", ["host"]),
        ("addresses", [1]),
    ],
)
def test_wrong_parameters_are_named(name: str, value: object) -> None:
    params = {key: given for key, given in {**GOOD, name: value}.items() if given is not None}
    with pytest.raises(ConfigError, match=f"notrack: parameter '{name}'"):
        notrack.desired(None, facts(Nat(asked=True)), Terms(params=params))


def test_nft_table_is_exact_in_both_directions() -> None:
    (wanted,) = notrack.desired(None, facts(Nat(asked=True)), Terms(params=GOOD))
    assert wanted.resource == "nft:inet/remedy_notrack"
    objects = [json.loads(line) for line in (wanted.state or "").splitlines()]
    rules = [item["rule"] for item in objects if "rule" in item]
    assert len(rules) == 8
    shown = {
        (rule["chain"], *(e["match"]["right"] for e in rule["expr"] if "match" in e))
        for rule in rules
    }
    assert ("prerouting", "192.0.2.10", 5060) in shown
    assert ("output", "2001:db8::a", 5061) in shown
    assert all("notrack" in rule["expr"][-1] for rule in rules)
    assert {c["chain"]["prio"] for c in objects if "chain" in c} == {-300}


@pytest.mark.parametrize(("variant", "reversibility"), [("nft", "exact"), ("legacy", "lossy")])
def test_iptables_chain_for_each_version(variant: str, reversibility: str) -> None:
    terms = Terms(backend="iptables", params=GOOD)
    four, six = notrack.desired(None, facts(Nat(asked=True), iptables=variant), terms)
    assert four.resource == "iptables:raw/REMEDY-NOTRACK"
    assert six.resource == "ip6tables:raw/REMEDY-NOTRACK"
    assert four.reversibility == reversibility
    lines = (four.state or "").splitlines()
    assert f"# iptables-{variant}" in lines
    assert "-A PREROUTING -j REMEDY-NOTRACK" in lines
    assert "-A OUTPUT -j REMEDY-NOTRACK" in lines
    start = "-A REMEDY-NOTRACK"
    assert f"{start} -d 192.0.2.10/32 -p udp -m udp --dport 5060 -j CT --notrack" in lines
    assert f"{start} -s 192.0.2.10/32 -p udp -m udp --sport 5060 -j CT --notrack" in lines
    assert f"{start} -d 2001:db8::a/128 -p udp -m udp --dport 5061 -j CT --notrack" in (
        six.state or ""
    )


def test_no_chain_for_a_version_without_addresses() -> None:
    terms = Terms(backend="iptables", params={**GOOD, "addresses": ["192.0.2.10"]})
    wanted = notrack.desired(None, facts(Nat(asked=True)), terms)
    assert [item.resource for item in wanted] == ["iptables:raw/REMEDY-NOTRACK"]


def test_refusals_name_what_is_in_the_way() -> None:
    terms = Terms(params=GOOD)
    reason = notrack.guard(None, facts(Nat(asked=True, rules=(dnat(5060),))), terms)
    assert reason is not None
    assert "-A DOCKER -p udp --dport 5060 -j DNAT" in reason
    assert notrack.guard(None, facts(Nat(asked=True, rules=(dnat(53),))), terms) is None
    own = Nat(asked=True, rules=(dnat(5060, "remedy"),))
    assert notrack.guard(None, facts(own), terms) is None
    assert notrack.guard(None, facts(Nat(asked=False)), terms) is not None
    unread = notrack.guard(None, facts(Nat(asked=True, unread=("nat: late",))), terms)
    assert unread == "NAT rules could not be read: nat: late"
    elsewhere = Terms(params={**GOOD, "addresses": ["192.0.2.11"]})
    assert notrack.guard(None, facts(Nat(asked=True)), elsewhere) == (
        "192.0.2.11 is not an address of this host"
    )


@pytest.mark.parametrize(
    ("backend", "iptables"),
    [("nftables", "nft"), ("iptables", "nft"), ("iptables", "legacy")],
)
def test_several_services_add_up(backend: Backend, iptables: str) -> None:
    found = facts(Nat(asked=True), iptables=iptables)
    one, other, both = (
        notrack.desired(None, found, Terms(backend, params={**GOOD, "ports": ports}))
        for ports in ([5060], [5061], [5060, 5061])
    )
    for first, second, whole in zip(one, other, both):
        merged = notrack.merge(first, second)
        assert merged.resource == whole.resource
        assert sorted((merged.state or "").splitlines()) == sorted((whole.state or "").splitlines())
        assert notrack.merge(merged, second) == merged


def chain(name: str, *rules: tuple[str, Match], accepts: bool = False) -> InputChain:
    made = tuple(InputRule(name, match, verdict, "", f"{verdict} it") for verdict, match in rules)
    return InputChain(f"nft inet f {name}", "inet", name, accepts, made)


SIP = Match(("udp",), destination_ports=((5060, 5061),))
BY_STATE = ("accept", Match(states=("established", "related")))
NEW_SIP = ("accept", Match(("udp",), destination_ports=((5060, 5061),), states=("new",)))
IN_EACH_FAMILY = [
    ("accept", replace(SIP, sources=(everyone,))) for everyone in ("0.0.0.0/0", "::/0")
]
"""As rules with ``ip daddr`` and ``ip6 daddr`` in a table of both are decoded."""
SERVICE = "udp 192.0.2.10 port 5060 would be stopped without tracking: "


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (Inputs(asked=True, chains=(chain("input", BY_STATE, ("accept", SIP)),)), None),
        (Inputs(asked=True, chains=(chain("input", BY_STATE, *IN_EACH_FAMILY),)), None),
        (
            Inputs(asked=True, chains=(chain("input", BY_STATE, NEW_SIP),)),
            SERVICE
            + "the policy of nft inet f input drops untracked packets; 'accept it' passes new"
            " ones alone",
        ),
        (
            Inputs(asked=True, chains=(chain("input", NEW_SIP, ("drop", SIP), accepts=True),)),
            SERVICE + "'drop it' (nft inet f input) stops untracked packets; 'accept it' passes new"
            " ones alone",
        ),
        (
            Inputs(asked=True, chains=(chain("input", ("drop", Match(states=("invalid",)))),)),
            None,
        ),
        (
            Inputs(asked=True, outputs=(chain("output", BY_STATE),)),
            SERVICE + "the policy of nft inet f output drops untracked packets; 'accept it' passes"
            " established ones alone",
        ),
        (Inputs(asked=True, outputs=(chain("output", BY_STATE, accepts=True),)), None),
        (Inputs(asked=True, outputs=(chain("output", BY_STATE, ("accept", Match())),)), None),
    ],
)
def test_it_is_refused_where_a_firewall_goes_by_state(
    inputs: Inputs, expected: Optional[str]
) -> None:
    found = facts(Nat(asked=True), inputs)
    assert notrack.guard(None, found, Terms(params=GOOD)) == expected


def test_rules_that_were_not_read_refuse_it() -> None:
    for inputs in (Inputs(asked=False), Inputs(asked=True, unread=("nft ip f i: gone",))):
        with pytest.raises(Unreadable, match="gone" if inputs.asked else "not asked for"):
            notrack.guard(None, facts(Nat(asked=True), inputs), Terms(params=GOOD))
    blind = Accepts(unread=("nft ip f i: gone",))
    read = facts(Nat(asked=True), accepts=blind)
    assert notrack.guard(None, read, Terms(params=GOOD)) is None
    tcp = Terms(params={**GOOD, "protocol": "tcp"})
    with pytest.raises(Unreadable, match="gone"):
        notrack.guard(None, read, tcp)


def test_synproxy_refuses_a_tcp_service() -> None:
    found = facts(Nat(asked=True), accepts=Accepts(synproxy="nft inet sp input: synproxy"))
    reason = notrack.guard(None, found, Terms(params={**GOOD, "protocol": "tcp"}))
    assert reason == (
        "SYNPROXY is in use (nft inet sp input: synproxy) and needs conntrack for what it answers"
    )
    assert notrack.guard(None, found, Terms(params=GOOD)) is None
