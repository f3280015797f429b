"""Real daemons asked by an address that their route does not choose: found, named, and mended.

All of them side by side in one world: a client on the bridge asks the host's other address. Those
without IP_PKTINFO answer from the bridge's; each is bound by the option that the advice names, and
answers then. The healthy ones are accused of nothing.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cli_host import Cli
from daemons import DAEMONS, ENVIRONMENT, Daemon, certificate
from tracked import remember
from waiting import eventually

from remedies.facts.daemon_lines import lines_of, option_of
from remedies.facts.daemon_option import DaemonOption
from remedies.lab.topology import container_host
from remedies.lab.world import Options, World
from remedies.model import Advice
from remedies.planning.advice import advice_text

CONDITION = "udp-reply-source"
ASKED = {4: "10.21.17.99", 6: "fd10:21:17::99"}
TRACKED = (
    "table ip6 t {\n chain c {\n  type nat hook postrouting priority 100\n  masquerade\n }\n}\n"
)
BROKEN = [daemon for daemon in DAEMONS if daemon.broken or daemon.starts_wrong]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World("daemons", Options()) as made:
        container_host(made)
        for role, address, link in (
            ("host", "fd17:172::1/64", "docker0"),
            ("host", "fd10:21:17::99/64", "eth0"),
            ("client", "fd17:172::2/64", "eth0"),
        ):
            made.ip(role, f"addr add {address} dev {link} nodad")
        made.ip("client", "route add default via fd17:172::1")
        made.run("host", ["nft", "-f", "-"], TRACKED)
        remember(made)  # who was answered wrongly before they were mended
        for key in ("ipv4.icmp_ratelimit", "ipv6.icmp.ratelimit"):  # all refuse within a second
            made.run("client", ["sysctl", "-qw", f"net.{key}=0"])
        yield made


@contextlib.contextmanager
def running(world: World, argvs: list[list[str]]) -> Iterator[None]:
    """Run the daemons in the host's namespace until the block ends."""
    with contextlib.ExitStack() as stack:
        for argv in argvs:
            child = stack.enter_context(
                subprocess.Popen(
                    [*world.entering("host"), *argv],
                    env=ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            stack.callback(child.kill)
        yield


@contextlib.contextmanager
def tracing(cli: Cli) -> Iterator[subprocess.Popen[str]]:
    """Run a trace, and begin once it listens."""
    with subprocess.Popen(
        [sys.executable, "-m", "remedies", *cli.options, "trace", "--for", "1m"],
        env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        try:
            assert child.stderr is not None
            assert "listening" in child.stderr.readline()
            yield child
        finally:
            child.kill()


def await_ports(world: World, daemons: Iterable[Daemon] = DAEMONS) -> None:
    """Wait until something listens on every port."""
    ports = {str(daemon.port) for daemon in daemons}

    def listening() -> bool:
        lines = world.run("host", ["ss", "-Hlnut"]).splitlines()
        return ports <= {line.split()[4].rpartition(":")[2] for line in lines}

    eventually(listening, 60, f"something does not listen on its port of {ports}")


def answered(world: World, daemon: Daemon) -> bool:
    """Ask over a connected socket; tell whether the answer came from the address asked."""
    address = ASKED[daemon.family]
    if not daemon.question:
        client = ["iperf3", "-c", address, "-u", "-n", "1K", "-p", str(daemon.port)]
        done = subprocess.Popen(
            [*world.entering("client"), *client],
            env=ENVIRONMENT, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with done:
            try:
                return done.wait(5) == 0
            except subprocess.TimeoutExpired:
                done.kill()
                return False
    family = socket.AF_INET6 if daemon.family == 6 else socket.AF_INET
    with world.socket("client", family, socket.SOCK_DGRAM) as client_socket:
        client_socket.settimeout(0.3)
        separate = daemon.process == "in.tftpd"  # it answers from another port
        if not separate:
            client_socket.connect((address, daemon.port))
        for _ in range(10):  # a daemon that has no processor takes its time
            if separate:
                client_socket.sendto(daemon.question, (address, daemon.port))
            else:
                client_socket.send(daemon.question)
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                if client_socket.recvfrom(2000)[1][0] == address:
                    return True
    return False


def ask_all(world: World, daemons: Iterable[Daemon] = DAEMONS) -> dict[str, bool]:
    """Ask them side by side; tell which answered."""
    with ThreadPoolExecutor(8) as pool:
        return {
            daemon.process: said
            for daemon, said in zip(daemons, pool.map(partial(answered, world), daemons))
        }


def test_each_is_proven_named_and_mended_by_the_option_named(world: World, tmp_path: Path) -> None:
    certificate(tmp_path)
    cli = Cli(world, tmp_path)
    with running(world, [daemon.start(tmp_path) for daemon in DAEMONS]):
        await_ports(world)
        with tracing(cli) as trace:
            assert ask_all(world) == {d.process: not d.broken for d in DAEMONS}
            trace.send_signal(signal.SIGINT)
            traced, _ = trace.communicate()
        plan = cli.json("plan", "--window", "0")
    proven = {f["details"]["port"]: f for f in plan["findings"] if f["verdict"] == "proven"}
    mended = dict.fromkeys(proven, "mitigated")
    # NSD's processes call themselves "nsd: xfrd", "nsd: main".
    assert {port: f["details"]["process"].split(":")[0] for port, f in proven.items()} == {
        str(daemon.port): daemon.process for daemon in BROKEN
    }
    for daemon in BROKEN:
        told = advice_of(plan, proven[str(daemon.port)])
        for line in lines_of(option(daemon), (ASKED[daemon.family],), str(daemon.port)):
            assert repr(line) in told
    for daemon in BROKEN:
        line = lines_of(option(daemon), (ASKED[daemon.family],), str(daemon.port))[0]
        assert line in traced, f"\n{traced}"
    with running(world, [daemon.start(tmp_path, bound(daemon)) for daemon in DAEMONS]):
        await_ports(world)
        assert ask_all(world) == {daemon.process: True for daemon in DAEMONS}
        assert verdicts(cli) == mended
    keeping = [daemon for daemon in DAEMONS if option(daemon).keeps]
    with running(world, [daemon.start(tmp_path, (option(daemon).keeps,)) for daemon in keeping]):
        await_ports(world, keeping)
        assert ask_all(world, keeping) == {daemon.process: True for daemon in keeping}
        seen = verdicts(cli)
        assert [seen[str(daemon.port)] for daemon in keeping] == ["mitigated"] * len(keeping)


def bound(daemon: Daemon) -> tuple[str, ...]:
    """Return the lines that bind it to the address asked."""
    return lines_of(option(daemon), (ASKED[daemon.family],), str(daemon.port))


def option(daemon: Daemon) -> DaemonOption:
    """Return the row of a daemon."""
    row = option_of(daemon.process)
    assert row is not None
    return row


def verdicts(cli: Cli) -> dict[str, str]:
    """Return the verdict on each port of theirs that anything is said about.

    Others are what a proxy asks its own servers by.
    """
    findings = json.loads(cli("scan", "--window", "0", "--json").stdout)["findings"]
    told = {f["details"]["port"]: f["verdict"] for f in findings if f["condition"] == CONDITION}
    return {str(d.port): told[str(d.port)] for d in DAEMONS if str(d.port) in told}


def advice_of(plan: dict[str, Any], finding: dict[str, Any]) -> str:
    """Return the text of the advice that answers a finding."""
    ((template, values),) = (
        (a["template"], a["values"]) for a in plan["advice"] if a["finding"] == finding["id"]
    )
    return advice_text(Advice("bind-advice", "x", "x", template, values))
