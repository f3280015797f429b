"""Where a NAT expression of nf_tables sends packets: addresses and ports that registers hold."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Optional

from remedies.netfilter import xt

_FAMILY = 2  # NFTA_NAT_FAMILY
_SIZES = {2: 4, 10: 16}
"""Octets of an address, by NFPROTO_*."""


def slot_of(register: int) -> int:
    """Return the first 32-bit slot of a register: NFT_REG_1 to 4 hold 16 bytes, others 4."""
    return (register - 1) * 4 if register < 8 else register - 8


def slot_in(got: Mapping[int, bytes], key: int) -> int:
    """Return the slot of the register that an attribute names; -1 for none. Raises struct.error."""
    return slot_of(struct.unpack(">I", got[key])[0]) if key in got else -1


def in_slots(first: int, data: bytes) -> dict[int, bytes]:
    """Return what each 32-bit slot begins with where ``data`` is put into ``first``."""
    return {first + at // 4: data[at:] for at in range(0, len(data), 4)}


def endpoint_of(
    got: Mapping[int, bytes], held: Mapping[int, bytes], address: Optional[int], port: int
) -> str:
    """Return address and port as iptables writes them, empty where ``held`` has neither.

    ``got``: the expression's attributes, of which ``address`` and ``port`` name the first of two
    registers each; ``held``: what slots hold.
    """

    def value(key: int, size: int) -> bytes:
        return held.get(slot_in(got, key), b"")[:size]

    low, high = value(port, 2), value(port + 1, 2)
    ports = None
    if len(low) == 2:
        ports = int.from_bytes(low, "big"), int.from_bytes(high or low, "big")
    first = last = b""
    if address is not None:
        size = _SIZES.get(int.from_bytes(got.get(_FAMILY, b""), "big"), 16)
        first, last = value(address, size), value(address + 1, size)
    return xt.endpoint(first if len(first) in (4, 16) else b"", last, ports)
