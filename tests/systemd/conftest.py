"""Fixtures of the tests on whole hosts. They need root, mmdebstrap and systemd-nspawn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from box import Box, start
from debian import Root, root_folder

ROOT = os.geteuid() == 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a test that has no root: a failure on CI, a skip elsewhere."""
    if ROOT:
        return
    if os.environ.get("CI") == "true":
        pytest.fail("tests on whole hosts need root, and on CI they must run", pytrace=False)
    pytest.skip("needs root: it boots a machine")


@pytest.fixture(scope="session")
def debian() -> Root:
    """Give the Debian that every machine is laid over."""
    return root_folder()


@pytest.fixture
def boot(debian: Root) -> Iterator[Callable[[], Box]]:
    """Give ``boot() -> Box``: a machine of its own, gone after the test."""
    made: list[Box] = []

    def boot_one() -> Box:
        made.append(start(debian))
        return made[-1]

    yield boot_one
    for box in made:
        box.machine.close()
