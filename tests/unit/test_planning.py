"""From findings to a plan: which fix is used, and what is refused."""

from __future__ import annotations

import difflib
from typing import Optional

import builder
import pytest
from builder import HOST
from fake_fixes import (
    FACTS,
    FINDING,
    FIXES,
    FakeFix,
    install,
    plan,
    policy,
    summary,
)
from fake_store import FakeStore

from remedies.errors import NotPermitted
from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.facts.slab import Slab
from remedies.facts.sysctl import Sysctl
from remedies.model import (
    Advice,
    BackendSetting,
    Finding,
    Held,
    Plan,
    RequiredFix,
    Rule,
    Terms,
    Verdict,
    Wanted,
)
from remedies.planning import plan as planning
from remedies.planning import reads
from remedies.planning.draft import precondition
from remedies.values import replace

fixes = pytest.fixture(autouse=True)(install)


def test_the_first_fix_that_is_not_refused_is_used() -> None:
    made = plan(policy(), FINDING)
    assert summary(made) == [("create", "a", None, "1")]
    assert made.changes[0].finding == FINDING.id
    assert made.changes[0].terms.params == {"size": 1}


def test_a_refusal_falls_to_the_next_and_is_told() -> None:
    FIXES["first"].reason = "asymmetric"
    made = plan(policy(), FINDING)
    assert summary(made) == [("create", "b", None, "1")]
    assert [(r.fix, r.reason, r.wanted) for r in made.refused] == [("first", "asymmetric", False)]


def test_a_guard_that_cannot_see_refuses() -> None:
    FIXES["first"].blind = True
    FIXES["second"].reason = "no"
    made = plan(policy(), FINDING)
    assert made.changes == ()
    assert [(r.reason, r.wanted) for r in made.refused] == [
        ("cannot decide whether it is safe: rules cannot be read", True),
        ("no", True),
    ]


def test_all_asks_for_every_fix() -> None:
    FIXES["second"].reason = "no"
    made = plan(policy(every=True), FINDING)
    assert summary(made) == [("create", "a", None, "1")]
    assert [r.wanted for r in made.refused] == [True]


@pytest.mark.parametrize("verdict", ["exposed", "active", "proven"])
def test_from_is_the_weakest_verdict_acted_on(verdict: Verdict) -> None:
    rules = {"cond": Rule("fix", "active", ("first",))}
    made = plan(policy(rules=rules), replace(FINDING, verdict=verdict))
    assert bool(made.changes) == (verdict != "exposed")


@pytest.mark.parametrize(
    "finding",
    [
        replace(FINDING, verdict="unknown"),
        replace(FINDING, waived="reason"),
        replace(FINDING, verdict="mitigated", mitigated_by="kube-proxy's rule"),
    ],
)
def test_nothing_is_done_about(finding: Finding) -> None:
    assert plan(policy(), finding).changes == ()


def test_a_required_fix_needs_no_finding_and_a_refusal_is_wanted() -> None:
    standing = (RequiredFix("first", {"size": 2}, "because"),)
    made = plan(policy("off", require=standing))
    assert summary(made) == [("create", "a", None, "1")]
    assert (made.changes[0].finding, made.changes[0].terms.params) == (None, {"size": 2})
    FIXES["first"].reason = "NAT"
    made = plan(policy("off", require=standing))
    assert [(r.finding, r.wanted) for r in made.refused] == [(None, True)]


def test_advise_turns_a_fix_into_words() -> None:
    made = plan(policy("advise"), FINDING)
    assert made.changes == ()
    assert [(a.template, a.values["resources"]) for a in made.advice] == [("fix", ["a"])]
    own = Advice("first", FINDING.id, "title", "bind", {})
    FIXES["first"].wanted = own
    assert plan(policy("advise"), FINDING).advice == (own,)
    made = plan(policy("advise", every=True), FINDING)
    assert [a.fix for a in made.advice] == ["first", "second"]


