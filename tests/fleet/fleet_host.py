"""One host of the fleet: a network namespace, what runs in it, and how a test looks into it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NAT = """
table ip world_nat {
  chain post {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 172.17.0.0/16 masquerade
  }
}
"""
TABLE = "remedy_invalid_drop"
BUNDLE = "/usr/bin/python3 /var/lib/remedy/bundle/*.pyz"
"""The tool on a host; what PATH has may be a script that looks for a Python first."""


def run(*argv: str, stdin: str | None = None, timeout: float = 60.0) -> str:
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class LightHost:
    """One host: its namespace, address, folder and processes."""

    name: str
    netns: str
    address: str
    folder: Path
    variables: dict[str, Any] = field(default_factory=dict)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def inside(self, *argv: str, stdin: str | None = None) -> str:
        """Run a command in the host's network namespace (not in its mounts)."""
        return run("nsenter", f"--net=/run/netns/{self.netns}", *argv, stdin=stdin)

    def on(self, *argv: str) -> str:
        """Run a command on the host: in its network and its mounts."""
        return run("nsenter", "-t", str(self.processes[0].pid), "-n", "-m", *argv)

    def ruleset(self) -> str:
        return self.inside("nft", "-s", "list", "ruleset")

    def has_table(self) -> bool:
        return f"table inet {TABLE} " in self.ruleset()

    def expose(self) -> None:
        """Give the host the fault: TCP is rewritten there."""
        self.inside("nft", "-f", "-", stdin=NAT)

    def start(self, *argv: str, ready: str) -> None:
        """Start a program in the host's namespace; return when it has said ``ready``."""
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.netns}", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        assert process.stdout is not None
        said = ""
        while ready not in said:
            readable, _, _ = select.select([process.stdout], [], [], 60)
            line = process.stdout.readline() if readable else ""
            assert line, f"{argv}: never said {ready!r}: {said}"
            said += line

    def agent(self, arrival: str, leaving: str) -> None:
        """Let another program of the host act when our table comes and goes."""
        self.start(sys.executable, str(HERE / "agent.py"), TABLE, arrival, leaving, ready="ready")

    def end_agent(self) -> None:
        """End the agent and take away what it put in the way."""
        with self.processes.pop() as process:
            os.killpg(process.pid, signal.SIGKILL)
        self.inside("nft", "-f", "-", stdin="add table inet cut\ndelete table inet cut\n")

    def stop(self) -> None:
        """End everything in the host's namespace: our processes and the guards they left."""
        for process in self.processes:
            process.kill()
        kill_all(self.netns)
        for process in self.processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def kill_all(netns: str) -> None:
    """End every process of a namespace that this test made."""
    for pid in run("ip", "netns", "pids", netns).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
