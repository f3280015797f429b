"""IPv4 and IPv6 prefixes as numbers: intersect, contain, and make them of ranges.

The standard library's ``ipaddress`` does the same at several milliseconds of import and tens of
microseconds a comparison, which a scan of many rules would feel.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterable

Prefix = tuple[int, int, int]
"""Address bits (32 or 128), first address as a number, prefix length."""


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Prefix:
    """Return the prefix of ``10.0.0.0/8``, ``2001:db8::1`` or the like; host bits are cleared.

    Raises ValueError where the text is no address or prefix.
    """
    address, slash, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address)
    except OSError:
        raise ValueError(f"not an IP address: {text!r}") from None
    bits = len(packed) * 8
    if slash and not (length.isascii() and length.isdigit() and int(length) <= bits):
        raise ValueError(f"not a prefix: {text!r}")
    size = int(length) if slash else bits
    return bits, int.from_bytes(packed, "big") >> (bits - size) << (bits - size), size


def show(prefix: Prefix) -> str:
    """Return ``10.0.0.0/8``, or a bare address where the prefix holds just one."""
    bits, first, size = prefix
    family = socket.AF_INET if bits == 32 else socket.AF_INET6
    address = socket.inet_ntop(family, first.to_bytes(bits // 8, "big"))
    return address if size == bits else f"{address}/{size}"


def single(address: str) -> str:
    """Return the prefix that holds one address: ``192.0.2.1/32``, ``2001:db8::1/128``."""
    return f"{address}/{128 if ':' in address else 32}"


def contains(outer: str, inner: str) -> bool:
    """Tell whether every address of ``inner`` is in ``outer``."""
    bits, first, size = parse(outer)
    other_bits, other_first, other_size = parse(inner)
    return bits == other_bits and size <= other_size and (first ^ other_first) >> (bits - size) == 0


def meet(one: str, other: str) -> str | None:
    """Return the prefix of the addresses in both (the longer of two nested), None if none."""
    bits, first, size = parse(one)
    other_bits, other_first, other_size = parse(other)
    if bits != other_bits or (first ^ other_first) >> (bits - min(size, other_size)):
        return None
    return other if size <= other_size else one


def of_range(bits: int, first: int, last: int) -> list[str]:
    """Return the fewest prefixes that hold the addresses from ``first`` to ``last``."""
    found = []
    while first <= last:
        size = min(first & -first or 1 << bits, 1 << ((last - first + 1).bit_length() - 1))
        found.append(show((bits, first, bits - size.bit_length() + 1)))
        first += size
    return found


def outside(prefix: str, holes: Iterable[str]) -> bool:
    """Tell whether some address of ``prefix`` is in none of ``holes``."""
    bits, first, size = parse(prefix)
    spans = []
    for hole in holes:
        hole_bits, start, length = parse(hole)
        if hole_bits == bits:
            spans.append((start, start + (1 << (bits - length))))
    end = first + (1 << (bits - size))
    for start, stop in sorted(spans):
        if start > first:
            break
        first = max(first, stop)
    return first < end
