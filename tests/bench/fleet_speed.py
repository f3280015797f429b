"""Print what a fleet costs: ``python tests/bench/fleet_speed.py [HOSTS...]``, as root.

Fifty hosts with a local connection and twenty forks, planned by the playbook and by ``remedy
fleet``, beside a no-op ``script`` task and five settings as modules on the same inventory. Then
simulated hosts, whose Python answers at once with what a host said before: what is left is the
controller. Nothing fails here: figures are for people.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from remedies import shipped

BIN = os.path.dirname(sys.executable)
NETNS = "remedy-bench-fleet"
FORKS = 20
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


def measure(title: str, argv: list[str], folder: Path) -> tuple[float, float]:
    """Run once and print a row; return seconds and the peak MB of its largest process."""
    environment = {**os.environ, "HOME": str(folder), "ANSIBLE_FORKS": str(FORKS)}
    argv = ["nsenter", f"--net=/run/netns/{NETNS}", os.path.join(BIN, argv[0]), *argv[1:]]
    begun = time.perf_counter()
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, env=environment, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds, memory = time.perf_counter() - begun, usage.ru_maxrss / 1024
    if process.returncode != 0:
        sys.exit(f"{title}: exit {process.returncode}\n{(folder / 'output').read_text()[-2000:]}")
    print(f"{title:52} {seconds:8.2f} s {memory:7.1f} MB", flush=True)
    return seconds, memory


def inventory(folder: Path, hosts: int, python: str) -> str:
    """Write an inventory of local hosts and return its path."""
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": python,
        "remedy_window": "0s",
        "remedy_become": False,
        "remedy_state_dir": str(folder / "state"),
    }
    names: dict[str, dict[str, str]] = {f"host{number:04}": {} for number in range(hosts)}
    path = folder / f"inventory-{hosts}.json"
    path.write_text(json.dumps({"all": {"vars": common, "hosts": names}}))
    return str(path)


def local(folder: Path) -> None:
    """Compare on fifty real hosts, all of them this one."""
    names = {"script.yml": SCRIPT, "modules.yml": MODULES, "noop.sh": "#!/bin/sh\n"}
    for name, text in names.items():
        (folder / name).write_text(text)
    where = ["-i", inventory(folder, 50, "/usr/bin/python3")]
    plan = os.path.join(shipped.folder("playbooks"), "plan.yml")
    measure("(first time: build the bundle, bring it)", ["ansible-playbook", *where, plan], folder)
    for _ in range(3):
        noop, _ = measure("script, a no-op", ["ansible-playbook", *where, "script.yml"], folder)
        ours, _ = measure("playbooks/plan.yml", ["ansible-playbook", *where, plan], folder)
        front, _ = measure("remedy fleet plan", ["remedy", "fleet", "plan", *where], folder)
        five, _ = measure("five modules", ["ansible-playbook", *where, "modules.yml"], folder)
        print(f"  plan.yml / script {ours / noop:.2f}, fleet plan / script {front / noop:.2f} "
              f"(target <= 2); modules / plan.yml {five / ours:.1f}, modules / fleet plan "
              f"{five / front:.1f} (target >= 8)")  # fmt: skip


def simulated(folder: Path, counts: list[int]) -> None:
    """Show how time and memory grow with hosts that cost nothing themselves."""
    one = inventory(folder, 1, "/usr/bin/python3")
    measure("(what one host says)", ["remedy", "fleet", "plan", "-i", one, "-o", "said"], folder)
    plan = next((folder / "said" / "plans").glob("*.json"))
    stub = folder / "python3"
    stub.write_text(f'#!/bin/sh\necho "remedy $5"\ncat {plan}\n')
    stub.chmod(0o755)
    first = None
    for count in counts:
        path = inventory(folder, count, str(stub))
        argv = ["remedy", "fleet", "plan", "-i", path, "-o", f"plans-{count}"]
        seconds, memory = measure(f"{count} simulated hosts", argv, folder)
        if first is not None:
            more = count - first[0]
            each, size = (seconds - first[1]) / more * 1000, (memory - first[2]) / more
            print(f"  a further host: {each:.1f} ms, {size:.3f} MB (target <= 1 MB)")
        else:
            first = (count, seconds, memory)


def main(words: list[str]) -> None:
    """Measure in a namespace that has the fault; it is gone afterwards."""
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    try:
        subprocess.run(["ip", "-n", NETNS, "link", "set", "lo", "up"], check=True)
        nft = ["ip", "netns", "exec", NETNS, "nft", "-f", "-"]
        subprocess.run(nft, input=NAT, text=True, check=True)
        with tempfile.TemporaryDirectory(prefix="remedy-bench-") as name:
            local(Path(name))
            simulated(Path(name), [int(word) for word in words] or [100, 300, 1000])
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
