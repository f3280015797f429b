"""Which of the kernel's functions an address lies in, by /proc/kallsyms."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Iterable

FILE = "/proc/kallsyms"
_AT_ONCE = 10_000
"""Lines, of a hundred thousand and more."""


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

    ``lines`` are those of the file, in any order. They are compared as they are, some at a time:
    every address has as many digits, most of them are in order, and all of them would be 16 MB.
    """
    rest = iter(lines)
    before = dict.fromkeys(addresses, "")
    while some := list(itertools.islice(rest, _AT_ONCE)):
        digits = some[0].index(" ")
        code = sorted(line for line in some if line[digits + 1] in "tTwW")
        for address, last in before.items():
            count = bisect.bisect(code, f"{address:0{digits}x}~")  # behind all that begin there
            if count and code[count - 1] > last:
                before[address] = code[count - 1]
    found = {address: line.split() for address, line in before.items() if line}
    return {address: words[2] for address, words in found.items() if int(words[0], 16)}
