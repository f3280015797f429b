"""udp-redirect on the kernel: the failing client's very next datagram is answered.

Beside each way to write NAT, in each form of the redirect, v4 and v6: a client that failed goes on
over the same socket, one that uses the bridge's own address is not disturbed, rollback makes a
new client fail again, and the rules are what they were.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from typing import Any

import forked_cli
import pytest
from udp_client import PORT, client, serving

from remedies.lab import datagram
from remedies.lab.firewall import Firewall
from remedies.lab.ruleset import difference, dump
from remedies.lab.scenarios import udp_proxy_hairpin
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World

FORMS = [
    pytest.param("nft", 4, "nftables", id="nft-v4"),
    pytest.param("nft", 6, "nftables", id="nft-v6"),
    pytest.param("iptables-legacy", 4, "nftables", id="nft-beside-legacy-v4"),
    pytest.param("iptables-nft", 4, "iptables", id="iptables-nft-v4"),
    pytest.param("iptables-legacy", 6, "iptables", id="iptables-legacy-v6"),
]
"""iptables-nft in IPv6 and iptables-legacy in IPv4 are told by test_lab_story."""


def remedy(world: World, *arguments: str, code: int | None = 0) -> dict[str, Any]:
    """Run the command line against the world's host under docker-host; return its JSON."""
    window = () if arguments[0] == "rollback" else ("--window", "0s")
    done = forked_cli.run(*world.remedy, "--policy", "docker-host", *arguments, *window, "--json")
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def verdicts(world: World) -> dict[str, str]:
    """Return the verdict of every UDP finding by condition."""
    done = forked_cli.run(*world.remedy, "scan", "--window", "0s", "--json")
    found = json.loads(done.stdout)["findings"]
    return {f["condition"]: f["verdict"] for f in found if f["condition"].startswith("udp-")}


@pytest.mark.parametrize(("nat", "family", "backend"), FORMS)
def test_the_very_next_datagram_is_answered(nat: str, family: int, backend: str) -> None:
    with serving(nat, family, backend) as world:
        at = addresses(world)
        before = dump(world)
        with (
            client(world, at.uplink) as failing,
            client(world, at.uplink) as second,
            client(world, at.bridge) as neighbour,
        ):
            assert [failing.ask(), second.ask(), neighbour.ask()] == [
                "refused",
                "refused",
                "answered",
            ]
            made = remedy(world, "apply", "--yes")
            assert made["outcome"] == "applied"
            after = {v["condition"]: v["after"] for v in made["verified"]}
            assert after["udp-reply-source"] == "mitigated"
            assert [failing.ask(), failing.ask()] == ["answered", "answered"]
            assert [second.ask(), neighbour.ask()] == ["answered", "answered"]
        with client(world, at.uplink) as third:
            assert third.ask() == "answered"
        assert remedy(world, "apply", "--yes")["outcome"] == "nothing"
        remedy(world, "rollback", "--yes")
        with client(world, at.uplink) as fourth:
            assert fourth.ask() == "refused"
        assert difference(before, dump(world)) == ""


def test_effects_are_told_and_journaled_by_tuple() -> None:
    with serving("nft", 4) as world, client(world, addresses(world).uplink) as failing:
        failing.ask()
        port = failing.end.getsockname()[1]
        (change,) = [c for c in remedy(world, "plan")["changes"] if c["fix"] == "udp-redirect"]
        assert change["effects"] == [
            f"flow:udp/172.17.0.2/{port}/10.21.17.99/{PORT}",
            f"flow:udp/172.17.0.1/{PORT}/172.17.0.2/{port}",
            f"flow:udp/docker0/{PORT}",
        ]
        remedy(world, "apply", "--yes")
        journal = world.run("host", ["find", f"{world.folder}/state", "-name", "journal*"])
        with open(journal.split()[0], encoding="utf-8") as file:
            assert f'"flow:udp/172.17.0.2/{port}/10.21.17.99/{PORT}"' in file.read()


def test_a_client_that_comes_between_plan_and_apply_recovers_too(tmp_path: Any) -> None:
    with serving("nft", 4) as world, client(world, addresses(world).uplink) as first:
        first.ask()
        saved = str(tmp_path / "plan.json")
        remedy(world, "plan", "-o", saved)
        with client(world, addresses(world).uplink) as late:
            assert late.ask() == "refused"
            assert remedy(world, "apply", saved, "--yes")["outcome"] == "applied"
            assert [late.ask(), first.ask()] == ["answered", "answered"]


