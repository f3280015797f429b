"""UDP answers from the wrong address and from the right one: ``scan`` and ``trace`` in one world.

One world for each IP version: a container, its host with a virtual IP beside its uplink address,
and a machine outside. Each exchange is real: a client asks over a connected socket, a server
answers by a socket of its making, and the client's kernel takes or refuses that. Both judges see
the same datagrams and may not contradict each other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from udp_site import (
    CONDITION,
    PKTINFO,
    PORT,
    Answer,
    Asker,
    Site,
    by_new_socket,
    from_asked,
    judging,
    plainly,
    scan,
    site,
    standing,
)
from waiting import eventually

from remedies.facts import Watch, gather

__all__ = ["site", "standing"]


@pytest.mark.parametrize("pktinfo", [False, True], ids=["plain", "option"])
@pytest.mark.parametrize("role", ["server", "client"])
def test_a_second_address_is_answered_from_another_one(
    site: Site, role: str, pktinfo: bool
) -> None:
    with judging(site) as seen:
        server = site.udp("host", "", PORT)
        if pktinfo:
            server.setsockopt(*PKTINFO[6 if site.v6 else 4], 1)
        before = scan(site.world)
        asker = site.ask(server, role, site.virtual)
        plainly(site, server, asker)
        assert not asker.answered()
    assert [f.verdict for f in before] == ([] if pktinfo else ["exposed"])
    assert seen.proven is not None
    assert seen.proven.details["asked"] == site.virtual
    assert seen.proven.details["pid"] == str(os.getpid())
    assert ("IP_PKTINFO" in seen.proven.message) == pktinfo
    assert [e.meaning.condition for e in seen.events] == [CONDITION]
    assert seen.events[0].process is not None


def test_the_healthy_twins_are_no_proof(site: Site) -> None:
    with judging(site) as seen:
        server = site.udp("host", "", PORT)
        server.setsockopt(*PKTINFO[6 if site.v6 else 4], 1)
        asker = site.ask(server, "server", site.virtual)
        from_asked(site, server, asker)
        assert asker.answered(within=10.0)
    assert (seen.verdicts, seen.events) == ([], [])
    with judging(site) as seen:
        server = site.udp("host", site.virtual, PORT)
        asker = site.ask(server, "server", site.virtual)
        plainly(site, server, asker)
        assert asker.answered(within=10.0)
    assert (seen.verdicts, seen.events) == ([], [])


def test_a_server_that_is_mended_is_mitigated_at_once(site: Site) -> None:
    with judging(site) as seen:
        server = site.udp("host", "", PORT)
        asker = site.ask(server, "server", site.virtual)
        plainly(site, server, asker)
        assert not asker.answered()
        (failing,) = [f for f in scan(site.world) if f.verdict == "proven"]
        server.close()
        server = site.udp("host", site.virtual, PORT)
        asker = site.ask(server, "server", site.virtual)
        plainly(site, server, asker)
        assert asker.answered(within=10.0)
        mended = scan(site.world)
        # The pair is there again, by a socket that is bound to the address that was wrong.
        other = failing.evidence[1].value.split("src=")[1].split()[0]
        second = site.udp("host", other, PORT)
        again = site.ask(server, "server", site.virtual)
        second.sendto(b"answer", again.peer)
        assert not again.answered()
    (found,) = mended
    assert (found.verdict, found.details["pid"]) == ("mitigated", str(os.getpid()))
    assert site.virtual in (found.mitigated_by or "")
    assert seen.proven is not None
    where = f"[{site.virtual}]:{PORT}" if site.v6 else f"{site.virtual}:{PORT}"
    assert seen.proven.subject == f"udp {where}"
    assert "by another socket" in seen.proven.message
    assert {e.value for e in seen.proven.evidence if e.key == "bound"} >= {where}


SOURCED = """\
import signal, socket, sys
family = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
level, option, kind = (41, 49, 50) if sys.argv[1] == "6" else (0, 8, 8)
server = socket.socket(family, socket.SOCK_DGRAM)
def source(*_):
    server.setsockopt(level, option, 1)
    print("sourced", flush=True)
signal.signal(signal.SIGHUP, source)
if sys.argv[2] == "sourced":
    server.setsockopt(level, option, 1)
server.bind(("", 7777))
print("ready", flush=True)
while True:
    data, control, _, peer = server.recvmsg(100, 100)
    info = [(level, kind, c[2]) for c in control]
    if info and level == 0:  # struct in_pktinfo: interface, the address to send from, as received
        info = [(0, 8, bytes(4) + info[0][2][4:8] + bytes(4))]
    server.sendmsg([data], info, 0, peer)
