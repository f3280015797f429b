"""What the drop tap asks of the kernel's types: read from BTF, and kept for the next run.

Reading BTF takes some 0.1 s of Python; attaching the program takes two milliseconds. What is kept
belongs to one kernel (its build id, /sys/kernel/notes, see elf(5)) and one version of the tool.
"""

from __future__ import annotations

import os
from typing import Optional

import remedies
from remedies import codec, private_file
from remedies.bpf.types import FILE, KernelTypes
from remedies.errors import InputError, Unreadable
from remedies.hashing import sha256
from remedies.tap.drop_program import Offsets, offsets
from remedies.values import dataclass

NAME = "kernel-types.json"
NOTES = "/sys/kernel/notes"


@dataclass(frozen=True)
class DropTypes:
    """What one kernel says."""

    kernel: str
    """Which kernel and which version of the tool: :func:`running`."""
    reasons: dict[str, int]
    """enum skb_drop_reason: name to number."""
    offsets: Offsets


def running() -> str:
    """Return a digest that differs between builds of the kernel; empty where it has no build id."""
    try:
        with open(NOTES, "rb") as file:
            notes = file.read()
    except OSError:
        return ""
    if b"GNU\0" not in notes:
        return ""
    told = f"{remedies.__version__} {' '.join(os.uname())} ".encode()
    return sha256(told + notes).hexdigest()


def drop_types(cache: Optional[str] = None) -> DropTypes:
    """Return them; ``cache``: the folder in which they are kept. None: they are read each time.

    Raises Unreadable where the kernel has no BTF or no reasons (before Linux 5.17).
    """
    kernel = running() if cache else ""
    path = os.path.join(cache or "", NAME)
    kept = _kept(path, kernel) if kernel else None
    if kept is not None:
        return kept
    found = DropTypes(kernel, *_asked())
    if kernel:
        private_file.write(path, codec.dumps(found))
    return found


def _kept(path: str, kernel: str) -> Optional[DropTypes]:
    content = private_file.read(path)
    if not content:
        return None
    try:
        found = codec.decode(DropTypes, codec.loads(content.decode(), path), path)
    except (ValueError, InputError):
        return None
    return found if found.kernel == kernel else None


def _asked() -> tuple[dict[str, int], Offsets]:
    """Return the reasons and the offsets that the kernel's BTF holds."""
    types = _btf()
    return types.numbers("skb_drop_reason"), offsets(types)


def _btf() -> KernelTypes:
    try:
        with open(FILE, "rb") as file:
            return KernelTypes(file.read())
    except OSError as error:
        raise Unreadable(f"{FILE}: {error.strerror}") from error
