"""The loose filter of one link: what is written, and when it is refused."""

from __future__ import annotations

from builder import facts, finding

from remedies import catalogue
from remedies.facts.switches import LinkSwitches, Switches
from remedies.fixes import loose_reverse_path
from remedies.model import Terms, Wanted

DROPS = finding("strict-reverse-path", "eth1.5", details={"link": "eth1.5"})
SEEN = facts(Switches((LinkSwitches("eth1.5", rp_filter=1),)))


def test_the_filter_of_that_link_becomes_loose() -> None:
    assert loose_reverse_path.guard(DROPS, SEEN, Terms()) is None
    (wanted,) = loose_reverse_path.desired(DROPS, SEEN, Terms())
    assert wanted == Wanted("sysctl:net.ipv4.conf.eth1/5.rp_filter", "2")
    assert catalogue.may_write("loose-reverse-path", wanted.resource)
    assert "eth1.5" in loose_reverse_path.impact(DROPS, SEEN, Terms())


def test_it_is_refused_where_the_link_is_not_known_or_gone() -> None:
    counted = finding("strict-reverse-path", "this host")
    assert "link" in (loose_reverse_path.guard(counted, SEEN, Terms()) or "")
    assert "eth1.5" in (loose_reverse_path.guard(DROPS, facts(Switches()), Terms()) or "")
    assert "link" in (loose_reverse_path.guard(None, SEEN, Terms()) or "")
