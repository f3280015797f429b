"""Flows to which NAT gave an address that is not the host's: told only where nobody answers.

A rule that still gives an address which has left is named. An address for which the host answers in
another's place (a proxy neighbour) is in order: pools of addresses are made so.
"""

from __future__ import annotations

import threading

import pytest

from remedies.conditions import stale_flow
from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.lab import datagram
from remedies.lab.scenarios import snat_departed as fault
from remedies.lab.topology import addresses
from remedies.lab.world import Options, World
from remedies.model import Finding
from remedies.namespaces.netns import inside


def found(world: World) -> tuple[Finding, ...]:
    """Return what a scan says while the client asks all the time."""
    at, over = addresses(world), threading.Event()

    def ask() -> None:
        while not over.is_set():
            datagram.keep_asking(
                world, "client", at.family, at.server, fault.PORT, "", fault.CLIENT
            )

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with inside(world.namespace("host")):
            facts = read_facts(read_host(), stale_flow.NEEDS, window=1.0)
        return stale_flow.detect(facts, stale_flow.PARAMS)
    finally:
        over.set()
        asking.join()


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
def test_only_an_address_that_nobody_answers_for_is_told(family: int) -> None:
    with World("snat-departed", Options(family=family, healthy=True)) as world:
        fault.build(world)
        old, at = fault.departing(world), addresses(world)
        world.ip("host", f"addr del {old}/{at.outer} dev eth0")
        # Answered for at once, and only what goes elsewhere from here (arp_process()).
        world.ip("host", f"route add {old} dev lo", f"neigh add proxy {old} dev eth0")
        world.sysctl("host", f"net.ipv{family}.neigh.eth0.proxy_delay", "0")
        world.ip("server", "neigh flush dev eth0")
        if family == 6:  # IPv6 asks for proxies at all (ndisc_recv_ns())
            world.sysctl("host", "net.ipv6.conf.eth0.proxy_ndp", "1")
        assert fault.traffic(world).alive
        assert found(world) == ()

        world.ip("host", f"neigh del proxy {old} dev eth0")
        if family == 6:
            world.sysctl("host", "net.ipv6.conf.eth0.proxy_ndp", "0")
        world.ip("server", "neigh flush dev eth0")
        (told,) = found(world)
        assert (told.verdict, told.subject) == ("proven", f"source {old}")
        assert "still gives it" in told.message
        assert told.details["stale"] == ""
