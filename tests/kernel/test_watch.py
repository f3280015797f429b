"""``remedy watch`` on real namespaces: faults put in and taken out, restarts, ends, kills."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watching import PATIENCE, LiveWatch, watching

from remedies.facts import sysctl
from remedies.lab import flow_table
from remedies.lab.world import child_environment
from remedies.namespaces import find
from remedies.namespaces.netns import inside
from remedies.netfilter import legacy
from remedies.netlink.socket import NETLINK_NETFILTER, NETLINK_ROUTE, messages
from remedies.watch import pulse
from remedies.watch.pulse import Pulse
from remedies.watch.visits import Beats, Visits

Make = Callable[..., str]

NAT = """\
table ip theirs {
chain postrouting { type nat hook postrouting priority 100
ip saddr 192.0.2.0/24 masquerade
}
}
"""
CONDITION = "tcp-invalid-reset"
DELETED = 17
"""RTM_DELLINK."""
ROUNDS = int(os.environ.get("REMEDY_WATCH_ROUNDS", "5"))
"""How often a fault is put in and taken out."""


def put_in(run_in: Any, name: str) -> None:
    run_in(name, ["nft", "-f", "-"], stdin=NAT)


def take_out(run_in: Any, name: str) -> None:
    run_in(name, ["nft", "delete", "table", "ip", "theirs"])


def test_a_fault_is_seen_and_clears_with_the_reason_every_time(
    netns: Make, run_in: Any, tmp_path: Path
) -> None:
    """Nothing is said twice, and nothing of what did not happen."""
    name = netns()
    with watching(tmp_path, netns=name) as watch:
        assert watch.await_line(kind="watch")["baseline"] is None
        ready = watch.await_line(kind="watch-ready")
        assert (ready["namespaces"], ready["exposed"], ready["unknown"]) == (1, 0, 0)
        for _ in range(ROUNDS):
            put_in(run_in, name)
            seen = watch.await_line(kind="watch-event")
            assert (seen["event"], seen["condition"]) == ("appeared", CONDITION)
            assert (seen["verdict"], seen["before"]) == ("exposed", None)
            assert "ruleset" in seen["reason"]
            take_out(run_in, name)
            gone = watch.await_line(kind="watch-event")
            assert (gone["event"], gone["condition"]) == ("cleared", CONDITION)
            assert (gone["verdict"], gone["before"]) == (None, "exposed")
            assert "ruleset" in gone["reason"]
            assert gone["since"] == seen["since"]
            assert gone["netns_key"] == seen["netns_key"] != "host"
        kinds = [line["kind"] for line in watch.end()]
    assert kinds == ["watch", "watch-ready", *["watch-event"] * (2 * ROUNDS)]


STANDING = (
    NAT
    + """\
