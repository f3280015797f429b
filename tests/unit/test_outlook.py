"""Whether what is in force bodes ill: ``status`` exits 2 for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from builder import HOST, begin, change, facts, held

from remedies import catalogue
from remedies.model import Host, Terms
from remedies.operations import outlook
from remedies.operations.outlook import AtBoot, Outlook
from remedies.planning import draft
from remedies.planning.plan import lost_at_boot
from remedies.status import harm
from remedies.status.harm import Harm
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
