"""What holds for every test: as root nothing is skipped, and signals do what they do."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest

ROOT = os.geteuid() == 0

# nohup, and a script that puts the run in the background, leave them ignored for every program.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


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
