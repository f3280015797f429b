"""Exported playbooks on whole hosts, run by plain ansible-playbook: nothing of ours is there."""

from __future__ import annotations

import json
import re

from fleet_host import LightHost
from light_fleet import Fleet

POLICY = """\
apiVersion: remedy/v1
name: lasting
persist: true
rules:
  tcp-invalid-reset:
    mode: fix
    from: exposed
    fixes: {all: [invalid-drop, tcp-be-liberal]}
    accept_harm: [invalid-drop]
"""
FLOWS = {port: f"udp/192.0.2.1/{port}/192.0.2.2/53" for port in (4001, 4002)}
"""Stale flows; the one with the second port has been answered since."""


def play(fleet: Fleet, name: str, *options: str) -> tuple[dict[str, int], str]:
    """Run an exported playbook; return how many tasks changed something on each host, and all."""
    inventory = fleet.inventory(ansible_pipelining=True)
    argv = ["ansible-playbook", "-i", inventory, f"out/{name}", "-e", "remedy_hosts=all"]
    code, out, err = fleet.call(*argv, *options)
    assert code == 0, out + err
    recap = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+)", out, re.MULTILINE)
    return {host: int(number) for host, number in recap}, out


def kept(host: LightHost) -> tuple[str, str, str]:
    """Return the rules, the setting, and our files."""
    files = "find /etc -path '*remedy*' -printf '%p %m\\n' -type f -exec cat {} ';'"
    key = host.inside("sysctl", "net.netfilter.nf_conntrack_tcp_be_liberal")
    return host.ruleset(), key, host.on("sh", "-c", files)


def test_the_exported_plan_of_a_whole_host_is_applied_there_and_undone(fleet: Fleet) -> None:
    old = fleet.whole("old", "bullseye")
    near = fleet.host("near")
    (fleet.folder / "policy.yaml").write_text(POLICY)
    (fleet.folder / "policy.yaml").chmod(0o600)
    words = ["--limit", "old", "--policy", "policy.yaml", "-o", "plans"]
    code, _, output = fleet.remedy("plan", *words)
    assert code == 0, output
    path = fleet.folder / "plans/plans/old.json"
    plan = json.loads(path.read_text())
    plan["findings"][0]["details"]["port"] = "53"  # what an effect may be about
    plan["changes"][0]["effects"] = [f"flow:{flow}" for flow in FLOWS.values()] + [
        "flow:udp/eth0/53"
    ]
    path.write_text(json.dumps(plan))
    export = ("remedy", "export", "ansible", str(path), "-o", "out")
    code, out, err = fleet.call(*export)
    found = re.search(r"plan_id [0-9a-f]*, content ([0-9a-f]+)", out + err)
    assert found is not None, out + err
    path.write_text(json.dumps({**plan, "plan_id": found[1]}))
    code, out, err = fleet.call(*export)
    assert code == 0, out + err

    hosts = (old, near)
    for host in hosts:
        for port, answered in ((4001, []), (4002, ["-u", "SEEN_REPLY"]), (4003, [])):
            host.inside("conntrack", "-I", "-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2",
                        "--sport", str(port), "--dport", "53", "--timeout", "600",
                        *answered)  # fmt: skip
    before = [kept(host) for host in hosts]
    changed, said = play(fleet, "apply.yml", "--check", "--diff", "--limit", "near")
    assert (set(changed), min(changed.values()) >= 2) == ({"near"}, True), said
    assert [kept(host) for host in hosts] == before
    changed, said = play(fleet, "apply.yml")
    assert (set(changed), min(changed.values()) >= 2) == ({"old", "near"}, True), said
    for host, were in zip(hosts, before, strict=True):
        assert host.has_table()
        assert all(one != other for one, other in zip(were, kept(host), strict=True))
    ports = [
        sorted(re.findall(r"sport=(400\d) dport=53 ", host.inside("conntrack", "-L", "-p", "udp")))
        for host in hosts
    ]
    assert ports == [["4001", "4002", "4003"], ["4002", "4003"]]
    assert said.count("left to time out, remedy deletes every other unreplied flow of hosts") >= 2
    # Debian's minimal system has no conntrack(8): of both flows it is said so.
    assert said.count('"msg": "conntrack gives no answer: left to time out') == 2
    assert play(fleet, "apply.yml", "--limit", "old")[0] == {"old": 0}
    changed, said = play(fleet, "rollback.yml")
    assert min(changed.values()) >= 2, said
    assert [kept(host) for host in hosts] == before
    assert play(fleet, "rollback.yml", "--limit", "near")[0] == {"near": 0}
