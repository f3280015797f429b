"""The command line in the host namespace of a world with a real fault, as scripts call it.

Nothing is mocked but the one point of a transaction that is to go wrong
(``remedies.transaction.crash_points``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import drop_first
import forked_cli
from cli_shapes import departures

from remedies.lab.world import World

TABLE = ("nft", "list", "table", "inet", "remedy_invalid_drop")
REQUIRE = """\
apiVersion: remedy/v1
name: required
extends: observe-only
require:
  - {fix: notrack, params: {protocol: udp, ports: [%s], addresses: [%s]}, reason: test}
"""
HOOKED = f"""\
{forked_cli.HOOK}
from remedies import cli
sys.argv = ["remedy", *sys.argv[1:]]
sys.exit(cli.main(sys.argv[1:]))
"""
"""The command line in an interpreter of its own, with ``point(name)`` as :func:`hooked` has it."""

Q = ("--window", "0")

Done = subprocess.CompletedProcess[str]


class Cli:
    """The command line in the host namespace of a world, with a state folder of its own."""

    def __init__(self, world: World, folder: Path, netns: str = "") -> None:
        self.folder, self.netns = folder, netns or world.namespace("host")
        self.options = ("--netns", self.netns, "--state-dir", str(folder / "state"))
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("REMEDY_")}
        self.environment.update(drop_first.ENVIRONMENT, TERM="xterm", TZ="<+05>-5")
        for name in ("NO_COLOR", "FORCE_COLOR", "SSH_CONNECTION"):
            self.environment.pop(name, None)

    def __call__(self, *words: str, point: str = "", **given: Any) -> Done:
        """Run a command line, at its points something else; ``given``: of subprocess.run.

        Without ``given`` it is run in a fork.
        """
        if not given:
            prepare = partial(forked_cli.hooked, point) if point else forked_cli.nothing
            return forked_cli.run(*self.options, *words, env=self.environment, prepare=prepare)
        start = ["-c", HOOKED % point] if point else ["-m", "remedies"]
        given.setdefault("stdin", subprocess.DEVNULL)
        environment = {**self.environment, **given.pop("env", {})}
        return subprocess.run(
            [sys.executable, *start, *self.options, *words],
            stdout=given.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, text=True,
            timeout=60, check=False, env=environment, **given,
        )  # fmt: skip

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run it with ``--json``; check exit code and shape, and return the document."""
        done = self(*words, "--json")
        assert done.returncode == code, (words, done.stdout, done.stderr)
        plain: dict[str, Any] = json.loads(done.stdout)
        assert departures(plain) == []
        return plain

    def inside(self, *argv: str) -> Done:
        """Run another program in the namespace."""
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.netns}", *argv],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def in_force(self) -> bool:
        """Tell whether our table is there."""
        return self.inside(*TABLE).returncode == 0

    def policy(self, ports: str, address: str) -> tuple[str, str]:
        """Return the option that requires notrack of these ports."""
        path = self.folder / "required.yaml"
        path.write_text(REQUIRE % (ports, address))
        return "--policy", str(path)
