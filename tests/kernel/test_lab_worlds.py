"""The lab's worlds reproduce the faults: v4 and v6, under each way to write NAT."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from remedies.lab import NATS
from remedies.lab.firewall import Firewall
from remedies.lab.scenarios import (
    local_port_exhaustion,
    notrack_breaks_nat,
    tcp_invalid_reset,
    udp_reply_source,
)
from remedies.lab.world import Options, TrafficOutcome, World
from remedies.namespaces.netns import inside

VARIANTS = [pytest.param((nat, family), id=f"{nat}-v{family}") for nat in NATS for family in (4, 6)]
FAR = 100_000_000
LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> tuple[str, int]:
    nat, family = request.param
    return str(nat), int(family)


@pytest.fixture
def tcp_world(variant: tuple[str, int]) -> Iterator[World]:
    with World("tcp-invalid-reset", Options(*variant)) as world:
        tcp_invalid_reset.build(world)
        yield world


def invalid(world: World) -> int:
    """Return the host's conntrack counter ``invalid``, over all processors."""
    with (
        inside(world.namespace("host")),
        open("/proc/thread-self/net/stat/nf_conntrack", encoding="ascii") as file,
    ):
        names, *rows = (line.split() for line in file)
    column = names.index("invalid")
    return sum(int(row[column], 16) for row in rows)


def transfer(world: World, sequence: int = 0, acknowledge: int = 0) -> tuple[bool, int, int]:
    """Return what one transfer came to: alive, resets, and the rise of ``invalid``."""
    before = invalid(world)
    outcome = tcp_invalid_reset.transfer(world, sequence, acknowledge)
    return outcome.alive, outcome.resets, invalid(world) - before


def drop_invalid(world: World, hook: str) -> None:
    world.run(
        "host",
        ["nft", "-f", "-"],
        "add table inet by_hand\n"
        f"add chain inet by_hand c {{ type filter hook {hook} priority -10; policy accept; }}\n"
        "add rule inet by_hand c meta l4proto tcp ct state invalid counter drop\n",
    )


def test_segment_above_the_window_resets_the_connection(tcp_world: World) -> None:
    assert transfer(tcp_world, sequence=FAR) == (False, 1, 2)


def test_acknowledgment_of_data_never_sent_is_survived_by_luck(tcp_world: World) -> None:
    assert transfer(tcp_world, acknowledge=FAR) == (True, 1, 2)


def test_late_acknowledgment_is_ignored_since_linux_6_1(tcp_world: World) -> None:
    assert transfer(tcp_world, acknowledge=-2_000_000) == (True, 0, 0)


def test_invalid_drop_keeps_the_connection(tcp_world: World) -> None:
    drop_invalid(tcp_world, "input")
    assert transfer(tcp_world, sequence=FAR) == (True, 0, 1)


def test_liberal_tracking_keeps_the_connection(tcp_world: World) -> None:
    tcp_world.sysctl("host", LIBERAL, "1")
    assert transfer(tcp_world, sequence=FAR) == (True, 0, 0)
    tcp_world.sysctl("host", LIBERAL, "0")
    assert transfer(tcp_world, sequence=FAR) == (False, 1, 2)


def test_drop_in_another_hook_does_not_help(tcp_world: World) -> None:
    drop_invalid(tcp_world, "forward")
    assert transfer(tcp_world, sequence=FAR) == (False, 1, 2)


def test_reply_from_the_wrong_address_is_refused(variant: tuple[str, int]) -> None:
    with World("udp-reply-source", Options(*variant)) as world:
        udp_reply_source.build(world)
        outcome = udp_reply_source.traffic(world)
        bridge = "172.17.0.1" if variant[1] == 4 else "fd17:172::1"
        assert not outcome.alive
        assert f"the answer came from {bridge}" in outcome.detail
        flows = world.run("host", ["conntrack", "-L", "-p", "udp", "-f", f"ipv{variant[1]}"])
        assert flows.count("[UNREPLIED]") == 2


def test_notrack_refuses_the_published_service_until_it_is_removed(
    variant: tuple[str, int],
) -> None:
    with World("notrack-breaks-nat", Options(*variant)) as world:
        notrack_breaks_nat.build(world)
        outcome = notrack_breaks_nat.traffic(world)
        assert not outcome.alive
        assert "connection refused" in outcome.detail
        Firewall(world).track_again(notrack_breaks_nat.PORT)
        assert notrack_breaks_nat.traffic(world).alive


def twin(world: World) -> TrafficOutcome:
    if world.scenario == "tcp-invalid-reset":
        tcp_invalid_reset.build(world)
        return tcp_invalid_reset.traffic(world)
    if world.scenario == "udp-reply-source":
        udp_reply_source.build(world)
        return udp_reply_source.traffic(world)
    notrack_breaks_nat.build(world)
    return notrack_breaks_nat.traffic(world)


@pytest.mark.parametrize(
    "scenario", ["tcp-invalid-reset", "udp-reply-source", "notrack-breaks-nat"]
)
def test_healthy_twin_lives(variant: tuple[str, int], scenario: str) -> None:
    nat, family = variant
    with World(scenario, Options(nat, family, healthy=True)) as world:
        outcome = twin(world)
        assert outcome.alive
        assert outcome.resets == 0


def test_a_new_client_has_no_flow_of_an_earlier_one() -> None:
    """Not even where the kernel has but one port to give, whose flow conntrack still has."""
    redirect = (
        "add table ip by_hand\n"
        "add chain ip by_hand c { type nat hook prerouting priority -110; }\n"
        "add rule ip by_hand c udp dport 56789 redirect\n"
    )
    with World("udp-reply-source", Options("nft", 4)) as world:
        udp_reply_source.build(world)
        world.sysctl("client", "net.ipv4.ip_local_port_range", "40000 40000")
        world.run("host", ["nft", "-f", "-"], redirect)
        assert udp_reply_source.traffic(world).alive
        world.run("host", ["nft", "delete", "table", "ip", "by_hand"])
        assert not udp_reply_source.traffic(world).alive


def test_local_ports_are_used_up_though_one_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a RST that answers a FIN which was sent a second time."""
    request = local_port_exhaustion.traffic
    closed = 0

    def first_one_given_back(world: World) -> TrafficOutcome:
        nonlocal closed
        outcome = request(world)
        closed += 1
        if closed == 1:
            world.run("host", ["ss", "-tKHa", "dport", "8080"])
        return outcome

    monkeypatch.setattr(local_port_exhaustion, "traffic", first_one_given_back)
    with World("local-port-exhaustion", Options("nft", 4)) as world:
        local_port_exhaustion.build(world)
        assert not request(world).alive
