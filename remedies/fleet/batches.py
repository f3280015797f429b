"""How a rollout goes through its hosts: ``1,10%,50%``, as Ansible's ``serial`` reads it."""

from __future__ import annotations

from collections.abc import Sequence

from remedies.errors import UsageError


def parse(text: str) -> tuple[str, ...]:
    """Return the steps of ``1,10%,50%``. Raises UsageError."""
    steps = tuple(step.strip() for step in text.split(","))
    for step in steps:
        number = step.removesuffix("%")
        if not number.isascii() or not number.isdigit() or int(number) < 1:
            raise UsageError(f"{step!r} is not a batch size", "use 1, 10% or a list: 1,10%,50%")
        if step.endswith("%") and int(number) > 100:
            raise UsageError(f"{step!r} is more than all hosts", "use 100% at most")
    return steps


def split(hosts: Sequence[str], steps: Sequence[str]) -> list[list[str]]:
    """Return the hosts in batches; the last step holds for the rest. A share is one host at least.

    Shares are of all hosts, not of those that are left.
    """
    sizes = [_size(step, len(hosts)) for step in steps]
    batches, begin, index = [], 0, 0
    while begin < len(hosts):
        end = begin + sizes[min(index, len(sizes) - 1)]
        batches.append(list(hosts[begin:end]))
        begin, index = end, index + 1
    return batches


def _size(step: str, total: int) -> int:
    number = int(step.removesuffix("%"))
    return max(1, total * number // 100) if step.endswith("%") else number
