"""Harm of our own rules, judged by what was heard and what they counted meanwhile."""

from __future__ import annotations

from typing import Any

import builder
import pytest
from builder import held
from older_drop import OLDER

from remedies.facts import asked as asks
from remedies.facts.asked import Asked, Request
from remedies.facts.oneway import Oneway
from remedies.facts.stalls import Stall, Stalls
from remedies.fixes import invalid_drop
from remedies.model import Held, Terms
from remedies.netlink.flow import Flow, Tuple
from remedies.planning import draft
from remedies.rules import ours
from remedies.status import harm
from remedies.status.harm import InUse
from remedies.tap.streams import DATA, HANDSHAKE, PASSING, SYN_ACK
from remedies.values import replace

WAY, OTHER = Tuple("10.0.1.2", 40000, "10.0.2.2", 80), Tuple("10.0.1.3", 40001, "10.0.2.2", 80)
SIX = Tuple("fd00::1", 40000, "fd00::2", 80)
HALF = Flow("tcp", WAY, WAY, seen_reply=False, nat=False)


def table(name: str, *rules: Any, family: str = "inet") -> Held:
    address = f"{family}/remedy_{name}"
    made = ours.nft_table(address, (ours.NftChain("c", "filter", "prerouting", 0, rules),))
    return held(f"nft:{address}", made)


UDP53 = (ours.meta("iifname", "docker0"), ours.payload("udp", "dport", 53))
DROPS = table("drop", (ours.ct_state("invalid"), ours.drop()))
BROAD, NARROW = (
    held(f"nft:{invalid_drop.TABLE}", OLDER),
    held(f"nft:{invalid_drop.TABLE}", invalid_drop.table()),
)
REDIRECTS = table("redirect", (*UDP53, {"redirect": {"port": 5300}}))
UNTRACKS = table("notrack", (*UDP53, {"notrack": None}), (UDP53[0], ours.drop()))
SYSCTL = held("sysctl:a", "1")


def test_each_rule_is_known_by_what_it_does() -> None:
    every = (DROPS, REDIRECTS, UNTRACKS, SYSCTL)
    assert harm.dropping(every) == (DROPS, UNTRACKS)
    assert harm.redirected(every) == ((REDIRECTS, "docker0", 53),)
    assert [harm.untracks(entry) for entry in every] == [False, False, True, False]
    tcp = (UDP53[0], ours.payload("tcp", "dport", 53), {"redirect": {"port": 5300}})
    assert harm.redirected((table("tcp", tcp),)) == ()


@pytest.mark.parametrize(("proven", "more"), [((HALF,), ""), ((HALF,) * 3, "and 2 more")])
def test_half_a_connection_is_named_with_how_many_more(proven: tuple[Flow, ...], more: str) -> None:
    (found,) = harm.of_drops((BROAD, NARROW, REDIRECTS), Oneway(3, proven, 1.0))
    assert (found.resource, found.fix) == (BROAD.resource, BROAD.fix)
    assert "10.0.1.2:40000" in found.reason
    assert (more or " more") in found.reason if more else " more" not in found.reason


def test_suspects_alone_are_no_harm() -> None:
    assert harm.of_drops((BROAD,), Oneway(suspects=3, listened=1.0)) == ()


def stalled(kind: str, count: int = 3, way: Tuple = WAY, flow: Flow | None = None) -> Stall:
    return Stall(way, kind, count, flow=flow)


TRACKED = replace(HALF, seen_reply=True)


@pytest.mark.parametrize(
    ("stall", "counted", "hurts"),
    [
        (stalled(DATA), 3, True),
        (stalled(DATA), 4, True),
        (stalled(DATA), 2, False),  # the rule cannot have dropped them all
        (stalled(DATA, flow=TRACKED), 3, True),
        (stalled(SYN_ACK), 3, True),
        (stalled(SYN_ACK, flow=HALF), 3, False),
        (stalled(HANDSHAKE), 3, True),
        (stalled(HANDSHAKE, flow=HALF), 3, True),
        (stalled(PASSING, flow=HALF), 3, True),
        (stalled(PASSING, flow=TRACKED), 3, False),  # it may have left under NAT's address
    ],
)
def test_a_stalled_connection_is_harm_if_the_rule_counted_as_much_and_may_have_dropped_it(
    stall: Stall, counted: int, hurts: bool
) -> None:
    found = harm.of_stalls(((DROPS, counted),), Stalls((stall,), 1.0))
    assert [(item.resource, item.fix) for item in found] == (
        [(DROPS.resource, DROPS.fix)] if hurts else []
    )


