"""Forwarding of a container network's links: what is written, and when it is refused."""

from __future__ import annotations

from builder import facts, finding

from remedies import catalogue
from remedies.facts.routes import DefaultRoute, Routes
from remedies.fixes import forward_links
from remedies.model import Terms, Wanted

OFF = finding("ip-forward-off", details={"family": "4", "links": "docker0 eth0.7"})
LEADS_OUT = facts(Routes((DefaultRoute(4, ("eth0.7",), 254, 0),)))


def test_each_link_that_does_not_forward_is_switched_on() -> None:
    assert forward_links.guard(OFF, LEADS_OUT, Terms()) is None
    assert forward_links.desired(OFF, LEADS_OUT, Terms()) == (
        Wanted("sysctl:net.ipv4.conf.docker0.forwarding", "1"),
        Wanted("sysctl:net.ipv4.conf.eth0/7.forwarding", "1"),
    )
    assert "docker0 and eth0.7" in forward_links.impact(OFF, LEADS_OUT, Terms())


def test_it_is_refused_without_a_way_out_and_for_ipv6() -> None:
    assert "default route" in (forward_links.guard(OFF, facts(Routes()), Terms()) or "")
    six = finding("ip-forward-off", details={"family": "6", "links": "docker0"})
    assert "IPv6" in (forward_links.guard(six, LEADS_OUT, Terms()) or "")
    assert "finding" in (forward_links.guard(None, LEADS_OUT, Terms()) or "")


def test_an_edited_plan_may_name_a_link_and_nothing_else() -> None:
    may = [
        catalogue.may_write("forward-links", f"sysctl:net.ipv4.conf.{name}")
        for name in (
            "docker0.forwarding", "eth0/7.forwarding", "docker0.rp_filter", ".forwarding",
            "a.b.forwarding", "forwarding",
        )
    ]  # fmt: skip
    assert may == [True, True, False, False, False, False]
