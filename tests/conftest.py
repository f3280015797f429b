"""What holds for every test: which of them share a process, and that none is skipped.

As root a skip is a failure. Signals do what they do by default.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Generator
from typing import Any

import drop_first
import pytest
from hypothesis import HealthCheck, settings

from remedies.lab import world

ROOT = os.geteuid() == 0

# The same examples on every run, and no deadline: how long an example takes says how busy the
# machine is, not whether the code is right. New examples are fuzzing's.
settings.register_profile(
    "remedies",
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("remedies")

# nohup, and a script that puts the run in the background, leave them ignored for every program.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# Before any module takes the function by its name: every world's command line has the policy.
@functools.wraps(_environment := world.child_environment)
def _with_policy() -> dict[str, str]:
    return {**_environment(), **drop_first.ENVIRONMENT}


world.child_environment = _with_policy


_FIRST = ("fleet", "systemd", "docker", "userland", "browser")
"""Folders whose files take long, so that none is left for the end."""
_TOGETHER = ("docker", "userland")
"""Folders whose tests share what takes long to start: a daemon, a root folder."""


def _folder(nodeid: str) -> str:
    return nodeid.partition("::")[0].split("/")[-2]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let each of several processes run whole files, because the tests of one share worlds.

    In the order of :func:`pytest_collection_modifyitems`.
    """
    from xdist.scheduler import LoadScopeScheduling  # only 'make test' needs pytest-xdist

    class ByWorld(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            folder = _folder(nodeid)
            return folder if folder in _TOGETHER else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByWorld(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long."""
    names = [_folder(item.nodeid) for item in items]
    ranks = [_FIRST.index(name) if name in _FIRST else len(_FIRST) for name in names]
    items[:] = [item for _, item in sorted(zip(ranks, items), key=lambda pair: pair[0])]


@pytest.fixture(autouse=True)
def _drop_first(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command that a test on a real kernel starts have the policy of its environment."""
    if "/unit/" not in str(request.node.path):
        for name, value in drop_first.ENVIRONMENT.items():
            monkeypatch.setenv(name, value)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where there is root: a skipped test proves nothing."""
    report = yield
    if ROOT and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped as root, which is not allowed here: {report.longrepr}"
    return report
