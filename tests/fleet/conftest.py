"""Fixtures of the fleet tests: whole hosts that are booted once, and a fleet for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from debian import root_folder
from light_fleet import QUICK, fleet
from machine import Machine

__all__ = ["fleet"]


@pytest.fixture(scope="session")
def machines() -> Iterator[Callable[[str], Machine]]:
    """Give ``machine(suite)``: a booted Debian of that release, the same one for every test."""
    booted: dict[str, Machine] = {}

    def machine(suite: str) -> Machine:
        if suite not in booted:
            made = Machine(root_folder(suite), {})
            booted[suite] = made  # closed at the end even if it does not boot
            (made.root / "etc/ssh/sshd_config.d/quick.conf").write_text(QUICK)
            made.boot()
        return booted[suite]

    yield machine
    for made in booted.values():
        made.close()