def test_a_saved_plan_waits_for_its_proof_where_its_fix_can_harm(tmp_path: Any) -> None:
    """The proof times out 30 s after the last client asked, and the fix needs a proven fault."""
    with serving("nft", 4) as world, client(world, addresses(world).uplink) as first:
        first.ask()
        saved = str(tmp_path / "plan.json")
        remedy(world, "plan", "-o", saved)
        world.run("host", ["conntrack", "-D", "-p", "udp", "--dport", str(PORT)])
        world.run("host", ["conntrack", "-D", "-p", "udp", "--sport", str(PORT)])
        assert remedy(world, "apply", saved, "--yes", code=5)["outcome"] == "stale"
        assert first.ask() == "refused"
        assert remedy(world, "apply", saved, "--yes")["outcome"] == "applied"
        assert first.ask() == "answered"


def test_a_second_service_is_added_to_the_one_table() -> None:
    with serving("nft", 4) as world:
        at = addresses(world)
        world.start("host", ["remedies.lab.udp_server", "0.0.0.0", "5353"])
        with client(world, at.uplink) as one, client(world, at.uplink, 5353) as other:
            one.ask()
            remedy(world, "apply", "--yes")
            assert [one.ask(), other.ask()] == ["answered", "refused"]
            made = remedy(world, "apply", "--yes")
            assert [(c["fix"], c["action"]) for c in made["changes"]] == [
                ("udp-redirect", "update")
            ]
            assert [one.ask(), other.ask()] == ["answered", "answered"]
        listed = world.run("host", ["nft", "-s", "list", "table", "inet", "remedy_udp_redirect"])
        assert [line.split("dport ")[1] for line in listed.splitlines() if "dport" in line] == [
            "5353 counter redirect",
            "56789 counter redirect",
        ]


def test_two_proofs_at_once_are_one_table_and_both_are_verified() -> None:
    with serving("nft", 4) as world:
        at = addresses(world)
        world.start("host", ["remedies.lab.udp_server", "0.0.0.0", "5353"])
        with client(world, at.uplink) as one, client(world, at.uplink, 5353) as other:
            assert [one.ask(), other.ask()] == ["refused", "refused"]
            made = remedy(world, "apply", "--yes")
            udp = [v for v in made["verified"] if v["condition"] == "udp-reply-source"]
            assert [v["after"] for v in udp] == ["mitigated", "mitigated"]
            assert [one.ask(), other.ask()] == ["answered", "answered"]


@pytest.mark.parametrize("nat", ["nft", "iptables-nft", "iptables-legacy"])
def test_where_the_port_is_published_it_is_refused_naming_the_rule(nat: str) -> None:
    """The rule came after the proof: an admin's DNAT that the redirect would take from."""
    with serving(nat, 4) as world, client(world, addresses(world).uplink) as failing:
        at = addresses(world)
        assert failing.ask() == "refused"
        Firewall(world).publish(at.uplink, PORT, at.client)
        before = dump(world)
        made = remedy(world, "plan")
        (refused,) = [r for r in made["refused"] if r["fix"] == "udp-redirect"]
        assert str(PORT) in refused["reason"]
        assert "172.17.0.2" in refused["reason"]
        assert not [c for c in made["changes"] if c["fix"] == "udp-redirect"]
        assert [a["fix"] for a in made["advice"]] == ["bind-advice"]
        assert difference(before, dump(world)) == ""


def test_where_another_socket_serves_the_port_on_one_address_it_is_refused() -> None:
    with (
        World("udp-reply-source", Options()) as world,
        world.socket("host", socket.AF_INET, socket.SOCK_DGRAM) as every,
        world.socket("host", socket.AF_INET, socket.SOCK_DGRAM) as one,
    ):
        container_host(world)
        for end in (every, one):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            end.settimeout(5)
        every.bind(("0.0.0.0", PORT))
        with client(world, "10.21.17.99") as failing:
            failing.end.send(b"question")
            _, peer = every.recvfrom(100)
            every.sendto(b"answer", peer)
            assert "udp-redirect" in fixes(remedy(world, "plan"))
            one.bind(("10.21.17.99", PORT))
            made = remedy(world, "plan")
            (refused,) = [r for r in made["refused"] if r["fix"] == "udp-redirect"]
            assert "another socket serves 10.21.17.99" in refused["reason"]
            assert "udp-redirect" not in fixes(made)


def fixes(made: dict[str, Any]) -> list[str]:
    """Return the fixes whose changes are in a plan."""
    return [change["fix"] for change in made["changes"]]


