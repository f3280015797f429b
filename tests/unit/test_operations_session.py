"""What a run knows of its host: journal, facts, warnings; and what status and saved plans ask."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from builder import HOST, change, facts, finding, plan, policy, scan
from fake_operations import KEY, FakeHost, fake_host

from remedies.errors import InputError, Locked, NotPermitted, UsageError
from remedies.facts.asked import Asked
from remedies.facts.oneway import Oneway
from remedies.facts.stalls import Stalls
from remedies.model import Evidence, Finding, Held, Unknown, Verdict
from remedies.namespaces import workers
from remedies.operations import (
    check,
    naming,
    outlook,
    plans,
    repair,
    report,
    saved_plans,
    session,
    standing,
    unowned,
)
from remedies.operations.outlook import Outlook
from remedies.operations.session import HostSession
from remedies.planning import engine, remake
from remedies.planning import plan as planning
from remedies.status import harm, in_force
from remedies.status.harm import Harm
from remedies.status.in_force import InForce
from remedies.transaction import actor, guard, journal, undofile
from remedies.transaction.ledger import Transaction
from remedies.values import replace


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return fake_host(tmp_path, monkeypatch)


# The journal.


def test_without_a_state_folder_nothing_is_in_force(tmp_path: Path) -> None:
    held = {KEY: Held(KEY, "f", "0", "1", "t1")}
    ledger = {"t1": cast(Transaction, None)}
    here = HostSession(HOST, policy(), str(tmp_path / "none"), ledger, held)
    again = session.reread(here)
    assert (again.ledger, again.held) == ({}, {})
    assert not (tmp_path / "none").exists()


def test_a_journal_is_read_again_where_it_has_changed_since_and_only_there(host: FakeHost) -> None:
    host.apply()
    here = session.reread(host.session)
    assert here.held
    assert session.reread(here) is here
    assert session.reread(session.with_ledger(here, {})).held == here.held
    Path(here.folder, journal.NAME).touch()
    again = session.reread(here)
    assert (again, again is here) == (replace(here, read_at=again.read_at), False)
    host.roll_back()
    assert session.reread(here).held == {}
    assert session.reread(replace(here, state_dir="/nowhere")).held == {}


def test_a_journal_that_could_not_be_read_is_read_again(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotPermitted("no")

    host.apply()
    with monkeypatch.context() as patch:
        patch.setattr(session, "latest", refuse)
        here = session.reread(host.session)
        assert here.held == {}
        with pytest.raises(NotPermitted):
            session.reread(here, of_journal=True)
    assert session.reread(here).held


@pytest.mark.parametrize(("user", "kept"), [(0, True), (1000, False)])
def test_only_root_keeps_what_saves_time(
    monkeypatch: pytest.MonkeyPatch, user: int, kept: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert session.cache_of("/state") == ("/state/cache" if kept else None)


def test_the_newest_transaction_is_last_and_a_beginning_names_the_only_one_that_has_it(
    host: FakeHost,
) -> None:
    folder = host.session.folder
    assert naming.transaction_id(folder, "last") == "last", "there is none"
    first = host.apply().transaction or ""
    assert naming.transaction_id(folder, first[:6]) == first
    host.store.states[KEY] = "0"
    second = host.apply().transaction or ""
    assert naming.transaction_id(folder, "last") == second
    assert naming.transaction_id(folder, second) == second
    assert [naming.transaction_id(folder, text) for text in ("", None, "no")] == ["", None, "no"]
    with pytest.MonkeyPatch.context() as patch:
        entries = [SimpleNamespace(id=name) for name in ("t10", "t1")]
        patch.setattr(
            session, "newest", lambda _, name="": (e for e in entries if name in ("", e.id))
        )
        assert naming.transaction_id(folder, "t1") == "t1", "a whole id is no beginning"
    with pytest.raises(UsageError, match="2 transactions begin with"):
        naming.transaction_id(folder, first[:3])


# Warnings of a scan.


def test_what_was_not_read_is_a_warning_unless_a_finding_or_an_unknown_has_it(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = finding(evidence=(Evidence("netlink", "rules", "table nat was not read"),))
    unknown = (Unknown("a", "denied"), Unknown("b", "a set was not read", partly=True))
    monkeypatch.setattr(engine, "scan", lambda *_: scan(found, unknown=unknown))
    unread = ("table nat was not read", "denied", "a set was not read", "flows: too many")
    seen = cast(Any, SimpleNamespace(unread=unread))
    _, warnings = session.judge(host.session, seen)
    assert warnings == ("not read: a set was not read", "not read: flows: too many")


# Status and verify.


def test_status_and_verify_have_entries_outlook_and_what_is_unowned(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.apply()
    entries = (InForce("t1", "liberal", KEY, "ours"),)
    hurts = (Harm(KEY, "liberal", "it eats"),)
    monkeypatch.setattr(in_force, "compare", lambda _: entries)
    monkeypatch.setattr(unowned, "unowned", lambda _: ("nft:inet/remedy_x",))
    monkeypatch.setattr(outlook, "look", lambda *_: Outlook((), hurts))
    monkeypatch.setattr(outlook, "at_boot", lambda *_: ())
    here = session.reread(host.session)
    found = standing.status(here)
    assert (found.entries, found.outlook.harm) == (entries, hurts)
    assert (found.unowned, found.unfinished) == (("nft:inet/remedy_x",), {})

    heard: list[tuple[list[str], float]] = []

    def listen(_here: Any, held: Any, window: float, _kinds: Any) -> Any:
        heard.append(([entry.resource for entry in held], window))
        return host.read(HOST, ()), hurts

    monkeypatch.setattr(outlook, "listen", listen)
    host.heals = False
    found, scanned = standing.verify(here)
    assert heard == [([KEY], here.window)]
    assert (found.entries, found.outlook.harm) == (entries, hurts)
    assert [f.verdict for f in scanned.findings] == ["proven"]


def test_what_could_not_be_undone_and_is_in_force_is_stuck(host: FakeHost) -> None:
    host.heals = False
    host.store.before_write = lambda _: host.store.broken.update({KEY} if host.store.writes else ())
    txn = host.apply().transaction or ""
    assert dict(standing._unfinished(session.reread(host.session))) == {txn: "stuck"}


@pytest.mark.parametrize(
    ("counters", "held", "listens"),
    [
        ({"packets": 3}, True, True),
        ({"packets": 0}, True, False),
        ({"packets": 0, "bytes": 7}, True, True),
        ({}, True, False),
        ({"packets": 3}, False, False),
    ],
)
@pytest.mark.parametrize("does", ["dropping", "redirected"])
def test_status_listens_only_where_a_rule_of_ours_that_can_do_harm_has_counted(
    host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    does: str,
    counters: dict[str, int],
    held: bool,
    listens: bool,
) -> None:
    heard: list[float] = []
    seen = (Harm("nft:a", "f", "it eats"),)

    def listen(_here: Any, _busy: Any, window: float) -> Any:
        heard.append(window)
        return facts(), seen

    monkeypatch.setattr(outlook, "listen", listen)
    for name in ("dropping", "redirected"):
        monkeypatch.setattr(harm, name, lambda busy, of=name: tuple(busy) if of == does else ())
    monkeypatch.setattr(outlook, "at_boot", lambda *_: ())
    monkeypatch.setattr(outlook, "_bypassed", lambda *_: ())
    monkeypatch.setattr(outlook, "_of_guards", lambda _: (Harm("nft:b", "g", "NAT needs it"),))
    entry = Held("nft:a" if held else "nft:other", "f", None, "rules", "t1")
    here = replace(host.session, held={entry.resource: entry})
    found = outlook.look(here, (replace(InForce("t1", "f", "nft:a", "ours"), counters=counters),))
    assert heard == ([outlook.WINDOW] if listens else [])
    assert [h.resource for h in found.harm] == (["nft:a", "nft:b"] if listens else ["nft:b"])


def test_who_listens_asks_for_what_harm_is_judged_by(host: FakeHost) -> None:
    asked: list[set[type]] = []

    def read(_host: object, kinds: Any, **_given: Any) -> Any:
        asked.append(set(kinds))
        return facts()

    outlook.listen(replace(host.session, read=cast(Any, read)), (), 1.0, (Held,))
    assert asked == [{Held, Oneway, Stalls, Asked}]


# Saved plans.


@pytest.mark.parametrize(
    ("verdict", "window"),
    [("proven", 0.5), ("active", 0.5), ("exposed", 0.0), ("mitigated", 0.0)],
)
def test_a_saved_plan_is_watched_again_only_if_its_fault_was_seen(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, verdict: Verdict, window: float
) -> None:
    asked: list[dict[str, Any]] = []
    found = finding(verdict=verdict)
    made = plan(change(KEY, "0", "1", fix="liberal", finding=found.id), findings=(found,))

    def look(_here: object, **given: Any) -> Any:
        asked.append(given)
        return facts()

    monkeypatch.setattr(session, "look", look)
    monkeypatch.setattr(session, "judge", lambda *_: (scan(), ("not read: x",)))
    monkeypatch.setattr(remake, "remake", lambda *_: plan())
    assert saved_plans.again(host.session, made).warnings == ("not read: x",)
    assert asked == [{"for_plan": True, "window": window, "uses": (("liberal", {}),)}]


def test_a_plan_that_prunes_does_so_only_where_it_was_asked_for(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def make(*_: object, prune: bool, **__: object) -> Any:
        asked.append(prune)
        return plan()

    monkeypatch.setattr(planning, "plan", make)
    for prune in (True, False):
        plans.make(host.session, prune=prune)
    assert asked == [True, False]


# What has our names and no record.


def test_what_is_removed_or_adopted_has_the_fix_that_makes_it_and_boot_files_in_their_order(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, file = "nft:inet/remedy_liberal", "file:/etc/remedy/boot/liberal.json"
    monkeypatch.setattr(unowned, "unowned", lambda _: (table, file, "nft:inet/remedy_nobodys"))
    host.store.states.update({table: "rules", file: "text"})
    removals = unowned.removals(host.session)
    assert [c.boot for c in removals] == [True, False, False], "what loads a rule goes before it"
    assert {c.resource: c.fix for c in removals}[table] == "liberal"
    assert {c.resource: c.fix for c in removals}["nft:inet/remedy_nobodys"] == "unowned"
    assert [c.boot for c in unowned.adoptions(host.session)] == [False, False, True]


def test_what_is_adopted_has_an_undo_script(host: FakeHost) -> None:
    agreed = host.agree(None)
    entry = unowned.adopt(host.session, (change("nft:inet/remedy_x", None, "x"),), agreed)
    assert list(undofile.those(host.session.folder)) == [entry.id]


# Repair and report.


def damaged(host: FakeHost) -> HostSession:
    host.apply()
    with open(os.path.join(host.session.folder, "journal.jsonl"), "ab") as journal:
        journal.write(b"garbage\n" * 2)
    with pytest.raises(InputError):
        session.reread(host.session)
    return host.session


@pytest.mark.parametrize("elsewhere", [False, True])
def test_no_journal_is_repaired_while_its_guard_is_at_work(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    here = damaged(host)
    folder = "/elsewhere" if elsewhere else os.path.abspath(here.folder)
    monkeypatch.setattr(repair, "strays", lambda _: (guard.Stray(7, "t9", folder),))
    monkeypatch.setattr(unowned, "adoptions", lambda _: ())
    if elsewhere:
        assert repair.run(here, host.agree, lock_timeout=1.0).path
    else:
        with pytest.raises(Locked, match="t9"):
            repair.run(here, host.agree, lock_timeout=1.0)


def test_only_the_undo_script_of_a_transaction_that_is_lost_is_kept(host: FakeHost) -> None:
    here = damaged(host)
    undofile.write(here.folder, "20260101T000000Z-00000000", "#!/bin/sh\n")
    found = repair.examine(here)
    assert found is not None
    assert found.scripts == ("20260101T000000Z-00000000",)


def test_a_report_says_who_made_it_from_where(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("user", "uid", "command", "login_uid", "ssh_from"):
        monkeypatch.setattr(actor, name, lambda name=name: f"the {name}")
    made = report.maker()
    assert (made.user, made.uid, made.command) == ("the user", "the uid", "the command")
    assert (made.login_uid, made.ssh_from) == ("the login_uid", "the ssh_from")


def test_a_report_of_one_transaction_scans_nothing_and_one_since_later_has_none(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    txn = host.apply().transaction or ""
    monkeypatch.setattr(plans, "make", lambda *_, **__: pytest.fail("scanned"))

    def deeds(since: str, only: str | None, *, scan: bool) -> list[str]:
        here = session.reread(host.session)
        (found,) = report.of_host(here, since=since, only=only, scan=scan, head=None).hosts
        return [deed.id for deed in found.deeds]

    assert deeds("", txn, scan=True) == [txn]
    assert deeds("2000-01-01T00:00:00Z", None, scan=False) == [txn]
    assert deeds("2999-01-01T00:00:00Z", None, scan=False) == []


# Check.


def test_a_scan_that_is_done_in_time_is_judged(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[bool] = []
    real = session.look

    def look(here: HostSession, *, for_plan: bool) -> Any:
        windows.append(for_plan)
        return real(here, for_plan=for_plan)

    def visit_all(works: Any, limit: float) -> Any:
        assert limit == 5.0
        return [SimpleNamespace(failure="", text=works[0]())]

    monkeypatch.setattr(session, "look", look)
    monkeypatch.setattr(workers, "visit_all", visit_all)
    assert check.check(lambda: host.session, 5.0).state == "warning"
    host.store.states[KEY] = "1"
    assert check.check(lambda: host.session, 5.0).state == "ok"
    assert windows == [False, False]


def test_findings_are_named_once() -> None:
    twice: tuple[Finding, ...] = tuple(finding(subject=s, verdict="active") for s in "ab")
    assert check.judge(scan(*twice)).text.count("cond active") == 1
