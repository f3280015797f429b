"""Print what a fleet costs: ``python tests/bench/fleet_speed.py [HOSTS...]``, as root.

Fifty hosts with a local connection and twenty forks, planned by the playbook and by ``remedy
fleet``, beside a no-op ``script`` task and five settings as modules on the same inventory. Then
simulated hosts, whose Python answers at once with what a host said before: what is left is the
controller. Nothing fails here; :mod:`figures` says how costs are judged.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import figures

from remedies import shipped

BIN = os.path.dirname(sys.executable)
NETNS = "remedy-bench-fleet"
PYTHON = "/usr/bin/python3"
"""Of the hosts."""
HOSTS = 50
FORKS = 20
ROUNDS = 5
NAT = """
table ip world_nat {
  chain post {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 172.17.0.0/16 masquerade
  }
}
"""
SCRIPT = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.script: noop.sh
"""
MODULES = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.command: sysctl -n net.netfilter.nf_conntrack_tcp_be_liberal
    - ansible.builtin.command: iptables-nft -w -t mangle -S INPUT
    - ansible.builtin.command: iptables-nft -w -t mangle -S FORWARD
    - ansible.builtin.command: iptables-nft -w -t raw -S PREROUTING
    - ansible.builtin.command: iptables-nft -w -t raw -S OUTPUT
"""


def measured(
    commands: dict[str, list[str]], folder: Path, rounds: int = 1
) -> dict[str, figures.Cost]:
    """Run programs of the controller in the namespace, in turn; return what each took."""
    environment = {**os.environ, "HOME": str(folder), "ANSIBLE_FORKS": str(FORKS)}
    there = ["nsenter", f"--net=/run/netns/{NETNS}", f"--wd={folder}"]
    inside = {n: [*there, os.path.join(BIN, argv[0]), *argv[1:]] for n, argv in commands.items()}
    return figures.rounds(inside, rounds, environment, PYTHON)


def inventory(folder: Path, hosts: int, python: str) -> str:
    """Write an inventory of local hosts and return its path."""
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": python,
        "remedy_window": "0s",
        "ansible_become": False,
        "remedy_state_dir": str(folder / "state"),
    }
    names: dict[str, dict[str, str]] = {f"host{number:04}": {} for number in range(hosts)}
    path = folder / f"inventory-{hosts}.json"
    path.write_text(json.dumps({"all": {"vars": common, "hosts": names}}))
    return str(path)


def local(part: figures.Part, folder: Path) -> None:
    """Compare on fifty real hosts, all of them this one."""
    names = {"script.yml": SCRIPT, "modules.yml": MODULES, "noop.sh": "#!/bin/sh\n"}
    for name, text in names.items():
        (folder / name).write_text(text)
    where = ["-i", inventory(folder, HOSTS, PYTHON)]
    plan = os.path.join(shipped.folder("playbooks"), "plan.yml")
    commands = {
        "script": ["ansible-playbook", *where, "script.yml"],
        "plan.yml": ["ansible-playbook", *where, plan],
        "fleet plan": ["remedy", "fleet", "plan", *where],
    }
    measured({"plan.yml": commands["plan.yml"]}, folder)  # builds the bundle and brings it
    costs = measured(commands, folder, ROUNDS)
    script = costs.pop("script")
    # Once: they take half a minute, and are far from a target.
    modules = measured({"modules": ["ansible-playbook", *where, "modules.yml"]}, folder)["modules"]
    part.row(f"a no-op script on {HOSTS} hosts", script.processor, "s")
    for name, cost in costs.items():
        # Twice a script was named when a plan might cost eight interpreters: as much as a script
        # takes for a host, 76 ms. What a host takes beside it is judged as a plan is.
        more = (cost.starts - script.starts) / HOSTS
        part.row(f"{name}: a host beside a script / bare interpreter", more, "x", figures.PLAN_MOST)
        part.row("  all of it / script", cost.processor / script.processor, "x")
        part.row("  by the clock", cost.clock / script.clock, "x")
        # Five modules are 16 scripts by those targets.
        least = 16 * script.starts / (script.starts + HOSTS * figures.PLAN_MOST)
        part.row(f"five modules / {name}", modules.processor / cost.processor, "x", least,
                 least=True)  # fmt: skip


def simulated(part: figures.Part, folder: Path, counts: list[int]) -> None:
    """Show how time and memory grow with hosts that cost nothing themselves."""
    one = inventory(folder, 1, PYTHON)
    measured({"plan": ["remedy", "fleet", "plan", "-i", one, "-o", "said"]}, folder)
    plan = next((folder / "said" / "plans").glob("*.json"))
    stub = folder / "python3"
    stub.write_text(f'#!/bin/sh\necho "remedy $5"\ncat {plan}\n')
    stub.chmod(0o755)
    costs = []
    for count in counts:
        path = inventory(folder, count, str(stub))
        argv = ["remedy", "fleet", "plan", "-i", path, "-o", f"p-{count}"]
        costs.append(measured({"plan": argv}, folder)["plan"])
        part.row(f"fleet plan of {count} simulated hosts", costs[-1].processor, "s")
    for (few, low), (many, high) in itertools.pairwise(zip(counts, costs, strict=True)):
        more = many - few
        part.row(f"a host more, {few} to {many}", (high.processor - low.processor) / more, "s")
        part.row("  its memory", (high.memory - low.memory) / more, "MB", 1)


def main(words: list[str]) -> None:
    """Measure in a namespace that has the fault; it is gone afterwards."""
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    try:
        subprocess.run(["ip", "-n", NETNS, "link", "set", "lo", "up"], check=True)
        nft = ["ip", "netns", "exec", NETNS, "nft", "-f", "-"]
        subprocess.run(nft, input=NAT, text=True, check=True)
        with tempfile.TemporaryDirectory(prefix="remedy-bench-") as name:
            part = figures.Part("fleet")
            local(part, Path(name))
            simulated(part, Path(name), [int(word) for word in words] or [100, 300, 1000])
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
