"""The one place where probes run: in order of what they build on, within the window.

Watches begin first and end last, so that the readings cost no time of their own; a probe that
builds on a watch (conntrack flows, which the fault creates) is read after the window.
"""

from __future__ import annotations

import importlib
import select
import time
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Optional

from remedies.errors import Unreadable
from remedies.facts import Asking, Facts, Watch, name_of
from remedies.model import Host

_NOTHING: Mapping[str, object] = {}


def read_facts(
    host: Host,
    kinds: Iterable[type[Any]],
    *,
    window: float = 0.0,
    topics: frozenset[str] = frozenset(),
    ours: tuple[str, ...] = (),
    before: Mapping[str, object] = _NOTHING,
    cache: Optional[str] = None,
) -> Facts:
    """Read every fact of ``kinds`` and what those build on, watching for ``window`` seconds.

    What is in ``before``, by name, was read a moment ago and is taken as it is. ``cache``: see
    :class:`Asking`.
    """
    known: dict[str, object] = dict(before)
    unknown: dict[str, str] = {}
    asking = Asking(host, window, known=known, topics=topics, cache=cache)
    probes = _in_order({name_of(kind) for kind in kinds} - known.keys())
    probes = {name: probe for name, probe in probes.items() if name not in known}
    late = _after_watches(probes)
    watches: dict[str, Watch[object]] = {}
    try:
        for name, probe in probes.items():
            if name in late:
                continue
            try:
                if hasattr(probe, "watch"):
                    watches[name] = probe.watch(asking)
                else:
                    known[name] = probe.read(asking)
            except Unreadable as error:
                unknown[name] = str(error)
            _listen(tuple(watches.values()), 0.0)  # what they hear waits in small buffers
        _listen(tuple(watches.values()), window)
        waiting = dict(watches)
        for name, watch in watches.items():
            del waiting[name]
            try:
                known[name] = watch.finish()
            except Unreadable as error:
                unknown[name] = str(error)
            _listen(tuple(waiting.values()), 0.0)
        for name in late:
            try:
                known[name] = probes[name].read(asking)
            except Unreadable as error:
                unknown[name] = str(error)
    finally:
        for watch in watches.values():
            watch.close()
    return Facts(
        host=host,
        time=now(),
        window=window,
        known=known,
        unknown=unknown,
        ours=ours,
    )


def now() -> str:
    """Return the time as RFC 3339, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _in_order(names: set[str]) -> dict[str, ModuleType]:
    """Import the probes and what they build on (AFTER), each after what it builds on."""
    ordered: dict[str, ModuleType] = {}

    def add(name: str) -> None:
        if name not in ordered:
            probe = importlib.import_module(f"remedies.facts.{name}")
            for earlier in getattr(probe, "AFTER", ()):
                add(earlier)
            ordered[name] = probe

    for name in sorted(names):
        add(name)
    return ordered


def _after_watches(probes: dict[str, ModuleType]) -> list[str]:
    """Return the probes that build on a watch, directly or not: read when the window is over."""
    waiting: list[str] = []
    for name, probe in probes.items():
        for earlier in getattr(probe, "AFTER", ()):
            if name not in waiting and (
                earlier in waiting or hasattr(probes.get(earlier), "watch")
            ):
                waiting.append(name)
    return waiting


def _listen(watches: tuple[Watch[object], ...], window: float) -> None:
    """Let every watch hear what arrives until the window is over."""
    end = time.monotonic() + window
    poll = select.poll()
    by_descriptor = {w.fileno(): w for w in watches if w.fileno() >= 0}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    while True:
        left = end - time.monotonic()
        for descriptor, _ in poll.poll(max(0.0, left * 1000)):
            by_descriptor[descriptor].hear()
        if left <= 0:
            return
