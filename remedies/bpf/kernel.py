"""bpf(2): maps made and read, a program loaded and attached to a tracepoint.

The C library has no function for the call, so its number is here by machine (the kernel's own
syscall tables). Structures: union bpf_attr of include/uapi/linux/bpf.h; what is not given is zero.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from remedies.errors import Unreadable

ARRAY, LRU_HASH = 2, 9
"""BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_LRU_HASH: a full one forgets what was least in use."""

_CREATE, _LOOKUP, _LOAD, _ATTACH, _TAKE = 0, 1, 5, 17, 25
"""BPF_MAP_CREATE, _MAP_LOOKUP_ELEM, _PROG_LOAD, _RAW_TRACEPOINT_OPEN, _LOOKUP_AND_DELETE_BATCH"""
_RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT
_NUMBERS = {
    "x86_64": 321, "i686": 357, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351,
    "armv7l": 386,
}  # fmt: skip
_LOG = 1 << 18
_BATCH = 512


if TYPE_CHECKING:
    import ctypes

    _Buffer = ctypes.Array[ctypes.c_char]


@functools.cache
def _library() -> Any:
    """Return the module ctypes, loaded by those alone who use bpf(2)."""
    import ctypes

    return ctypes


def _call(command: int, attributes: _Buffer) -> int:
    """Make the call, and return its result; the kernel may write to the attributes.

    Raises OSError.
    """
    machine, ctypes = os.uname().machine, _library()
    number = _NUMBERS.get(machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of bpf(2) is not known for {machine}")
    result = ctypes.CDLL(None, use_errno=True).syscall(
        ctypes.c_long(number), ctypes.c_long(command), attributes, ctypes.c_long(len(attributes))
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def _buffer(content: bytes) -> _Buffer:
    made: _Buffer = _library().create_string_buffer(content, len(content))
    return made


def _address(buffer: _Buffer) -> int:
    return int(_library().addressof(buffer))


class Map:
    """A map that this process made. Closed with its descriptor."""

    def __init__(self, kind: int, key: int, value: int, entries: int) -> None:
        """Make one of ``entries`` keys and values of so many octets. Raises Unreadable."""
        self._key, self._value = key, value
        try:
            attributes = struct.pack("=IIIII28x", kind, key, value, entries, 0)
            self.descriptor = _call(_CREATE, _buffer(attributes))
        except OSError as error:
            raise Unreadable(f"bpf map: {_why(error)}") from error

    def value(self, key: bytes) -> bytes:
        """Return the value of a key that is there; raises Unreadable otherwise."""
        wanted, found = _buffer(key), _buffer(bytes(self._value))
        attributes = struct.pack("=I4xQQQ", self.descriptor, _address(wanted), _address(found), 0)
        try:
            _call(_LOOKUP, _buffer(attributes))
        except OSError as error:
            raise Unreadable(f"bpf map: {_why(error)}") from error
        return found.raw

    def take(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield what is in a hash map, each pair once, and delete it. Raises Unreadable."""
        keys, values = _buffer(bytes(self._key * _BATCH)), _buffer(bytes(self._value * _BATCH))
        place, begin, ended = _buffer(bytes(8)), 0, False
        while not ended:
            attributes = _buffer(
                struct.pack(
                    "=QQQQIIQQ", begin, _address(place), _address(keys), _address(values), _BATCH,
                    self.descriptor, 0, 0,
                )
            )  # fmt: skip
            try:
                _call(_TAKE, attributes)
            except OSError as error:
                if error.errno != errno.ENOENT:  # that is: these are the last ones
                    raise Unreadable(f"bpf map: {_why(error)}") from error
                ended = True
            begin = _address(place)
            (number,) = struct.unpack_from("=I", attributes, 32)
            taken, counted = keys.raw, values.raw
            for each in range(number):
                yield (
                    taken[each * self._key : (each + 1) * self._key],
                    counted[each * self._value : (each + 1) * self._value],
                )

    def close(self) -> None:
        """Give the map back; safe to repeat."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def attach(tracepoint: str, program: bytes) -> int:
    """Run a program at a raw tracepoint until the descriptor that is returned is closed.

    Raises Unreadable, with the verifier's own words where it refuses the program.
    """
    loaded = _load(program)
    name = _buffer(tracepoint.encode() + b"\0")
    try:
        return _call(_ATTACH, _buffer(struct.pack("=QI4x", _address(name), loaded)))
    except OSError as error:
        raise Unreadable(f"bpf tracepoint {tracepoint}: {_why(error)}") from error
    finally:
        os.close(loaded)


def _load(program: bytes) -> int:
    code = _buffer(program)
    licence = _buffer(b"GPL\0")  # bpf_probe_read_kernel() is for GPL programs alone
    log = _buffer(bytes(_LOG))
    first = struct.pack(
        "=IIQQ", _RAW_TRACEPOINT, len(program) // 8, _address(code), _address(licence)
    )
    try:
        return _call(_LOAD, _buffer(first + struct.pack("=IIQ8x", 0, 0, 0)))
    except OSError as error:
        why = _why(error)
        with contextlib.suppress(OSError):  # once more, for the verifier's words
            os.close(_call(_LOAD, _buffer(first + struct.pack("=IIQ8x", 1, _LOG, _address(log)))))
        said = log.value.decode(errors="replace").strip()
        raise Unreadable(f"bpf program: {why}{': ' if said else ''}{said}") from error


def _why(error: OSError) -> str:
    """Return why the kernel says no, and what would let it."""
    if error.errno == errno.EPERM:
        return "not permitted: it needs root (CAP_BPF, CAP_PERFMON) and no kernel lockdown"
    if error.errno == errno.ENOSYS:
        return "this kernel is built without bpf(2)"
    return error.strerror or str(error)
