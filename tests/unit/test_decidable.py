"""What a condition needs and this process has not."""

from __future__ import annotations

import os

import pytest
from builder import HOST

from remedies.facts.drops import Drops
from remedies.facts.flows import Flows
from remedies.facts.queues import Queues
from remedies.facts.shared import Shared
from remedies.facts.sysctl import Sysctl
from remedies.status import decidable
from remedies.values import replace

EVERY = (Sysctl, Queues, Flows, Drops, Shared)


@pytest.mark.parametrize(
    ("user", "btf", "netns", "lacks"),
    [
        (0, True, "host", []),
        (1000, True, "host", ["root"]),
        (0, False, "host", ["BTF"]),
        (0, True, "b-17", ["the machine"]),
        (1000, False, "b-17", ["root", "BTF", "the machine"]),
    ],
)
def test_what_is_not_given_is_named(
    monkeypatch: pytest.MonkeyPatch, user: int, btf: bool, netns: str, lacks: list[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(decidable, "FILE", "/" if btf else "/no/such/file")
    monkeypatch.setattr(decidable, "read_host", lambda: replace(HOST, netns=netns))
    said = decidable.missing(EVERY)
    assert len(said) == len(lacks)
    assert all(words.startswith(lack) for words, lack in zip(said, lacks))
    assert decidable.missing((Sysctl, Queues)) == ()
