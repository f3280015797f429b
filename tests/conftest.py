"""What holds for every test: which of them share a process, and that none is skipped.

As root a skip is a failure. Signals do what they do by default. What is collected stays to the
end: nobody looks for garbage in it.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
from collections.abc import Generator
from pathlib import Path

import confusion
import drop_first
import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

from remedies import catalogue
from remedies.lab import world
from remedies.policy import compile as compiler

ROOT = os.geteuid() == 0
_NO_STATE = {"REMEDY_STATE_DIR": "/proc/no-state"}
"""Nobody can make that folder: what a unit test leaves out is not written on the machine."""

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

# Modules and thousands of tests, in every process: a third of the time that it takes to have them
# would go into looking for garbage among them, and more in every fork.
gc.disable()

# argparse asks for a translation of a dozen words for each command line, and looks for it in four
# places each: a millisecond. Commands of tests have it from here.
os.environ["LANGUAGE"] = "C"

# The shipped policies, which those of tests extend, are read once; nobody writes into a document.
compiler.parse = functools.cache(compiler.parse)  # type: ignore[attr-defined]

# nohup, and a script that puts the run in the background, leave them ignored for every program.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A run that is interrupted takes away what its tests have made, in ten seconds: execnet interrupts
# its other processes after five, and ends them ten later; pytest-xdist would not wait for that.
NodeManager.EXIT_TIMEOUT = 20


# Before any module takes the function by its name: every world's command line has the policy.
@functools.wraps(_environment := world.child_environment)
def _with_policy() -> dict[str, str]:
    return {**_environment(), **drop_first.ENVIRONMENT}


world.child_environment = _with_policy


class ByWorld(LoadScopeScheduling):  # type: ignore[misc]
    """Shares tests among processes so that a world which several tests use is made once.

    As pytest-xdist's groups, which do nothing in pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if file.startswith("tests/docker/"):
            return "-".join(test.partition("[")[2].rstrip("]").split("-")[:2])  # a daemon of that
        for shared, files in _TOGETHER.items():
            if Path(file).stem in files:
                return shared
        return nodeid if Path(file).stem in _APART else file


_APART = (
    "test_crash_points",
    "test_edited_plans",
    "test_guard_blind",
    "test_harm_heard",
    "test_lab_story",
    "test_redirect_heard",
    "test_udp_redirect",
    "test_userland_real_tools",
)
"""Long files whose tests share nothing: each test is given to whoever has time."""

_TOGETHER = {
    # They hear events of the whole machine in a buffer, and one floods it.
    "hears the machine": ("test_trace_drops", "test_trace_flood", "test_trace_live"),
    "booted hosts": ("test_fleet_export", "test_fleet_rollout", "test_fleet_vault"),
}
"""Files whose tests run in one process, by what they share."""


_EARLY = ("test_report_formats", "test_shipped_wheel")
"""Files that take long, of a folder that comes last: another processor would wait for their end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what would be waited for at the end."""
    items.sort(key=lambda item: item.path.stem not in _EARLY)


def pytest_keyboard_interrupt() -> None:
    """Do not interrupt what takes away what tests have made: execnet would, by another signal."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        signal.signal(signal.SIGINT, lambda *_: None)  # not ignored, which programs inherit


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByWorld:
    """Share the tests in the order in which they are named, long files first."""
    config.option.loadscopereorder = False
    return ByWorld(config, log)


def pytest_collection_finish() -> None:
    """Look for garbage from here on, in what the tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _environment_of_commands(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give commands of a test on a real kernel its policy; those of a unit test have no state."""
    unit = "/unit/" in str(request.node.path)
    for name, value in (_NO_STATE if unit else drop_first.ENVIRONMENT).items():
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the confusion matrix of the worlds that this run has told."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind)]
    given = (pair for report in reports for pair in report.user_properties)
    rows = [confusion.Row(*row) for name, row in given if name == confusion.PROPERTY]
    if rows:
        terminalreporter.section("the confusion matrix")
        for line in confusion.table(rows, catalogue.condition_ids()):
            terminalreporter.write_line(line)
