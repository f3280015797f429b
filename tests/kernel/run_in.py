"""Running a command in a namespace, and what the fixture of it is."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Protocol

import pytest

from remedies.namespaces import netns


class RunIn(Protocol):
    """Runs a command in a namespace and returns what it printed."""

    def __call__(
        self,
        ns: str,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 60.0,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]: ...


def run_command(
    ns: str,
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    check: bool = True,
    timeout: float = 60.0,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``argv`` in namespace ``ns``; with ``check`` a failure shows what it wrote."""
    with netns.inside(ns):  # nsenter would take as long as a short command
        done = subprocess.run(
            argv,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=env,
        )
    if check and done.returncode != 0:
        pytest.fail(
            f"{' '.join(argv)} in {ns}: exit {done.returncode}\n{done.stdout}{done.stderr}",
            pytrace=True,
        )
    return done
