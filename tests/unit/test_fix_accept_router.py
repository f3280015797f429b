"""Listening to routers on one link: what is written, and when it is refused."""

from __future__ import annotations

from builder import facts, finding

from remedies import catalogue
from remedies.fixes import accept_router
from remedies.model import Terms, Wanted

LOST = finding("ipv6-ra-route-lost", "eth0.7", details={"link": "eth0.7"})


def test_that_link_listens_again() -> None:
    assert accept_router.guard(LOST, facts(), Terms()) is None
    (wanted,) = accept_router.desired(LOST, facts(), Terms())
    assert wanted == Wanted("sysctl:net.ipv6.conf.eth0/7.accept_ra", "2")
    assert catalogue.may_write("accept-router", wanted.resource)
    assert "eth0.7" in accept_router.impact(LOST, facts(), Terms())


def test_without_a_finding_it_is_refused() -> None:
    assert "link" in (accept_router.guard(None, facts(), Terms()) or "")
    assert accept_router.desired(None, facts(), Terms()) == ()
