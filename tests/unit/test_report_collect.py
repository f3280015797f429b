"""Outcomes: what a finding comes to, with policy, plan, waiver and journal beside it."""

from __future__ import annotations

import re
from typing import Optional

import builder
import pytest

from remedies import catalogue
from remedies.model import (
    Advice,
    Change,
    Evidence,
    Finding,
    Plan,
    Refusal,
    Rule,
    Unknown,
    Verdict,
    Waiver,
)
from remedies.outcomes import Kind, Recorded
from remedies.report import collect, transactions
from remedies.report.controls import controls
from remedies.report.history import Standings
from remedies.report.record import HostReport, Judgement, Place
from remedies.transaction.ledger import Pending, Transaction, Verified
from remedies.values import replace

TIME = "2026-11-20T18:00:00Z"
POLICY = builder.policy(
    {
        "tcp-invalid-reset": Rule("fix", "exposed", ("invalid-drop",)),
        "udp-proxy-hairpin": Rule("off", "exposed", ()),
    },
    names=("default",),
    waivers=(Waiver("udp-reply-source", "udp *", "2026-01-01", "why", "netops"),),
    origins={"rules.tcp-invalid-reset.mode": "policies/default.yaml:25"},
)
RESET = builder.finding(
    "tcp-invalid-reset",
    "tcp through NAT",
    verdict="proven",
    severity="critical",
    message="a reset",
    evidence=(Evidence("/proc/net/snmp", "OutRsts", "+3", "moved in 2 s"),),
)
EXPOSED = replace(RESET, verdict="exposed")
CHANGE = builder.change(
    "nft:inet/remedy_invalid_drop", None, "t", fix="invalid-drop", finding=RESET.id, diff="+t",
    risk="moderate", impact="drops",
)  # fmt: skip


OURS = {CHANGE.resource: "ours"}
"""What status finds while everything that is in force is as it was written."""


def plan(
    *findings: Finding,
    changes: tuple[Change, ...] = (),
    advice: tuple[Advice, ...] = (),
    refused: tuple[Refusal, ...] = (),
    unknown: tuple[Unknown, ...] = (),
) -> Plan:
    scan = builder.scan(*findings, time=TIME, unknown=unknown)
    return builder.plan(*changes, scan=scan, advice=advice, refused=refused)


def done(
    txn: str,
    kind: Kind = "apply",
    outcome: Optional[Recorded] = "applied",
    undoes: tuple[str, ...] = (),
) -> Transaction:
    change = CHANGE if kind == "apply" else CHANGE.reversed()
    findings = (RESET,) if kind == "apply" else ()
    begin = builder.begin(change, kind=kind, undoes=undoes, findings=findings)
    return Transaction(
        id=txn,
        time="2026-11-20T17:00:00Z",
        begin=begin,
        written=[0],
        undone=[0] if outcome in ("reverted", "rolled-back") else [],
        outcome=outcome,
        ended="2026-11-20T17:00:02Z",
    )


def collected(
    of: Plan,
    *ledger: Transaction,
    texts: Optional[dict[int, str]] = None,
    states: Optional[dict[str, str]] = None,
) -> HostReport:
    facts = builder.facts(time=TIME)
    past = {entry.id: entry for entry in ledger}
    return collect.from_scan(Place("h"), POLICY, facts, of, past, states or OURS, texts or {})


def judged(of: Plan, *ledger: Transaction, condition: str = "tcp-invalid-reset") -> Judgement:
    found = [j for j in collected(of, *ledger).judgements if j.condition == condition]
    assert len(found) == 1
    return found[0]


def test_a_fault_with_a_change_fails() -> None:
    judgement = judged(plan(RESET, changes=(CHANGE,)))
    assert (judgement.outcome, judgement.verdict) == ("fail", "proven")
    assert judgement.policy == "policies/default.yaml:25"
    assert "NIST-800-53 SC-7" in judgement.controls


def test_every_control_is_of_a_known_catalogue() -> None:
    known = r"NIST-800-53 (CM-6|SC-5|SC-7|SI-2)|CIS-Controls-8 4\.4|CIS-Docker-1\.6\.0 2\.16"
    for condition in catalogue.condition_ids():
        for control in controls(condition):
            assert re.fullmatch(rf"{known}|STIG-Docker-Enterprise-2\.x V-235791", control)
    docker = [c for c in catalogue.condition_ids() if any("Docker" in k for k in controls(c))]
    assert docker == ["udp-proxy-hairpin"]


def test_a_fault_that_only_advice_answers_needs_a_human() -> None:
    advice = Advice("bind-advice", RESET.id, "Bind", "bind")
    of = plan(EXPOSED, advice=(advice,))
    judgement = collected(of, texts={0: "to one address"}).judgements[0]
    assert judgement.outcome == "needs-human"
    assert judgement.advice == ("Bind: to one address",)