@pytest.mark.parametrize(
    ("family", "way", "hurts"),
    [
        ("inet", WAY, True), ("inet", SIX, True), ("ip", WAY, True), ("ip", SIX, False),
        ("ip6", SIX, True), ("ip6", WAY, False),
    ],
)  # fmt: skip
def test_a_rule_hurts_no_connection_of_the_other_ip_version(
    family: str, way: Tuple, hurts: bool
) -> None:
    entry = table("drop", (ours.drop(),), family=family)
    found = harm.of_stalls(((entry, 9),), Stalls((stalled(DATA, way=way),), 1.0))
    assert bool(found) is hurts


def test_one_stalled_connection_is_named_and_the_others_are_counted() -> None:
    two = Stalls((stalled(DATA), stalled(SYN_ACK, way=OTHER)), 0.5)
    (found,) = harm.of_stalls(((DROPS, 5),), two)
    for part in ("dropped 5 packets in 0.5 s", "10.0.1.2:40000", "and 1 more"):
        assert part in found.reason
    (found,) = harm.of_stalls(((DROPS, 5),), Stalls(two.found[:1], 0.5))
    assert "more" not in found.reason


CLIENT, SECOND = Tuple("172.17.0.2", 40000, "10.0.0.1", 53), Tuple("172.17.0.3", 1, "10.0.0.1", 53)


def asked(end: str, age: float = 1.0, way: Tuple = CLIENT, **more: int) -> Request:
    return Request(way, "docker0", end, age, **more)


@pytest.mark.parametrize(
    ("requests", "new", "hurts"),
    [
        ((asked(asks.DROPPED, count=2),), 2, True),
        ((asked(asks.DROPPED, count=2),), 1, False),  # not every try came by a new flow
        ((asked(asks.DROPPED),), 1, False),  # one question: it came while the rule was written
        ((asked(asks.DROPPED), asked(asks.DROPPED, way=SECOND)), 1, True),
        ((asked(asks.MISSED, count=2),), 0, True),
        ((asked(asks.UNSENT, count=2),), 0, True),
        ((asked(asks.TAKEN, count=2),), 2, False),
        ((asked(asks.UNKNOWN, count=2),), 2, False),
        ((asked(asks.MISSED, age=harm.PATIENCE, count=2),), 0, True),
        ((asked(asks.MISSED, age=harm.PATIENCE / 2, count=2),), 0, False),  # it may still come
        # Somebody was served since: the way is open.
        ((asked(asks.MISSED, count=2), asked(asks.ANSWERED, 0.5, SECOND)), 0, False),
        ((asked(asks.MISSED, count=2), asked(asks.ANSWERED, 1.0, SECOND)), 0, False),
        ((asked(asks.MISSED, count=2), asked(asks.ANSWERED, 1.5, SECOND)), 0, True),
        ((asked(asks.MISSED, count=2), asked(asks.TAKEN, 0.5, SECOND)), 0, False),
        ((asked(asks.UNSENT, count=2), asked(asks.TAKEN, 0.5, SECOND)), 0, True),
        # Another port or link says nothing of this one.
        ((asked(asks.MISSED, way=replace(CLIENT, destination_port=54), count=2),), 0, False),
        ((replace(asked(asks.MISSED, count=2), link="eth0"),), 0, False),
    ],
)
def test_a_redirect_is_harm_if_requests_are_lost_behind_it_and_nobody_is_served_since(
    requests: tuple[Request, ...], new: int, hurts: bool
) -> None:
    counted = {REDIRECTS.resource: new}
    found = harm.of_redirects(((REDIRECTS, "docker0", 53),), counted, Asked(requests, 2.0))
    assert [(item.resource, item.fix) for item in found] == (
        [(REDIRECTS.resource, REDIRECTS.fix)] if hurts else []
    )
    if hurts:
        assert "172.17.0.2:40000 asked 10.0.0.1:53 by docker0" in found[0].reason


@pytest.mark.parametrize(
    ("reason", "hurts"),
    [(None, False), ("NAT needs it", True), (f"{draft.BLIND}: denied", False)],
)
def test_what_would_be_refused_today_is_harm_and_what_cannot_be_decided_is_not(
    monkeypatch: pytest.MonkeyPatch, reason: str | None, hurts: bool
) -> None:
    monkeypatch.setattr(draft, "refusal", lambda *_: reason)
    found = harm.of_guards((InUse("f", "nft:a", None, Terms()),), builder.facts())
    assert [(item.resource, item.fix) for item in found] == ([("nft:a", "f")] if hurts else [])
