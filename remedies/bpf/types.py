"""Where the running kernel keeps what: offsets of fields and numbers of names, from its own BTF.

Never by fixed offsets: they differ with version and configuration. The format is that of
include/uapi/linux/btf.h: a header, the types one after the other, the strings.
"""

from __future__ import annotations

import struct
from typing import Optional

from remedies.errors import Unreadable

FILE = "/sys/kernel/btf/vmlinux"

_MAGIC = 0xEB9F
_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
"""struct btf_type, and a struct's member: the name's offset; kind and number of parts, or a type;
a size, another type, or a distance in bits."""
_PTR, _STRUCT, _UNION, _ENUM, _TYPEDEF, _PROTO = 2, 4, 5, 6, 8, 13
_SAME = (_TYPEDEF, 9, 10, 11, 18)
"""typedef, volatile, const, restrict, type tag: other names for a type."""
_PART = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _PROTO: 8, 15: 12, 19: 12}
"""Octets that follow a type for each of its parts (15: data section, 19: enumeration of 64 bit)."""
_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
"""Octets that follow an integer, an array, a variable, a declaration tag."""


class KernelTypes:
    """The types of one BTF image."""

    def __init__(self, image: bytes) -> None:
        """Find where each type begins. Raises Unreadable where the image is none."""
        try:
            magic, _, _, header, at, size, names, names_size = _HEADER.unpack_from(image)
            if magic != _MAGIC:
                raise Unreadable(f"{FILE}: not BTF of this machine's byte order")
            self._types = image[header + at : header + at + size]
            self._names = image[header + names : header + names + names_size]
            self._places = _places(self._types)
        except struct.error as error:
            raise Unreadable(f"{FILE}: cut short: {error}") from None

    def offset(self, name: str, *path: str) -> int:
        """Return the offset in octets of a field: ``offset("sock", "__sk_common", "skc_net")``.

        Anonymous structs and unions on the way are looked into. Raises Unreadable where the kernel
        has no such field.
        """
        at, place = 0, self._find(name, _STRUCT)
        for part in path:
            found = self._member(place, part)
            if found is None:
                raise Unreadable(f"{FILE}: struct {name} has no {'.'.join(path)}")
            at, place = at + found[0], self._real(found[1])
        return at

    def numbers(self, name: str) -> dict[str, int]:
        """Return the names of an enumeration and their numbers. Raises Unreadable for none."""
        place = self._find(name, _ENUM)
        parts = range(place + 12, place + 12 + 8 * self._count(place), 8)
        pairs = (struct.unpack_from("=Ii", self._types, at) for at in parts)
        return {self._name(text): number for text, number in pairs}

    def arguments(self, tracepoint: str) -> int:
        """Return how many arguments a raw tracepoint has. Raises Unreadable for none."""
        place = self._find(f"btf_trace_{tracepoint}", _TYPEDEF)
        proto = self._real(self._real(place, through=(_PTR,)))
        return self._count(proto) - 1  # the first one is the program's own

    def _find(self, name: str, kind: int) -> int:
        wanted = self._names.find(b"\0" + name.encode() + b"\0") + 1
        for place in self._places if wanted else ():
            text, info, _ = _TYPE.unpack_from(self._types, place)
            if text == wanted and info >> 24 & 31 == kind:
                return place
        raise Unreadable(f"{FILE}: this kernel has no {name}")

    def _count(self, place: int) -> int:
        return int(_TYPE.unpack_from(self._types, place)[1]) & 0xFFFF

    def _name(self, at: int) -> str:
        return self._names[at : self._names.index(b"\0", at)].decode()

    def _real(self, place: int, through: tuple[int, ...] = ()) -> int:
        """Return the type behind other names for it, and behind kinds ``through``."""
        while True:
            _, info, other = _TYPE.unpack_from(self._types, place)
            if info >> 24 & 31 not in (*_SAME, *through):
                return place
            place = self._places[other]

    def _member(self, place: int, name: str) -> Optional[tuple[int, int]]:
        """Return the offset of a field and the place of its type, anonymous parts included."""
        info = _TYPE.unpack_from(self._types, place)[1]
        if info >> 24 & 31 not in (_STRUCT, _UNION):
            return None  # behind a bit field without a name
        for at in range(place + 12, place + 12 + 12 * self._count(place), 12):
            text, kind, bits = _TYPE.unpack_from(self._types, at)
            octets = (bits & 0xFFFFFF if info >> 31 else bits) // 8
            if text and self._name(text) == name:
                return octets, self._places[kind]
            inner = self._real(self._places[kind])
            found = None if text else self._member(inner, name)
            if found is not None:
                return octets + found[0], found[1]
        return None


def _places(types: bytes) -> list[int]:
    """Return where each type begins, by its number; number 0 is ``void``."""
    places, at = [0], 0
    while at < len(types):
        places.append(at)
        info = _TYPE.unpack_from(types, at)[1]
        kind = info >> 24 & 31
        at += 12 + _FIXED.get(kind, 0) + _PART.get(kind, 0) * (info & 0xFFFF)
    return places
