"""tcp-invalid-reset on facts as data: each verdict, each family, and who covers it."""

from __future__ import annotations

from typing import Optional

import builder
import pytest
from builder import flow, packet_rule

from remedies.conditions import tcp_invalid_reset as condition
from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.netfilter import NatUse, Netfilter
from remedies.facts.stalls import Stall, Stalls
from remedies.facts.sysctl import Sysctl
from remedies.facts.tap import Reset, Tap
from remedies.model import Finding
from remedies.netlink.flow import Flow, Tuple
from remedies.rules.rule import NatAction, PacketRule
from remedies.tap.streams import DATA, PASSING
from remedies.values import replace

MASQUERADE = Netfilter(True, "nft", ("ip nat POSTROUTING",), (NatUse("ip", "masquerade"),), True)
FLOW = flow(
    *("172.17.0.2", 40000, "10.21.17.1", 443),
    protocol="tcp",
    reply=Tuple("10.21.17.1", 443, "10.21.17.99", 40000),
    seen_reply=True,
    nat=True,
)
RESET = Reset("10.21.17.99", 40000, "10.21.17.1", 443, 1, FLOW, answers=True)


def facts(
    netfilter: Netfilter = MASQUERADE,
    *,
    liberal: str = "0",
    invalid: Optional[int] = None,
    resets: int = 0,
    tap: tuple[Reset, ...] = (),
    ours: tuple[str, ...] = (),
    window: float = 1.0,
) -> Facts:
    if invalid is None:
        invalid = 2 * len(tap)
    last = {"nf_conntrack.invalid": 7 + invalid, "Tcp.OutRsts": 3 + resets}
    return builder.facts(
        netfilter,
        Sysctl({condition.BE_LIBERAL: liberal, condition.ESTABLISHED: "432000"}),
        Counters({"nf_conntrack.invalid": 7, "Tcp.OutRsts": 3}, last),
        Tap(tap, heard=sum(reset.count for reset in tap)),
        ours=ours,
        window=window,
    )


def drop(hook: str, family: str = "inet", owner: str = "") -> PacketRule:
    return packet_rule(hook, "drop-invalid", family=family, owner=owner, text="drop")


def dropping(*drops: PacketRule, uses: Optional[tuple[NatUse, ...]] = None) -> Netfilter:
    return replace(MASQUERADE, drops=drops, nat_uses=uses or MASQUERADE.nat_uses)


def one(found: Facts) -> Finding:
    (finding,) = condition.detect(found, {})
    return finding


@pytest.mark.parametrize("invalid", [0, 2, 500])
@pytest.mark.parametrize("resets", [0, 1, 500])
@pytest.mark.parametrize("window", [0.0, 1.0])
def test_counters_that_move_together_tie_no_reset_to_nat(
    invalid: int, resets: int, window: float
) -> None:
    assert one(facts(invalid=invalid, resets=resets, window=window)).verdict == "exposed"


FORGOTTEN = Reset("10.21.17.99", 40000, "10.21.17.1", 5432, 3, answers=True, forgotten=True)


@pytest.mark.parametrize("liberal", ["0", "1"])
def test_resets_of_connections_that_conntrack_forgot_are_named_and_prove_nothing(
    liberal: str,
) -> None:
    twin = one(facts(liberal=liberal, invalid=6, resets=3))
    finding = one(facts(liberal=liberal, invalid=6, resets=3, tap=(FORGOTTEN,)))
    assert finding.verdict == twin.verdict == ("mitigated" if liberal == "1" else "exposed")
    assert "3 resets answered" in finding.message
    assert f"{condition.ESTABLISHED} = 432000 s" in finding.message
    assert "10.21.17.1:5432" in finding.message
    assert condition.ESTABLISHED in {evidence.key for evidence in finding.evidence}
    assert "forgotten" not in twin.message


@pytest.mark.parametrize(
    ("uses", "drops", "covered"),
    [
        ([("ip", "masquerade")], [("input", "ip")], True),
        ([("ip", "masquerade")], [("input", "inet")], True),
        ([("ip", "masquerade")], [("forward", "inet")], False),
        ([("ip", "masquerade")], [("input", "ip6")], False),
        ([("inet", "masquerade")], [("input", "ip")], False),
        ([("inet", "masquerade")], [("input", "ip"), ("input", "ip6")], True),
        ([("ip", "dnat")], [("forward", "ip")], False),
        ([("ip", "dnat")], [("input", "ip")], False),
        ([("ip", "dnat")], [("forward", "ip"), ("input", "ip")], True),
        ([("ip", "dnat")], [("forward", "ip"), ("output", "ip")], True),
        ([("ip6", "dnat", "prerouting")], [("forward", "ip6")], False),
        ([("ip", "dnat", "output")], [("forward", "ip")], False),
        ([("ip", "dnat", "output")], [("input", "ip")], True),
        ([("ip", "dnat"), ("ip", "masquerade")], [("forward", "ip")], False),
        ([("ip", "dnat"), ("ip", "masquerade")], [("forward", "ip"), ("input", "ip")], True),
        ([("ip", "redirect")], [("input", "ip")], True),
    ],
)
def test_a_drop_covers_its_family_on_its_hook(
    uses: list[tuple[str, NatAction, str]], drops: list[tuple[str, str]], covered: bool
) -> None:
    fact = dropping(
        *(drop(hook, family, "ufw") for hook, family in drops),
        uses=tuple(NatUse(*use) for use in uses),
    )
    finding = one(facts(fact))
    assert finding.verdict == ("mitigated" if covered else "exposed")
    assert ("ufw" in (finding.mitigated_by or "")) == covered