def test_what_policy_leaves_to_people_needs_a_human() -> None:
    assert judged(plan(RESET)).outcome == "fail"
    of = plan(replace(EXPOSED, condition="notrack-breaks-nat"))
    assert judged(of, condition="notrack-breaks-nat").outcome == "needs-human"


def test_a_proven_fault_fails_whatever_its_history_and_its_policy() -> None:
    back = done("t2", "rollback", undoes=("t1",))
    advice = Advice("bind-advice", RESET.id, "Bind", "bind")
    assert judged(plan(RESET, advice=(advice,))).outcome == "fail"
    assert judged(plan(RESET), done("t1"), back).outcome == "fail"
    of = plan(replace(RESET, condition="notrack-breaks-nat"))
    assert judged(of, condition="notrack-breaks-nat").outcome == "fail"


def test_a_refused_fix_needs_a_human() -> None:
    of = plan(EXPOSED, refused=(Refusal("invalid-drop", RESET.id, "asymmetric routing"),))
    assert judged(of).outcome == "needs-human"
    assert judged(of).refused == ("invalid-drop: asymmetric routing",)


@pytest.mark.parametrize(
    ("verdict", "by", "outcome"),
    [
        ("mitigated", "remedy nft:inet/remedy_invalid_drop", "fixed"),
        ("mitigated", "kube-proxy (KUBE-FORWARD)", "pass"),
        ("unknown", None, "unknown"),
    ],
)
def test_who_covers_a_fault_decides(verdict: Verdict, by: Optional[str], outcome: str) -> None:
    of = plan(replace(RESET, verdict=verdict, mitigated_by=by))
    assert judged(of, done("t1")).outcome == outcome


def test_what_is_called_ours_and_is_in_no_journal_is_not_what_we_fixed() -> None:
    by = "remedy nft:inet/remedy_invalid_drop"
    of = plan(replace(RESET, verdict="mitigated", mitigated_by=by))
    assert judged(of).outcome == "pass"


def test_a_waiver_comes_first() -> None:
    of = plan(replace(RESET, waived="why (netops, until 2027-01-01)"), changes=(CHANGE,))
    assert judged(of).outcome == "waived"


def test_what_is_off_is_not_applicable_and_what_is_not_found_passes() -> None:
    assert judged(plan(), condition="udp-proxy-hairpin").outcome == "not-applicable"
    assert judged(plan(), condition="conntrack-pressure").outcome == "pass"


def test_what_could_not_be_judged_is_unknown() -> None:
    of = plan(unknown=(Unknown("tcp-invalid-reset", "no permission"),))
    assert (judged(of).outcome, judged(of).message) == ("unknown", "no permission")


def test_a_condition_gone_with_our_fix_in_force_is_fixed() -> None:
    judgement = judged(plan(), done("t1"))
    assert (judgement.outcome, judgement.transaction) == ("fixed", "t1")
    assert judgement.history == "in-force"


@pytest.mark.parametrize("state", ["gone", "drifted", "unknown"])
def test_what_the_journal_calls_in_force_and_is_not_there_fixes_nothing(state: str) -> None:
    """A reboot takes what does not persist, and no record is made of that."""
    for of in (plan(), plan(replace(RESET, verdict="mitigated", mitigated_by="remedy x"))):
        (judgement,) = (
            j
            for j in collected(of, done("t1"), states={CHANGE.resource: state}).judgements
            if j.condition == "tcp-invalid-reset"
        )
        assert (judgement.outcome, judgement.history) == ("pass", state)


def test_a_transaction_that_takes_something_away_fixes_nothing() -> None:
    """Every condition that its fix answers was called fixed by the removal, found or not."""
    removal = done("t2")
    taken = replace(CHANGE.reversed(), finding=None)
    removal.begin = replace(removal.begin, changes=(taken,), findings=())
    for ledger in ((done("t1"), removal), (removal,)):
        judgement = judged(plan(), *ledger)
        assert (judgement.outcome, judgement.message) == ("pass", "not found")
        assert judgement.history == ("removed" if len(ledger) == 2 else "")


def test_a_condition_that_was_never_found_is_not_fixed() -> None:
    """udp-redirect answers three conditions; one was found here."""
    found = replace(RESET, condition="udp-reply-source")
    change = replace(CHANGE, fix="udp-redirect", finding=found.id)
    entry = done("t1")
    entry.begin = replace(entry.begin, changes=(change,), findings=(found,))
    assert judged(plan(), entry, condition="udp-reply-source").outcome == "fixed"
    never = judged(plan(), entry, condition="udp-connected-server")
    assert (never.outcome, never.transaction) == ("pass", "")


