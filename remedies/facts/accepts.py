"""Rules that let INVALID segments live on purpose: accepts of INVALID, and SYNPROXY.

Read only where a plan asks: a drop of ours stands before them, and whoever wrote such a rule says
that the host carries traffic of which conntrack sees one direction, or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from remedies.errors import Unreadable
from remedies.facts.netfilter import open_stores
from remedies.netfilter.walk import mentions, ours, reachable
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.facts import Asking
    from remedies.netfilter.stores import Base, RuleStore

_HOOKS = ("prerouting", "input", "forward")
_SYNPROXY = (b"synproxy", b"SYNPROXY")
_STATE = (b"\x07\0\1\0ct\0", b"conn", b"state\0")
"""What the raw bytes of a rule hold that looks at the conntrack state."""
_ACCEPTS = ("accept", "queue")


@dataclass(frozen=True)
class Accepts:
    """The first such rule of each kind, as ``PLACE: RULE``."""

    invalid: str = ""
    """A rule that accepts what conntrack calls INVALID, by name; empty: there is none."""
    synproxy: str = ""
    unread: tuple[str, ...] = ()
    """Chains that could not be read, and why: such a rule may stand there."""

    @property
    def blind(self) -> Optional[str]:
        """Return why a guard cannot rule such a rule out, None where it can."""
        return f"rules could not be read: {'; '.join(self.unread)}" if self.unread else None


def read(asking: Asking) -> Accepts:
    """Read the fact; ends at ``asking``'s deadline. Raises Unreadable without CAP_NET_ADMIN."""
    stores, unread = open_stores(asking.deadline())
    found = {"invalid": "", "synproxy": ""}
    for store in stores:
        for base in store.bases():
            if base.hook in _HOOKS and base.type == "filter" and base.rules:
                try:
                    _look(store, base, found)
                except Unreadable as error:
                    unread.append(
                        f"{base.backend} {base.family} {base.table} {base.chain}: {error}"
                    )
    return Accepts(found["invalid"], found["synproxy"], tuple(unread))


def _look(store: RuleStore, base: Base, found: dict[str, str]) -> None:
    for chain, raw in reachable(store, base, (*_SYNPROXY, *_STATE)):
        if ours(base.table, chain) or all(found.values()):
            continue
        where = f"{base.backend} {base.family} {base.table} {chain}"
        for step in store.decode(base.family, base.table, raw):
            if mentions(raw, _SYNPROXY):
                kind = "synproxy"
            elif step.verdict in _ACCEPTS and "invalid" in step.match.states:
                kind = "invalid"
            else:
                continue
            if not found[kind]:
                found[kind] = f"{where}: {store.text(base.family, base.table, chain, step)}"
