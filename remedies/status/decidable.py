"""What a condition asks of the host that this process, here, cannot give it.

It is told from what the condition's facts need, without reading them: ``remedy scan`` says why a
fact could not be read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from remedies.bpf.types import FILE
from remedies.facts import name_of
from remedies.facts.host import read_host

_ROOT = frozenset(
    ("dropped", "droppers", "drops", "flows", "nat", "netfilter", "stale", "tap", "untracked")
)
"""Facts of rules, flows and packets: CAP_NET_ADMIN, CAP_NET_RAW or CAP_BPF."""


def missing(kinds: Iterable[type[Any]]) -> tuple[str, ...]:
    """Return what the facts of these kinds need and is not given here, in words."""
    names = {name_of(kind) for kind in kinds}
    asked: tuple[tuple[frozenset[str], str, Callable[[], bool]], ...] = (
        (_ROOT, "root", lambda: os.geteuid() == 0),
        (frozenset(("drops",)), f"BTF ({FILE})", lambda: os.path.exists(FILE)),
        (
            frozenset(("shared",)),
            "the machine's own network namespace",
            lambda: read_host().netns == "host",
        ),
    )
    return tuple(words for needing, words, given in asked if needing & names and not given())
