"""A table that is full and makes room for new flows: a real kernel decides.

The one that is full and drops is the world of ``remedy lab run conntrack-pressure``: no entry of
the kernel's own, which would be evicted, is in it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterator

from run_in import RunIn

from remedies.conditions import conntrack_pressure, conntrack_table_full
from remedies.facts import Facts, sysctl
from remedies.facts.counters import Counters
from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.lab import flow_table
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World
from remedies.namespaces.netns import inside
from remedies.netlink import conntrack, conntrack_stats
from remedies.netlink.socket import NETLINK_NETFILTER, Netlink

TRACKED = "table ip t { chain c { type filter hook output priority 0; ct state new accept; }; }"
NEEDS = (*conntrack_pressure.NEEDS, *conntrack_table_full.NEEDS)
EVERY = 0.02


@contextlib.contextmanager
def opening(host: str) -> Iterator[list[bool]]:
    """Open flows in a namespace all the time; gives whether the kernel took the first packet."""
    taken: list[bool] = []
    stop = threading.Event()

    def send() -> None:
        number = 0
        while not stop.wait(EVERY):
            number += 1
            try:
                client.sendto(b"x", ("127.0.0.1", 20000 + number))
                taken.append(True)
            except OSError as error:
                if error.errno == errno.EPERM:
                    taken.append(False)
                elif error.errno != errno.ECONNREFUSED:
                    raise

    with inside(host):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield taken
        finally:
            stop.set()
            sender.join()


def watched(host: str) -> tuple[list[bool], Facts]:
    with opening(host) as taken, inside(host):
        facts = read_facts(read_host(), NEEDS, window=0.5)
    return taken, facts


def test_a_full_table_whose_flows_give_way_drops_nothing(
    netns: Callable[..., str], run_in: RunIn
) -> None:
    host = netns("h")
    run_in(host, ["ip", "link", "set", "lo", "up"])
    run_in(host, ["nft", TRACKED])
    with inside(host):
        most = int(sysctl.value(flow_table.MAX))
        ctnetlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    with ctnetlink:
        flow_table.make(ctnetlink, "192.0.2.1", 53, most, assured=False)
        taken, facts = watched(host)
        (pressure,) = conntrack_pressure.detect(facts, conntrack_pressure.PARAMS)
        assert taken
        assert all(taken)
        assert facts.get(Counters).delta("nf_conntrack.early_drop")
        assert conntrack_table_full.detect(facts, conntrack_table_full.PARAMS) == ()
        assert (pressure.verdict, pressure.severity) == ("active", "high")


def test_a_full_table_of_the_lab_stays_full() -> None:
    with World("conntrack-pressure", Options()) as world:
        container_host(world)
        at, host = addresses(world), world.namespace("host")
        ctnetlink = world.socket("host", socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        with ctnetlink:
            flow_table.make(ctnetlink, at.uplink, 53, 3, assured=False)
        flow_table.fill(world, at.uplink, 5060)
        with inside(host), Netlink(NETLINK_NETFILTER) as client:
            assert not tuple(conntrack.giving_way(client))
            assert conntrack_stats.count(client) == int(sysctl.value(flow_table.MAX))
