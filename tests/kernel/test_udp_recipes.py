"""The PKTINFO recipes of the advice answer from the address asked: compiled, run and asked.

Those in C and Python are tested here. Those in Go (1.19, golang.org/x/net 0.7.0) and Rust (1.95,
nix 0.29.0) were compiled as they stand, and again with the names that the advice gives for IPv6,
and asked the same questions by hand: they need libraries that are no part of a compiler.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from remedies.lab.topology import Addresses, addresses, container_host
from remedies.lab.world import Options, World
from remedies.model import Advice
from remedies.planning.advice import advice_text

PORT = 56789


def recipe(language: str) -> str:
    """Return one recipe as a person would copy it out of the advice."""
    values: dict[str, object] = dict.fromkeys(("process", "pid", "unit", "container"), "")
    values.update(port=str(PORT), family="4", place="unknown", connects=False, asked=True)
    values.update(addresses=("10.21.17.99",), argv=())
    lines = iter(
        advice_text(Advice("bind-advice", "x", "t", "bind", values), long=True).split("\n")
    )
    found: list[str] = []
    for line in lines:
        if line.split(" (")[0] == language:
            break
    for line in lines:
        if line and not line.startswith("    "):
            break
        found.append(line[4:])
    return "\n".join(found).strip() + "\n"


@pytest.fixture(params=["C", "Python"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The argv of a recipe's server, compiled where it has to be."""
    if request.param == "Python":
        (tmp_path / "server.py").write_text(recipe("Python"))
        return [sys.executable, str(tmp_path / "server.py")]
    (tmp_path / "server.c").write_text(recipe("C"))
    flags = ["-Wall", "-Wextra", "-Werror", "-o", str(tmp_path / "server")]
    done = subprocess.run(
        ["gcc", *flags, str(tmp_path / "server.c")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [str(tmp_path / "server")]


@contextlib.contextmanager
def running(world: World, argv: list[str]) -> Iterator[None]:
    """Run the server in the host's namespace until the block ends."""
    with subprocess.Popen([*world.entering("host"), *argv]) as child:
        try:
            yield
        finally:
            child.kill()


def ask(world: World, at: Addresses, address: str) -> bytes:
    """Ask over a connected socket, again while nobody is bound yet; return the answer."""
    with world.socket("client", at.family, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect((address, PORT))
        for _ in range(100):
            with contextlib.suppress(ConnectionRefusedError, TimeoutError):
                client.send(b"question")
                return client.recv(100)
    raise AssertionError("no answer from the address asked")


@pytest.mark.parametrize("family", [4, 6])
def test_it_answers_from_the_address_asked(server: list[str], family: int) -> None:
    with World("udp-reply-source", Options(family=family)) as world:
        container_host(world)
        at = addresses(world)
        with running(world, server):
            assert ask(world, at, at.uplink) == b"question"
            assert ask(world, at, at.bridge) == b"question"
