"""flush-stale-flow: each flow is its own change, done once; nothing is put back or in force."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from builder import HOST, begin, facts, policy
from builder import scan as scanned
from fake_store import YES, FakeStore

from remedies.conditions import stale_flow
from remedies.errors import InputError, StalePlan
from remedies.facts.departed import Departed
from remedies.facts.stale import Stale, StaleFlow
from remedies.model import Change, Finding, Plan, Rule, Verdict
from remedies.netlink.flow import Flow, Tuple
from remedies.operations.apply import ended_others
from remedies.planning import plan as planning
from remedies.planning.remake import Today, consistent, remake
from remedies.resources import flow as driver
from remedies.rules import flow_address, kinds
from remedies.transaction import ledger, undo, undofile
from remedies.transaction.journal import Journal, records
from remedies.transaction.run import CheckedChange, apply
from remedies.values import replace

POLICY = policy({"stale-flow": Rule("fix", "proven", ("flush-stale-flow",))})


def stale(port: int, number: int = 7, protocol: str = "udp") -> StaleFlow:
    way = Tuple("10.21.17.1", port, "10.21.17.99", 5060)
    reply = Tuple("172.17.0.9", 5060, "10.21.17.1", port)
    return StaleFlow(Flow(protocol, way, reply, False, True, number=number), None, "no route")


def path(port: int, number: int = 7) -> str:
    return f"udp/10.21.17.1/{port}/10.21.17.99/5060/172.17.0.9/5060/{number}"


def found(*ports: int) -> Finding:
    (one,) = stale_flow.detect(facts(Stale(tuple(map(stale, ports))), Departed()), {})
    return one


def today(ports: Iterable[int], there: Iterable[int] = ()) -> Today:
    findings = (found(*ports),) if ports else ()
    flows = {f"flow:{path(port)}": f"{path(port)}\n" for port in there or ports}
    return Today(facts(), scanned(*findings), {}, FakeStore(**flows))


def made(now: Today) -> Plan:
    return planning.plan(POLICY, now.facts, now.scan, {}, now.reads)


def write(folder: Path, changes: tuple[Change, ...], store: FakeStore) -> str:
    with Journal(str(folder)) as journal:
        done = apply(store, journal, begin(*changes), YES, CheckedChange)
    return done.outcome


def test_each_flow_is_a_change_of_its_own_that_names_target_and_id() -> None:
    plan = made(today([1, 2]))
    assert [change.resource for change in plan.changes] == [f"flow:{path(1)}", f"flow:{path(2)}"]
    for change in plan.changes:
        assert (change.action, change.after, change.reversibility) == ("remove", None, "none")
        assert "rollback does nothing" in change.impact
    consistent(plan, "p.json")
    persistent = replace(POLICY, persist=True)
    now = today([1])
    on_the_host = replace(now.facts, host=replace(HOST, netns="host"))
    lasting = planning.plan(persistent, on_the_host, now.scan, {}, now.reads)
    assert [change.boot for change in lasting.changes] == [False]
    assert lasting.lost_at_boot == ()


def test_no_more_are_ended_at_a_time_than_are_named() -> None:
    most = stale_flow.MOST_ENDED
    one = found(*range(1, most + 10))
    assert len(one.details["stale"].split()) == most
    assert one.details["flows"] == str(most + 9)


@pytest.mark.parametrize("verdict", ["exposed", "active"])
def test_what_is_not_proven_ends_no_flow(verdict: Verdict) -> None:
    now = today([1])
    weak = replace(now, scan=scanned(replace(found(1), verdict=verdict)))
    assert made(weak).changes == ()


def test_only_an_exposed_fault_keeps_its_flows_whatever_the_policy_says() -> None:
    now = today([1])
    eager = policy({"stale-flow": Rule("fix", "exposed", ("flush-stale-flow",))})
    weak = scanned(replace(found(1), verdict="exposed"))
    plan = planning.plan(eager, now.facts, weak, {}, now.reads)
    assert plan.changes == ()
    assert [refusal.fix for refusal in plan.refused] == ["flush-stale-flow"]


def test_a_saved_plan_ends_what_it_named_and_is_still_stale() -> None:
    plan = made(today([1, 2, 3]))
    again = remake(plan, today([2, 3, 4], there=[2, 3, 4]))
    assert [change.resource for change in again.changes] == [f"flow:{path(2)}", f"flow:{path(3)}"]


def test_a_flow_that_is_there_and_not_stale_any_more_is_refused() -> None:
    plan = made(today([1, 2]))
    with pytest.raises((InputError, StalePlan), match=path(1)):
        remake(plan, today([2], there=[1, 2]))


def test_an_edited_plan_cannot_end_another_flow() -> None:
    plan = made(today([1]))
    other = replace(plan.changes[0], resource=f"flow:{path(9)}", before=f"{path(9)}\n")
    edited = replace(plan, changes=(*plan.changes, other))
    with pytest.raises(InputError, match=path(9)):
        remake(edited, today([1], there=[1, 9]))
    assert [c.resource for c in remake(edited, today([1])).changes] == [f"flow:{path(1)}"]


def test_nothing_of_it_is_in_force_nor_rolled_back(tmp_path: Path) -> None:
    now = today([1, 2])
    store = now.reads
    assert isinstance(store, FakeStore)
    assert write(tmp_path, made(now).changes, store) == "applied"
    assert store.states == {f"flow:{path(1)}": None, f"flow:{path(2)}": None}
    told = ledger.transactions(records(str(tmp_path / "journal.jsonl")))
    assert ledger.in_force(told) == {}
    assert ledger.to_roll_back(told) == {}
    (entry,) = told.values()
    assert [change.before for change in entry.begin.changes] == [f"{path(1)}\n", f"{path(2)}\n"]
    assert made(replace(now, scan=scanned())).changes == ()


def test_a_flow_that_ended_by_itself_is_no_reason_to_stop(tmp_path: Path) -> None:
    now = today([1, 2])
    changes, store = made(now).changes, now.reads
    assert isinstance(store, FakeStore)
    store.states[f"flow:{path(1)}"] = None
    assert write(tmp_path, changes, store) == "applied"
    assert store.writes == [(f"flow:{path(2)}", None)]


def test_a_failure_half_way_puts_nothing_back(tmp_path: Path) -> None:
    now = today([1, 2])
    changes, store = made(now).changes, now.reads
    assert isinstance(store, FakeStore)
    store.broken.add(f"flow:{path(2)}")
    assert write(tmp_path, changes, store) == "rolled-back"
    assert store.writes == [(f"flow:{path(1)}", None)]


def test_a_crash_half_way_ends_without_a_write(tmp_path: Path) -> None:
    now = today([1, 2])
    changes, store = made(now).changes, now.reads
    assert isinstance(store, FakeStore)
    with Journal(str(tmp_path)) as journal:
        journal.append("begin", "t", begin(*changes).plain())
        store.write(changes[0].resource, None)
        journal.append("written", "t", {"change": 0})
        (entry,) = ledger.transactions(records(str(tmp_path / "journal.jsonl"))).values()
        result = undo.recover(store, journal, entry, "dead", YES)
    assert (result.outcome, result.stuck) == ("rolled-back", ())
    assert store.writes == [(changes[0].resource, None)]


def test_a_new_scan_that_finds_others_is_no_failure() -> None:
    plan = made(today([1]))
    ended = {change.resource for change in plan.changes}
    answered = {name for change in plan.changes for name in change.answers}
    assert ended_others(found(2), answered, ended)
    assert not ended_others(found(1, 2), answered, ended)
    assert not ended_others(found(2), answered, set())


def test_its_undo_script_says_that_there_is_nothing_to_do() -> None:
    text = undofile.script("t", "host", made(today([1])).changes)
    assert "nothing to undo" in text


@pytest.mark.parametrize(
    "wrong",
    [
        path(1).replace("172.17.0.9", "a\nrm"),
        path(1).replace("/7", "/-1"),
        path(1).replace("/7", f"/{1 << 32}"),
        path(1).replace("udp", "sctp"),
        f"{path(1)}/replied",
    ],
)
def test_a_path_that_names_no_entry_is_refused(wrong: str) -> None:
    with pytest.raises(InputError):
        flow_address.split(wrong)


def test_a_path_says_all_of_an_entry() -> None:
    for text in (path(1), f"{path(1)}/answered", path(1).replace("10.21.17.1", "fd00::1")):
        named = flow_address.split(text)
        assert isinstance(named, flow_address.StuckFlow)
        assert named.path == text
        assert ("answered before" in flow_address.name(text)) == named.answered
    assert kinds.of(f"flow:{path(1)}")[0].deletes(path(1)) == (1, 5060)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_playbook_looks_before_it_deletes(protocol: str) -> None:
    one = path(1).replace("udp", protocol)
    look, delete, say = driver.tasks(one, f"{one}\n", None)
    argv = delete["ansible.builtin.command"]["argv"]
    assert argv[:6] == ["conntrack", "-D", "-w", "0", "-p", protocol]
    assert look["changed_when"] is False
    assert delete["vars"]["to"] == ["src=172.17.0.9 dst="]
    assert delete["vars"]["stale"] == [{"udp": "[UNREPLIED] ", "tcp": "SYN_SENT "}[protocol]]
    assert "when" in say
