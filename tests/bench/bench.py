"""Print what one host costs, side by side in one run: ``make bench``.

Whole processes in an ordinary Docker host's namespace; :mod:`figures` says how they are judged.
``python tests/bench/bench.py [PART...]`` measures some parts alone.
"""

from __future__ import annotations

import compileall
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import drop_tap as drop_tap_costs
import figures
import ordinary

import remedies
from remedies.namespaces.netns import inside
from remedies.netfilter.chains import NARROW

NAME = "remedy-bench"
ROUNDS = 9
MORE_ROUNDS = 15
"""Where commands are compared that take nearly the same."""
FLOWS = 250_000
RULES = 50_000
SOCKETS = 10_000
BIN = os.path.dirname(sys.executable)
PLAN = ("plan", "--window", "0")
A_RULE = 0.015
"""Bare interpreters that it takes to decode a rule and to lead packets through it: 0.6 million
instructions. Of a chain by address or port that is done for NARROW rules, and no more."""
MODULES = """
- hosts: all
  tasks:
    - ansible.builtin.command: sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1
    - ansible.builtin.iptables: {table: mangle, chain: INPUT, ctstate: INVALID, jump: DROP}
    - ansible.builtin.iptables: {table: mangle, chain: FORWARD, ctstate: INVALID, jump: DROP}
    - ansible.builtin.iptables: {table: raw, chain: PREROUTING, protocol: udp, jump: ACCEPT}
    - ansible.builtin.iptables: {table: raw, chain: OUTPUT, protocol: udp, jump: ACCEPT}
"""
"""Five settings of the same kind, as people write them."""


DUMP = """
import sys, time
from remedies.facts.netfilter import open_stores
from remedies.namespaces.netns import inside
with inside(sys.argv[1]):
    stores, _ = open_stores(time.monotonic() + 60)
    for store in stores:
        for family, table in store.tables():
            for chain in store.chains(family, table):
                for _ in store.raw(family, table, chain):
                    pass
"""
"""The kernel's own dump of every chain, read and thrown away."""


@contextmanager
def world(rules: int, flows: int, tool: str = "iptables-nft") -> Iterator[None]:
    """Have an ordinary host for the length of a ``with`` block."""
    ordinary.remove(NAME)
    try:
        ordinary.build(NAME, rules, flows, tool=tool)
        yield
    finally:
        ordinary.remove(NAME)


@contextmanager
def empty() -> Iterator[None]:
    """Have a namespace with nothing in it for the length of a ``with`` block."""
    ordinary.remove(NAME)
    try:
        subprocess.run(["ip", "netns", "add", NAME], check=True)
        yield
    finally:
        ordinary.remove(NAME)


def remedy(*words: str) -> list[str]:
    """Return the command line of ``remedy`` in the world."""
    command = shutil.which("remedy", path=BIN) or "remedy"
    return [command, "--netns", NAME, "--state-dir", STATE, *words]


def in_world(*argv: str) -> list[str]:
    """Return a command line that runs another program in the world."""
    return ["ip", "netns", "exec", NAME, *argv]


def start_up() -> None:
    """Help, a verb's help and a plan against a bare interpreter, in instructions."""
    part = figures.Part("start")
    bare = figures.instructions([sys.executable, "-I", "-c", "pass"])
    part.row("python -I -c pass", bare / 1e6, "M")
    commands: dict[tuple[str, ...], float] = {("--help",): 4, ("--version",): 4}
    # A verb's help loads what the verb runs.
    commands |= dict.fromkeys((("plan", "--help"), ("apply", "--help"), PLAN), figures.PLAN_MOST)
    with empty():
        for words, most in commands.items():
            cost = figures.instructions([sys.executable, *remedy(*words)])
            part.row(f"remedy {' '.join(words)} / bare", cost / bare, "x", most)
    # Starting is 8.5 of these. The rest is decoding each rule that packets may meet, and leading
    # packets through them (A_RULE).
    with world(100, 1000):
        cost = figures.instructions([sys.executable, *remedy(*PLAN)])
        part.row("  beside 100 rules and 1,000 flows", cost / bare, "x", figures.PLAN_MOST)


