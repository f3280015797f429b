"""The kernel's types out of a small BTF image, and instructions out of their names."""

from __future__ import annotations

import struct

import pytest

from remedies.bpf import symbols
from remedies.bpf.code import R0, R1, R2, R6, R10, READ_KERNEL, Code
from remedies.bpf.symbols import nearest
from remedies.bpf.types import KernelTypes
from remedies.errors import Unreadable

INT, PTR, STRUCT, UNION, ENUM, TYPEDEF, CONST, PROTO = 1, 2, 4, 5, 6, 8, 10, 13


class Image:
    """A BTF image as it grows; each type's number is its place in the order of making."""

    def __init__(self) -> None:
        self._names, self._types, self._made = b"\0", b"", 0

    def _name(self, text: str) -> int:
        if not text:
            return 0
        self._names += text.encode() + b"\0"
        return len(self._names) - len(text) - 1

    def type(self, name: str, kind: int, size_or_type: int, *parts: bytes, flag: int = 0) -> int:
        """Add a type; returns its number."""
        info = flag << 31 | kind << 24 | len(parts)
        if kind == INT:
            parts = (struct.pack("=I", 32),)
            info = kind << 24
        self._types += struct.pack("=III", self._name(name), info, size_or_type) + b"".join(parts)
        self._made += 1
        return self._made

    def member(self, name: str, kind: int, bits: int) -> bytes:
        """Return a member of a struct or union, or an argument or number of two words."""
        return struct.pack("=III", self._name(name), kind, bits)

    def number(self, name: str, value: int) -> bytes:
        """Return a number of an enumeration."""
        return struct.pack("=Ii", self._name(name), value)

    def octets(self) -> bytes:
        """Return the image."""
        size = len(self._types)
        head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, size, size, len(self._names))
        return head + self._types + self._names


def image() -> bytes:
    """Return an image with what kernels have: unions without a name, bit fields, other names."""
    made = Image()
    number = made.type("int", INT, 4)
    net = made.type("net", STRUCT, 16, made.member("cookie", number, 64))
    pointer = made.type("", PTR, net)
    inner = made.type("", STRUCT, 8, made.member("net", pointer, 0))
    possible = made.type("possible_net_t", TYPEDEF, inner)
    choice = made.type(
        "",
        UNION,
        8,
        made.member("dev", pointer, 0),
        made.member("nd", made.type("", CONST, possible), 0),
    )
    flags = made.member("flags", number, 3 << 24 | 8)
    made.type(
        "sk_buff",
        STRUCT,
        64,
        flags,
        made.member("", choice, 128),
        made.member("", number, 32),
        flag=1,
    )
    made.type(
        "reasons",
        ENUM,
        4,
        made.number("NOT_YET", 0),
        made.number("NO_SOCKET", 3),
        made.number("LOW", -1),
    )
    two = struct.pack("=II", 0, number)
    proto = made.type("", PROTO, 0, two, two, two)
    made.type("btf_trace_kfree_skb", TYPEDEF, made.type("", PTR, proto))
    return made.octets()


def test_offsets_go_through_names_and_parts_without_one() -> None:
    types = KernelTypes(image())
    assert types.offset("sk_buff", "dev") == 16
    assert types.offset("sk_buff", "nd", "net") == 16
    assert types.offset("sk_buff", "flags") == 1
    assert types.offset("net", "cookie") == 8


def test_numbers_and_arguments_are_those_of_this_kernel() -> None:
    types = KernelTypes(image())
    assert types.numbers("reasons") == {"NOT_YET": 0, "NO_SOCKET": 3, "LOW": -1}
    assert types.arguments("kfree_skb") == 2


def test_what_a_kernel_does_not_have_is_named() -> None:
    types = KernelTypes(image())
    for ask in (
        lambda: types.offset("sk_buff", "mark"),
        lambda: types.offset("sock", "dev"),
        lambda: types.numbers("sk_buff"),
        lambda: types.arguments("other"),
    ):
        with pytest.raises(Unreadable, match="/sys/kernel/btf/vmlinux: "):
            ask()


@pytest.mark.parametrize("cut", [0, 10, 40, 100])
def test_an_image_that_is_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(Unreadable):
        KernelTypes(image()[:cut]).offset("sk_buff", "dev")


def test_an_image_of_another_byte_order_is_refused() -> None:
    with pytest.raises(Unreadable, match="byte order"):
        KernelTypes(b"\xeb\x9f" + image()[2:])


def test_instructions_are_those_of_the_kernels_machine() -> None:
    code = Code()
    code.copy(R6, R1)
    code.load(8, R0, R6, 16)
    code.jump_if(R0, "!=", -1, "end")
    code.compute("add", R2, -8)
    code.store_constant(2, R10, -16, 5)
    code.count(R0, 0, R1)
    code.map(R1, 7)
    code.call(READ_KERNEL)
    code.label("end")
    code.exit()
    assert code.done().hex(" ", 8) == (
        "bf16000000000000 7960100000000000 55000600ffffffff 07020000f8ffffff "
        "6a0af0ff05000000 db10000000000000 1811000007000000 0000000000000000 "
        "8500000071000000 9500000000000000"
    )


def test_a_jump_to_no_label_is_a_mistake() -> None:
    code = Code()
    code.jump("nowhere")
    with pytest.raises(KeyError):
        code.done()


def test_an_address_lies_in_the_function_that_begins_last_before_it() -> None:
    lines = [
        "0000000000000300 T third",
        "0000000000000100 t first",
        "0000000000000280 d data",
        "0000000000000200 T second [module]",
    ]
    asked = {0x350: "third", 0x310: "third", 0x300: "third", 0x2FF: "second", 0x100: "first"}
    assert nearest([*asked, 0x50], lines) == asked
    assert nearest([0x350], ["0000000000000000 T hidden"]) == {}


def test_where_nothing_is_asked_the_list_of_functions_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has 120,000 lines, and most scans ask for none."""
    monkeypatch.setattr(symbols, "nearest", lambda *_: {1: "read"})
    assert symbols.functions((1,)) == {1: "read"}
    assert symbols.functions(()) == {}
