"""udp-proxy-hairpin: the pair of docker-proxy's making, told with the container it answers for."""

from __future__ import annotations

import json

import builder
import pytest
from builder import flow

from remedies.conditions import udp_proxy_hairpin
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.docker import Container, Docker, parse
from remedies.facts.flows import Flows
from remedies.facts.netfilter import Netfilter
from remedies.facts.process import Process
from remedies.facts.sockets import Sockets, UdpSocket
from remedies.facts.sysctl import Sysctl
from remedies.fixes import bind_advice
from remedies.model import Advice, Finding, Terms
from remedies.netlink.flow import Flow
from remedies.netlink.links import Address, Link, Links

ARGV = (
    *("/usr/bin/docker-proxy", "-proto", "udp", "-host-ip", "0.0.0.0", "-host-port", "4000"),
    *("-container-ip", "172.18.0.2", "-container-port", "53"),
)
PROXY = UdpSocket(
    6, "::", 4000, 7, 0, v6only=False, pktinfo=False, owner=Process(9, "docker-proxy", ARGV)
)
LINKS = Links(
    links=(Link(2, "eth0", "", up=True), Link(3, "br-1", "bridge", up=True)),
    addresses=(
        Address("192.168.0.239", 24, 2, "global"),
        Address("172.18.0.1", 16, 3, "global"),
    ),
)
NAMED = Docker((Container("0123456789ab", "web", ("172.18.0.2", "fd00::2")),))


PAIR = (
    flow("172.18.0.3", 9, "192.168.0.239", 4000),
    flow("172.18.0.1", 4000, "172.18.0.3", 9),
)


def facts(*sockets: UdpSocket, flows: tuple[Flow, ...] = (), docker: Docker = NAMED) -> Facts:
    return builder.facts(
        LINKS,
        Sockets(sockets),
        Flows(unreplied=flows),
        Netfilter(True, "none"),
        Sysctl({"net.ipv4.ip_local_port_range": "32768 60999"}),
        Counters(),
        docker,
    )


def detect(
    *sockets: UdpSocket, flows: tuple[Flow, ...] = (), docker: Docker = NAMED
) -> tuple[Finding, ...]:
    return udp_proxy_hairpin.detect(facts(*sockets, flows=flows, docker=docker), {})


@pytest.mark.parametrize(
    "argv",
    [
        ("docker-proxy", "-container-ip", "172.18.0.2", "-use-listen-fd", "-container-port", "53"),
        ("docker-proxy", "--container-ip=172.18.0.2", "-container-port=53"),
    ],
)
def test_arguments_are_read_as_go_reads_them(argv: tuple[str, ...]) -> None:
    found = udp_proxy_hairpin.published(argv)
    assert (found["container-ip"], found["container-port"]) == ("172.18.0.2", "53")


def test_the_advice_is_about_docker() -> None:
    (found,) = detect(PROXY, flows=PAIR)
    advice = bind_advice.desired(found, facts(PROXY, flows=PAIR), Terms())
    assert isinstance(advice, Advice)
    assert (advice.template, advice.title) == (
        "proxy",
        "publish UDP port 4000 of web on one address",
    )
    assert advice.values["container_port"] == "53"


def answer(body: object, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\nServer: Docker\r\n\r\n{json.dumps(body)}".encode()


ENTRY = {
    "Id": "0123456789abcdef",
    "Names": ["/web"],
    "NetworkSettings": {"Networks": {"n": {"IPAddress": "172.18.0.2", "GlobalIPv6Address": ""}}},
}


def test_the_daemons_answer_gives_names_to_addresses() -> None:
    assert parse(answer([ENTRY])) == (Container("0123456789ab", "web", ("172.18.0.2",)),)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        [1, "x", None],
        [{**ENTRY, "NetworkSettings": None}],
        [{**ENTRY, "NetworkSettings": {"Networks": [1]}}],
        [{**ENTRY, "NetworkSettings": {"Networks": {"n": 7}}}],
    ],
)
def test_an_answer_of_another_shape_names_no_address(body: object) -> None:
    assert all(not item.addresses for item in parse(answer(body)))
    assert parse(answer([ENTRY], "500 no")) == ()
    assert parse(b"") == ()
