"""What is said of a redirect whose requests are heard, and answered or not."""

from __future__ import annotations

import pytest

from remedies.facts.asked import Asked, Request
from remedies.facts.flows import Tuple
from remedies.fixes.udp_redirect import _chain, _table
from remedies.harm import of_redirects, redirected
from remedies.model import Held

WAYS = [("docker0", 53)]
TABLE = "inet/remedy_udp_redirect"
NFT = Held(
    "nft:inet/remedy_udp_redirect",
    "udp-redirect",
    None,
    _table(TABLE, WAYS),
    "t",
)
XT = Held("iptables:nat/REMEDY-REDIRECT", "udp-redirect", None, _chain("nft", WAYS), "t")


def ask(answered: bool, *, age: float = 1, link: str = "docker0", to: str = "10.0.0.9") -> Request:
    return Request(Tuple("172.17.0.2", 4000, to, 53), link, answered, age)


@pytest.mark.parametrize("held", [NFT, XT], ids=["nft", "iptables"])
@pytest.mark.parametrize(
    ("requests", "harm"),
    [
        ([], False),
        ([ask(False)], True),
        ([ask(False, age=0.1)], False),
        ([ask(False), ask(True)], False),
        ([ask(False), ask(True, to="10.0.0.8")], False),
        ([ask(False, link="eth0")], False),
        ([ask(False), ask(True, link="veth0", to="10.0.0.8")], False),
    ],
)
def test_requests_that_nobody_answers_are_harm(
    held: Held, requests: list[Request], harm: bool
) -> None:
    found = of_redirects(redirected([held]), Asked(tuple(requests), 1.0))
    assert bool(found) == harm
    assert all("172.17.0.2:4000 asked 10.0.0.9:53 by docker0" in item.reason for item in found)
