"""What is said of a redirect whose requests are heard, and answered or not."""

from __future__ import annotations

from typing import Any

import pytest
from builder import flow

from remedies.facts.asked import (
    ANSWERED,
    DROPPED,
    MISSED,
    TAKEN,
    UNKNOWN,
    UNMOVED,
    UNSENT,
    Asked,
    Request,
    outcome,
)
from remedies.fixes.udp_redirect import _chain, _table
from remedies.model import Held
from remedies.netlink.flow import Flow, Tuple
from remedies.status.harm import of_redirects, redirected

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


ENDS = {
    DROPPED: "a rule dropped the request",
    MISSED: "no socket listens",
    UNSENT: "a rule dropped the answer",
}


def ask(
    end: str,
    *,
    age: float = 1,
    link: str = "docker0",
    to: str = "10.0.0.9",
    port: int = 4000,
    count: int = 2,
) -> Request:
    return Request(Tuple("172.17.0.2", port, to, 53), link, end, age, count)


@pytest.mark.parametrize("held", [NFT, XT], ids=["nft", "iptables"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("others", "how", "harm"),
    [
        ([], {}, True),
        ([], {"count": 1}, False),
        ([ask(DROPPED, port=4001, count=1)], {"count": 1}, True),
        ([], {"age": 0.1}, False),
        ([ask(ANSWERED)], {}, False),
        ([ask(ANSWERED, age=0.1)], {}, False),
        ([ask(ANSWERED, age=1.1)], {}, True),
        ([ask(ANSWERED, to="10.0.0.8")], {}, False),
        ([ask(UNMOVED, port=4001), ask(UNKNOWN, port=4002)], {}, True),
        ([], {"link": "eth0"}, False),
    ],
)
def test_requests_that_are_lost_where_they_are_sent_are_harm(
    held: Held, end: str, others: list[Request], how: dict[str, Any], harm: bool
) -> None:
    asked = Asked((ask(end, **how), *others), 1.0)
    found = of_redirects(redirected([held]), {held.resource: 9}, asked)
    assert bool(found) == harm
    for item in found:
        assert "172.17.0.2:4000 asked 10.0.0.9:53 by docker0" in item.reason
        assert ENDS[end] in item.reason


@pytest.mark.parametrize("end", [TAKEN, UNMOVED, UNKNOWN])
def test_a_receiver_that_never_answers_is_no_harm(end: str) -> None:
    requests = (ask(end), ask(end, port=4001))
    assert not of_redirects(redirected([NFT]), {NFT.resource: 9}, Asked(requests, 1.0))


@pytest.mark.parametrize(("end", "harm"), [(DROPPED, False), (MISSED, False), (UNSENT, True)])
def test_one_client_that_is_heard_shows_that_the_way_in_is_open(end: str, harm: bool) -> None:
    requests = (ask(TAKEN, port=4001), ask(end))
    found = of_redirects(redirected([NFT]), {NFT.resource: 9}, Asked(requests, 1.0))
    assert bool(found) == harm


def test_what_our_rule_did_not_count_was_lost_before_it() -> None:
    heard = Asked((ask(DROPPED, count=3),), 1.0)
    assert not of_redirects(redirected([NFT]), {NFT.resource: 2}, heard)
    assert not of_redirects(redirected([NFT]), {}, heard)
    assert of_redirects(redirected([NFT]), {NFT.resource: 3}, heard)


def tracked(*, moved: bool = True, **more: bool) -> Flow:
    reply = Tuple("172.17.0.1" if moved else "10.0.0.9", 53, "172.17.0.2", 4000)
    return flow("172.17.0.2", 4000, "10.0.0.9", 53, reply=reply, nat=moved, **more)


@pytest.mark.parametrize(
    ("answered", "first", "last", "taken", "end"),
    [
        (True, None, None, None, ANSWERED),
        (False, None, None, None, DROPPED),
        (False, None, tracked(), True, TAKEN),
        (False, tracked(), None, True, TAKEN),
        (False, None, tracked(), False, MISSED),
        (False, None, tracked(), None, UNKNOWN),
        (False, tracked(), tracked(seen_reply=True), None, UNSENT),
        (False, tracked(seen_reply=True), tracked(seen_reply=True, assured=True), None, UNSENT),
        (False, tracked(seen_reply=True, assured=True), tracked(seen_reply=True), None, UNKNOWN),
        (True, None, tracked(seen_reply=True), None, ANSWERED),
        (False, tracked(moved=False), tracked(moved=False), True, UNMOVED),
        (True, None, tracked(moved=False, seen_reply=True), None, UNMOVED),
    ],
)
def test_what_became_of_a_request(
    answered: bool, first: Flow | None, last: Flow | None, taken: bool | None, end: str
) -> None:
    assert outcome(answered, first, last, taken) == end