@pytest.mark.parametrize(
    ("action", "drops", "doubts", "verdict"),
    [
        ("masquerade", [], ["input"], "unknown"),
        ("masquerade", [], ["output"], "unknown"),
        ("masquerade", [], ["forward"], "exposed"),
        ("masquerade", ["input"], ["output", "forward"], "mitigated"),
        ("dnat", [], ["input"], "exposed"),
        ("dnat", [], ["input", "forward"], "unknown"),
        ("dnat", ["forward"], ["input"], "unknown"),
        ("dnat", ["input"], ["input"], "exposed"),
    ],
)
def test_what_is_not_understood_counts_where_nothing_else_is_open(
    action: NatAction, drops: list[str], doubts: list[str], verdict: str
) -> None:
    closing = dropping(*(drop(hook) for hook in drops), uses=(NatUse("ip", action),))
    mystery = tuple(replace(drop(hook), text="mystery accept") for hook in doubts)
    found = facts(replace(closing, doubts=mystery))
    if verdict == "unknown":
        with pytest.raises(Unreadable, match="mystery accept"):
            condition.detect(found, {})
    else:
        assert one(found).verdict == verdict


@pytest.mark.parametrize(
    ("family", "drops", "told", "still"),
    [
        ("ip", [("forward", "ip")], "forward (IPv4) only", "open: input (IPv4)"),
        (
            "inet",
            [("input", "ip"), ("forward", "ip")],
            "forward (IPv4), input (IPv4) only",
            "open: input (IPv6)",
        ),
        ("inet", [("output", "ip6")], "input (IPv6) only", "open: input (IPv4)"),
    ],
)
def test_what_stays_open_is_told_by_family_and_hook(
    family: str, drops: list[tuple[str, str]], told: str, still: str
) -> None:
    rules = [drop(hook, each, "kube-proxy") for hook, each in drops]
    finding = one(facts(dropping(*rules, uses=(NatUse(family, "masquerade"),))))
    assert finding.verdict == "exposed"
    assert f"kube-proxy drops INVALID on {told}" in finding.message
    assert finding.message.endswith(still)


def test_only_who_covers_what_nat_needs_is_named() -> None:
    drops = [drop("input", "ip", "ufw"), drop("input", "ip6", "ferm"), drop("forward", "ip", "x")]
    assert one(facts(dropping(*drops))).mitigated_by == "'drop' (nft ip t c, ufw)"
    partly = one(facts(dropping(*drops[1:]))).message
    assert "x drops INVALID on forward (IPv4) only; open: input (IPv4)" in partly
    assert "ferm" not in partly


@pytest.mark.parametrize(
    ("unread", "hooks", "verdict"),
    [
        ("ip", ("input",), "exposed"),
        ("ip", ("input", "forward"), "mitigated"),
        ("ip6", ("input",), "exposed"),
    ],
)
def test_nat_that_was_not_read_may_need_every_hook(
    unread: str, hooks: tuple[str, ...], verdict: str
) -> None:
    fact = replace(dropping(*(drop(hook, "ip") for hook in hooks)), nat_unread=(unread,))
    assert one(facts(fact)).verdict == verdict


def test_ours_is_named_first_and_begins_with_remedy() -> None:
    own = [drop("input", owner="remedy"), drop("forward", owner="remedy")]
    finding = one(facts(dropping(*own, drop("input", owner="ufw")), liberal="1"))
    assert (finding.mitigated_by or "").startswith("remedy ")


def test_the_id_does_not_follow_the_verdict() -> None:
    assert one(facts()).id == one(facts(tap=(RESET,))).id


def stall(*, kind: str = DATA, again: int = 2, flow: Optional[Flow] = FLOW) -> Stall:
    return Stall(FLOW.reply, kind, again + 1, again, flow)


LIVES = replace(FLOW, reply=FLOW.original.reversed, nat=False)


@pytest.mark.parametrize(
    ("heard", "invalid", "liberal", "verdict"),
    [
        (stall(), 2, "1", "active"),
        (stall(), 1, "1", "mitigated"),
        (stall(again=0), 9, "1", "mitigated"),
        (stall(kind=PASSING), 9, "1", "mitigated"),
        (stall(flow=None), 9, "1", "mitigated"),
        (stall(flow=LIVES), 9, "1", "mitigated"),
        (stall(), 9, "0", "exposed"),
    ],
)
def test_a_connection_that_hangs_under_what_keeps_resets_away(
    heard: Stall, invalid: int, liberal: str, verdict: str
) -> None:
    known = facts(liberal=liberal, invalid=invalid)
    found = one(replace(known, known={**known.known, "stalls": Stalls((heard,), 1.0)}))
    assert found.verdict == verdict
    hangs = "10.21.17.1:443 -> 10.21.17.99:40000"
    assert (hangs in found.message) == (verdict == "active")
    assert found.details.get("hangs", "") == (hangs if verdict == "active" else "")
