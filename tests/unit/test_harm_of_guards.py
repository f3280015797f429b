"""What counts as harm: a guard that would refuse the fix now, a drop of what goes on."""

from __future__ import annotations

import pytest
from builder import facts, flow, held
from older_drop import OLDER

from remedies.facts.nat import Nat
from remedies.facts.netfilter import Netfilter
from remedies.facts.oneway import Oneway
from remedies.fixes import invalid_drop
from remedies.model import Terms
from remedies.netlink.flow import Flow
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


FLOW = flow("10.0.0.2", 4000, "10.0.0.9", 443, protocol="tcp")


@pytest.mark.parametrize(("seen", "more"), [((FLOW,), ""), ((FLOW, FLOW, FLOW), "and 2 more")])
def test_an_invalid_drop_harms_what_goes_on_in_one_direction(
    seen: tuple[Flow, ...], more: str
) -> None:
    address = f"nft:{invalid_drop.TABLE}"
    entries = (held(address, OLDER), held("sysctl:x"))
    (found,) = harm.of_drops(entries, Oneway(proven=seen))
    assert (found.resource, found.fix) == (address, "f")
    assert "10.0.0.2:4000 -> 10.0.0.9:443" in found.reason
    assert ("more" in found.reason) is bool(more)
    assert more in found.reason
    assert harm.of_drops(entries, Oneway()) == ()
    assert harm.of_drops((held("sysctl:x"),), Oneway(proven=seen)) == ()