def test_a_fault_that_came_back_is_judged_as_of_now_and_says_what_became_of_the_fix() -> None:
    back = done("t2", "rollback", undoes=("t1",))
    word = {"finding": RESET.id, "condition": RESET.condition, "before": "proven"}
    for entry, ledger, history in (
        (first := done("t1"), (first, back), "rolled-back"),
        (only := done("t1", outcome="reverted"), (only,), "reverted"),
    ):
        entry.verified = Verified(({**word, "after": "mitigated"},))
        for of, verdict in (
            (plan(EXPOSED), "exposed"),
            (plan(RESET), "proven"),
            (plan(), "absent"),
        ):
            judgement = judged(of, *ledger)
            assert judgement.history == history
            assert (judgement.verdict_before, judgement.verdict_after) == ("proven", verdict)
    assert judged(plan(), done("t1"), back).outcome == "pass"


def test_a_change_can_be_taken_back_while_it_stands_alone() -> None:
    back = done("t2", "rollback", undoes=("t1",))
    for ledger, state, undo in (
        ((done("t1"),), "in-force", "remedy rollback t1"),
        ((done("t1"), back), "rolled-back", ""),
    ):
        deed = collected(plan(), *ledger).deeds[0]
        assert (deed.changes[0].state, deed.changes[0].undo) == (state, undo)


def test_the_detector_before_and_after_is_told() -> None:
    entry = done("t1")
    verdicts = {"finding": RESET.id, "condition": RESET.condition, "before": "proven"}
    after = replace(RESET, evidence=(Evidence("/proc/net/snmp", "OutRsts", "+0", "moved in 2 s"),))
    entry.verified = Verified(({**verdicts, "after": "mitigated"},), (after,))
    host = collected(plan(RESET), entry)
    assert host.judgements[0].verdict_after == "mitigated"
    (figures,) = host.series
    assert [(r.moment, r.value) for r in figures.readings] == [
        ("before", 3.0), ("after", 0.0), ("now", 3.0),
    ]  # fmt: skip
    assert figures.unit == "in 2 s"


def test_expired_waivers_are_listed_as_such() -> None:
    assert [w.expired for w in collected(plan()).waivers] == [True]


def test_the_journal_alone() -> None:
    entry = done("t1")
    host = collect.from_journal(Place("h"), POLICY, {"t1": entry}, OURS, TIME)
    (judgement,) = host.judgements
    assert (judgement.outcome, judgement.verdict_before) == ("unknown", "proven")
    assert not host.scanned
    assert collect.from_journal(Place("h"), POLICY, {"t1": entry}, OURS, TIME, only="x").deeds == ()


@pytest.mark.parametrize("kept", ["applied", "confirmed"])
@pytest.mark.parametrize(
    ("after", "outcome"), [("absent", "fixed"), ("mitigated", "fixed"), ("still", "fail")]
)
def test_the_journal_alone_tells_what_the_detector_said_after(
    kept: Recorded, after: str, outcome: str
) -> None:
    entry = done("t1", outcome=kept)
    word = {"finding": RESET.id, "condition": RESET.condition, "before": "proven", "after": after}
    entry.verified = Verified((word,))
    (judgement,) = collect.from_journal(Place("h"), POLICY, {"t1": entry}, OURS, TIME).judgements
    assert judgement.outcome == outcome


@pytest.mark.parametrize("history", ["rolled-back", "reverted"])
def test_the_journal_alone_does_not_say_how_it_is_now_once_the_fix_was_taken_back(
    history: str,
) -> None:
    entry = done("t1", outcome="reverted" if history == "reverted" else "applied")
    word = {"finding": RESET.id, "condition": RESET.condition, "before": "proven"}
    entry.verified = Verified(({**word, "after": "mitigated"},))
    ledger = {"t1": entry}
    if history == "rolled-back":
        ledger["t2"] = done("t2", "rollback", undoes=("t1",))
    (judgement,) = collect.from_journal(Place("h"), POLICY, ledger, {}, TIME).judgements
    assert (judgement.outcome, judgement.verdict, judgement.history) == (
        "unknown",
        "unknown",
        history,
    )
    assert judgement.verdict_after == ""
    assert "there was no scan since" in judgement.message


def test_only_transactions_since() -> None:
    assert (
        transactions.deeds({"t1": done("t1")}, Standings({}, {}), since="2026-11-20T17:00:01Z")
        == ()
    )


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("confirmed", "confirmed by bea"),
        ("applied", "confirmed"),
        ("reverted", "reverted"),
        (None, "pending until 2026-11-20T17:02:00Z"),
    ],
)
def test_what_became_of_a_confirmation(outcome: Optional[Recorded], words: str) -> None:
    entry = done("t1", outcome=outcome)
    entry.pending = Pending("2026-11-20T17:02:00Z", 1.0)
    entry.confirmed_by = "bea" if outcome == "confirmed" else ""
    (deed,) = transactions.deeds({"t1": entry}, Standings({"t1": entry}, OURS))
    assert deed.confirmation == words
    assert deed.outcome == outcome or deed.outcome == "unfinished"
    stands = outcome != "reverted"
    assert deed.changes[0].undo == ("remedy rollback t1" if stands else "")
    assert deed.changes[0].state == ("in-force" if stands else "undone")
