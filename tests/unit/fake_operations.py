"""A host in memory, with a condition and a fix that it has: what operations are tried on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from builder import HOST, facts, finding, policy
from fake_store import YES, FakeStore

from remedies import catalogue
from remedies.facts import Facts
from remedies.facts import session as ssh
from remedies.facts.asked import Asked
from remedies.facts.oneway import Oneway
from remedies.facts.owners import Owners
from remedies.facts.routes import Routes
from remedies.facts.stalls import Stalls
from remedies.model import Finding, Plan, Rule, Wanted
from remedies.operations import apply, recovery, rollback, session
from remedies.operations.apply import ApplyOptions
from remedies.operations.rollback import Which
from remedies.operations.session import HostSession
from remedies.transaction import guard
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


class FakeHost:
    """A host in memory: one sysctl, a fault that is there while it is 0, and who was asked."""

    def __init__(self, folder: Path) -> None:
        self.store = FakeStore(**{KEY: "0"})
        self.heals = True
        self.details: dict[str, str] = {}
        """Of the fault, while it is there."""
        self.beside: tuple[Finding, ...] = ()
        """What is found whatever is written."""
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
        fault = () if well else (finding(verdict="proven", details=self.details),)
        return fault + self.beside

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


def fake_host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """Return such a host; its condition and fix are the only ones there are."""
    made = FakeHost(folder)
    condition = SimpleNamespace(
        NEEDS=(),
        TOPICS=(),
        PARAMS={},
        detect=made.detect,
        TITLE="t",
        CONTROLS=(),
        SEVERITY="high",
    )
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
    monkeypatch.setattr("remedies.status.in_force.compare", lambda _: ())
    monkeypatch.setattr(guard, "strays", lambda _: ())
    monkeypatch.setattr("remedies.operations.unowned.unowned", lambda _: ())
    return made
