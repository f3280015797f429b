"""A fix in force whose guard would refuse it now is harm; one that cannot be judged is none."""

from __future__ import annotations

from builder import facts

from remedies.facts.nat import Nat
from remedies.facts.netfilter import Netfilter
from remedies.model import Terms
from remedies.netlink.links import Address, Link, Links
from remedies.status import harm

TERMS = Terms(params={"protocol": "udp", "ports": [5060], "addresses": ["192.0.2.10"]})
USE = harm.InUse("notrack", "nft:inet/remedy_notrack", None, TERMS)
LINKS = Links((Link(2, "eth0", "", up=True),), (Address("192.0.2.10", 24, 2, "global"),))
ELSEWHERE = Links(LINKS.links, (Address("192.0.2.11", 24, 2, "global"),))


def test_a_service_whose_address_has_gone_is_harmed() -> None:
    seen = facts(ELSEWHERE, Nat(asked=True), Netfilter(nf_tables=True, iptables="nft"))
    (found,) = harm.of_guards([USE], seen)
    assert (found.resource, found.fix) == (USE.resource, "notrack")
    assert "192.0.2.10 is not an address of this host" in found.reason


def test_a_service_that_stands_as_before_is_not() -> None:
    seen = facts(LINKS, Nat(asked=True), Netfilter(nf_tables=True, iptables="nft"))
    assert harm.of_guards([USE], seen) == ()


def test_a_guard_that_cannot_see_says_nothing_of_harm() -> None:
    blind = facts(Netfilter(nf_tables=True, iptables="nft"), unknown={"nat": "not permitted"})
    assert harm.of_guards([USE], blind) == ()
