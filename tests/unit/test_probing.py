"""Probes run in order of what they build on, watches hear the whole window, one failure is one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import pytest
from builder import HOST
from builder import facts as snapshot

from remedies.errors import Unreadable
from remedies.facts import Asking, Watch, gather

ORDER: list[str] = []


def make(name: str, **members: object) -> type:
    """Register a probe of our own under remedies.facts and return its fact type."""
    module = ModuleType(f"remedies.facts.{name}")
    kind: type = dataclass(frozen=True)(
        type(name.capitalize(), (), {"__module__": module.__name__})
    )
    setattr(module, name.capitalize(), kind)
    for key, value in members.items():
        setattr(module, key, value)
    sys.modules[module.__name__] = module
    return kind


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    before = set(sys.modules)
    ORDER.clear()
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def reading(name: str) -> object:
    def read(asking: Asking) -> str:
        ORDER.append(name)
        return f"{name} after {sorted(asking.known)}"

    return read


def test_what_was_read_before_is_not_read_again() -> None:
    alpha = make("alpha", read=reading("alpha"), watch=reading("alpha watched"))
    beta = make("beta", read=reading("beta"), AFTER=("alpha",))
    facts = gather.read_facts(HOST, [alpha, beta], before={"alpha": "as it was"})
    assert ORDER == ["beta"]
    assert facts.known == {"alpha": "as it was", "beta": "beta after ['alpha']"}


def test_a_probe_runs_after_what_it_builds_on() -> None:
    make("alpha", read=reading("alpha"))
    beta = make("beta", read=reading("beta"), AFTER=("alpha",))
    facts = gather.read_facts(HOST, [beta])
    assert ORDER == ["alpha", "beta"]
    assert facts.known["beta"] == "beta after ['alpha']"


def test_what_cannot_be_read_is_unknown_with_its_reason() -> None:
    def read(asking: Asking) -> str:
        raise Unreadable("no such module", "load it")

    gamma = make("gamma", read=read)
    delta = make("delta", read=reading("delta"))
    facts = gather.read_facts(HOST, [gamma, delta])
    assert facts.unknown == {"gamma": "no such module; load it"}
    with pytest.raises(Unreadable, match="no such module"):
        facts.get(gamma)
    assert "delta" in facts.known


class Pipe:
    """A watch on a pipe: collects what arrives."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.heard: list[bytes] = []
        self.closed = False

    def fileno(self) -> int:
        return self.reader

    def hear(self) -> None:
        self.heard.append(os.read(self.reader, 100))

    def finish(self) -> tuple[bytes, ...]:
        ORDER.append("finish")
        return tuple(self.heard)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self.reader)
            os.close(self.writer)


def test_a_watch_hears_while_the_window_lasts_and_later_probes_see_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe, listen = Pipe(), gather._listen

    def spoken_to(watches: tuple[Watch[object], ...], window: float) -> None:
        if window:
            os.write(pipe.writer, b"x")
        listen(watches, window)

    monkeypatch.setattr(gather, "_listen", spoken_to)
    tap = make("earlier", watch=lambda asking: pipe)
    late = make("late", read=reading("late"), AFTER=("earlier",))
    early = make("other", read=reading("other"))
    begun = time.monotonic()
    facts = gather.read_facts(HOST, [late, tap, early], window=0.2)
    took = time.monotonic() - begun
    assert ORDER == ["other", "finish", "late"]
    assert facts.known["earlier"] == (b"x",)
    assert facts.known["late"] == "late after ['earlier', 'other']"
    assert took >= 0.2
    assert pipe.closed


def test_a_watch_is_closed_when_another_probe_breaks() -> None:
    pipe = Pipe()
    make("earlier", watch=lambda asking: pipe)
    broken = make("broken", read=lambda asking: 1 / 0, AFTER=("earlier",))
    with pytest.raises(ZeroDivisionError):
        gather.read_facts(HOST, [broken])
    assert pipe.closed


def test_a_fact_nobody_asked_for_is_not_fine() -> None:
    unasked = make("unasked", read=reading("unasked"))
    with pytest.raises(Unreadable, match="unasked was not read"):
        snapshot().get(unasked)