def one_host() -> None:
    """Plan, apply, apply again and roll back on an ordinary Docker host; Ansible beside it."""
    part = figures.Part("one host")
    policy = os.path.join(STATE, "bench.yaml")
    with open(policy, "w") as file:
        file.write(
            "apiVersion: remedy/v1\nname: bench\nextends: default\nrules:\n"
            "  tcp-invalid-reset:\n    mode: fix\n    from: exposed\n"
            "    fixes: {all: [invalid-drop, tcp-be-liberal]}\n"
            "    accept_harm: [invalid-drop]\n"
            "require:\n  - fix: notrack\n    reason: to be measured\n"
            f"    params: {{protocol: udp, ports: [9], addresses: [{ordinary.UPLINK}]}}\n"
        )
    chosen = ("--policy", policy, "--window", "0")
    apply = remedy("apply", "--yes", *chosen)
    with world(100, 1000):
        steps = {
            "plan": remedy("plan", *chosen),
            "apply": apply,
            "again": apply,
            "status": remedy("status"),
            "check": remedy("check"),
            "rollback": remedy("rollback", "--yes"),
        }
        costs = figures.rounds(steps, MORE_ROUNDS)
        plan, first, again = costs["plan"], costs["apply"], costs["again"]
        part.cost("plan --window 0 (100 rules, 1,000 flows)", plan)  # judged by "start"
        part.row("  its memory", plan.memory, "MB", 45)
        part.row("apply --yes / plan", first.ratio(plan), "x", 2)
        part.row("  by the clock", first.ratio(plan, "clock"), "x", 2)
        part.row("apply again / plan", again.ratio(plan), "x", 1.2)
        part.cost("status", costs["status"])
        part.cost("rollback", costs["rollback"])
        part.row("check, by the clock", costs["check"].clock, "s", 1.5)
        book = os.path.join(STATE, "modules.yml")
        with open(book, "w") as file:
            file.write(MODULES)
        play = in_world(os.path.join(BIN, "ansible-playbook"), "-i", "h,", "-c", "local",
                        "-e", "ansible_python_interpreter=/usr/bin/python3", book)  # fmt: skip
        theirs = figures.rounds({"check": [*play, "--check", "--diff"], "apply": play}, 1)
        part.row("five Ansible modules, --check --diff / plan",
                 theirs["check"].processor / plan.processor, "x", 20, least=True)  # fmt: skip
        # A fifteenth with six conditions: with today's an apply may cost as much more as a plan.
        part.row("five Ansible modules / apply", theirs["apply"].processor / first.processor,
                 "x", 15 * 8 / figures.PLAN_MOST, least=True)  # fmt: skip
    with world(100, 1000, "iptables-legacy"):
        steps = {"apply": [*apply, "--backend", "iptables"], "rollback": steps["rollback"]}
        legacy = figures.rounds(steps, 3)["apply"]
        part.row("apply to legacy tables / to nftables' own",
                 legacy.processor / first.processor, "x", 2)  # fmt: skip


def many_rules() -> None:
    """Plan beside 50,000 rules of somebody else, in one chain, with three matches each."""
    part = figures.Part("rules")
    for tool in ("nft", "iptables-nft", "iptables-legacy"):
        with world(100, 100, tool):
            few = figures.rounds({"plan": remedy(*PLAN)}, ROUNDS)["plan"]
        with world(RULES, 100, tool):
            dumping = [sys.executable, "-c", DUMP, NAME]
            costs = figures.rounds({"plan": remedy(*PLAN), "dump": dumping}, ROUNDS)
        many, dump = costs["plan"], costs["dump"].processor
        narrowed = NARROW * A_RULE * many.processor / many.starts
        most = 1.5 * few.processor + dump + narrowed
        part.row(f"plan beside {RULES:,} rules of {tool}", many.processor, "s", round(most, 3))
        part.row("  its memory", many.memory, "MB", 60)
        part.row("  a rule more", (many.processor - few.processor) / (RULES - 100) * 1e6, "us")


