"""Scan and trace judge one reset alike: what both are told of it is all that decides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import builder
import pytest

from remedies.conditions import tcp_invalid_reset
from remedies.facts.counters import Counters
from remedies.facts.tap import Reset, Tap, _TapListener
from remedies.netlink.flow import Flow, Tuple
from remedies.tap.packets import RESET, Heard
from remedies.tap.tally import TallyEntry
from remedies.tap.whose import Whose, whose
from remedies.trace import explain

CONTAINER, UPLINK, BRIDGE, SERVER = "172.17.0.2", "10.21.17.99", "172.17.0.1", "10.21.17.1"
LOCAL = frozenset((UPLINK, BRIDGE))


def flow(original: Tuple, reply: Tuple, *, nat: bool = True) -> Flow:
    return Flow("tcp", original, reply, True, nat)


MASQUERADED = flow(Tuple(CONTAINER, 5000, SERVER, 443), Tuple(SERVER, 443, UPLINK, 6000))
TO_UPLINK = Tuple(UPLINK, 6000, SERVER, 443)
REDIRECTED = flow(Tuple(CONTAINER, 7000, SERVER, 80), Tuple(BRIDGE, 3128, CONTAINER, 7000))
TO_PROXY = Tuple(SERVER, 80, CONTAINER, 7000)
PLAIN = flow(Tuple(SERVER, 7, UPLINK, 80), Tuple(UPLINK, 80, SERVER, 7), nat=False)
TO_PLAIN = Tuple(UPLINK, 80, SERVER, 7)


@pytest.mark.parametrize("answers", [True, False, None])
@pytest.mark.parametrize(
    ("way", "known"),
    [
        (TO_UPLINK, MASQUERADED),
        (TO_PROXY, REDIRECTED),
        (TO_PLAIN, PLAIN),
        (TO_UPLINK, None),
    ],
)
def test_scan_and_trace_agree(way: Tuple, known: Flow | None, answers: bool | None) -> None:
    live = explain.reset(way, known, LOCAL, None, reasons_complete=False, answers=answers)
    assert bool(proofs_of_scan(way, known, answers)) == (live.condition == "tcp-invalid-reset")


def proofs_of_scan(way: Tuple, known: Flow | None, answers: bool | None) -> tuple[object, ...]:
    """Send a reset through scan's listener, and return what the condition takes for proof."""
    listener = _TapListener.__new__(_TapListener)
    faked = cast(Any, listener)
    faked._tap = SimpleNamespace(origin=SimpleNamespace(local=lambda: LOCAL))
    faked._questions = SimpleNamespace(open=True, flow=lambda _protocol, _way: known)
    entry = TallyEntry(Heard(RESET, 64, way.source, way.destination, "tcp", way), RESET, 0.0)
    entry.answers = answers
    listener._ask(entry)
    reset = Reset(*way.parts, count=1, flow=entry.flow, answers=answers)
    return tcp_invalid_reset._proofs(builder.facts(Tap(resets=(reset,)), Counters({}, {})))


@pytest.mark.parametrize(
    ("way", "known", "answers", "reason", "complete", "judged"),
    [
        (TO_UPLINK, MASQUERADED, None, "NO_SOCKET", True, "nat"),
        (TO_UPLINK, MASQUERADED, None, None, True, "rejected"),
        (TO_UPLINK, MASQUERADED, True, None, True, "rejected"),
        (TO_UPLINK, MASQUERADED, None, None, False, "unsure"),
        (TO_PROXY, REDIRECTED, True, None, False, "here"),
        (TO_PROXY, REDIRECTED, None, "NO_SOCKET", True, "nat"),
        (TO_PROXY, REDIRECTED, None, "TCP_ABORT_ON_CLOSE", True, "here"),
        (TO_PLAIN, PLAIN, True, "NO_SOCKET", True, "own"),
    ],
)
def test_the_kernels_reason_outranks_the_packet(
    way: Tuple,
    known: Flow,
    answers: bool | None,
    reason: str | None,
    complete: bool,
    judged: Whose,
) -> None:
    found = whose(way, known, LOCAL, answers=answers, reason=reason, reasons_complete=complete)
    assert found.whose == judged
