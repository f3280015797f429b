"""Instructions of the kernel's machine, put together by name (RFC 9669).

Registers: R0 is what a call returns, R1 to R5 are its arguments and lost by it, R6 to R9 stay,
R10 is the end of the stack. A label is a name; a jump to it is filled in by :meth:`Code.done`.
"""

from __future__ import annotations

import struct

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)
LOOKUP, UPDATE, READ_KERNEL = 1, 2, 113
"""bpf_map_lookup_elem(), bpf_map_update_elem(), bpf_probe_read_kernel() (bpf-helpers(7))."""

_INSTRUCTION = struct.Struct("=BBhi")
_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_OPERATIONS = {"add": 0x00, "and": 0x50, "right": 0x70}
_TESTS = {"==": 0x10, ">": 0x20, "!=": 0x50}
"""``>`` takes both for unsigned."""
_MAP = 1
"""BPF_PSEUDO_MAP_FD: the constant is a map's descriptor."""


class Code:
    """A program as it grows. Each method adds one instruction, or the few that it says."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._code: list[tuple[int, int, int, int]] = []
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def _add(
        self, code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0
    ) -> None:
        self._code.append((code, to | source << 4, offset, value))

    def set(self, to: int, value: int) -> None:
        """Give a register a constant of 32 bits, its sign extended."""
        self._add(0xB7, to, value=value)

    def copy(self, to: int, source: int) -> None:
        """Give a register the value of another one."""
        self._add(0xBF, to, source)

    def compute(self, operation: str, to: int, value: int) -> None:
        """Change a register by a constant: ``add``, ``and``, ``right`` (shift)."""
        self._add(0x07 | _OPERATIONS[operation], to, value=value)

    def add(self, to: int, source: int) -> None:
        """Add a register to another one."""
        self._add(0x0F, to, source)

    def subtract(self, to: int, source: int) -> None:
        """Take a register from another one."""
        self._add(0x1F, to, source)

    def load(self, size: int, to: int, source: int, offset: int) -> None:
        """Read ``size`` octets at an address that the verifier knows."""
        self._add(0x61 | _SIZES[size], to, source, offset)

    def store(self, size: int, to: int, offset: int, source: int) -> None:
        """Write the low ``size`` octets of a register."""
        self._add(0x63 | _SIZES[size], to, source, offset)

    def store_constant(self, size: int, to: int, offset: int, value: int) -> None:
        """Write a constant of ``size`` octets."""
        self._add(0x62 | _SIZES[size], to, offset=offset, value=value)

    def count(self, to: int, offset: int, source: int) -> None:
        """Add a register to 8 octets in memory, as one step for all processors."""
        self._add(0xDB, to, source, offset)

    def map(self, to: int, descriptor: int) -> None:
        """Give a register a map (two instructions)."""
        self._add(0x18, to, _MAP, value=descriptor)
        self._add(0)

    def call(self, helper: int) -> None:
        """Call one of the kernel's helpers."""
        self._add(0x85, value=helper)

    def label(self, name: str) -> None:
        """Name the next instruction."""
        self._labels[name] = len(self._code)

    def jump(self, name: str) -> None:
        """Go on at a label further down."""
        self._jumps.append((len(self._code), name))
        self._add(0x05)

    def jump_if(self, register: int, test: str, value: int, name: str) -> None:
        """Go on at a label where a register compares to a constant as ``test`` says."""
        self._jumps.append((len(self._code), name))
        self._add(0x05 | _TESTS[test], register, value=value)

    def exit(self) -> None:
        """End the program with R0."""
        self._add(0x95)

    def done(self) -> bytes:
        """Return the program's octets; raises KeyError for a jump to no label."""
        code = list(self._code)
        for place, name in self._jumps:
            operation, registers, _, value = code[place]
            code[place] = (operation, registers, self._labels[name] - place - 1, value)
        return b"".join(_INSTRUCTION.pack(*each) for each in code)
