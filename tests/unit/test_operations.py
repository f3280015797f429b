"""Apply, confirm and rollback from their values to their values: no terminal and no kernel."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from builder import HOST, change, facts, finding, policy
from fake_store import YES, FakeStore

from remedies import catalogue, codec
from remedies.errors import InputError, RemedyError, Unreadable, UsageError
from remedies.facts import Facts
from remedies.facts import session as ssh
from remedies.facts.asked import Asked
from remedies.facts.oneway import Oneway
from remedies.facts.owners import Owners
from remedies.facts.routes import Routes
from remedies.facts.stalls import Stalls
from remedies.model import Finding, Plan, Rule, Terms, Wanted
from remedies.operations import (
    apply,
    confirm,
    plans,
    recovery,
    repair,
    rollback,
    saved_plans,
    session,
    unowned,
)
from remedies.operations.apply import ApplyOptions
from remedies.operations.rollback import Which
from remedies.operations.session import HostSession
from remedies.planning import planfile
from remedies.planning.advice import texts
from remedies.status.harm import Harm
from remedies.transaction import guard, guarded
from remedies.transaction.guard import Guard
from remedies.transaction.ledger import Begin, Pending
from remedies.values import replace

KEY = "sysctl:net.netfilter.nf_conntrack_tcp_be_liberal"


class FakeGuard:
    """A guard that is armed and never undoes anything."""

    note = ""

    def __init__(self) -> None:
        self.waiting: Optional[Pending] = None

    def begun(self) -> None:
        return None

    def waits(self, pending: Pending) -> None:
        self.waiting = pending

    def goes_on(self) -> bool:
        return False

    def dismiss(self) -> None:
        return None

    def for_boot(self, _changes: object) -> None:
        return None


class Host:
    """A host in memory: one sysctl, a fault that is there while it is 0, and who was asked."""

    def __init__(self, folder: Path) -> None:
        self.store = FakeStore(**{KEY: "0"})
        self.heals = True
        self.asked: list[Any] = []
        self.shown: list[Plan] = []
        self.said: list[str] = []
        self.ours: list[tuple[str, ...]] = []
        """What counts as ours each time somebody judges."""
        self.session = HostSession(
            HOST,
            policy({"cond": Rule("fix", "exposed", ("liberal",))}),
            str(folder),
            {},
            {},
            window=0.5,
            notify=self.said.append,
            store=self.store,
            read=self.read,
            arm=self.arm,
        )
        recovery.prepare(self.session)

    def read(self, host: object, kinds: Iterable[type[Any]], **given: Any) -> Any:
        connection = ssh.Session((), (), True)
        known = facts(connection, Routes(), Owners(), Oneway(), Stalls(), Asked())
        return replace(known, ours=given.get("ours", ()))

    def arm(self, _folder: str, _txn: str, _begin: Begin, _window: float) -> Guard:
        return FakeGuard()  # type: ignore[return-value]

    def detect(self, seen: Facts, _: object) -> tuple[Finding, ...]:
        self.ours.append(seen.ours)
        well = self.heals and self.store.states[KEY] == "1"
        return () if well else (finding(verdict="proven"),)

    def agree(self, what: Any) -> Any:
        self.asked.append(what)
        return YES

    def apply(self, **given: Any) -> apply.Ended:
        here = session.reread(self.session)
        ended, _ = apply.apply(here, ApplyOptions(**given), self.shown.append, self.agree)
        return apply.finish(here, ended)

    def roll_back(self, *, force: bool = False, **which: Any) -> rollback.RolledBack:
        here = session.reread(self.session)
        return rollback.roll_back(here, Which(**which), self.agree, force=force, lock_timeout=1.0)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    condition = SimpleNamespace(NEEDS=(), TOPICS=(), PARAMS={}, detect=made.detect, TITLE="t")
    fix = SimpleNamespace(
        TITLE="passes them", ANSWERS=("cond",), RISK="low", HARMLESS=True, REVERSIBILITY="exact",
        NEEDS=(), TOPICS=(), PARAMS={}, WRITES=(KEY,), guard=lambda *_: None,
        desired=lambda *_: (Wanted(KEY, "1"),), impact=lambda *_: "little",
    )  # fmt: skip
    monkeypatch.setattr(catalogue, "condition", lambda _: condition)
    monkeypatch.setattr(catalogue, "condition_ids", lambda: ("cond",))
    monkeypatch.setattr(catalogue, "fix", lambda _: fix)
    monkeypatch.setattr(catalogue, "fix_ids", lambda: ("liberal",))
    monkeypatch.setattr("remedies.transaction.undofile.script", lambda *_: "#!/bin/sh\n")
    monkeypatch.setattr("remedies.status.in_force.in_force", lambda _: ())
    monkeypatch.setattr(guard, "strays", lambda _: ())
    return made


def test_what_is_planned_is_shown_agreed_to_written_and_verified(host: Host) -> None:
    ended = host.apply()
    assert (ended.outcome, host.store.states) == ("applied", {KEY: "1"})
    assert [(v["before"], v["after"]) for v in ended.verified] == [("proven", "absent")]
    assert [plan.changes[0].resource for plan in host.shown] == [KEY]
    assert host.asked == host.shown
    assert list(session.reread(host.session).held) == [KEY]


def test_the_second_apply_asks_nobody_and_writes_nothing(host: Host) -> None:
    host.apply()
    written, asked = list(host.store.writes), list(host.asked)
    assert host.apply().outcome == "nothing"
    assert (host.store.writes, host.asked) == (written, asked)


def test_what_does_not_help_is_undone_unless_it_is_to_be_kept(host: Host) -> None:
    host.heals = False
    ended = host.apply()
    assert (ended.outcome, host.store.states) == ("rolled-back", {KEY: "0"})
    assert "cond" in ended.reason
    assert [v["after"] for v in ended.verified] == ["proven"], "the verdict of now"
    assert host.apply(keep=True).outcome == "applied"


def test_what_does_harm_is_never_kept(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
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
        (["absent", "still"], False, "the fault is still there: c1; x does not go on"),
        (["still", "still"], False, "the fault is still there: c0, c1; x does not go on"),
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


def test_who_does_not_agree_has_changed_nothing(host: Host) -> None:
    def refuse(_plan: Plan) -> Any:
        raise UsageError("nobody can be asked", "add --yes")

    here = session.reread(host.session)
    with pytest.raises(UsageError):
        apply.apply(here, ApplyOptions(), host.shown.append, refuse)
    assert host.store.writes == []
    assert session.reread(host.session).ledger == {}


def test_rollback_puts_back_what_was_there(host: Host) -> None:
    txn = host.apply().transaction
    host.asked.clear()
    done = host.roll_back()
    assert (done.outcome, done.transactions) == ("rolled-back", (txn,))
    assert host.store.states == {KEY: "0"}
    assert [(c.before, c.after) for (asked,) in [host.asked] for c in asked] == [("1", "0")]
    assert host.roll_back().outcome == "nothing"


def test_what_somebody_has_changed_since_is_left_alone_but_by_force(host: Host) -> None:
    host.apply()
    host.store.states[KEY] = "7"
    done = host.roll_back()
    assert (done.outcome, host.store.states) == ("refused", {KEY: "7"})
    assert KEY in done.drift[0]
    assert host.roll_back(force=True).outcome == "rolled-back"
    assert host.store.states == {KEY: "0"}


def test_what_nobody_knows_is_named(host: Host) -> None:
    host.apply()
    with pytest.raises(UsageError, match=r"'20260101T000000Z-00000000' is not in the journal"):
        host.roll_back(transaction="20260101T000000Z-00000000")
    with pytest.raises(UsageError, match=r"no fix 'other'") as caught:
        host.roll_back(fix="other")
    assert "liberal" in caught.value.hint


def test_a_dry_run_of_a_rollback_shows_and_writes_nothing(host: Host) -> None:
    host.apply()
    written = list(host.store.writes)
    (change,) = rollback.preview(session.reread(host.session), Which(fix="liberal"))
    assert (change.before, change.after, host.store.writes) == ("1", "0", written)


def test_what_waits_is_confirmed_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    ended = host.apply(confirm_timeout=600.0)
    assert ended.until is not None
    here = session.reread(host.session)
    for wanted in (None, ended.transaction):
        kept = confirm.would_keep(here, wanted)
        assert kept is not None
        assert kept.id == ended.transaction
    assert confirm.would_keep(here, "another") is None
    assert confirm.confirm(here, None, lock_timeout=1.0).outcome == "confirmed"
    assert confirm.would_keep(session.reread(here), None) is None
    assert session.reread(here).ledger[ended.transaction or ""].outcome == "confirmed"
    assert confirm.confirm(here, None, lock_timeout=1.0).outcome == "nothing"
    assert host.store.states == {KEY: "1"}


def test_what_waits_is_undone_by_a_no(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    here = session.reread(host.session)
    assert not confirm.answer(here, "another", None, lock_timeout=1.0)
    assert host.store.states == {KEY: "1"}
    assert confirm.answer(here, txn, None, lock_timeout=1.0)
    assert host.store.states == {KEY: "0"}
    assert session.reread(here).held == {}
    assert not confirm.answer(here, txn, YES, lock_timeout=1.0)


def test_nothing_is_written_over_what_cannot_be_undone(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    monkeypatch.setattr(guarded, "alive", lambda *_: False)
    monkeypatch.setattr("remedies.transaction.guarded.clock", lambda: 1e12)
    host.store.broken.add(KEY)
    host.shown.clear()
    with pytest.raises(RemedyError, match=txn):
        host.apply()
    assert host.shown == []


def test_what_waits_in_another_journal_is_named(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = guard.Stray(1, "t9", "/elsewhere")
    monkeypatch.setattr(guard, "strays", lambda _: (stray,))
    here = session.reread(host.session)
    for wanted in (None, "t9"):
        with pytest.raises(RemedyError, match="t9"):
            confirm.confirm(here, wanted, lock_timeout=1.0)
    with pytest.raises(UsageError, match="t8"):
        confirm.confirm(here, "t8", lock_timeout=1.0)


def test_a_rollback_rejects_what_waits(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    host.asked.clear()
    assert host.roll_back(transaction=txn).outcome == "rolled-back"
    assert (len(host.asked), host.store.states) == (1, {KEY: "0"})
    assert session.reread(host.session).ledger[txn].outcome == "rolled-back"


def test_a_rollback_of_what_was_never_finished_takes_nothing_else(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = host.apply().transaction
    host.store.states[KEY] = "0"  # somebody changed it, and the fault is back
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    second = host.apply(confirm_timeout=600.0).transaction
    monkeypatch.setattr(guarded, "alive", lambda *_: False)  # it died with its writer
    done = host.roll_back()
    assert (done.outcome, done.transactions) == ("rolled-back", (second,))
    assert session.reread(host.session).ledger[first or ""].outcome == "applied"


def test_a_confirmation_that_comes_too_late_is_told_so(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    monkeypatch.setattr(guarded, "alive", lambda *_: False)  # and nobody confirmed it in time
    monkeypatch.setattr("remedies.transaction.guarded.clock", lambda: 1e12)
    for wanted in (None, txn):
        late = confirm.confirm(session.reread(host.session), wanted, lock_timeout=1.0)
        assert (late.outcome, late.transaction) == ("reverted", txn)
    assert host.store.states == {KEY: "0"}
    with pytest.raises(UsageError, match="nosuch"):
        confirm.confirm(session.reread(host.session), "nosuch", lock_timeout=1.0)


def test_a_journal_that_is_whole_needs_no_repair(host: Host) -> None:
    host.apply()
    here = session.reread(host.session)
    assert repair.examine(here) is None


def test_what_is_unowned_is_not_looked_for_where_the_kernel_does_not_say(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(_ledger: object) -> tuple[str, ...]:
        raise Unreadable("nf_tables: not permitted")

    monkeypatch.setattr(unowned, "unowned", blind)
    assert unowned.addresses(host.session) == ()
    assert "not permitted" in host.said[-1]
    monkeypatch.setattr(unowned, "unowned", lambda _: ("nft:inet/remedy_invalid_drop", KEY))
    host.store.states["nft:inet/remedy_invalid_drop"] = "x"
    assert unowned.addresses(host.session) == ("nft:inet/remedy_invalid_drop", KEY)
    found = unowned.removals(host.session)
    assert [(c.resource, c.before, c.after, c.action) for c in found] == [
        ("nft:inet/remedy_invalid_drop", "x", None, "remove"), (KEY, "0", None, "remove"),
    ]  # fmt: skip
    assert [(c.before, c.after) for c in unowned.adoptions(host.session)] == [
        (None, "0"), (None, "x"),
    ]  # fmt: skip


def test_where_nothing_is_unowned_nothing_is_adopted(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remedies.operations.unowned.addresses", lambda _: ())
    assert confirm.adopt_unowned(session.reread(host.session), lock_timeout=1.0) is None
    assert session.reread(host.session).ledger == {}


def test_a_stuck_rejection_says_what_to_do(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    host.store.broken.add(KEY)
    with pytest.raises(RemedyError, match=txn) as caught:
        confirm.answer(session.reread(host.session), txn, None, lock_timeout=1.0)
    assert "remedy rollback" in caught.value.hint


@pytest.mark.parametrize("stray", [False, True])
def test_a_repair_keeps_what_the_host_shows_and_adopts_what_no_record_has(
    host: Host, monkeypatch: pytest.MonkeyPatch, stray: bool
) -> None:
    host.apply()
    journal = os.path.join(host.session.folder, "journal.jsonl")
    with open(journal, "ab") as file:
        file.write(b"garbage\n" * 2)
    with pytest.raises(InputError):
        session.reread(host.session)
    adopted = (change("nft:inet/remedy_x", None, "x"),) if stray else ()
    monkeypatch.setattr("remedies.operations.unowned.adoptions", lambda _: adopted)
    monkeypatch.setattr("remedies.operations.repair.strays", lambda _: ())
    done = repair.run(host.session, host.agree, lock_timeout=1.0)
    assert done.prospect is not None
    assert os.path.exists(done.path)
    names = [c.resource for c in done.adopted.begin.changes] if done.adopted else []
    assert names == [c.resource for c in adopted]
    assert set(session.reread(host.session).held) == {KEY, *names}
    assert host.store.states == {KEY: "1"}
    assert repair.run(host.session, host.agree, lock_timeout=1.0).prospect is None


def test_a_plan_of_another_host_is_refused(host: Host) -> None:
    made, _ = plans.make(host.session, prune=False)
    other = replace(made, scan=replace(made.scan, host=replace(HOST, machine_id="other")))
    text = codec.dumps(planfile.plan_plain(other, texts(other)))
    with pytest.raises(InputError, match="not on h"):
        saved_plans.read(host.session, text, "p.json")


def test_a_saved_plan_is_made_again_shown_and_applied_unless_it_is_stale(host: Host) -> None:
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


def test_after_the_write_what_is_written_counts_as_ours(host: Host) -> None:
    host.apply()
    assert (host.ours[0], host.ours[-1]) == ((), (KEY,))


def test_terms_are_those_of_the_policy(host: Host) -> None:
    made, _ = plans.make(host.session, prune=False)
    ((_, terms),) = made.changes[0].uses
    assert isinstance(terms, Terms)
    assert terms.backend == host.session.policy.backend
