"""Lines of the journal as the writer makes nearly all of them, taken apart without encoding anew.

A record's hash is of its keys in another order than the line has them. Whoever reads a line decodes
it and encodes it again to ask whether it fits, for most of the time that reading a journal takes.
Where nothing around ``data`` is escaped, the text that was hashed is put together from the line's
own pieces. What looks different in any way is left to the plain way, which decides alone.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any, NoReturn, Optional

from remedies import codec
from remedies.values import NamedTuple

_NUMBER = r"(0|[1-9][0-9]{0,14})"
_TEXT = r'"([ !#-\[\]-~]*)"'
"""A text without a character that JSON escapes: it stands in the line as it is."""
_USUAL = (
    rf'{{"v":{_NUMBER},"seq":{_NUMBER},"time":{_TEXT},"kind":{_TEXT},"txn":{_TEXT},"prev":{_TEXT},'
    rf'"data":({{[ -~]*}}),"hash":{_TEXT}}}'
)
canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode
"""Returns the text of a record without its hash, which that is of."""
_SMALL = 512
"""Characters of ``data`` up to which it is kept in mind: three of four records say one of few
things."""
_FLAT = 60
"""Brackets up to which no text is nested too deep."""


def _no_fraction(text: str) -> NoReturn:
    raise ValueError(f"{text} can be written in several ways, or is no number")


_without_fractions = json.JSONDecoder(parse_float=_no_fraction, parse_constant=_no_fraction).decode


class JournalLine(NamedTuple):
    """A record as its line has it, and what its hash must be of."""

    v: int
    seq: int
    time: str
    kind: str
    txn: str
    prev: str
    data: dict[str, Any]
    """Not to be changed: records that say the same share it."""
    hash: str
    canonical: str
    """What the writer hashed."""
    exact: bool = True
    """The line is byte for byte what the writer makes of the record."""


def usual(text: str) -> Optional[JournalLine]:
    """Return what a line of the usual form says; None where it takes a closer look.

    ``text`` is without the line's end. Pure.
    """
    found = _parts()(text)
    if found is None:
        return None
    v, seq, time, kind, txn, prev, data, own = found.groups()
    known = (_small if len(data) <= _SMALL else _data)(data)
    if known is None:
        return None
    value, ordered = known
    hashed = (
        f'{{"data":{ordered},"kind":"{kind}","prev":"{prev}","seq":{seq},"time":"{time}",'
        f'"txn":"{txn}","v":{v}}}'
    )
    return JournalLine(int(v), int(seq), time, kind, txn, prev, value, own, hashed)


@functools.cache
def _parts() -> Callable[[str], Optional[re.Match[str]]]:
    """Return what matches a usual line: to compile it takes longer than a host with no journal."""
    return re.compile(_USUAL).fullmatch


def _data(text: str) -> Optional[tuple[dict[str, Any], str]]:
    """Return a record's ``data`` and its canonical text; None where it may not be what was written.

    Whatever else means the same is longer (blanks, a key twice, an escape that nothing needs), but
    for fractions and for the letters in an escape's digits: where there is one, none is returned.
    """
    if "\\u" in text or len(text) > codec.SIZE_LIMIT // 2:
        return None
    try:
        value = _without_fractions(text)
        ordered = canonical(value)
    except (ValueError, RecursionError):
        return None
    if len(ordered) != len(text):
        return None
    flat = text.count("[") + text.count("{") <= _FLAT
    if not flat and codec.deeper_than(value, codec.DEPTH_LIMIT - 1):
        return None
    return value, ordered


_small = functools.lru_cache(maxsize=256)(_data)
