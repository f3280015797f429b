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


def ask(
    answered: bool,
    *,
    age: float = 1,
    link: str = "docker0",
    to: str = "10.0.0.9",
    port: int = 4000,
    count: int = 1,
) -> Request:
    return Request(Tuple("172.17.0.2", port, to, 53), link, answered, age, count)


@pytest.mark.parametrize("held", [NFT, XT], ids=["nft", "iptables"])
@pytest.mark.parametrize(
    ("requests", "harm"),
    [
        ([], False),
        ([ask(False)], False),
        ([ask(False, count=2)], True),
        ([ask(False), ask(False, port=4001)], True),
        ([ask(False, age=0.1, count=2)], False),
        ([ask(False, count=2), ask(True)], False),
        ([ask(False, count=2), ask(True, to="10.0.0.8")], False),
        ([ask(False, link="eth0", count=2)], False),
    ],
)
def test_requests_that_nobody_answers_are_harm(
    held: Held, requests: list[Request], harm: bool
) -> None:
    found = of_redirects(redirected([held]), Asked(tuple(requests), 1.0))
    assert bool(found) == harm
    assert all("172.17.0.2:4000 asked 10.0.0.9:53 by docker0" in item.reason for item in found)
