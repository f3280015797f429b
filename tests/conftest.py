"""What holds for every test: as root nothing is skipped."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

ROOT = os.geteuid() == 0


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
