"""Which of the kernel's functions an address lies in, by /proc/kallsyms."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterable

FILE = "/proc/kallsyms"


def functions(addresses: Collection[int]) -> dict[int, str]:
    """Return the function of each address that lies in one; {} where they cannot be read.

    Where addresses are hidden from us (kernel.kptr_restrict; all read as zero) nothing is found.
    """
    if not addresses:
        return {}
    try:
        with open(FILE, encoding="ascii", errors="replace") as file:
            return nearest(addresses, file)
    except OSError:
        return {}


def nearest(addresses: Collection[int], lines: Iterable[str]) -> dict[int, str]:
    """Return for each address the function that begins last before it. Pure.

    ``lines`` are those of the file, in any order: a list of all functions would be 16 MB.
    """
    asked = sorted(addresses)
    begins, names = [0] * len(asked), [""] * len(asked)
    for line in lines:
        start, kind, name = line.split()[:3]
        if kind not in "tTwW":  # code
            continue
        begin = int(start, 16)
        at = bisect.bisect_left(asked, begin)  # the first address that may lie in it
        if at < len(asked) and begins[at] < begin:
            begins[at], names[at] = begin, name
    for at in range(1, len(asked)):  # no function begins between the two
        if not names[at]:
            names[at] = names[at - 1]
    return {address: name for address, name in zip(asked, names) if name}
