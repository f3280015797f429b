"""Whose reset it was: NAT's client elsewhere, or a program of this host."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Optional

import pytest

from remedies.facts.tap import _TapListener
from remedies.netlink.flow import Flow, Tuple
from remedies.tap.packets import RESET
from remedies.tap.whose import owner

CLIENT, HOST, SERVER = "10.0.0.2", "192.0.2.1", "198.51.100.9"
BACK = Tuple(SERVER, 443, HOST, 40000)
NAT_FLOW = Flow("tcp", Tuple(CLIENT, 40000, SERVER, 443), BACK, seen_reply=True, nat=True)
PLAIN = Flow("tcp", Tuple(HOST, 40000, SERVER, 443), BACK, seen_reply=True, nat=False)
ANSWER = Tuple(SERVER, 443, HOST, 40000)


def test_the_owner_is_the_end_that_nat_would_have_sent_it_to() -> None:
    assert owner(NAT_FLOW, ANSWER) == CLIENT
    assert owner(NAT_FLOW, Tuple(CLIENT, 40000, SERVER, 443)) is None, "where it was sent anyway"
    assert owner(PLAIN, ANSWER) is None


def heard(local: set[str], flow: Optional[Flow]) -> SimpleNamespace:
    """Return what is noted of a reset of this host that answers the server's segment."""
    tap = object.__new__(_TapListener)
    tap._tap = SimpleNamespace(origin=SimpleNamespace(local=lambda: frozenset(local)))  # type: ignore[assignment]
    tap._questions = SimpleNamespace(flow=lambda *_: flow, open=True)  # type: ignore[assignment]
    entry = SimpleNamespace(
        answers=True,
        heard=SimpleNamespace(event=RESET, way=ANSWER.reversed, acknowledges=False, protocol="tcp"),
        flow=None, untracked=None,
    )  # fmt: skip
    tap._ask(entry)  # type: ignore[arg-type]
    return entry


@pytest.mark.parametrize(("local", "named"), [({HOST}, True), ({HOST, CLIENT}, False)])
def test_a_flow_is_named_only_where_its_end_is_not_here(local: set[str], named: bool) -> None:
    entry = heard(local, NAT_FLOW)
    assert entry.flow == (NAT_FLOW if named else None)
    assert entry.untracked is False


def test_a_flow_without_nat_is_named_and_none_is_untracked() -> None:
    assert heard({HOST}, PLAIN).flow == PLAIN
    entry = heard({HOST}, None)
    assert (entry.flow, entry.untracked) == (None, True)