@pytest.mark.parametrize("nat", ["nft", "iptables-nft", "iptables-legacy"])
def test_dockers_own_nat_leaves_the_bridge_out_and_is_no_obstacle(nat: str) -> None:
    """As Docker writes it: DNAT for the published port, but not from the network's own bridge."""
    with World("udp-proxy-hairpin", Options(nat, 4)) as world:
        udp_proxy_hairpin.build(world)
        at = addresses(world)
        tell = ["-p", "udp", "--dport", "4000", "-j", "DNAT", "--to", "172.17.0.3:4000"]
        if nat == "nft":
            world.run(
                "host",
                ["nft", "-f", "-"],
                "add chain ip lab_nat prerouting"
                " { type nat hook prerouting priority -100; policy accept; }\n"
                'add rule ip lab_nat prerouting iifname != "docker0" fib daddr type local '
                "udp dport 4000 counter dnat to 172.17.0.3:4000\n",
            )
        else:
            world.run("host", [nat, "-t", "nat", "-N", "DOCKER"])
            local = ["-m", "addrtype", "--dst-type", "LOCAL", "-j", "DOCKER"]
            world.run("host", [nat, "-t", "nat", "-A", "PREROUTING", *local])
            world.run("host", [nat, "-t", "nat", "-A", "DOCKER", "!", "-i", "docker0", *tell])
        before = dump(world)
        with client(world, at.uplink, 4000) as failing:
            assert failing.ask() == "refused"
            made = remedy(world, "apply", "--yes")
            assert "udp-redirect" in fixes(made)
            assert [failing.ask(), failing.ask()] == ["answered", "answered"]
        remedy(world, "rollback", "--yes")
        assert difference(before, dump(world)) == ""


def test_a_receiver_that_never_answers_is_not_accused() -> None:
    with World("udp-reply-source", Options()) as world:
        container_host(world)
        world.start("host", ["remedies.lab.silent_server", "nobody", "514"])
        with client(world, addresses(world).uplink, 514) as sender:
            assert sender.ask(0.5) == "no answer"
        assert verdicts(world) == {}
        made = remedy(world, "plan")
        assert "udp-redirect" not in fixes(made)
        assert made["advice"] == []


def test_a_server_with_pktinfo_is_healthy_for_both_ip_versions() -> None:
    for family in (4, 6):
        with World("udp-wildcard-v6", Options(family=family, healthy=True)) as world:
            container_host(world)
            world.start("host", ["remedies.lab.pktinfo_server", str(PORT)])
            with client(world, addresses(world).uplink) as asking:
                assert [asking.ask(), asking.ask()] == ["answered", "answered"]
            assert verdicts(world) == {}


def test_clients_that_never_pause_recover() -> None:
    """Flows are deleted while they are in use: what comes in between must not pin the old path."""
    with serving("nft", 4) as world, contextlib.ExitStack() as stack:
        at = addresses(world)
        asking = [stack.enter_context(client(world, at.uplink)) for _ in range(5)]
        assert {one.ask() for one in asking} == {"refused"}
        done = threading.Event()

        def flood() -> None:
            while not done.is_set():
                for one in asking:
                    with contextlib.suppress(ConnectionRefusedError):
                        one.end.send(b"again")

        sender = threading.Thread(target=flood)
        sender.start()
        try:
            made = remedy(world, "apply", "--yes")
        finally:
            done.set()
            sender.join()
        assert {v["after"] for v in made["verified"]} == {"mitigated"}
        for one in asking:
            one.drain(quiet=0.2)
        assert {one.ask() for one in asking} == {"answered"}


ACL = """
table inet acl {{
 chain input {{
  type filter hook input priority filter; policy drop;
  iif "lo" accept
  ct state established,related accept
  {opens}udp dport 56789 accept
  ip6 nexthdr icmpv6 accept
 }}
}}
"""


def unconnected(world: World) -> bool:
    """Ask the uplink's address by a socket that takes an answer from anybody."""
    at = addresses(world)
    with datagram.client(world, "client", at.family) as end:
        end.sendto(b"question", (at.uplink, PORT))
        return bool(select.select([end], [], [], 10)[0])


@pytest.mark.parametrize(("backend", "family"), [("nftables", 4), ("iptables", 6)])
@pytest.mark.parametrize("twin", ["opens one address", "opens the port"])
def test_requests_are_not_sent_where_the_firewall_opens_nothing(
    backend: str, family: int, twin: str
) -> None:
    """Who was answered goes on being answered: by an unconnected socket, from any address."""
    with serving("iptables-nft" if backend == "iptables" else "nft", family, backend) as world:
        at = addresses(world)
        only = f"{'ip6' if family == 6 else 'ip'} daddr {at.uplink} "
        closes = twin == "opens one address"
        world.run("host", ["nft", "-f", "-"], ACL.format(opens=only if closes else ""))
        before = dump(world)
        with client(world, at.uplink) as failing:
            assert failing.ask() != "answered"
            assert unconnected(world)
            made = remedy(world, "apply", "--yes", code=None)
            assert unconnected(world)
            if closes:
                told = json.dumps(made)
                assert f"requests to {at.bridge}" in told
                assert f"opens {at.uplink} alone" in told
                assert "remedy_udp_redirect" not in str(dump(world))
            else:
                assert made["outcome"] == "applied"
                assert failing.ask() == "answered"
                remedy(world, "rollback", "--yes")
        assert difference(before, dump(world)) == ""
