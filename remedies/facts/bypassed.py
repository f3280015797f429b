"""The rules of ours that a rule of somebody else's takes every packet from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remedies.errors import Unreadable
from remedies.facts.netfilter import open_stores
from remedies.netfilter.bypass import Bypass, bypasses
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.facts import Asking


@dataclass(frozen=True)
class Bypassed:
    """What no longer acts, though it is in force."""

    rules: tuple[Bypass, ...] = ()
    unread: tuple[str, ...] = ()


def read(asking: Asking) -> Bypassed:
    """Read the fact; ends at ``asking``'s deadline. Raises Unreadable without CAP_NET_ADMIN."""
    stores, unread = open_stores(asking.deadline())
    found: list[Bypass] = []
    try:
        found.extend(bypasses(stores))
    except Unreadable as error:
        unread.append(str(error))
    return Bypassed(tuple(found), tuple(unread))
