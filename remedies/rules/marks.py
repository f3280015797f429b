"""What rules ask of a packet's mark, and what rules set it to. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Optional

from remedies.rules.decoded import Mark
from remedies.rules.rule import Match, PacketRule
from remedies.values import NamedTuple, replace

_TEST = r"meta mark & 0x([0-9a-f]+) (==|!=) 0x([0-9a-f]+)"
_SPANS = r"meta mark & 0x([0-9a-f]+) (in|not in) ([0-9a-fx -]+)"
_ANY = Match()


class MarkTest(NamedTuple):
    """A condition on the mark."""

    mask: int
    value: int
    equal: bool

    def met(self, mark: int) -> bool:
        """Tell whether a mark meets it."""
        return (mark & self.mask == self.value) == self.equal

    def met_after(self, kept: int, turned: Optional[int]) -> bool:
        """Tell whether a rule may have made a packet meet it, as ``Step.mark`` says what it sets.

        One that leaves all the bits that are asked for as they were has not.
        """
        if turned is None:
            return True
        if not self.mask & (~kept | turned):
            return False
        set_to, known = turned & self.mask & ~kept, self.mask & ~kept
        if not self.equal:
            return bool(self.mask & kept) or set_to != self.value
        return set_to == self.value & known


class MarkSpans(NamedTuple):
    """A condition on the mark that names several, or ranges."""

    mask: int
    spans: tuple[tuple[int, int], ...]
    inside: bool

    def met(self, mark: int) -> bool:
        """Tell whether a mark meets it."""
        masked = mark & self.mask
        return any(low <= masked <= high for low, high in self.spans) == self.inside


def mark_test(mask: int, value: int, *, negate: bool) -> str:
    """Return the name of a condition on the packet's mark, in nft's syntax."""
    return f"meta mark & {mask:#x} {'!=' if negate else '=='} {value:#x}"


def marks_test(mask: int, spans: Iterable[tuple[int, int]], *, negate: bool) -> str:
    """Return the name of a condition on the packet's mark: in one of these ranges, or in none."""
    told = " ".join(f"{low:#x}-{high:#x}" for low, high in spans)
    return f"meta mark & {mask:#x} {'not in' if negate else 'in'} {told}"


def spans(name: str) -> Optional[MarkSpans]:
    """Return the condition of :func:`marks_test` that has such a name."""
    found = re.fullmatch(_SPANS, name)
    if not found:
        return None
    bounds = (each.partition("-") for each in found[3].split())
    inside = tuple((int(low, 16), int(high, 16)) for low, _, high in bounds)
    return MarkSpans(int(found[1], 16), inside, found[2] == "in")


def read(name: str) -> Optional[MarkTest]:
    """Return the condition on the mark that has such a name; None: it is about something else."""
    found = re.fullmatch(_TEST, name)
    return found and MarkTest(int(found[1], 16), int(found[3], 16), found[2] == "==")


def asked_of(rule: PacketRule) -> tuple[MarkTest, ...]:
    """Return what the mark of packets has to be that get to a rule.

    By its own conditions, and by those of earlier rules that take all packets of other marks.
    """
    tests = [read(name) for name in rule.match.unmodelled]
    for earlier in rule.after:
        if len(earlier.unmodelled) == 1 and replace(earlier, unmodelled=()) == _ANY:
            taken = read(earlier.unmodelled[0])
            tests.append(taken and taken._replace(equal=not taken.equal))
    return tuple(test for test in tests if test)


def givers(
    tests: Iterable[MarkTest], setters: Iterable[tuple[str, Optional[Mark]]]
) -> frozenset[str]:
    """Return the IP versions of the rules that may give packets the mark that ``tests`` ask for.

    ``setters``: IP version of their packets (empty: both), and what they set, as in ``Step.mark``.
    None where packets that nobody marked have it, or where no rule gives it: programs mark what
    they send, too.
    """
    wanted = [test for test in tests if not test.met(0)]
    found = {
        version
        for version, mark in setters
        if mark and any(test.met_after(*mark) for test in wanted)
    }
    return frozenset(("ip", "ip6")) if "" in found else frozenset(found)
