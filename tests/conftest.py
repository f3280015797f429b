"""What holds for every test: as root nothing is skipped, and signals do what they do."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Generator

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
