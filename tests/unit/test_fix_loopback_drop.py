"""The drop that keeps others out of the loopback: what it writes, and whom it is not for."""

from __future__ import annotations

import pytest
from builder import facts, finding, held

from remedies import catalogue
from remedies.facts.netfilter import Netfilter
from remedies.facts.session import Connection, Session
from remedies.fixes import loopback_drop
from remedies.model import Terms
from remedies.netlink.links import Link, Links
from remedies.planning import lockout
from remedies.rules.kinds import rules_of
from remedies.rules.nft_syntax import nft_text
from remedies.status import harm

SEEN = facts(Netfilter(nf_tables=True, iptables="nft"), Links((Link(2, "eth0", "", up=True),)))
FOUND = finding("route-localnet-exposure", details={"link": "eth0"})
BACKENDS = [Terms("nftables"), Terms("iptables")]


@pytest.mark.parametrize("terms", BACKENDS)
def test_it_drops_what_comes_for_the_loopback_by_any_other_link(terms: Terms) -> None:
    (one,) = loopback_drop.desired(FOUND, SEEN, terms)
    assert catalogue.may_write("loopback-drop", one.resource)
    (rule,) = rules_of(one.resource, one.state)
    assert (rule.action, rule.hook, rule.family) == ("drop", "prerouting", "ip")
    assert rule.match.destinations == ("127.0.0.0/8",)
    assert rule.match.not_in_interfaces == ("lo",)
    assert (rule.match.in_interfaces, rule.match.unmodelled) == ((), ())


def test_it_comes_before_conntrack_and_nat() -> None:
    assert "hook prerouting priority raw;" in nft_text(loopback_drop.table())


def test_it_is_refused_where_a_vrf_has_a_loopback_of_its_own() -> None:
    vrf = facts(Netfilter(nf_tables=True, iptables="nft"), Links((Link(5, "red", "vrf", up=True),)))
    assert loopback_drop.guard(FOUND, SEEN, Terms()) is None
    assert "red is a VRF" in (loopback_drop.guard(FOUND, vrf, Terms()) or "")


def test_who_it_keeps_out_is_not_harmed() -> None:
    """Data of a neighbour that was inside comes again and again, and that is what it is for."""
    entry = held("nft:ip/remedy_loopback_drop", loopback_drop.table())
    assert harm.dropping((entry,)) == ()


@pytest.mark.parametrize(
    ("connection", "nameserver", "level"),
    [
        (Connection("127.0.0.1", 5000, "127.0.0.1", 22, "sshd"), "127.0.0.53", "none"),
        (Connection("10.0.0.1", 5000, "10.0.0.9", 22, "sshd"), "10.0.0.2", "none"),
        (Connection("10.0.0.1", 5000, "127.0.0.1", 22, "sshd"), "10.0.0.2", "severe"),
    ],
)
def test_the_session_that_applies_it_is_cut_off_only_if_it_came_that_way(
    connection: Connection, nameserver: str, level: str
) -> None:
    session = Session((connection,), nameservers=(nameserver,))
    address = "nft:ip/remedy_loopback_drop"
    (rule,) = rules_of(address, loopback_drop.table())
    found = lockout._on_session(rule, connection, session) + lockout._on_dns(rule, session)
    assert max((seen for seen, _ in found), default="none") == level