"""


@contextlib.contextmanager
def serving(site: Site, how: str) -> Iterator[subprocess.Popen[str]]:
    """Run a server of its own process on every address until the block ends."""
    version = "6" if site.v6 else "4"
    argv = [*site.world.entering("host"), sys.executable, "-c", SOURCED, version, how]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def ask(site: Site, within: float = 0.2) -> bool:
    """Let a new client ask the address that is answered wrongly; tell whether it is answered."""
    with site.world.socket("server", site.at.family, socket.SOCK_DGRAM) as client:
        client.connect((site.virtual, PORT))
        client.send(b"question")
        return Asker(client, None).answered(within)


def test_a_server_that_is_restarted_with_the_option_is_mitigated_at_once(site: Site) -> None:
    site.world.run("host", ["conntrack", "-F"])
    with serving(site, "plain"):
        assert not ask(site)
        assert [f.verdict for f in scan(site.world)] == ["proven"]
    with serving(site, "sourced"):
        assert ask(site, within=10.0)
        (found,) = scan(site.world)
    assert found.verdict == "mitigated"
    assert "sets its replies' source" in (found.mitigated_by or "")


def test_a_server_that_answers_right_from_a_signal_on_is_mitigated_within_the_second(
    site: Site,
) -> None:
    site.world.run("host", ["conntrack", "-F"])
    with serving(site, "plain") as server:
        began = time.monotonic()
        # So old that it is not taken for a younger process.
        eventually(lambda: not ask(site) and time.monotonic() > began + 1.1)
        server.send_signal(signal.SIGHUP)
        assert server.stdout is not None
        assert server.stdout.readline() == "sourced\n"
        changed = time.monotonic()
        # Conntrack tells a flow's age in seconds.
        eventually(lambda: time.monotonic() > changed + 1.1)
        assert ask(site, within=10.0)
        (found,) = scan(site.world)
    assert found.verdict == "mitigated"


@pytest.mark.parametrize("role", ["server", "client"])
def test_a_request_that_nat_turns_to_this_host(site: Site, role: str) -> None:
    target = f"[{site.virtual}]:{PORT}" if site.v6 else f"{site.virtual}:{PORT}"
    site.world.ip(role, f"route replace {site.service} via "
                  f"{site.at.bridge if role == 'client' else site.at.uplink}")  # fmt: skip
    with judging(site) as seen:
        site.nat(f"udp dport 53 dnat to {target}")
        server = site.udp("host", "", PORT)
        asker = site.ask(server, role, site.service, 53)
        plainly(site, server, asker)
        assert not asker.answered()
    assert seen.proven is not None
    assert seen.proven.details["addresses"] == site.virtual
    assert site.service in seen.proven.message
    assert [e.meaning.condition for e in seen.events] == [CONDITION]
    with judging(site) as seen:
        site.nat("udp dport 53 redirect to :7777")  # to the address that answers come from
        server = site.udp("host", "", PORT)
        asker = site.ask(server, "client", site.service, 53)
        plainly(site, server, asker)
        assert asker.answered(within=10.0)
    assert (seen.proven, seen.events) == (None, [])


def test_an_answer_from_a_port_of_its_own(site: Site) -> None:
    with judging(site) as seen:
        server = site.udp("host", "", PORT)
        for _ in range(3):  # refused within the same moment: each is judged
            asker = site.ask(server, "server", site.virtual)
            by_new_socket(site, server, asker)
            assert not asker.answered()
    assert seen.proven is not None
    assert seen.proven.subject.endswith(f":{PORT}")
    assert "a socket of its own" in seen.proven.message
    told = [e.meaning.condition for e in seen.events]
    assert set(told) == {CONDITION}
    assert len(told) > 1  # all, unless the table's walks took long on a busy machine
    with judging(site) as seen:  # TFTP as it should be: the address that was asked
        server = site.udp("host", site.virtual, PORT)
        asker = site.ask(server, "server", site.virtual)
        data = site.udp("host", site.virtual)
        data.sendto(b"answer", asker.peer)
        assert not asker.answered()  # a connected client: its own mistake
    assert (seen.proven, [e.meaning.condition for e in seen.events]) == (None, [None])


def test_a_server_whose_udp_sockets_are_short_lived_is_known_by_its_tcp_listener(
    site: Site,
) -> None:
    with judging(site) as seen:
        listener = site.world.socket("host", site.at.family, socket.SOCK_STREAM)
        site.open.enter_context(listener)
        listener.bind(("", PORT))
        listener.listen()
        server = site.udp("host", "", PORT)
        asker = site.ask(server, "server", site.virtual)
        server.connect(asker.peer)
        server.send(b"answer")
        server.close()
        assert not asker.answered()
    assert seen.proven is not None
    assert seen.proven.details["pid"] == str(os.getpid())
    assert f"TCP port {PORT}" in seen.proven.message
    (event,) = seen.events
    assert event.process is not None
    assert event.process.pid == os.getpid()


def test_a_server_that_connects_to_its_client_is_that_and_nothing_else(site: Site) -> None:
    with judging(site) as seen:
        server = site.udp("host", "", PORT)
        asker = site.ask(server, "client", site.at.uplink)
        server.connect(asker.peer)
        server.send(b"answer")
        assert not asker.answered()
    assert seen.proven is not None
    assert seen.proven.condition == "udp-connected-server"
    assert seen.verdicts == ["proven"]


def test_a_flow_that_is_older_than_its_nat_rule_is_named_with_the_rule(site: Site) -> None:
    name = "ip6" if site.v6 else "ip"
    target = f"[{site.at.client}]:{PORT}" if site.v6 else f"{site.at.client}:{PORT}"
    site.world.run("host", ["conntrack", "-F"])
    sender = site.world.socket("server", site.at.family, socket.SOCK_DGRAM)
    with sender:
        sender.connect((site.at.uplink, PORT))
        sender.send(b"one")
        assert not Asker(sender, None).answered()
        with judging(site, flush=False) as seen:
            site.nat(f"udp dport 1 drop\n  {name} daddr {site.at.uplink} udp dport {PORT} "
                     f"dnat to {target}")  # fmt: skip
            sender.send(b"two")
            assert not Asker(sender, None).answered()
    (event,) = seen.events
    assert (event.event, event.meaning.condition) == ("refusal", None)
    assert f"dnat to {target}" in event.meaning.text
    assert "conntrack -D" in event.meaning.text


def test_an_answer_from_another_port_to_a_client_behind_nat_asks_for_a_helper(site: Site) -> None:
    with judging(site) as seen:
        server = site.world.socket("server", site.at.family, socket.SOCK_DGRAM)
        site.open.enter_context(server)
        server.settimeout(10.0)
        server.bind(("", PORT))
        asker = site.ask(server, "client", site.at.server)
        by_new_socket(site, server, asker, "server")
        assert not asker.answered()
    (event,) = seen.events
    assert (event.event, event.meaning.condition) == ("refusal", None)
    assert f"{site.at.client}" in event.meaning.text
    assert "helper" in event.meaning.text


def test_a_client_of_the_host_itself_that_asks_an_alias(site: Site) -> None:
    alias = "::2" if site.v6 else "127.0.0.2"
    if site.v6:
        site.world.ip("host", "addr replace ::2/128 dev lo nodad")
    with judging(site) as seen:
        server = site.udp("host", "", PORT)
        client = site.udp("host", "::1" if site.v6 else "127.0.0.1")
        client.connect((alias, PORT))
        client.send(b"question")
        _, peer = server.recvfrom(100)
        server.sendto(b"answer", peer)
        assert not Asker(client, peer).answered()
    assert seen.proven is not None
    assert seen.proven.details["addresses"] == alias
    assert {e.meaning.condition for e in seen.events} == {CONDITION}


@pytest.mark.parametrize("answer", [plainly, by_new_socket], ids=["plainly", "another-port"])
def test_without_conntrack_the_packets_prove_it(site: Site, answer: Answer) -> None:
    name = "ip6" if site.v6 else "ip"
    chains = "".join(
        f" chain {hook} {{\n  type filter hook {hook} priority raw\n  notrack\n }}\n"
        for hook in ("prerouting", "output")
    )
    site.world.run("host", ["nft", "-f", "-"], f"table {name} bare {{\n{chains}}}\n")
    try:
        with judging(site, packets=True) as seen:
            server = site.udp("host", "", PORT)
            for _ in range(2):
                asker = site.ask(server, "server", site.virtual)
                answer(site, server, asker)
                assert not asker.answered()
                seen.hear()
    finally:
        site.world.run("host", ["nft", "delete", "table", name, "bare"])
    assert seen.verdicts == ["exposed"]
    first, second = seen.events
    assert (first.meaning.condition, second.meaning.condition) == (None, CONDITION)
    for event in seen.events:
        assert event.process is not None
        assert event.process.pid == os.getpid()
    assert "python" in first.meaning.text or "pytest" in first.meaning.text


def test_a_server_that_connects_within_the_window_is_named_as_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flows are read when the window is over, and so are the sockets that they are held to."""
    listening = gather._listen  # the one place where the window is
    began: list[Asker] = []

    def begin(watches: tuple[Watch[object], ...], window: float) -> None:
        if window and not began:
            server = site.udp("host", "", PORT)
            began.append(asker := site.ask(server, "client", site.virtual))
            server.connect(asker.peer)
            server.send(b"answer")
            assert not asker.answered()
            asker.socket.send(b"and again")
        listening(watches, 0.0)

    monkeypatch.setattr(gather, "_listen", begin)
    site.world.run("host", ["conntrack", "-F"])
    with site.open:
        found = scan(site.world, window=1.0)
    assert [(f.condition, f.verdict) for f in found if f.verdict == "proven"] == [
        ("udp-connected-server", "proven")
    ]