table ip mapped {
chain prerouting { type nat hook prerouting priority -100
ip daddr 203.0.113.1 udp dport 8080 dnat to 192.0.2.9:80
}
}
"""
)
RAW = ("iptables-legacy", "-w", "-t", "raw")
ESTABLISHED = "net.netfilter.nf_conntrack_tcp_timeout_established"


def untracked(port: int) -> tuple[str, ...]:
    return "-p", "udp", "--dport", str(port), "-j", "CT", "--notrack"


QUIET = {
    "idle-timeout": (
        ("sysctl", "-qw", f"{ESTABLISHED}=300"),
        ("sysctl", "-qw", f"{ESTABLISHED}=432000"),
        ESTABLISHED,
    ),
    "notrack-breaks-nat": (
        (*RAW, "-R", "PREROUTING", "1", *untracked(8080)),
        (*RAW, "-R", "PREROUTING", "1", *untracked(8081)),
        "legacy ip table raw",
    ),
}
"""Faults that move no counter and no size: what puts each in, what takes it out, what shows it."""


MOVES = {
    "ip address add 198.51.100.1/32 dev lo": "links and addresses",
    "ip link set lo mtu 1400": "links and addresses",
    "sysctl -qw net.ipv4.conf.lo.forwarding=1": "links and addresses",
    "ip route add 203.0.113.0/24 dev lo": "routes",
    "ip route add 2001:db8:9::/48 dev lo": "IPv6 routes",
    "sysctl -qw net.ipv4.conf.all.route_localnet=1": "net.ipv4.conf.all.route_localnet",
    "nft add table ip theirs": "nf_tables ruleset",
    "iptables-legacy -w -P FORWARD DROP": "legacy ip table filter",
}
"""What somebody may do in a namespace, and the state of its pulse that shows it."""


def test_the_pulse_of_a_namespace_at_rest_shows_each_change_once(netns: Make, run_in: Any) -> None:
    """Nothing is sent, so that no counter helps."""
    name = netns()
    run_in(name, ["ip", "link", "set", "lo", "up"])
    run_in(name, ["iptables-legacy", "-w", "-N", "USER"])
    with inside(name):
        before = pulse.read(pulse.read())
    for change, shown in MOVES.items():
        run_in(name, change.split())
        with inside(name):
            now = pulse.read(before)
            again = pulse.read(now)
        assert [line for line in pulse.changed(before, now) if line.startswith(shown)], change
        assert pulse.changed(now, again) == (), change
        before = again


def test_the_last_of_many_routes_is_in_the_pulse(netns: Make, run_in: Any) -> None:
    """The kernel hands out a page of them at a time: 31 lines."""
    name = netns()
    routes = [f"route add 198.51.100.{number}/32 dev lo\n" for number in range(40)]
    run_in(name, ["ip", "-batch", "-"], stdin="".join(routes[:-1]))
    with inside(name):
        before = pulse.read()
    run_in(name, ["ip", "-batch", "-"], stdin=routes[-1])
    with inside(name):
        assert "routes changed" in pulse.changed(before, pulse.read(before))


def test_sockets_of_others_change_no_pulse(netns: Make) -> None:
    """What sockstat says of TCP is the whole machine's."""
    name = netns()
    with inside(name):
        before = pulse.read(pulse.read())
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM), inside(name):
        assert pulse.read(before) is before


def test_what_moves_no_counter_and_no_size_is_seen_too(
    netns: Make, run_in: Any, tmp_path: Path
) -> None:
    name = netns()
    run_in(name, ["nft", "-f", "-"], stdin=STANDING)
    run_in(name, [*RAW, "-A", "PREROUTING", *untracked(8081)])
    with watching(tmp_path, netns=name) as watch:
        watch.await_line(kind="watch-ready")
        for condition, (fault, healed, shown) in QUIET.items():
            run_in(name, list(fault))
            seen = watch.await_line(kind="watch-event", condition=condition)
            assert (seen["event"], seen["verdict"]) == ("appeared", "exposed")
            assert shown in seen["reason"]
            run_in(name, list(healed))
            assert watch.await_line(kind="watch-event", condition=condition)["event"] == "cleared"
        watch.end()


PRESSED = """\
apiVersion: remedy/v1
name: pressed
extends: default
rules:
  conntrack-pressure: {mode: advise, from: exposed, params: {threshold_percent: 1}}
"""


