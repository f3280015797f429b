"""Built-in chains of iptables that chains of ours caused to exist, whichever of ours goes first.

In the nf_tables store a built-in chain exists from the first jump on (xtables-nft(8)). Where a
chain of ours made it, the next one of the same table finds it there; what that one gives back when
it goes is what was there before both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from remedies.model import Change, Held
from remedies.rules import kinds
from remedies.rules.ours import iptables_sections, iptables_split, iptables_text
from remedies.rules.restore_script import jumps_in
from remedies.values import NamedTuple, replace

_PROGRAMS = ("iptables", "ip6tables")
_STORE = "nft"


class _ChainPlace(NamedTuple):
    program: str
    table: str
    chain: str


def before_ours(changes: Iterable[Change], held: Mapping[str, Held]) -> tuple[Change, ...]:
    """Return changes whose before-values name no built-in chain that ``held`` caused to exist.

    Raises InputError for a state that is none of an iptables chain.
    """
    return tuple(
        change
        if place is None
        else replace(change, before=_before(change.before, place, held.values()))
        for change, place in ((change, _place(change.resource)) for change in changes)
    )


def _place(address: str) -> Optional[_ChainPlace]:
    scheme, path = kinds.split(address)
    return _ChainPlace(scheme, *iptables_split(path)) if scheme in _PROGRAMS else None


def _before(before: Optional[str], place: _ChainPlace, held: Iterable[Held]) -> Optional[str]:
    sections = iptables_sections(before)
    there = sections.get(_STORE)
    if there is None or f":{place.chain} -" in there:
        return before
    caused: set[str] = set()
    table_too = False
    for other in held:
        found = _place(other.resource)
        if found is None or found[:2] != place[:2] or found == place:
            continue
        jumps = jumps_in(iptables_sections(other.ours).get(_STORE, ()), found.chain)
        base = iptables_sections(other.base).get(_STORE)
        caused.update({line.split()[1] for line in jumps} - {line[1:] for line in base or ()})
        table_too = table_too or (base is None and bool(jumps))
    left = tuple(line for line in there if line[1:] not in caused)
    kept = {**sections, _STORE: left}
    if table_too and not left:
        del kept[_STORE]
    text = "".join(iptables_text(name, place.table, lines, ()) for name, lines in kept.items())
    return text or None
