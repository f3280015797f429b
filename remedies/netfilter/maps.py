"""Maps of verdicts: which a rule looks its verdict up in, and what is followed of a big one."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Optional

from remedies.netfilter.fields import Field, apply
from remedies.netfilter.referred_to import NOT_READ, ReferredTo
from remedies.netlink.nft import Element, expressions, verdict_of
from remedies.rules.decoded import ALTERNATIVES, MatchTerms
from remedies.rules.rule import Match
from remedies.rules.sought import Sought
from remedies.values import dataclass

Elements = Callable[[str], list[Element]]
"""Reads a set of the rule's table; raises Unreadable where it cannot or will not."""

_NFT_REG_VERDICT = bytes(4)


class Branch:
    """One of the alternatives that a rule is: its conditions, and how it ends."""

    def __init__(
        self,
        terms: MatchTerms,
        verdict: str = "",
        chain: str = "",
        item: Optional[Element] = None,
        to: str = "",
    ) -> None:
        """Make one; ``item``: the element of a map that it is of; ``to``: where NAT sends."""
        self.terms, self.verdict, self.chain, self.item, self.to = terms, verdict, chain, item, to


@dataclass(frozen=True)
class OnlyAmong:
    """What is asked of maps of verdicts that are too big to be followed whole."""

    sought: Sought
    """Elements that none of its packets can meet, by protocol, port and destination, are passed
    over."""
    elements: Elements
    """Reads such a map."""
    chains: Collection[str]
    """Elements that lead to one of these are followed all the same."""
    left_out: Callable[[str], None]
    """Is told, in words, what was too much to be followed."""

    def concerned(
        self, fields: Iterable[tuple[Field, int]], found: list[Element], family: str, most: int
    ) -> list[Element]:
        """Return the elements that some of the packets may meet, or that lead to the chains.

        Of more than ``most`` the first. ``fields``: what a key is made of, with offsets; with a
        source port, all elements.
        """
        concerned = found
        if all(field.name != "sport" for field, _ in fields):
            concerned = self._asked_for(fields, found, family)
        if len(concerned) > most:
            self.left_out(f"a verdict map of {len(found)} elements")
        return concerned[:most]

    def _asked_for(
        self, fields: Iterable[tuple[Field, int]], found: list[Element], family: str
    ) -> list[Element]:
        by_port = self._judge(fields, family, "protocol", "dport")
        by_all = self._judge(fields, family, "protocol", "dport", "destination")
        return [
            item
            for item in found
            if item.others
            or (by_port(item) and by_all(item))  # ports are few, addresses are not
            or (self.chains and verdict_of(item.data)[1] in self.chains)
        ]

    def _judge(
        self, fields: Iterable[tuple[Field, int]], family: str, *names: str
    ) -> Callable[[Element], bool]:
        """Return what tells of an element, by some fields of its key, that it may be asked for."""
        told = [(field, at) for field, at in fields if field.name in names]

        @functools.cache
        def concerns(keys: tuple[tuple[bytes, bytes], ...]) -> bool:
            terms = MatchTerms()
            for (field, _), key in zip(told, keys):
                apply(terms, field, family, [key], NOT_READ, negate=False)
            match = terms.match
            return match is not None and self.sought.met(match)

        def judge(item: Element) -> bool:
            spans = [(at, at + field.size) for field, at in told]
            return concerns(tuple((item.first[a:b], item.last[a:b]) for a, b in spans))

        return judge


def key_fields(loaded: Mapping[int, Field], slot: int, size: int) -> list[tuple[Field, int]]:
    """Return the fields that a key of ``size`` bytes is made of, with their offsets in it.

    ``loaded``: what the registers hold, by 32-bit slots.
    """
    fields, at = [], 0
    while at < size:
        field = loaded.get(slot + at // 4, Field("a computed value", size - at))
        fields.append((field, at))
        at += max(4, -(-field.size // 4) * 4) if field.size else size
    return fields


def narrow_to(
    terms: MatchTerms,
    fields: Sequence[tuple[Field, int]],
    item: Element,
    found: Iterable[Element],
    family: str,
    host: ReferredTo,
) -> None:
    """Add "the key is that of this element" to ``terms``.

    ``fields``: what a key is made of, with offsets; ``found``: all elements. What stands for the
    keys of no other element is any of several fields.
    """
    if item.others:
        keys = [(each.first, each.last) for each in found if not each.others]
        if keys and len(fields) == 1:
            apply(terms, fields[0][0], family, keys, host, negate=True)
        return
    for field, key in _parts(fields, item):
        apply(terms, field, family, [key], host, negate=False)


def all_but(
    terms: MatchTerms,
    fields: Sequence[tuple[Field, int]],
    found: Iterable[Element],
    family: str,
    host: ReferredTo,
) -> Optional[list[MatchTerms]]:
    """Return ``terms`` for keys of no element: each part misses every one by a field of it.

    None where these are more than ALTERNATIVES.
    """
    made = {terms.match: terms}
    for item in found:
        missed: dict[Optional[Match], MatchTerms] = {}
        for each in made.values():
            for field, key in _parts(fields, item):
                part = each.copy()
                apply(part, field, family, [key], host, negate=True)
                if part.match is not None:
                    missed.setdefault(part.match, part)
        if len(missed) > ALTERNATIVES:
            return None
        made = missed
    return list(made.values())


def _parts(
    fields: Sequence[tuple[Field, int]], item: Element
) -> Iterator[tuple[Field, tuple[bytes, bytes]]]:
    """Yield each field of an element with the first and last value of it."""
    for index, (field, at) in enumerate(fields):
        end = fields[index + 1][1] if index + 1 < len(fields) else len(item.first)
        used = min(end, at + field.size) if len(fields) > 1 else end
        yield field, (item.first[at:used], item.last[at:used])


def one_for_each(found: Iterable[Element], lots: range) -> bool:
    """Tell whether a map has an element for each of the lots that ``numgen`` draws."""
    alone = (e for e in found if e.first == e.last and not e.others)
    drawn = {int.from_bytes(e.first, sys.byteorder) for e in alone}
    return len(lots) == len(drawn) and drawn.issuperset(lots)


def verdict_maps(body: bytes) -> tuple[str, ...]:
    """Return the names of the maps in which a raw rule looks its verdict up.

    Raises Unreadable where the message is malformed.
    """
    found = []
    for name, got in expressions(body):
        if name == "lookup" and got.get(3) == _NFT_REG_VERDICT:
            found.append(got.get(1, b"").rstrip(b"\0").decode(errors="replace"))
    return tuple(found)
