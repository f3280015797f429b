"""The command line, run against the namespace of a Docker daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked_cli
from docker_host import DockerHost

from remedies.lab.world import child_environment


class Remedy:
    """The command line, working in the daemon's namespace."""

    def __init__(self, host: DockerHost, folder: Path) -> None:
        self.state = ("--state-dir", str(folder))
        self.netns = ("--netns", host.namespace("host"))
        self.environment = {**child_environment(), "DOCKER_HOST": host.address}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command line."""
        return subprocess.Popen(
            [sys.executable, "-m", "remedies", *self.state, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )

    def __call__(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run a command line in the daemon's namespace with ``--json``; return what it says."""
        done = forked_cli.run(*self.state, *self.netns, *words, "--json", env=self.environment)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return dict(json.loads(done.stdout))

    def finish(self, running: subprocess.Popen[str], code: int | None = 0) -> dict[str, Any]:
        """Wait for a command line that was started, check its exit code, return its JSON.

        ``code`` None: 0 or 2, where what else is on the machine decides.
        """
        out, error = running.communicate(timeout=180)
        codes = (0, 2) if code is None else (code,)
        assert running.returncode in codes, (running.args, running.returncode, out, error)
        plain: dict[str, Any] = json.loads(out)
        return plain
