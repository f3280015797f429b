"""Fixtures of the tests that need a real kernel: namespaces of their own, and nothing skipped.

Every test here needs root. As root a skip counts as a failure; without root the tests fail on
CI (``CI=true``) and are skipped elsewhere.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import forked_cli
import pytest
from cli_host import Cli
from run_in import RunIn, run_command

from remedies.bpf import symbols
from remedies.lab import ruleset
from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.world import Options, World
from remedies.tap import drop_types

ROOT = os.geteuid() == 0

# docker-proxy comes unpacked, not installed: an installed docker.io starts a daemon.
_UNPACKED = Path(__file__).resolve().parent.parent.parent / "build/docker/usr/sbin"
os.environ["PATH"] += f"{os.pathsep}{_UNPACKED}"

_numbers = itertools.count(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a kernel test that has no root: a failure on CI, a skip elsewhere."""
    if ROOT:
        return
    if os.environ.get("CI") == "true":
        pytest.fail("kernel tests need root, and on CI they must run", pytrace=False)
    pytest.skip("needs root: it makes network namespaces")


@pytest.fixture(autouse=True)
def _what_the_kernel_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give traces of the test's own process what forks have: the kernel's types and functions."""
    monkeypatch.setattr(drop_types, "_asked", forked_cli.kernel_types)
    monkeypatch.setattr(symbols, "nearest", forked_cli.known_functions)


@pytest.fixture
def run_in() -> RunIn:
    """Give ``run_in(ns, argv, stdin=, check=, timeout=, env=) -> CompletedProcess[str]``."""
    return run_command


@contextlib.contextmanager
def namespaces() -> Iterator[Callable[..., str]]:
    """Give ``make(prefix="t") -> str``: a fresh namespace with ``lo`` up, removed at the end.

    Links made in it go with it, except into another namespace that outlives it.
    """
    made: list[str] = []

    def make(prefix: str = "t") -> str:
        name = f"rt-{os.getpid()}-{prefix}{next(_numbers)}"
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
        made.append(name)
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        return name

    try:
        yield make
    finally:
        left = [
            name
            for name in reversed(made)
            if os.path.exists(f"/run/netns/{name}")
            and subprocess.run(["ip", "netns", "del", name], check=False).returncode != 0
        ]
        assert not left, f"namespaces not removed: {left}"


@pytest.fixture
def netns() -> Iterator[Callable[..., str]]:
    """Give :func:`namespaces`' ``make`` for one test."""
    with namespaces() as make:
        yield make


@pytest.fixture(scope="module")
def module_netns() -> Iterator[Callable[..., str]]:
    """Give it for a whole module."""
    with namespaces() as make:
        yield make


@pytest.fixture
def load(netns: Callable[..., str]) -> Callable[[str, str], str]:
    """Give ``load(tool, text) -> str``: a namespace with a ruleset that ``tool`` has read."""

    def make(tool: str, text: str) -> str:
        ns = netns("nf")
        run_command(ns, ["nft", "-f", "-"] if tool == "nft" else [tool], stdin=text)
        return ns

    return make


@pytest.fixture(scope="module")
def exposed_world() -> Iterator[World]:
    """Give a world whose host is exposed to tcp-invalid-reset."""
    with World("tcp-invalid-reset", Options()) as made:
        tcp_invalid_reset.build(made)
        yield made


@pytest.fixture
def cli(exposed_world: World, tmp_path: Path) -> Iterator[Cli]:
    """Give the command line in it; afterwards everything is as before, and no guard is left."""
    made = Cli(exposed_world, tmp_path)
    before = ruleset.dump(exposed_world)
    yield made
    undone = made("rollback", "--every", "--yes", "--force")
    after = ruleset.dump(exposed_world)
    made.inside("nft", "delete table inet remedy_invalid_drop")
    assert undone.returncode == 0, undone.stderr
    assert after == before
    left = set(os.listdir(next(p for p in (tmp_path / "state").iterdir() if p.name != "cache")))
    assert left == {"journal.jsonl", "lock"}
