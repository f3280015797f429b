"""The driver of flows: what it deletes, and what it leaves alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tracked import await_flow

from remedies.errors import InputError, WriteFailed
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World
from remedies.namespaces.netns import inside
from remedies.netlink.flow import Tuple
from remedies.resources import flow

PORT = 56789
BEHIND = f"udp/docker0/{PORT}"


@pytest.fixture(params=[4, 6])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A container host that tracks connections, with nobody on the port."""
    with World("udp-reply-source", Options(family=request.param)) as made:
        container_host(made)
        yield made


def send(world: World, role: str, source: tuple[str, int], to: tuple[str, int]) -> str:
    """Send one datagram; return the path of the flow that it began, once the host has it."""
    family = addresses(world).family
    with world.socket(role, family, socket.SOCK_DGRAM) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end.bind(source)
        end.sendto(b"x", to)
    await_flow(world.namespace("host"), "udp", Tuple(*source, *to))
    return f"udp/{source[0]}/{source[1]}/{to[0]}/{to[1]}"


def flows(world: World) -> int:
    family = f"ipv{world.options.family}"
    listed = world.run("host", ["conntrack", "-L", "-p", "udp", "-f", family])
    return listed.count("udp ")


def read(world: World, path: str) -> str | None:
    with inside(world.namespace("host")):
        return flow.read(path)


def delete(world: World, path: str) -> None:
    with inside(world.namespace("host")):
        flow.write(path, None)


def test_one_flow_goes_by_its_exact_tuple(world: World) -> None:
    at = addresses(world)
    stale = send(world, "client", (at.client, 7000), (at.uplink, PORT))
    send(world, "client", (at.client, 7001), (at.uplink, PORT))
    assert read(world, stale) == f"{stale}\n"
    delete(world, stale)
    assert read(world, stale) is None
    assert flows(world) == 1
    delete(world, stale)  # absent is done
    assert flows(world) == 1


def test_the_tuple_of_an_answer_is_no_flow_of_that_name(world: World) -> None:
    at = addresses(world)
    send(world, "client", (at.client, 7000), (at.uplink, PORT))
    answer = f"udp/{at.uplink}/{PORT}/{at.client}/7000"
    assert read(world, answer) is None
    delete(world, answer)
    assert flows(world) == 1


def test_an_answered_flow_stays(world: World) -> None:
    at = addresses(world)
    world.start("host", ["remedies.lab.udp_server", at.uplink, str(PORT)])
    with world.socket("client", at.family, socket.SOCK_DGRAM) as end:
        end.settimeout(5)
        end.bind((at.client, 7000))
        end.connect((at.uplink, PORT))
        end.send(b"x")
        assert end.recv(10) == b"x"
    path = f"udp/{at.client}/7000/{at.uplink}/{PORT}"
    assert read(world, path) is None
    assert read(world, BEHIND) is None
    delete(world, path)
    delete(world, BEHIND)
    assert flows(world) == 1


def test_behind_a_link_only_requests_past_the_redirect_and_their_answers_go(world: World) -> None:
    at = addresses(world)
    gone = [
        send(world, "client", (at.client, 7000), (at.uplink, PORT)),
        send(world, "host", (at.bridge, PORT), (at.client, 7000)),
    ]
    kept = [
        send(world, "client", (at.client, 7002), (at.uplink, PORT + 1)),  # another port
        send(world, "client", (at.client, 7003), (at.bridge, PORT)),  # the bridge's own address
        send(world, "client", (at.client, 7004), (at.server, PORT)),  # forwarded
        send(world, "server", (at.server, 7005), (at.uplink, PORT)),  # by another link
    ]
    assert read(world, BEHIND) == "".join(f"{path}\n" for path in sorted(gone))
    delete(world, BEHIND)
    assert [read(world, path) for path in gone] == [None, None]
    assert [read(world, path) for path in kept] == [f"{path}\n" for path in kept]
    assert read(world, BEHIND) is None


def test_what_our_redirect_makes_stays(world: World) -> None:
    at = addresses(world)
    family = "ip" if world.options.family == 4 else "ip6"
    world.run(
        "host",
        ["nft", "-f", "-"],
        f"add table {family} by_hand\n"
        f"add chain {family} by_hand c"
        " { type nat hook prerouting priority -105; policy accept; }\n"
        f'add rule {family} by_hand c iifname "docker0" udp dport {PORT} redirect\n',
    )
    path = send(world, "client", (at.client, 7000), (at.uplink, PORT))
    assert (read(world, path), read(world, BEHIND)) == (None, None)
    delete(world, BEHIND)
    assert flows(world) == 1


def test_a_link_that_is_gone_has_no_flows(world: World) -> None:
    assert read(world, f"udp/br-gone/{PORT}") is None
    delete(world, f"udp/br-gone/{PORT}")


def test_a_flow_can_only_be_deleted(world: World) -> None:
    path = "udp/192.0.2.1/1/192.0.2.2/2"
    with pytest.raises(WriteFailed, match="only deleted"):
        flow.write(path, f"{path}\n")
    with pytest.raises(WriteFailed, match="only deleted"):
        flow.check(path, f"{path}\n")
    flow.check(path, None)
    with pytest.raises(InputError):
        flow.check("udp/nonsense", None)
    assert flow.same(path, None, None)
    assert not flow.same(path, None, f"{path}\n")
    assert flow.same(path, "udp/192.0.2.1/9/192.0.2.2/2\n", f"{path}\n")
    assert flow.text(path, f"{path}\n") == f"flow:{path}\n"
    assert flow.text(path, None) == ""
    assert flow.counters(path) == {}