def many_flows() -> None:
    """Plan beside many flows, one in a hundred without a reply."""
    part = figures.Part("flows")
    with open("/proc/sys/net/netfilter/nf_conntrack_max") as file:
        room = int(file.read())  # the machine's, which is not ours to raise
    with world(100, 1000):
        few = figures.rounds({"plan": remedy(*PLAN)}, ROUNDS)["plan"]
    for flows in (room * 3 // 4, min(FLOWS, room - 1000)):
        with world(100, flows):
            costs = figures.rounds({"list": in_world("conntrack", "-L"), "plan": remedy(*PLAN)}, 3)
        plan = costs["plan"]
        full = " (who fills it is counted too)" if flows > room * 0.9 else ""
        part.row(f"plan beside {flows:,} flows of {room:,}{full} / conntrack -L",
                 plan.ratio(costs["list"]), "x", 0.5)  # fmt: skip
        part.row("  its memory", plan.memory, "MB", 60)
        part.row("  a flow more", (plan.processor - few.processor) / (flows - 1000) * 1e6, "us")


def many_sockets() -> None:
    """Plan beside 10,000 UDP sockets, 1,000 of them on the wildcard address."""
    import resource

    part = figures.Part("sockets")
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOCKETS + 1000, SOCKETS + 1000))
    with world(100, 0):
        few = figures.rounds({"plan": remedy(*PLAN)}, ROUNDS)["plan"]
        with inside(NAME), ExitStack() as open_sockets:
            for number in range(SOCKETS):
                each = open_sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                each.bind(("" if number % 10 == 0 else "127.0.0.1", 20_000 + number))
            costs = figures.rounds({"ss": in_world("ss", "-uanp"), "plan": remedy(*PLAN)}, 3)
    more = costs["plan"].processor - few.processor
    part.row(f"{SOCKETS:,} UDP sockets more in a plan / ss -uanp",
             more / costs["ss"].processor, "x", 2)  # fmt: skip
    part.row("  a socket more", more / SOCKETS * 1e6, "us")


def drop_tap() -> None:
    """Attach the drop tap, with and without the kernel's types kept; a dropped packet."""
    part = figures.Part("drop tap")
    part.row("attach, the kernel's types read", drop_tap_costs.attach() * 1e3, "ms")
    kept = drop_tap_costs.attach(os.path.join(STATE, "cache"))
    part.row("attach, the kernel's types kept", kept * 1e3, "ms", 10)
    with empty():
        subprocess.run(in_world("ip", "link", "set", "lo", "up"), check=True)
        rules = (
            "table inet bench { chain i { type filter hook input priority 0; "
            f"udp dport {drop_tap_costs.PORT} drop; }}; }}"
        )
        subprocess.run(in_world("nft", rules), check=True)
        without, tapped = drop_tap_costs.dropped_packet(NAME)
    part.row("a dropped packet, sent and dropped", without * 1e9, "ns")
    part.row("  more with the tap", (tapped - without) * 1e9, "ns", 2000)


PARTS = {
    "start": start_up,
    "host": one_host,
    "rules": many_rules,
    "flows": many_flows,
    "sockets": many_sockets,
    "tap": drop_tap,
}

if __name__ == "__main__":
    compileall.compile_dir(os.path.dirname(remedies.__file__), quiet=1)  # as an installed one is
    with tempfile.TemporaryDirectory() as STATE:
        failed = 0
        for word in sys.argv[1:] or PARTS:
            try:
                PARTS[word]()
            except Exception:
                traceback.print_exc()
                failed = 1
    sys.exit(failed)
