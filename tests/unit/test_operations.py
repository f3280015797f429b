"""Apply and rollback from their values to their values: no terminal and no kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pytest
from builder import HOST, facts, finding
from fake_operations import KEY, FakeHost, fake_host

from remedies import codec
from remedies.errors import InputError, UsageError
from remedies.facts.netfilter import Netfilter
from remedies.facts.routes import Routes
from remedies.model import Plan, Terms
from remedies.operations import apply, plans, rollback, saved_plans, session
from remedies.operations.apply import ApplyOptions
from remedies.operations.rollback import Which
from remedies.planning import planfile
from remedies.planning.advice import texts
from remedies.status.harm import Harm
from remedies.values import replace


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return fake_host(tmp_path, monkeypatch)


def test_what_is_planned_is_shown_agreed_to_written_and_verified(host: FakeHost) -> None:
    ended = host.apply()
    assert (ended.outcome, host.store.states) == ("applied", {KEY: "1"})
    assert [(v["before"], v["after"]) for v in ended.verified] == [("proven", "absent")]
    assert [plan.changes[0].resource for plan in host.shown] == [KEY]
    assert host.asked == host.shown
    here = session.reread(host.session)
    assert list(here.held) == [KEY]
    recorded = here.ledger[ended.transaction or ""].verified
    assert ([dict(v) for v in recorded.verified], recorded.findings) == (list(ended.verified), ())


def test_the_second_apply_asks_nobody_and_writes_nothing(host: FakeHost) -> None:
    host.apply()
    written, asked = list(host.store.writes), list(host.asked)
    assert host.apply().outcome == "nothing"
    assert (host.store.writes, host.asked) == (written, asked)


def test_what_does_not_help_is_undone_unless_it_is_to_be_kept(host: FakeHost) -> None:
    host.heals = False
    ended = host.apply()
    assert (ended.outcome, host.store.states) == ("rolled-back", {KEY: "0"})
    assert "cond" in ended.reason
    assert [v["after"] for v in ended.verified] == ["proven"], "the verdict of now"
    assert host.apply(keep=True).outcome == "applied"


def test_what_does_harm_is_never_kept(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    harm = (Harm(KEY, "liberal", "it eats segments"),)
    monkeypatch.setattr(
        "remedies.operations.outlook.listen", lambda *_: (host.read(HOST, ()), harm)
    )
    ended = host.apply(keep=True)
    assert (ended.outcome, host.store.states) == ("rolled-back", {KEY: "0"})
    assert "it eats segments" in ended.reason


@pytest.mark.parametrize(
    ("after", "keep", "why"),
    [
        ([], False, None),
        (["absent", "mitigated"], False, None),
        (["absent", "still"], True, None),
        (["absent", "still"], False, "the fault is still there: c1; x hangs"),
        (["still", "still"], False, "the fault is still there: c0, c1; x hangs"),
    ],
)
def test_a_change_that_has_not_helped_is_undone_and_one_connection_is_named(
    after: list[str], keep: bool, why: Optional[str]
) -> None:
    verified = [{"condition": f"c{n}", "after": word} for n, word in enumerate(after)]
    seen = [finding(details={"hangs": name}) for name in ("x", "y")]
    assert apply.unwell(verified, (), keep=keep, seen=(finding(), *seen)) == why
    harm = (Harm("nft:a", "f", "it eats"), Harm("nft:b", "f", "that too"))
    assert apply.unwell(verified, harm, keep=keep, seen=seen) == "the fix does harm: nft:a: it eats"


def test_who_does_not_agree_has_changed_nothing(host: FakeHost) -> None:
    def refuse(_plan: Plan) -> Any:
        raise UsageError("nobody can be asked", "add --yes")

    here = session.reread(host.session)
    with pytest.raises(UsageError):
        apply.apply(here, ApplyOptions(), host.shown.append, refuse)
    assert host.store.writes == []
    assert session.reread(host.session).ledger == {}


def test_rollback_puts_back_what_was_there(host: FakeHost) -> None:
    txn = host.apply().transaction
    host.asked.clear()
    done = host.roll_back()
    assert (done.outcome, done.transactions) == ("rolled-back", (txn,))
    assert host.store.states == {KEY: "0"}
    assert [(c.before, c.after) for (asked,) in [host.asked] for c in asked] == [("1", "0")]
    assert host.roll_back().outcome == "nothing"


def test_what_somebody_has_changed_since_is_left_alone_but_by_force(host: FakeHost) -> None:
    host.apply()
    host.store.states[KEY] = "7"
    done = host.roll_back()
    assert (done.outcome, host.store.states) == ("refused", {KEY: "7"})
    assert KEY in done.drift[0]
    assert host.roll_back(force=True).outcome == "rolled-back"
    assert host.store.states == {KEY: "0"}


def test_what_nobody_knows_is_named(host: FakeHost) -> None:
    host.apply()
    with pytest.raises(UsageError, match=r"'20260101T000000Z-00000000' is not in the journal"):
        host.roll_back(transaction="20260101T000000Z-00000000")
    with pytest.raises(UsageError, match=r"no fix 'other'") as caught:
        host.roll_back(fix="other")
    assert "liberal" in caught.value.hint


def test_a_dry_run_of_a_rollback_shows_and_writes_nothing(host: FakeHost) -> None:
    host.apply()
    written = list(host.store.writes)
    (change,) = rollback.preview(session.reread(host.session), Which(fix="liberal"))
    assert (change.before, change.after, host.store.writes) == ("1", "0", written)


def test_a_plan_of_another_host_is_refused(host: FakeHost) -> None:
    made, _ = plans.make(host.session, prune=False)
    other = replace(made, scan=replace(made.scan, host=replace(HOST, machine_id="other")))
    text = codec.dumps(planfile.plan_plain(other, texts(other)))
    with pytest.raises(InputError, match="not on h"):
        saved_plans.read(host.session, text, "p.json")


def test_a_saved_plan_is_made_again_shown_and_applied_unless_it_is_stale(
    host: FakeHost,
) -> None:
    made, _ = plans.make(host.session, prune=False)
    text = codec.dumps(planfile.plan_plain(made, texts(made)))
    given: dict[str, Any] = {"saved": text, "path": "p.json"}
    shown = apply.preview(session.reread(host.session), ApplyOptions(**given))
    assert (shown.approved, shown.changes) == (made.id, made.changes)
    assert (host.store.states, host.asked) == ({KEY: "0"}, [])
    host.store.states[KEY] = "2"
    ended = host.apply(**given)
    assert (ended.outcome, host.asked) == ("stale", [])
    assert KEY in ended.reason
    host.store.states[KEY] = "0"
    ended = host.apply(**given)
    assert (ended.outcome, host.store.states) == ("applied", {KEY: "1"})
    begun = session.reread(host.session).ledger[ended.transaction or ""].begin
    assert begun.plan_id == made.id, "that of the plan that was approved"
    host.roll_back()
    ended = host.apply()
    begun = session.reread(host.session).ledger[ended.transaction or ""].begin
    assert begun.plan_id == ended.plan.id


def test_after_the_write_what_is_written_counts_as_ours(host: FakeHost) -> None:
    host.apply()
    assert (host.ours[0], host.ours[-1]) == ((), (KEY,))


def test_terms_are_those_of_the_policy(host: FakeHost) -> None:
    made, _ = plans.make(host.session, prune=False)
    ((_, terms),) = made.changes[0].uses
    assert isinstance(terms, Terms)
    assert terms.backend == host.session.policy.backend


def test_a_plan_reads_what_guards_ask_for_and_a_scan_does_not(host: FakeHost) -> None:
    asked = []

    def read(*asking: Any, **given: Any) -> Any:
        asked.append((set(asking[1]), given["window"]))
        return facts()

    here = replace(host.session, read=read)
    session.look(here, for_plan=False)
    session.look(here, for_plan=True, window=0.0)
    session.look(here, for_plan=True, kinds=(Routes,), window=2.0)
    assert asked == [(set(), 0.5), ({Netfilter}, 0.0), ({Routes}, 2.0)]