def test_a_full_table_is_seen_by_the_policy_s_percent_and_not_scanned_at_every_look(
    netns: Make, run_in: Any, tmp_path: Path
) -> None:
    """What the pulse shows is not asked for again: a scan for each thing that moves."""
    name, numbers, policy = netns(), tmp_path / "numbers", tmp_path / "pressed.yaml"
    policy.write_text(PRESSED)
    with inside(name):
        flows = -(-int(sysctl.value(flow_table.MAX)) // 100)
        ctnetlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    full = {"kind": "watch-event", "condition": "conntrack-pressure"}
    words = ("--policy", str(policy), "--metrics", str(numbers))
    with ctnetlink, watching(tmp_path / "state", *words, netns=name) as watch:
        watch.await_line(kind="watch-ready")
        flow_table.make(ctnetlink, "192.0.2.1", 5000, flows)
        seen = watch.await_line(**full)
        assert (seen["event"], seen["verdict"]) == ("appeared", "active")
        assert "conntrack's table" in seen["reason"]
        for _ in range(ROUNDS):
            put_in(run_in, name)
            watch.await_line(kind="watch-event", condition=CONDITION, event="appeared")
            take_out(run_in, name)
            watch.await_line(kind="watch-event", condition=CONDITION, event="cleared")
        scans = re.search(r"^remedy_scan_duration_seconds_count (\d+)", numbers.read_text(), re.M)
        assert scans is not None
        assert int(scans[1]) <= 1 + 1 + 2 * ROUNDS
        run_in(name, ["conntrack", "-F"])
        gone = watch.await_line(**full)
        assert (gone["event"], gone["before"]) == ("cleared", "active")
        assert "conntrack's table" in gone["reason"]
        watch.end()


def test_traffic_moves_no_legacy_table_and_each_change_does(netns: Make, run_in: Any) -> None:
    name = netns()
    run_in(name, ["ip", "link", "set", "lo", "up"])
    filters = ["iptables-legacy", "-w"]
    run_in(name, [*filters, "-A", "INPUT", "-p", "udp", "--dport", "9", "-j", "ACCEPT"])
    with inside(name):
        states, entries = [legacy.state("ip", "filter")], legacy.read("ip", "filter").entries
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("127.0.0.1", 9))
        assert legacy.read("ip", "filter").entries != entries  # its counters
        assert legacy.state("ip", "filter") == states[0]
    for change in (["-R", "INPUT", "1", "-p", "udp", "--dport", "10", "-j", "ACCEPT"],
                   ["-P", "FORWARD", "DROP"]):  # fmt: skip
        run_in(name, [*filters, *change])
        with inside(name):
            states.append(legacy.state("ip", "filter"))
    assert len(set(states)) == len(states)
    assert len({state.partition(", sum")[0] for state in states}) == 1


def test_a_restart_goes_on_from_where_it_was(netns: Make, run_in: Any, tmp_path: Path) -> None:
    """Also after SIGKILL: what was known is not told again, what cleared meanwhile is."""
    name = netns()
    put_in(run_in, name)
    with watching(tmp_path, netns=name) as watch:
        first = watch.await_line(kind="watch-event")
        watch.await_line(kind="watch-ready")
        before = watch.end()[0]
    with watching(tmp_path, netns=name) as watch:
        begun = watch.await_line(kind="watch")
        assert begun["known"] == 1
        assert before["time"] <= begun["baseline"]
        ready = watch.await_line(kind="watch-ready")
        assert ready["exposed"] == 1
        assert [line["kind"] for line in watch.lines] == ["watch", "watch-ready"]
        watch.child.kill()
    take_out(run_in, name)
    with watching(tmp_path, netns=name) as watch:
        gone = watch.await_line(kind="watch-event")
        assert (gone["event"], gone["since"]) == ("cleared", first["since"])
        assert "started again" in gone["reason"]
        watch.end()


def test_namespaces_come_and_go_and_none_is_taken_for_another(
    netns: Make, run_in: Any, tmp_path: Path
) -> None:
    """One name, and maybe one inode, for two namespaces after each other: the cookie tells them."""
    other = netns()
    name = netns()
    with watching(tmp_path, "--all-netns") as watch:
        watch.await_line(kind="watch-ready")
        put_in(run_in, name)
        seen = watch.await_line(kind="watch-event", netns=name)
        assert (seen["event"], seen["netns_name"]) == ("appeared", name)
        subprocess.run(["ip", "netns", "del", name], check=True)
        subprocess.run(["ip", "netns", "add", name], check=True)
        gone = watch.await_line(kind="watch-event", netns_key=seen["netns_key"])
        assert (gone["event"], gone["condition"]) == ("cleared", CONDITION)
        assert "ended" in gone["reason"]
        put_in(run_in, name)
        again = watch.await_line(kind="watch-event", netns=name, event="appeared")
        assert again["netns_key"] != seen["netns_key"]
        assert watch.child.poll() is None
        lines = watch.end()
    assert [line for line in lines if line.get("netns") == other] == []


