"""What ``remedy doctor`` knows of the kernel, against the kernel's own header."""

from __future__ import annotations

import re
from pathlib import Path

from remedies.status import doctor

HEADER = Path("/usr/include/linux/capability.h")  # linux-libc-dev, which gcc brings


def test_capabilities_have_the_numbers_of_the_kernel() -> None:
    defined = dict(re.findall(r"^#define (CAP_\w+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE))
    assert {name: int(defined[name]) for name in doctor._CAPABILITIES} == doctor._CAPABILITIES