def test_a_fix_that_is_advice_counts_as_used() -> None:
    FIXES["first"].wanted = Advice("first", FINDING.id, "title", "bind", {})
    made = plan(policy(), FINDING)
    assert [a.title for a in made.advice] == ["title"]
    assert made.changes == ()


def test_what_is_removed_comes_after_what_is_made() -> None:
    """A flow that is ended before the rule is there comes back as it was."""
    FIXES["first"].wanted = (Wanted("flow:udp/eth0/53", None), Wanted("a", "1"))
    store = FakeStore(**{"flow:udp/eth0/53": "udp/x"})
    made = plan(policy(), replace(FINDING, verdict="proven"), store=store)
    assert [(c.action, c.resource) for c in made.changes] == [
        ("create", "a"),
        ("remove", "flow:udp/eth0/53"),
    ]


def test_boot_files_come_last() -> None:
    FIXES["first"].wanted = (Wanted("file", "x", boot=True), Wanted("a", "1"))
    assert [c.resource for c in plan(policy(), FINDING).changes] == ["a", "file"]


class Asking(FakeFix):
    """A fix that sets what a fact says, of those that its guard saw."""

    seen: Optional[Facts] = None

    def guard(self, finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
        self.seen = facts
        return None

    def desired(self, finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
        assert self.seen is not None
        for field in ("host", "time", "window", "known", "unknown", "ours"):
            assert getattr(facts, field) == getattr(self.seen, field)
        return (Wanted("a", facts.get(Sysctl).values["key"]),)


def from_facts(seen: Facts) -> Plan:
    """Return the plan of a fix that asks facts, made from these."""
    FIXES["first"] = Asking("first")
    return planning.plan(policy(), seen, builder.scan(FINDING), {}, FakeStore())


def test_a_plan_says_which_facts_it_was_made_from() -> None:
    """What has changed of them is named when it is applied later."""
    seen = builder.facts(Sysctl({"key": "5"}), Slab(256, "x"), unknown={"rules": "EPERM"})
    made = from_facts(seen)
    assert summary(made) == [("create", "a", None, "5")]
    assert list(made.made_from) == ["kernel", "sysctl"]
    assert made.made_from["kernel"] == HOST.kernel
    assert from_facts(seen).made_from == made.made_from
    other = from_facts(replace(seen, known={**seen.known, "sysctl": Sysctl({"key": "6"})}))
    assert other.made_from["sysctl"] != made.made_from["sysctl"]
    assert precondition(seen, "sysctl") == made.made_from["sysctl"]
    assert precondition(builder.facts(), "sysctl") == "unknown"
    assert plan(policy()).made_from == {}


def test_a_change_tells_the_impact_for_its_first_finding() -> None:
    (change,) = plan(policy(), FINDING, replace(FINDING, subject="another")).changes
    assert change.impact == f"size 1 for subject on {HOST.kernel}"


def test_a_plan_lists_what_is_as_wanted_already_and_what_it_was_warned_of() -> None:
    made = plan(policy(every=True), FINDING, store=FakeStore(a="1"))
    assert ([c.resource for c in made.changes], made.settled) == (["b"], ("a",))
    told = planning.plan(
        policy(), FACTS, builder.scan(FINDING), {}, FakeStore(), warnings=("no conntrack",)
    )
    assert told.warnings == ("no conntrack",)


@pytest.mark.parametrize(
    ("address", "persist", "netns", "lost"),
    [
        ("sysctl:k", False, "host", True),
        ("sysctl:k", True, "host", False),
        ("sysctl:k", False, "box", False),
        ("flow:udp/eth0/53", False, "host", False),
        ("file:/etc/k", False, "host", False),
    ],
)
def test_what_the_next_boot_undoes_is_listed(
    address: str, persist: bool, netns: str, lost: bool
) -> None:
    FIXES["first"].wanted = (Wanted(address, "1", boot=address.startswith("file:")),)
    seen = replace(FACTS, host=replace(HOST, netns=netns))
    proven = builder.scan(replace(FINDING, verdict="proven"))
    made = planning.plan(policy(persist=persist), seen, proven, {}, FakeStore())
    assert [c.resource for c in made.changes] == [address]
    assert made.lost_at_boot == ((address,) if lost else ())


def lasting(*wanted: Wanted, store: FakeStore, held: Optional[dict[str, Held]] = None) -> Plan:
    """Return the plan of a policy that persists, whose only fix wants these."""
    FIXES["first"].wanted = wanted
    rules = {"cond": Rule("fix", "exposed", ("first",))}
    return plan(policy(rules=rules, persist=True), FINDING, store=store, held=held)


def test_what_cannot_be_kept_for_boot_is_refused_and_what_is_in_force_stays() -> None:
    wanted = (Wanted("sysctl:k", "1"), Wanted("file:/etc/k", "x", boot=True))
    store = FakeStore(**{"sysctl:k": "1"})
    store.unchecked = {"file:/etc/k"}
    held = {"sysctl:k": Held("sysctl:k", "first", "0", "1", "t1", policy=("p",))}
    made = lasting(*wanted, store=store, held=held)
    assert made.changes == (), "what is in force without its boot files is no worse than before"
    assert "cannot be made persistent" in made.refused[0].reason
    store.states["file:/etc/k"] = "x"
    assert lasting(*wanted, store=store, held=held).refused == (), "it is as wanted already"


def test_who_may_not_try_boot_files_plans_them_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise NotPermitted("/etc: Permission denied")

    store = FakeStore()
    monkeypatch.setattr(store, "check", refuse)
    wanted = (Wanted("sysctl:k", "1"), Wanted("file:/etc/k", "x", boot=True))
    made = lasting(*wanted, store=store)
    assert ([c.resource for c in made.changes], made.refused) == (["sysctl:k", "file:/etc/k"], ())


def test_only_boot_files_are_tried_before_the_plan_is_shown() -> None:
    """Whether the kernel takes a value is told when it is applied, by the one who may apply it."""
    store = FakeStore()
    store.unchecked = {"sysctl:k"}
    wanted = (Wanted("sysctl:k", "1"), Wanted("file:/etc/k", "x", boot=True))
    assert [c.resource for c in lasting(*wanted, store=store).changes] == [
        "sysctl:k",
        "file:/etc/k",
    ]


def test_nothing_is_persisted_outside_the_machines_own_namespace() -> None:
    inner = replace(FACTS, host=replace(HOST, netns="b-1"))
    assert planning.terms_for(policy(persist=True), FACTS, {}, "first").persist
    assert not planning.terms_for(policy(persist=True), inner, {}, "first").persist


@pytest.mark.parametrize(
    ("asked", "known", "used"),
    [
        ("auto", (Netfilter(True, "nft"),), "nftables"),
        ("auto", (Netfilter(False, "legacy"),), "iptables"),
        ("auto", (), "nftables"),
        ("iptables", (Netfilter(True, "nft"),), "iptables"),
        ("nftables", (Netfilter(False, "legacy"),), "nftables"),
    ],
)
def test_the_backend_is_what_policy_says_or_else_what_the_host_has(
    asked: BackendSetting, known: tuple[Netfilter, ...], used: str
) -> None:
    seen = builder.facts(*known)
    assert planning.terms_for(policy(backend=asked), seen, {}, "first").backend == used


def test_the_plan_id_follows_what_is_done() -> None:
    one, other = plan(policy(), FINDING), plan(policy(), FINDING, store=FakeStore(a="0"))
    assert one.id == plan(policy(), FINDING).id
    assert one.id != other.id


@pytest.mark.parametrize(("before", "after"), [(None, "x"), (None, "x\ny\n"), ("", "x\n\ny")])
def test_a_diff_of_something_new_is_what_difflib_makes(before: str | None, after: str) -> None:
    whole = difflib.unified_diff([], after.splitlines(), "a (now)", "a (wanted)", lineterm="")
    made = reads.diff(FakeStore(), "a", before, after)
    assert made == "\n".join(whole)