def test_a_look_leaves_the_process_where_it_is(netns: Make) -> None:
    """Who ends the processes of a namespace ends those whose first thread is in it."""
    name = netns()
    places = [each for each in find.find()[0] if each.name == name]
    home = os.readlink("/proc/self/ns/net")
    seen: list[str] = []

    def before(_: str) -> Pulse:
        seen.extend(os.readlink(f"/proc/{who}/ns/net") for who in ("self", "thread-self"))
        return pulse.NONE

    with contextlib.closing(Visits("b" * 8, 80.0)) as visits:
        assert len(visits.pulses(places, before)) == 1
    assert seen == [home, f"net:[{places[0].inode}]"]


def descriptors() -> int:
    """Return how many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_what_is_held_open_is_each_namespace_s_own_and_keeps_none_alive(
    netns: Make, run_in: Any
) -> None:
    """A namespace that has ended takes its links with it, and nothing of it stays open."""
    name, other = netns(), netns()
    run_in(other, ["ip", "link", "add", "ours", "type", "veth", "peer", "theirs", "netns", name])
    places = {each.name: each for each in find.find()[0] if each.name in (name, other)}
    visits, before = Visits("b" * 8, 80.0), descriptors()
    beats: Beats = {}

    def look() -> dict[str, Pulse]:
        nonlocal beats
        known = beats
        beats = visits.pulses(places.values(), lambda k: known[k][1] if k in known else pulse.NONE)
        return {place.name: beat for place, beat in beats.values()}

    with contextlib.closing(visits):
        first = look()
        held = descriptors() - before
        assert held > 0
        run_in(name, ["sysctl", "-qw", f"{ESTABLISHED}=300"])
        second = look()
        assert pulse.changed(first[name], second[name]) == (f"{ESTABLISHED}: 432000 -> 300",)
        assert pulse.changed(first[other], second[other]) == ()
        assert descriptors() - before == held
        with inside(other):
            events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
        with events:
            events.bind((0, 1))  # RTMGRP_LINK
            events.settimeout(PATIENCE)
            subprocess.run(["ip", "netns", "del", name], check=True)
            while all(kind != DELETED for kind, *_ in messages(events.recv(1 << 16))):
                pass
        assert set(look()) == {other}
        assert descriptors() - before == held // 2
    assert descriptors() == before


def test_a_killed_watch_leaves_no_process(netns: Make, tmp_path: Path) -> None:
    name = netns()
    with watching(tmp_path, "--window", "30s", netns=name) as watch:
        watch.await_line(kind="watch")
        children = await_children(watch)
        watch.child.send_signal(signal.SIGKILL)
        for descriptor in children:
            assert select.select([descriptor], [], [], PATIENCE)[0], "a scan outlives its watch"
            os.close(descriptor)


def await_children(watch: LiveWatch) -> list[int]:
    """Return a pidfd for each process that the watch has begun, once there is one."""
    pid = watch.child.pid
    path = Path(f"/proc/{pid}/task/{pid}/children")
    while not (words := path.read_text().split()):
        assert watch.child.poll() is None
    return [os.pidfd_open(int(word)) for word in words]


def test_two_watches_of_the_same_do_not_share_a_baseline(netns: Make, tmp_path: Path) -> None:
    name = netns()
    with watching(tmp_path, netns=name) as watch:
        watch.await_line(kind="watch")
        done = subprocess.run(
            [sys.executable, "-m", "remedies", "--state-dir", str(tmp_path), "--netns", name,
             "watch"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=child_environment(),
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (6, "")
        assert name not in done.stderr
        assert len(done.stderr.splitlines()) == 1
        watch.end()
