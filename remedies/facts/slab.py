"""How many bytes of kernel memory one tracked connection takes."""

from __future__ import annotations

from remedies.facts import Asking
from remedies.values import dataclass

CACHE = "nf_conntrack"
SIZE = f"/sys/kernel/slab/{CACHE}/slab_size"
"""The size alone (slab_size_show(), mm/slub.c): a twentieth of what slabinfo takes."""
SLABINFO = "/proc/slabinfo"
"""What there is where sysfs is not mounted, and on SLAB before Linux 6.8."""
KNOWN = 256
"""Bytes of struct nf_conn as its cache lays it out on Linux 6.18, x86-64."""
_LIMIT = 1 << 18
"""Bytes read of the file; it has about 200 lines of 120."""


@dataclass(frozen=True)
class Slab:
    """What the kernel says of its conntrack cache."""

    flow: int = KNOWN
    """Bytes of one tracked connection, without its extensions."""
    source: str = ""
    """Where it was read; empty where it is the known size of another kernel."""
    unread: tuple[str, ...] = ()


def parse(text: str) -> int:
    """Return the object size of the conntrack cache; 0 where the file names none (slabinfo(5)).

    Before Linux 4.6 there was a cache a namespace, ``nf_conntrack_`` and an address or a number:
    their sizes are the same.
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) > 3 and _is_cache(words[0]) and words[3].isascii() and words[3].isdigit():
            return int(words[3])
    return 0


def _is_cache(name: str) -> bool:
    return name == CACHE or (name.startswith(f"{CACHE}_") and name != f"{CACHE}_expect")


def read(asking: Asking) -> Slab:
    """Read it; never raises. Only root may, and a kernel built with SLUB_TINY has neither file."""
    try:
        with open(SIZE, encoding="utf-8", errors="replace") as file:
            text = file.read(_LIMIT).strip()
    except OSError:  # the other file says why
        text = ""
    if text.isdigit():
        return Slab(int(text), SIZE)
    try:
        with open(SLABINFO, encoding="utf-8", errors="replace") as file:
            size = parse(file.read(_LIMIT))
    except OSError as error:
        return Slab(unread=(f"{SLABINFO}: {error.strerror}",))
    return Slab(size, SLABINFO) if size else Slab()
