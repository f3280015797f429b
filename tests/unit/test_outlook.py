"""Whether what is in force bodes ill: ``status`` exits 2 for it."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any, Optional, cast

import pytest
from builder import HOST, begin, change, facts, held, policy

from remedies import catalogue
from remedies.boot import sysctl_d, units
from remedies.boot.sysctl_d import Decision
from remedies.facts import Facts
from remedies.facts.asked import Asked
from remedies.facts.bypassed import Bypassed
from remedies.facts.oneway import Oneway
from remedies.facts.stalls import Stalls
from remedies.model import Host, Terms
from remedies.netfilter.bypass import Bypass
from remedies.operations import outlook
from remedies.operations.outlook import AtBoot, Outlook
from remedies.planning import draft
from remedies.planning.plan import lost_at_boot
from remedies.status import harm
from remedies.status.harm import Harm
from remedies.status.in_force import HeldState, InForce
from remedies.transaction.ledger import Transaction
from remedies.values import replace


def at_boot(*, ours: bool, lasting: bool) -> AtBoot:
    return AtBoot("sysctl:x", "/etc/sysctl.d/99.conf:2", "0", ours, lasting)


@pytest.mark.parametrize(
    ("ours", "lasting", "bad"),
    [(True, True, False), (True, False, False), (False, False, False), (False, True, True)],
)
def test_what_should_come_back_at_boot_and_does_not_is_bad(
    ours: bool, lasting: bool, bad: bool
) -> None:
    assert Outlook((at_boot(ours=ours, lasting=lasting),), ()).bad is bad


def test_harm_is_bad() -> None:
    assert Outlook((), (Harm("nft:inet/x", "f", "it drops"),)).bad
    assert not Outlook((), ()).bad


@pytest.mark.parametrize(
    ("netns", "boot", "persist", "lost"),
    [
        ("host", False, False, True),
        ("host", False, True, False),
        ("host", True, False, False),
        ("host", True, True, False),
        ("ns-1", False, False, False),
    ],
)
def test_what_nothing_brings_back_is_lost_at_boot(
    netns: str, boot: bool, persist: bool, lost: bool
) -> None:
    host = Host("h", "m", "6.18", netns, "b")
    made = change("sysctl:a", boot=boot, terms=Terms(persist=persist))
    assert lost_at_boot(host, (made,)) == (("sysctl:a",) if lost else ())


# A fix in force that would be refused now.

UNTRACKS, OTHER = "nft:inet/remedy_notrack", "sysctl:a"


def in_force(*resources: str, journaled: bool = True) -> Any:
    """Return a session with these in force, each as its own fix wrote it."""
    changes = tuple(change(r, fix=f"fix of {r}", terms=Terms(params={"for": r})) for r in resources)
    entry = Transaction("t1", "2026-01-01T00:00:00Z", begin(*changes))
    return cast(Any, SimpleNamespace(
        host=HOST,
        held={r: replace(held(r), fix=f"fix of {r}") for r in resources},
        ledger={"t1": entry} if journaled else {},
        read=lambda *_, **given: replace(facts(), ours=given["ours"]),
    ))  # fmt: skip


def judged(here: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """Return which fixes are asked whether they would be refused now, each with its terms."""
    asked: list[tuple[str, object]] = []

    def refusal(fix: str, _finding: object, known: Any, terms: Terms) -> str:
        assert known.ours == tuple(here.held)
        asked.append((fix, terms.params.get("for")))
        return "NAT needs it"

    monkeypatch.setattr(harm, "untracks", lambda entry: entry.resource == UNTRACKS)
    monkeypatch.setattr(draft, "refusal", refusal)
    monkeypatch.setattr(catalogue, "fix", lambda _: SimpleNamespace(NEEDS=(), TOPICS=()))
    seen = outlook._of_guards(here)
    assert [(h.fix, "NAT needs it" in h.reason) for h in seen] == [(fix, True) for fix, _ in asked]
    return asked


def test_only_what_untracks_is_judged_anew_and_on_its_own_terms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = in_force(OTHER, UNTRACKS)
    assert judged(both, monkeypatch) == [(f"fix of {UNTRACKS}", UNTRACKS)]
    assert judged(in_force(OTHER), monkeypatch) == []
    assert judged(in_force(UNTRACKS, journaled=False), monkeypatch) == []


# What decides at the next boot.


def at_next_boot(
    patch: pytest.MonkeyPatch, resource: str, decision: Optional[Decision], file: HeldState = "ours"
) -> AtBoot:
    """Return what becomes of a resource of the fix ``f``: one of its two boot files is ``file``."""
    sources = object()
    asked = (resource.partition(":")[2], sources)
    patch.setattr(sysctl_d, "sources", lambda: sources)
    patch.setattr(sysctl_d, "decides", lambda *of: decision if of == asked else None)
    patch.setattr(units, "boot_paths", lambda *_: ("file:/etc/x", "file:/etc/y"))
    states: dict[str, HeldState] = {resource: "ours", "file:/etc/x": "ours", "file:/etc/y": file}
    entries = tuple(InForce("t1", "f", name, state) for name, state in states.items())
    here = SimpleNamespace(
        host=HOST,
        held={name: held(name, boot=name != resource) for name in states},
        store=SimpleNamespace(same=lambda _, one, other: one == other),
    )
    (found,) = outlook.at_boot(cast(Any, here), entries)
    assert outlook.at_boot(cast(Any, SimpleNamespace(host=replace(HOST, netns="n"))), entries) == ()
    return found


@pytest.mark.parametrize(
    ("decision", "by", "value", "ours"),
    [
        (None, "", None, False),
        (Decision("1", "/etc/sysctl.d/9.conf", 2), "/etc/sysctl.d/9.conf:2", "1", True),
        (Decision("0", "/etc/sysctl.d/9.conf", 3), "/etc/sysctl.d/9.conf:3", "0", False),
    ],
)
def test_the_line_that_wins_says_what_a_sysctl_is_at_boot(
    monkeypatch: pytest.MonkeyPatch,
    decision: Optional[Decision], by: str, value: Optional[str], ours: bool,
) -> None:  # fmt: skip
    found = at_next_boot(monkeypatch, "sysctl:net.ipv4.x", decision)
    assert (found.decided_by, found.value, found.ours) == (by, value, ours)
    assert found.lasting


def test_a_sysctl_d_that_cannot_be_read_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable() -> object:
        raise PermissionError(13, "Permission denied")

    decision = Decision("1", "/etc/sysctl.d/9.conf", 2)
    patch = SimpleNamespace(
        setattr=lambda of, name, given: monkeypatch.setattr(
            of, name, unreadable if name == "sources" else given
        )
    )
    found = at_next_boot(cast(pytest.MonkeyPatch, patch), "sysctl:net.ipv4.x", decision)
    assert (found.decided_by, found.value, found.ours) == ("", None, False)


@pytest.mark.parametrize(("file", "ours"), [("ours", True), ("drifted", False), ("gone", False)])
def test_rules_come_back_where_their_boot_files_are_ours(
    monkeypatch: pytest.MonkeyPatch, file: HeldState, ours: bool
) -> None:
    found = at_next_boot(monkeypatch, "nft:inet/remedy_x", None, file)
    assert (found.ours, found.decided_by) == (ours, units.unit("f") if ours else "")


# Rules of ours that no packet reaches.


@pytest.mark.parametrize(
    ("resource", "state", "said"),
    [
        ("nft:inet/remedy_x", "ours", True),
        ("iptables:mangle/REMEDY-X", "ours", True),
        ("nft:inet/remedy_x", "gone", False),
        ("sysctl:a", "ours", False),
    ],
)
def test_only_rules_that_are_in_force_can_be_bypassed(
    resource: str, state: HeldState, said: bool
) -> None:
    bypass = Bypass(resource, "inet", "forward", "own", "rule", "place")
    other = replace(bypass, resource="nft:inet/another")
    here = SimpleNamespace(host=HOST, read=lambda *_: facts(Bypassed((bypass, other))))
    found = outlook._bypassed(cast(Any, here), (InForce("t1", "f", resource, state),))
    assert found == ((bypass,) if said else ())
    blind = SimpleNamespace(host=HOST, read=lambda *_: facts(unknown={"bypassed": "EPERM"}))
    assert outlook._bypassed(cast(Any, blind), (InForce("t1", "f", resource, state),)) == ()


def test_harm_is_judged_by_what_was_counted_while_listening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two rules that drop, one counts meanwhile; the redirect counted all of it before."""
    drops = (held("nft:a"), held("nft:b"))
    redirect = held("nft:c")
    readings = iter([{"nft:a": 5, "nft:b": 7, "nft:c": 9}, {"nft:a": 5, "nft:b": 10, "nft:c": 9}])
    asked: dict[str, Any] = {}
    monkeypatch.setattr(outlook, "_counted", lambda _: next(readings))
    monkeypatch.setattr(harm, "dropping", lambda _: drops)
    monkeypatch.setattr(harm, "redirected", lambda _: ((redirect, "eth0", 53),))
    monkeypatch.setattr(harm, "of_drops", lambda moved, _: asked.update(drops=list(moved)) or ())
    monkeypatch.setattr(harm, "of_stalls", lambda moved, _: asked.update(stalls=list(moved)) or ())
    monkeypatch.setattr(
        harm, "of_redirects", lambda _, counted, __: asked.update(counted=counted) or ()
    )
    seen = facts(Oneway(), Stalls(), Asked())
    here = SimpleNamespace(read=lambda *_, **given: asked.update(given) or seen, host=HOST, held={},
                           policy=policy(),
                           cache=None, busy=lambda _: contextlib.nullcontext())  # fmt: skip
    assert outlook.listen(cast(Any, here), (*drops, redirect), 2.0) == (seen, ())
    assert asked["drops"] == [drops[1]]
    assert asked["stalls"] == [(drops[0], 0), (drops[1], 3)]
    assert asked["counted"] == {"nft:a": 0, "nft:b": 3, "nft:c": 0}
    assert (asked["window"], len(asked["topics"])) == (2.0, 1)


def test_where_nobody_listens_nothing_is_counted_and_what_was_asked_for_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outlook, "_counted", lambda _: pytest.fail("a rule's counters were read"))
    monkeypatch.setattr(harm, "dropping", lambda held: held)
    monkeypatch.setattr(harm, "redirected", lambda _: ())
    asked: list[type[Any]] = []

    def read(_host: Host, kinds: tuple[type[Any], ...], **_: object) -> Facts:
        asked.extend(kinds)
        return facts()

    here = SimpleNamespace(read=read, host=HOST, held={}, policy=policy(),
                           cache=None, busy=lambda _: contextlib.nullcontext())  # fmt: skip
    outlook.listen(cast(Any, here), (held("nft:a"),), 0.0, (Asked,))
    assert asked == [Asked]
