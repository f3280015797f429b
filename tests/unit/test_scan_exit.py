"""From which verdict on a scan exits 2, and what it says of what it could not read."""

from __future__ import annotations

from argparse import Namespace
from typing import Optional

import pytest
from builder import HOST, facts, finding, packet_rule, policy, scan

from remedies.cli import scan as verb
from remedies.facts.counters import Counters
from remedies.facts.flows import Flows
from remedies.facts.netfilter import NatUse, Netfilter
from remedies.facts.sysctl import Sysctl
from remedies.facts.tap import Tap
from remedies.model import Unknown, Verdict
from remedies.operations import session
from remedies.planning import engine, planfile

LEVELS = ("exposed", "active", "proven")


def code(
    verdict: Verdict, fail_on: str, *, strict: bool = False, waived: Optional[str] = None
) -> int:
    args = Namespace(fail_on=fail_on, strict=strict)
    return verb._code(args, scan(finding(verdict=verdict, waived=waived)))


@pytest.mark.parametrize("fail_on", LEVELS)
@pytest.mark.parametrize("verdict", LEVELS)
def test_it_fails_from_the_verdict_that_was_asked_for(verdict: Verdict, fail_on: str) -> None:
    expected = 2 if LEVELS.index(verdict) >= LEVELS.index(fail_on) else 0
    assert code(verdict, fail_on) == expected
    assert code(verdict, fail_on, waived="until 2030, by al") == 0


def test_only_strict_fails_for_what_could_not_be_judged() -> None:
    for strict, expected in ((False, 0), (True, 2)):
        assert code("unknown", "exposed", strict=strict) == expected
        nothing = scan(unknown=(Unknown("cond", "not permitted"),))
        assert verb._code(Namespace(fail_on="exposed", strict=strict), nothing) == expected
    assert code("mitigated", "exposed", strict=True) == 0


def test_what_was_not_read_is_unknown_beside_what_was_judged() -> None:
    place = "nft ip kube-proxy nat-prerouting: over 10 chains"
    drop = packet_rule("input", "drop-invalid")
    moved = {"nf_conntrack.invalid": 0, "Tcp.OutRsts": 0}
    seen = facts(
        Netfilter(
            nf_tables=True,
            iptables="none",
            nat_uses=(NatUse("ip", "masquerade"),),
            drops=(drop,),
            unread=(place,),
            nat_unread=("ip",),
        ),
        Sysctl(),
        Counters(moved, moved),
        Tap(),
    )
    found = engine.scan(policy(), seen, frozenset({"tcp-invalid-reset"}))
    assert [f.verdict for f in found.findings] == ["exposed"]  # NAT unread needs forward, too
    assert found.unknown == (Unknown("tcp-invalid-reset", place, partly=True),)
    assert verb._code(Namespace(fail_on="proven", strict=False), found) == 0
    assert verb._code(Namespace(fail_on="proven", strict=True), found) == 2
    plain = planfile.scan_plain(found, policy().ref())
    assert plain["unknown"] == [{"condition": "tcp-invalid-reset", "reason": place, "partly": True}]


def test_what_was_not_read_is_said_unless_a_finding_says_it() -> None:
    here = session.HostSession(HOST, policy(), "", {}, {})
    cut = "flows: the first 10000 of 20000 were read"
    seen = facts(Flows(unread=(cut,)), Sysctl())
    _, warnings = session.judge(here, seen)
    assert warnings == (f"not read: {cut}",)
    _, warnings = session.judge(here, facts(Flows(), Sysctl()))
    assert warnings == ()
