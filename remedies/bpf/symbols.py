"""Which of the kernel's functions an address lies in, by /proc/kallsyms."""

from __future__ import annotations

import bisect
from collections.abc import Collection

FILE = "/proc/kallsyms"


def functions(addresses: Collection[int]) -> dict[int, str]:
    """Return the function of each address that lies in one; {} where they cannot be read.

    Where addresses are hidden from us (kernel.kptr_restrict; all read as zero) nothing is found.
    """
    known: list[tuple[int, str]] = []
    try:
        with open(FILE, encoding="ascii", errors="replace") as file:
            for line in file:
                start, kind, name = line.split()[:3]
                if kind in "tTwW":  # code
                    known.append((int(start, 16), name))
    except OSError:
        return {}
    known.sort()
    found = {}
    for address in addresses:
        begin, name = known[bisect.bisect(known, (address, "\x7f")) - 1] if known else (0, "")
        if 0 < begin <= address:
            found[address] = name
    return found
