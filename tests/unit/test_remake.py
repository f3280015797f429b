"""A saved plan against the host of now: what has moved is named, what was edited is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Optional

import fake_fixes
import pytest
from builder import HOST, TIME, change, facts, finding, plan, policy
from builder import scan as scanned
from fake_store import FakeStore

from remedies.errors import ConfigError, InputError, RemedyError, StalePlan
from remedies.facts.sysctl import Sysctl
from remedies.fixes import tcp_be_liberal
from remedies.model import (
    Advice,
    Evidence,
    Finding,
    Held,
    Kept,
    Plan,
    Refusal,
    RequiredFix,
    Rule,
    Scan,
    Terms,
    Verdict,
    Wanted,
)
from remedies.planning import plan as planning
from remedies.planning.remake import Today, consistent, remake
from remedies.transaction.run import check_fresh
from remedies.values import replace

KEY = "net.netfilter.nf_conntrack_tcp_be_liberal"
ADDRESS = f"sysctl:{KEY}"
FOUND = finding("tcp-invalid-reset", "tcp through NAT", details={"protocol": "tcp"})
POLICY = policy({"tcp-invalid-reset": Rule("fix", "exposed", ("tcp-be-liberal",))})


HINTS = {StalePlan: "make a new plan", InputError: "the plan was edited: make a new one"}


@contextmanager
def refused(kind: type[RemedyError], match: str) -> Iterator[None]:
    """Expect that a plan is refused: what is wrong, and what to do about it."""
    with pytest.raises(kind, match=match) as raised:
        yield
    assert raised.value.hint == HINTS[kind]


def today(
    *findings: Finding, value: Optional[str] = "0", held: Optional[dict[str, Held]] = None
) -> Today:
    known = facts(Sysctl({KEY: value} if value is not None else {}))
    store = FakeStore() if value is None else FakeStore(**{ADDRESS: value})
    return Today(known, scanned(*findings), held or {}, store)


def saved() -> Plan:
    now = today(FOUND)
    made = planning.plan(POLICY, now.facts, now.scan, {}, now.reads, prune=False)
    assert [change.resource for change in made.changes] == [ADDRESS]
    return made


def test_on_the_same_host_it_is_the_same_plan() -> None:
    made = saved()
    consistent(made, "p.json")
    again = remake(made, today(FOUND))
    assert (again.changes, again.lost_at_boot) == (made.changes, (ADDRESS,))
    worse = replace(FOUND, verdict="proven")
    assert remake(made, today(worse)).changes == made.changes, "a worse verdict wants it no less"


def test_a_finding_that_is_gone_makes_it_stale() -> None:
    with refused(StalePlan, match="tcp-invalid-reset on tcp through NAT"):
        remake(saved(), today())
    with refused(StalePlan, match="tcp-invalid-reset"):
        remake(saved(), today(finding("tcp-invalid-reset", "another")))


def test_a_fix_that_is_refused_now_makes_it_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    made = saved()
    monkeypatch.setattr(tcp_be_liberal, "guard", lambda *_: "it would do harm")
    with refused(StalePlan, match=r"tcp-be-liberal was possible.*it would do harm"):
        remake(made, today(FOUND))


def test_a_value_that_moved_makes_it_stale() -> None:
    check_fresh(FakeStore(**{ADDRESS: "0"}), saved().changes)
    with pytest.raises(StalePlan, match=ADDRESS):
        check_fresh(FakeStore(**{ADDRESS: "1"}), saved().changes)


def checked(edited: Plan) -> None:
    """Read the plan as apply does."""
    consistent(edited, "p.json")
    remake(edited, today(FOUND))


EDITS: list[tuple[str, dict[str, Any]]] = [
    ("after", {"after": "2"}),
    ("risk", {"risk": "high"}),
    ("reversibility", {"reversibility": "lossy"}),
    ("effects", {"effects": ("flow:udp/192.0.2.1/1/192.0.2.2/2",)}),
    ("boot", {"boot": True}),
    ("fix", {"fix": "invalid-drop"}),
    ("another key", {"resource": "sysctl:net.ipv4.ip_forward"}),
]


@pytest.mark.parametrize(("_name", "edit"), EDITS)
def test_what_was_edited_is_refused(_name: str, edit: dict[str, Any]) -> None:
    made = saved()
    edited = replace(made, changes=(replace(made.changes[0], **edit),))
    with refused(InputError, match=rf"{ADDRESS}|p\.json: changes\[0\]"):
        checked(edited)


def test_details_of_a_finding_that_follow_from_its_subject_are_no_free_text() -> None:
    made = saved()
    other = replace(FOUND, details={"protocol": "udp"})
    edited = replace(made, scan=Scan(HOST, TIME, (other,), ()))
    with refused(InputError, match="protocol"):
        remake(edited, today(FOUND))


def test_what_is_given_back_must_be_what_the_journal_says_is_ours() -> None:
    ours = {ADDRESS: Held(ADDRESS, "tcp-be-liberal", "0", "1", "t1")}
    now = today(value="1", held=ours)
    made = planning.plan(policy(), now.facts, now.scan, ours, now.reads, prune=True)
    assert [(c.before, c.after) for c in made.changes] == [("1", "0")]
    again = remake(made, now)
    assert (again.changes, again.lost_at_boot) == (made.changes, ())
    edits: tuple[dict[str, Any], ...] = (
        {"risk": "high"}, {"after": "5"}, {"reversibility": "lossy"},
    )  # fmt: skip
    for edit in edits:
        with refused(InputError, match=ADDRESS):
            remake(replace(made, changes=(replace(made.changes[0], **edit),)), now)
    with refused(StalePlan, match=f"{ADDRESS} moved: t1 wrote"):
        remake(made, today(value="0", held=ours))


def test_nothing_is_removed_that_the_journal_does_not_know() -> None:
    gone = change(ADDRESS, "0", None, fix="tcp-be-liberal")
    with refused(InputError, match=ADDRESS):
        remake(replace(saved(), changes=(gone,)), today(FOUND))


def test_what_a_finding_wants_is_not_given_back_although_it_was_so_before_us() -> None:
    ours = {ADDRESS: Held(ADDRESS, "tcp-be-liberal", "1", "1", "t1")}
    now = today(FOUND, value="0", held=ours)
    made = planning.plan(POLICY, now.facts, now.scan, ours, now.reads)
    assert [(c.before, c.after) for c in made.changes] == [("0", "1")]
    assert remake(made, now).changes == made.changes


def test_findings_that_the_plan_does_nothing_about_may_go() -> None:
    made = saved()
    wider = replace(made, scan=scanned(FOUND, OTHER))
    assert remake(wider, today(FOUND)).changes == made.changes


def test_a_plan_without_changes_stays_one() -> None:
    assert remake(plan(), today()).changes == ()


def harmful(
    verdict: Verdict = "exposed", *, accepted: bool = False, monkeypatch: pytest.MonkeyPatch
) -> Plan:
    """Return a plan that uses a fix which can end connections."""
    monkeypatch.setattr(tcp_be_liberal, "HARMLESS", False)
    names = ("tcp-be-liberal",)
    rule = Rule("fix", "exposed", names, accept_harm=names if accepted else ())
    now = today(replace(FOUND, verdict=verdict))
    made = planning.plan(policy({FOUND.condition: rule}), now.facts, now.scan, {}, now.reads)
    assert [change.accept_harm for change in made.changes] == [
        (FOUND.condition,) if accepted else ()
    ]
    return made


def test_harm_that_policy_accepts_is_in_the_plan_and_is_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = harmful(accepted=True, monkeypatch=monkeypatch)
    consistent(made, "p.json")
    assert remake(made, today(FOUND)).changes == made.changes


def test_harm_that_no_policy_accepts_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = harmful(accepted=True, monkeypatch=monkeypatch)
    edited = replace(made, changes=(replace(made.changes[0], accept_harm=()),))
    with refused(InputError, match=r"tcp-be-liberal.*accept_harm"):
        remake(edited, today(FOUND))
    for other in ("idle-timeout", "no-such-condition"):
        wrong = replace(made, changes=(replace(made.changes[0], accept_harm=(other,)),))
        with refused(InputError, match=other):
            consistent(wrong, "p.json")


def test_a_fault_that_is_not_seen_any_more_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = harmful("proven", monkeypatch=monkeypatch)
    remake(made, today(replace(FOUND, verdict="active")))
    with refused(StalePlan, match=r"was proven .*accept_harm"):
        remake(made, today(FOUND))
    held = {ADDRESS: Held(ADDRESS, "tcp-be-liberal", "0", "1", "t1", answered=(FOUND,))}
    remake(made, today(FOUND, held=held))


def test_what_differs_late_in_a_long_text_is_shown() -> None:
    made = saved()
    long = "1" * 80
    held = {ADDRESS: Held(ADDRESS, "tcp-be-liberal", "0", f"{long}1", "t1")}
    back = replace(made.changes[0], finding=None, before=f"{long}1", after="0", action="update")
    with refused(StalePlan, match=r"t1 wrote '\.\.\.1+1', now it is '\.\.\.1+2'"):
        remake(replace(made, changes=(back,)), today(value=f"{long}2", held=held))


def test_what_a_plan_tells_beside_its_changes_is_as_it_is_now() -> None:
    made = saved()
    told = replace(FOUND, message="all is well", evidence=(Evidence("kernel", "x", "y"),))
    forged = replace(
        made,
        scan=scanned(told),
        advice=(Advice("notrack", None, "run this", "fix"),),
        refused=(Refusal("notrack", None, "because", wanted=True),),
        kept=(Kept("notrack", ("nft:x",), ("p",), "t"),),
    )
    now = today(replace(FOUND, verdict="proven"))
    again = remake(forged, now)
    assert again.scan == now.scan
    assert (again.advice, again.kept) == ((), ())
    assert [(r.fix, r.reason) for r in again.refused] == [
        ("notrack", "the saved plan says: because")
    ]
    assert again.approved == forged.id, "the journal names the plan that somebody agreed to"


OTHER = replace(FOUND, condition="idle-timeout")
EXACT, OF_LINK = "flow:udp/192.0.2.1/1/192.0.2.2/53", "flow:udp/eth0/53"
IMPOSSIBLE: list[tuple[str, dict[str, Any]]] = [
    ("no fix is called 'nosuch'", {"fix": "nosuch"}),
    ("tcp-be-liberal does not write sysctl:net.x", {"resource": "sysctl:net.x"}),
    ("only files are written for boot", {"boot": True}),
    ("tcp-be-liberal has no parameter 'ports'", {"terms": Terms(params={"ports": [1]})}),
    ("has no parameter 'ports'", {"also": (Terms(), Terms(params={"ports": [1]}))}),
    ("it lists further findings and no first one", {"finding": None, "others": (FOUND.id,)}),
    ("finding nosuch is not in the plan", {"finding": "nosuch"}),
    ("finding nosuch is not in the plan", {"others": ("nosuch",)}),
    ("tcp-be-liberal does not answer idle-timeout", {"finding": OTHER.id}),
    ("so not nft:inet/remedy_x", {"effects": ("nft:inet/remedy_x",)}),
    ("no resource has the address", {"effects": ("nosuch:x",)}),
    ("flow:tcp/x names no flow", {"effects": ("flow:tcp/x",)}),
    ("no finding that it answers is about", {"effects": (EXACT.replace("53", "54"),)}),
    ("no finding that it answers is about", {"effects": (OF_LINK.replace("53", "54"),)}),
    ("no finding that it answers is about", {"effects": (EXACT,), "finding": None}),
]


def told_apart(**edit: Any) -> Plan:
    """Return the saved plan with an edited change, among findings that it could be about."""
    made = saved()
    about = replace(FOUND, details={"protocol": "udp", "port": "53"})
    change = replace(made.changes[0], **edit)
    return replace(made, scan=scanned(about, OTHER), changes=(change,))


@pytest.mark.parametrize(("why", "edit"), IMPOSSIBLE)
def test_what_no_fix_makes_is_refused_whatever_the_facts(why: str, edit: dict[str, Any]) -> None:
    with refused(InputError, match=rf"p\.json: changes\[0\]: .*{why}"):
        consistent(told_apart(**edit), "p.json")


@pytest.mark.parametrize(
    "edit",
    [
        {},
        {"finding": None},
        {"terms": Terms(persist=True)},
        {"effects": (EXACT, EXACT.replace("/1/", "/53/").replace("/53", "/9", 1), OF_LINK)},
    ],
)
def test_what_a_fix_can_make_is_taken(edit: dict[str, Any]) -> None:
    consistent(told_apart(**edit), "p.json")


def test_a_plan_changes_nothing_twice_and_holds_no_finding_twice() -> None:
    made = told_apart()
    with refused(InputError, match=r"changes\[1\]: .* is changed twice"):
        consistent(replace(made, changes=made.changes * 2), "p.json")
    doubled = scanned(FOUND, replace(FOUND, message="another"))
    with refused(InputError, match="one finding twice"):
        consistent(replace(made, scan=doubled), "p.json")


def test_nothing_is_kept_for_boot_outside_of_the_machines_own_namespace() -> None:
    for netns, persist in (("host", True), ("box", False)):
        made = told_apart(terms=Terms(persist=persist))
        there = replace(made.scan, host=replace(HOST, netns=netns))
        consistent(replace(made, scan=there), "p.json")
    in_box = replace(made.scan, host=replace(HOST, netns="box"))
    file = next(w for w in tcp_be_liberal.WRITES if w.startswith("file:"))
    for edit in ({"terms": Terms(persist=True)}, {"resource": file, "boot": True}):
        with refused(InputError, match="nothing is kept for boot in namespace box"):
            consistent(replace(told_apart(**edit), scan=in_box), "p.json")


def test_terms_that_were_edited_are_named_with_both_values() -> None:
    made = saved()
    edited = replace(made, changes=(replace(made.changes[0], risk="high", impact="none"),))
    with refused(InputError, match=r"'high'.*'low'"):
        remake(edited, today(FOUND))


def test_a_standing_fix_that_drifted_is_restored_and_not_given_back() -> None:
    ours = {ADDRESS: Held(ADDRESS, "tcp-be-liberal", "5", "1", "t1")}
    now = today(value="0", held=ours)
    standing = policy(require=(RequiredFix("tcp-be-liberal", {}, "because"),))
    made = planning.plan(standing, now.facts, now.scan, ours, now.reads, prune=False)
    assert [(c.before, c.after, c.answers) for c in made.changes] == [("0", "1", ())]
    assert remake(made, now).changes == made.changes


@pytest.mark.parametrize(
    ("edit", "error"),
    [({"reversibility": "lossy"}, StalePlan), ({"after": "2"}, StalePlan),
     ({"risk": "high"}, InputError)],
)  # fmt: skip
def test_facts_that_moved_excuse_only_what_facts_decide(
    edit: dict[str, Any], error: type[RemedyError]
) -> None:
    made = saved()
    moved = replace(made, made_from=dict.fromkeys(made.made_from, "another"))
    edited = replace(moved, changes=(replace(made.changes[0], **edit),))
    with refused(error, match=ADDRESS):
        remake(edited, today(FOUND))


def of_two(monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, Callable[..., Today]]:
    """Return a plan whose fix found one of two resources as it wants it, and its host."""
    fake_fixes.install(monkeypatch)
    fake_fixes.FIXES["first"].wanted = (Wanted("a", "1"), Wanted("b", "1"))
    here = scanned(fake_fixes.FINDING)

    def now(**states: str) -> Today:
        return Today(fake_fixes.FACTS, here, {}, FakeStore(**states))

    made = planning.plan(fake_fixes.policy(), fake_fixes.FACTS, here, {}, now(b="1").reads)
    assert ([c.resource for c in made.changes], made.settled) == (["a"], ("b",))
    return made, now


def test_what_was_as_wanted_and_is_no_more_makes_it_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    made, now = of_two(monkeypatch)
    assert remake(made, now(b="1")).changes == made.changes
    with refused(StalePlan, match="b moved: the plan found it as wanted, now it is '0'"):
        remake(made, now(b="0"))


def test_a_change_that_was_left_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made, now = of_two(monkeypatch)
    with refused(InputError, match="b: first also needs it, and the plan leaves it out"):
        remake(replace(made, settled=()), now(b="0"))


def test_a_change_that_no_fix_asks_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made, now = of_two(monkeypatch)
    added = replace(made, changes=(*made.changes, replace(made.changes[0], resource="c")))
    with refused(InputError, match="c: first does not ask for it"):
        remake(added, now(b="1"))
    with refused(InputError, match="a: it is already as wanted"):
        remake(made, now(a="1", b="1"))


def test_what_the_plan_was_made_from_and_has_changed_is_named() -> None:
    made = replace(saved(), made_from={"kernel": "5.10.0", "sysctl": "0123", "slab": "unknown"})
    edited = replace(made, changes=(replace(made.changes[0], after="2"),))
    with pytest.raises(StalePlan) as raised:
        remake(edited, today(FOUND))
    kernel = HOST.kernel
    assert str(raised.value).endswith(
        f"its cause changed: kernel 5.10.0 -> {kernel}, sysctl; make a new plan"
    )


def proven(*findings: Finding, **states: str) -> Today:
    """Return the host with these faults proven."""
    seen = scanned(*(replace(found, verdict="proven") for found in findings))
    return Today(fake_fixes.FACTS, seen, {}, FakeStore(**states))


def test_a_finding_is_used_as_it_is_now_whichever_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_fixes.install(monkeypatch)
    found = fake_fixes.FINDING
    monkeypatch.setattr(
        fake_fixes.FIXES["first"], "desired", lambda finding, *_: (Wanted("a", finding.subject),)
    )
    now = proven(found)
    made = planning.plan(fake_fixes.policy(), now.facts, now.scan, {}, now.reads)
    assert [c.after for c in made.changes] == [found.subject]
    assert remake(made, proven(replace(found, subject="earlier"), found)).changes == made.changes


def test_flows_that_went_by_themselves_need_no_deleting(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_fixes.install(monkeypatch)
    flow = "flow:udp/eth0/53"
    for wanted, there in (
        (Wanted("a", "1", effects=(flow,)), {"a": "1", flow: "udp/x"}),
        (Wanted(flow, None), {flow: "udp/x"}),
    ):
        fake_fixes.FIXES["first"].wanted = (wanted,)
        now = proven(fake_fixes.FINDING, **there)
        made = planning.plan(fake_fixes.policy(), now.facts, now.scan, {}, now.reads)
        assert remake(made, now).changes == made.changes != ()
        assert remake(made, proven(fake_fixes.FINDING, a="1")).changes == ()


def test_a_change_that_also_deletes_flows_is_not_over_because_these_have_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_fixes.install(monkeypatch)
    fake_fixes.FIXES["first"].wanted = (Wanted("a", "1", effects=("flow:udp/eth0/53",)),)
    now = proven(fake_fixes.FINDING, a="0")
    made = planning.plan(fake_fixes.policy(), now.facts, now.scan, {}, now.reads)
    with refused(InputError, match="already as wanted"):
        remake(made, proven(fake_fixes.FINDING, a="1"))


def test_no_flow_is_deleted_that_the_plan_does_not_name(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_fixes.install(monkeypatch)
    flows = ("flow:udp/eth0/53", "flow:udp/eth1/53")
    fix, now = fake_fixes.FIXES["first"], proven(fake_fixes.FINDING)
    fix.wanted = (Wanted("a", "1", effects=flows[:1]),)
    made = planning.plan(fake_fixes.policy(), now.facts, now.scan, {}, now.reads)
    fix.wanted = (Wanted("a", "1", effects=flows),)
    with refused(InputError, match="effects"):
        remake(made, now)


def test_flows_are_not_deleted_for_a_fault_that_is_not_seen_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_fixes.install(monkeypatch)
    fake_fixes.FIXES["first"].wanted = (Wanted("a", "1", effects=("flow:udp/eth0/53",)),)
    now = proven(fake_fixes.FINDING)
    made = planning.plan(fake_fixes.policy(), now.facts, now.scan, {}, now.reads)
    quiet = replace(now, scan=scanned(fake_fixes.FINDING))
    with refused(StalePlan, match="was proven when the plan was made, and now the fault was not"):
        remake(made, quiet)


def test_flows_that_came_since_make_the_plan_of_a_fault_that_was_not_seen_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_fixes.install(monkeypatch)
    now = replace(proven(), scan=scanned(fake_fixes.FINDING))
    made = planning.plan(fake_fixes.policy(), now.facts, now.scan, {}, now.reads)
    assert [c.resource for c in made.changes] == ["a"]
    flow = Wanted("flow:udp/eth0/53", None)
    fake_fixes.FIXES["first"].wanted = (Wanted("a", "1"), flow)
    with refused(StalePlan, match="was exposed when the plan was made, and now the fault was not"):
        remake(made, now)


def test_terms_that_a_fix_cannot_use_were_edited(monkeypatch: pytest.MonkeyPatch) -> None:
    def desired(*_: object) -> None:
        raise ConfigError("ports: 'x' is no port")

    made, now = of_two(monkeypatch)
    monkeypatch.setattr(fake_fixes.FIXES["first"], "desired", desired)
    with refused(InputError, match="ports: 'x' is no port"):
        remake(made, now(b="1"))


def test_a_plan_that_prunes_is_made_again_without_what_is_in_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_fixes.install(monkeypatch)
    fix = fake_fixes.FIXES["first"]
    fix.merge = lambda one, other: replace(one, state=f"{one.state}+{other.state}")  # type: ignore[attr-defined]
    held = {"a": Held("a", "first", None, "9", "t1", answered=(fake_fixes.FINDING,))}
    now = replace(proven(fake_fixes.FINDING, a="9"), held=held)
    for prune, after in ((True, "1"), (False, "1+9")):
        made = planning.plan(fake_fixes.policy(), now.facts, now.scan, held, now.reads, prune=prune)
        assert [c.after for c in made.changes] == [after]
        assert remake(made, now).changes == made.changes
