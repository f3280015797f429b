"""Apply and rollback from their values to their values: no terminal and no kernel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from builder import HOST, change, facts, finding, plan, policy
from fake_operations import KEY, FakeGuard, FakeHost, fake_host

from remedies import catalogue, codec, shipped
from remedies import policy as policies
from remedies.errors import InputError, UsageError
from remedies.facts import Facts
from remedies.facts.flows import Flows
from remedies.facts.netfilter import Netfilter
from remedies.facts.routes import Routes
from remedies.model import Change, Finding, Held, Host, Plan, Policy, Refusal, Terms
from remedies.operations import apply, outlook, plans, rollback, saved_plans, session, weigh
from remedies.operations.apply import ApplyOptions
from remedies.operations.rollback import Which
from remedies.planning import lockout, planfile
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
    assert "loses no flow" in host.shown[0].changes[0].impact
    here = session.reread(host.session)
    assert list(here.held) == [KEY]
    recorded = here.ledger[ended.transaction or ""].verified
    assert ([dict(v) for v in recorded.verified], recorded.findings) == (list(ended.verified), ())


def test_after_a_write_what_it_answers_and_what_explains_that_is_judged_again(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []
    read: list[set[type[Any]]] = []
    known, answered = host.read, catalogue.condition("cond")

    def condition(name: str) -> Any:
        def detect(seen: Facts, params: object) -> tuple[Finding, ...]:
            judged.append(name)
            return answered.detect(seen, params) if name == "cond" else ()  # type: ignore[arg-type]

        needs = (Flows,) if name == "other" else ()
        follows = ("cause",) if name == "cond" else ()
        return SimpleNamespace(
            **{**vars(answered), "detect": detect, "NEEDS": needs, "FOLLOWS": follows}
        )

    def reading(of: Host, kinds: Iterable[type[Any]], **given: Any) -> Any:
        kinds = tuple(kinds)
        read.append({*kinds})
        return known(of, kinds, **given)

    monkeypatch.setattr(catalogue, "condition", condition)
    monkeypatch.setattr(catalogue, "condition_ids", lambda: ("cond", "cause", "other"))
    host.session = replace(host.session, read=reading)  # type: ignore[arg-type]
    host.heals = False
    assert host.apply().outcome == "rolled-back"
    assert judged == ["cond", "cause", "other", "cond", "cause", "cond", "cause"]
    assert sum(Flows in kinds for kinds in read) == 1


def test_the_second_apply_asks_nobody_and_writes_nothing(host: FakeHost) -> None:
    host.apply()
    written, asked = list(host.store.writes), list(host.asked)
    assert host.apply().outcome == "nothing"
    assert (host.store.writes, host.asked) == (written, asked)


@pytest.mark.parametrize(("wanted", "outcome"), [(True, "refused"), (False, "nothing")])
def test_a_fix_that_another_stands_in_for_is_not_missed(
    host: FakeHost, wanted: bool, outcome: str
) -> None:
    refused = (Refusal("other", None, "it would cut", wanted=wanted),)
    options = ApplyOptions(narrow=lambda made: replace(made, changes=(), refused=refused))
    ended, _ = apply.apply(session.reread(host.session), options, host.shown.append, host.agree)
    assert (ended.outcome, host.asked, host.store.writes) == (outcome, [], [])


def test_what_a_removal_costs_is_not_told_as_if_it_made_something(host: FakeHost) -> None:
    gone = change(KEY, "1", None)
    (weighed,) = weigh.weigh(host.session, plan(gone), facts()).changes
    assert weighed.impact == gone.impact


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


A, B, FILE = "sysctl:a", "sysctl:b", "file:/etc/x"


def test_harm_is_looked_for_in_what_is_in_force_after_the_write(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[dict[str, Optional[str]]] = []

    def listen(_here: Any, held: Iterable[Held], *_: Any) -> Any:
        heard.append({entry.resource: entry.ours for entry in held})
        return host.read(HOST, ()), ()

    monkeypatch.setattr(outlook, "listen", listen)
    written = plan(change(A, finding="x"), change(B), change(FILE, None, "text", boot=True))
    for made in (written, plan(change(A, "1", "2"), change(B, "1", None))):
        monkeypatch.setattr(plans, "make", lambda *_, made=made, **__: (made, ()))
        assert host.apply().outcome == "applied"
    assert heard == [{A: "1", B: "1", FILE: "text"}, {A: "2", FILE: "text"}]


@pytest.mark.parametrize(("unasked", "asked", "waits"), [
    (None, None, False), (120.0, None, True), (None, 600.0, True), (120.0, 0.0, False),
])  # fmt: skip
def test_it_waits_to_be_confirmed_as_asked_or_else_as_the_session_needs(
    host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    unasked: Optional[float],
    asked: Optional[float],
    waits: bool,
) -> None:
    monkeypatch.setattr(weigh, "confirm_time", lambda *_: unasked)
    here = session.reread(host.session)
    request = ApplyOptions(confirm_timeout=asked)
    ended, guard = apply.apply(here, request, host.shown.append, host.agree)
    assert (ended.outcome, ended.until is not None, guard is not None) == ("applied", waits, waits)


def test_what_can_cut_off_who_applies_it_needs_a_way_back_or_the_hosts_name(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    severe = (lockout.Impact(KEY, "severe", "it drops your session"),)
    monkeypatch.setattr(lockout, "judge", lambda *_: severe)
    with pytest.raises(UsageError, match="it drops your session") as refused:
        host.apply()
    assert "--confirm-timeout" in refused.value.hint
    assert f"--confirm={HOST.name}" in refused.value.hint
    assert (host.asked, host.store.writes) == ([], [])
    with pytest.raises(UsageError, match="does not name this host"):
        host.apply(confirm="another")
    assert host.apply(confirm=HOST.name).outcome == "applied"


@pytest.mark.parametrize("goes_on", [False, True])
def test_what_the_guard_goes_on_to_undo_is_said(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    host.heals = False
    host.store.before_write = lambda _: host.store.broken.update({KEY} if host.store.writes else ())
    monkeypatch.setattr(FakeGuard, "goes_on", lambda _: goes_on)
    ended = host.apply()
    assert (ended.outcome, [KEY in line for line in ended.stuck]) == ("incomplete", [True])
    assert ("guard continues" in ended.reason) is goes_on


def test_apply_names_the_proven_faults_that_stay(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[str] = []

    def load(names: tuple[str, ...], _cache: object) -> Policy:
        named.extend(names)
        return policy()

    monkeypatch.setattr(policies, "load", load)
    ended = apply.Ended(plan(findings=(finding(verdict="proven"),)), "nothing")
    (left,) = apply.finish(host.session, ended).left
    assert (left.finding, left.condition) == (finding().id, "cond")
    assert named == list(shipped.POLICIES)


@pytest.mark.parametrize(
    ("made", "looks"),
    [
        (change("nft:inet/remedy_x", "x", None), False),
        (change("file:/etc/x", None, "x", boot=True), False),
        (change(KEY, "1", "0"), True),
        (change("nft:inet/remedy_x", "x", None, finding=finding().id), True),
    ],
)
def test_what_is_removed_or_for_boot_and_answers_nothing_needs_no_other_look(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, made: Change, looks: bool
) -> None:
    looked: list[object] = []

    def listen(*given: object) -> tuple[Facts, tuple[Harm, ...]]:
        looked.append(given)
        return facts(), ()

    host.store.states[KEY] = "1"
    monkeypatch.setattr(outlook, "listen", listen)
    assert apply._verified(host.session, plan(made)) == ([], [], ())
    assert bool(looked) is looks


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
    assert change.action == "update"
    assert change.diff.splitlines()[-2:] == ["-1", "+0"]


@pytest.mark.parametrize("differs", ["machine_id", "netns"])
def test_a_plan_of_another_host_or_namespace_is_refused(host: FakeHost, differs: str) -> None:
    made, _ = plans.make(host.session, prune=False)
    other = replace(made, scan=replace(made.scan, host=replace(HOST, **{differs: "other"})))
    text = codec.dumps(planfile.plan_plain(other, texts(other)))
    with pytest.raises(InputError, match=r"p\.json: made on h .*, not on h ") as refused:
        saved_plans.read(host.session, text, "p.json")
    assert refused.value.hint == "make a plan here"


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
