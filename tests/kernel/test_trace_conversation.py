"""``remedy trace --packet``: one conversation from its request to its answer, or to its end."""

from __future__ import annotations

import socket
from pathlib import Path
from xml.etree import ElementTree

from tracing import families, rule, trace

from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World

DNAT = "type nat hook prerouting priority -100"
SNAT = "type nat hook postrouting priority 100"
FORWARD = "type filter hook forward priority 0"


def written(address: str, port: int) -> str:
    """Return an end as it is written."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@families
def test_a_published_port_is_followed_to_its_container_and_back(family: int) -> None:
    with World("follow", Options(family=family)) as world:
        container_host(world)
        at = addresses(world)
        name = "ip6" if family == 6 else "ip"
        line = f"{name} daddr {at.uplink} udp dport 53 dnat to {written(at.client, 5353)}"
        rule(world, "host", line, DNAT)
        with (
            world.socket("client", at.family, socket.SOCK_DGRAM) as server,
            world.socket("server", at.family, socket.SOCK_DGRAM) as asking,
            trace(world, "--packet", f"udp to {written(at.uplink, 53)}") as seen,
        ):
            for each in (server, asking):
                each.settimeout(10.0)
            server.bind((at.client, 5353))
            asking.sendto(b"ask", (at.uplink, 53))
            _, asker = server.recvfrom(16)
            turned = seen.await_event(kind="trace-step", step="turned")
            server.sendto(b"answer", asker)
            answered = seen.await_event(kind="trace-step", step="answered")
            asking.sendto(b"else", (at.uplink, 54))
            summary = seen.end()
    assert written(at.client, 5353) in turned["message"]
    assert "dnat to" in turned["rule"]["text"]
    assert answered["flow"]["original"]["destination_port"] == 53
    assert [line["step"] for line in seen.lines if line["kind"] == "trace-step"] == [
        "request",
        "turned",
        "answered",
    ]
    assert [flow["seen_reply"] for flow in summary["flows"]] == [True]
    assert summary["followed"] == f"udp to {written(at.uplink, 53)}"
    assert summary["drops"] == []  # port 54 is another conversation


@families
def test_an_answer_that_a_rule_drops_is_told_beside_its_request_and_drawn(
    family: int, tmp_path: Path
) -> None:
    with World("follow", Options(family=family)) as world:
        container_host(world)
        at = addresses(world)
        rule(world, "host", "udp sport 4000 drop", FORWARD)
        with (
            world.socket("client", at.family, socket.SOCK_DGRAM) as asking,
            world.socket("server", at.family, socket.SOCK_DGRAM) as server,
            trace(
                world, "--packet", f"from {world.namespace('client')}",
                "-o", f"svg:{tmp_path}/it.svg", "-o", f"html:{tmp_path}/it.html",
            ) as seen,
        ):  # fmt: skip
            server.settimeout(10.0)
            server.bind((at.server, 4000))
            asking.sendto(b"ask", (at.server, 4000))
            _, asker = server.recvfrom(16)
            source = seen.await_event(kind="trace-step", step="source")
            server.sendto(b"answer", asker)
            told = seen.await_event(kind="trace-drop", source_port=4000)
            summary = seen.end()
    assert at.uplink in source["message"]
    assert source["rule"]["action"] == "masquerade"
    assert (told["reason"], told["conntrack"]) == ("NETFILTER_DROP", "established, reply")
    (flow,) = summary["flows"]
    assert flow["original"]["source"] == at.client
    assert summary["followed"] == f"from {at.client}"  # its namespace's name was given
    texts = [each.text for each in ElementTree.parse(tmp_path / "it.svg").iter() if each.text]
    titles = "Client", "Firewall rule", "dies here", "NAT: another source", "Server"
    assert [text for text in texts if text in titles] == [
        "Client", "Firewall rule", "dies here", "NAT: another source", "Server",
    ]  # fmt: skip
    page = (tmp_path / "it.html").read_text()
    assert "udp sport 4000 drop" in page
    assert f"an answer came from {written(at.server, 4000)}" in page


def test_a_conversation_that_does_not_come_here_is_said_to_be_none() -> None:
    with World("follow", Options()) as world:
        container_host(world)
        at = addresses(world)
        with (
            world.socket("client", at.family, socket.SOCK_DGRAM) as asking,
            trace(world, "--packet", "udp from 172.17.0.3 to 10.21.17.1:53") as seen,
        ):
            asking.sendto(b"ask", (at.bridge, 9))
            summary = seen.end()
    assert (summary["flows"], summary["drops"], summary["top"]) == ([], [], [])
