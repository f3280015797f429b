"""Fixtures of the tests on other Debians' userlands. They need root and mmdebstrap."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import once
import pytest
from debian import SUITES, Root, root_folder
from userland_world import Userland

from remedies.lab.world import Options

ROOT = os.geteuid() == 0
# docker-proxy comes unpacked, not installed: an installed docker.io starts a daemon.
_UNPACKED = Path(__file__).resolve().parent.parent.parent / "build/docker/usr/sbin"
os.environ["PATH"] += f"{os.pathsep}{_UNPACKED}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a test that has no root: a failure on CI, a skip elsewhere."""
    if ROOT:
        return
    if os.environ.get("CI") == "true":
        pytest.fail("tests on userlands need root, and on CI they must run", pytrace=False)
    pytest.skip("needs root: it enters namespaces")


@pytest.fixture(scope="session", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """Give the name of each Debian release in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def release(suite: str) -> Root:
    """Give the release's root folder."""
    return root_folder(suite)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the single-file host tool, the same file to every process of this run."""
    return once.bundle(tmp_path_factory)


@pytest.fixture(scope="session")
def userland(release: Root, bundle: Path) -> Callable[..., Userland]:
    """Give ``userland(nat="nft", family=4) -> Userland``, to be entered by ``with``."""

    def make(nat: str = "nft", family: int = 4) -> Userland:
        return Userland("userland", Options(nat, family), release, bundle)

    return make
