"""``remedy trace --invalid``: conntrack's sentences, and settings put back however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_host import Cli
from tracing import Trace, families, rule, trace
from waiting import eventually

from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World
from remedies.namespaces.netns import inside
from remedies.netfilter.packet_log import LOGGER, PacketLog
from remedies.operations.conntrack_log import LOGGERS, SAYS
from remedies.resources import sysctl
from remedies.transaction.guard import strays

KEYS = tuple(address.partition(":")[2] for address in (*LOGGERS, SAYS))
SAID = [LOGGER, LOGGER, "255"]
FOREIGN = "nf_ct_proto_6: said by a rule "
INVALID = ("trace", "--invalid", "--yes")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Give a container host."""
    with World("invalid", Options()) as made:
        container_host(made)
        yield made


@pytest.fixture
def cli(world: World, tmp_path: Path) -> Cli:
    return Cli(world, tmp_path)


def settings(world: World) -> list[str | None]:
    """Return what decides whether conntrack says anything, and to whom."""
    with inside(world.namespace("host")):
        return [sysctl.read(key) for key in KEYS]


def put(world: World, *values: str) -> None:
    with inside(world.namespace("host")):
        for key, value in zip(KEYS, values):
            sysctl.write(key, value)


def begun(cli: Cli) -> tuple[str, ...]:
    return "--invalid", "--yes", *cli.options[2:]


def guard_of(world: World) -> int:
    with inside(world.namespace("host")):
        (guard,) = strays(())
    return guard.pid


def kill(seen: Trace, *others: int) -> None:
    """Kill them so that none can do anything about the others' end."""
    for pid in (*others, seen.pid):
        os.kill(pid, signal.SIGSTOP)
    for pid in (*others, seen.pid):
        os.kill(pid, signal.SIGKILL)
    seen.await_end()


@families
def test_what_conntrack_says_is_tied_to_the_packet_and_to_what_became_of_it(
    family: int, tmp_path: Path
) -> None:
    with World("invalid", Options(family=family)) as world:
        tcp_invalid_reset.build(world)
        logging = f'tcp dport {tcp_invalid_reset.PORT} log prefix "{FOREIGN}"'
        rule(world, "host", logging, "type filter hook forward priority 0")
        cli, before, at = Cli(world, tmp_path), settings(world), addresses(world)
        with trace(world, *begun(cli)) as seen:
            assert settings(world) == SAID
            assert not tcp_invalid_reset.traffic(world).alive
            reset, said, drop = seen.await_events(
                {"condition": "tcp-invalid-reset"},
                {"kind": "trace-sentence", "source": at.server},
                {"kind": "trace-drop", "reason": "NO_SOCKET", "source": at.server},
            )
            summary = seen.end()
        assert settings(world) == before
        assert cli.json("history")["transactions"][0]["outcome"] == "rolled-back"
        assert cli.json("status")["in_force"] == []
    assert said["message"].startswith("SEQ is over upper bound ")
    assert (said["protocol"], said["flags"], said["source_port"]) == ("tcp", "PSH ACK", 443)
    assert (said["destination"], said["destination_port"]) == (at.uplink, drop["destination_port"])
    its = f'conntrack says "{said["message"]}"'
    assert its in reset["message"]
    assert its in drop["about"]
    assert summary["sentences_lost"] == 0
    # What rules log goes where it went: they name their own kind of logger.
    assert not [one for one in summary["sentences"] if "by a rule" in one["message"]]


def test_a_killed_trace_leaves_nothing_set(world: World, cli: Cli) -> None:
    before = settings(world)
    with trace(world, *begun(cli)) as seen:
        assert settings(world) == SAID
        kill(seen)
        eventually(lambda: settings(world) == before, 30, "its guard puts everything back")


def test_the_next_writer_puts_back_what_a_killed_guard_could_not(world: World, cli: Cli) -> None:
    before = settings(world)
    with trace(world, *begun(cli)) as seen:
        kill(seen, guard_of(world))
    assert settings(world) == SAID
    assert cli("status").returncode == 2
    done = cli(*INVALID, "--for", "100ms")
    assert "was never finished; it has been undone now" in done.stderr
    assert settings(world) == before
    assert cli("status").returncode == 0


def test_what_somebody_else_has_set_meanwhile_is_left(world: World, cli: Cli) -> None:
    before = settings(world)
    with trace(world, *begun(cli)) as seen:
        put(world, *SAID[:2], "6")
        said = seen.interrupt()
    assert (seen.code, settings(world)) == (1, [*before[:2], "6"])
    assert f"{SAYS} was changed by somebody else: before '0', written by remedy '255'" in said
    assert cli("rollback", "--yes", "--force").returncode == 0
    assert settings(world) == before


def test_a_group_that_somebody_has_is_not_taken(world: World, cli: Cli) -> None:
    before = settings(world)
    with inside(world.namespace("host")):
        others = PacketLog()
    with others:
        done = cli(*INVALID)
    assert (done.returncode, done.stdout) == (1, "")
    assert "another program has NFLOG group 0" in done.stderr
    assert settings(world) == before


def test_sentences_that_somebody_hears_already_are_left_to_them(world: World, cli: Cli) -> None:
    before = settings(world)
    put(world, *filter(None, before[:2]), "6")
    try:
        done = cli(*INVALID)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"by {before[0]}; read them there" in done.stderr
        assert settings(world) == [*before[:2], "6"]
        put(world, "NONE", "NONE")  # nobody hears them any more
        with trace(world, *begun(cli)) as seen:
            assert settings(world) == SAID
            seen.end()
        assert settings(world) == ["NONE", "NONE", "6"]
    finally:
        put(world, *filter(None, before))


def test_two_traces_do_not_share(world: World, cli: Cli) -> None:
    before = settings(world)
    with trace(world, *begun(cli)) as seen:
        second = cli(*INVALID, "--lock-timeout", "0")
        assert (second.returncode, settings(world)) == (6, SAID)
        seen.end()
    assert settings(world) == before


def test_nothing_is_set_before_somebody_agrees(world: World, cli: Cli) -> None:
    before = settings(world)
    done = cli("trace", "--invalid")
    assert (done.returncode, settings(world)) == (64, before)
    assert "--yes" in done.stderr
