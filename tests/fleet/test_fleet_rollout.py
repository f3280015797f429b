"""Rollouts over real SSH: what works, what fails, and what cuts the line."""

from __future__ import annotations

import json
import shutil

from fleet_host import BUNDLE, TABLE, LightHost, kill_all
from light_fleet import Fleet, run, wait_for_log
from residents import residents
from waiting import eventually

CUT_ALL = (
    "add table inet cut\nadd chain inet cut i { type filter hook input priority -300; }\n"
    "add rule inet cut i tcp dport 22 drop\n"
)
CUT_NEW = CUT_ALL.replace("dport 22", "dport 22 tcp flags & (syn | ack) == syn")
MEND = "delete table inet cut\n"


def pending(host: LightHost) -> bool:
    """Tell whether a change waits there to be confirmed, or is under way."""
    if programs(host):
        return True
    told = host.on("sh", "-c", f"{BUNDLE} status --json || true")
    status = json.loads(told) if told else {}
    return bool(status.get("pending_confirm") or status.get("unfinished"))


def programs(host: LightHost) -> set[int]:
    """Return the host's processes beside sshd's: a guard that has something to undo is one."""
    pids = map(int, run("ip", "netns", "pids", host.netns).split())
    return {pid for pid, name in residents(pids).items() if "sshd" not in name}


def outcomes(host: LightHost) -> list[str]:
    """Return how each transaction of the host ended, as the host itself tells it."""
    told = host.on("sh", "-c", f"{BUNDLE} history --json || true")
    return [row["outcome"] for row in json.loads(told)["transactions"]] if told else []


def without(hosts: dict[str, str], name: str) -> dict[str, str]:
    return {host: text for host, text in hosts.items() if host != name}


def fail_in_the_middle(host: LightHost) -> None:
    """Let the host take the rules for IPv4, and not those for IPv6 that come after them."""
    program = host.folder / "bin" / "ip6tables-nft-restore"
    program.write_text(
        "#!/bin/sh\ncase \" $* \" in *' --test '*|*' -t '*) exit 0;; esac\n"
        # Of an empty namespace, in which a check tries what it will write, it takes them.
        f'[ "$(grep -c : /proc/self/net/dev)" -gt 1 ] || exec {shutil.which(program.name)} "$@"\n'
        "echo 'ip6tables-nft-restore: line 4 failed' >&2\nexit 4\n"
    )
    program.chmod(0o755)


def test_every_kind_of_host_in_one_batch(fleet: Fleet) -> None:
    good = fleet.whole("good", "bullseye")
    done = fleet.host("done")
    done.inside("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_be_liberal=1")
    fleet.host("absent", sshd=False)
    failing = fleet.host("failing", remedy_backend="iptables")
    fail_in_the_middle(failing)
    cut = fleet.whole("cut", "trixie")
    cut.agent(CUT_ALL, MEND)
    new = fleet.host("new-cut")
    new.agent(CUT_NEW, MEND)
    legacy = fleet.host("legacy", legacy=True, exposed=False, remedy_backend="iptables")
    legacy.inside("iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16",
                  "-j", "MASQUERADE")  # fmt: skip
    before = {host.name: host.ruleset() for host in (good, done, failing, new)}
    words = ["apply", "--yes", "--confirm-timeout", "20s", "--undo", "none", "--forks", "10"]
    code, said, output = fleet.remedy(*words)
    states = {name: (word["state"], word["rc"]) for name, word in said.items()}
    assert states == {
        "good": ("confirmed", 0),
        "done": ("untouched", 0),
        "absent": ("unreachable", 9),
        "failing": ("reverted", 3),
        "cut": ("reverted", 7),
        "new-cut": ("reverted", 7),
        "legacy": ("confirmed", 0),
    }, output
    assert code == 3, output
    assert good.has_table()
    assert not cut.has_table()
    assert {h.name: h.ruleset() for h in (done, failing, new)} == without(before, "good")
    assert "REMEDY" in legacy.inside("iptables-legacy-save", "-t", "mangle")
    assert [good.guards(), cut.guards()] == ["", ""]
    assert outcomes(cut) == ["reverted"]

    code, said, output = fleet.remedy("apply", "--yes", "--limit", "good,done,legacy")
    assert code == 0, output
    assert {word["state"] for word in said.values()} == {"untouched"}
    assert not any(word["changed"] for word in said.values())
    assert str(json.dumps(said)).count(TABLE) == 0

    code, said, output = fleet.remedy("rollback", "--yes", "--limit", "good,legacy")
    assert (code, {word["state"] for word in said.values()}) == (0, {"reverted"}), output
    assert good.ruleset() == before["good"]
    assert "REMEDY" not in legacy.inside("iptables-legacy-save", "-t", "mangle")


def test_a_canary_that_goes_wrong_is_undone_and_the_rest_is_left_alone(fleet: Fleet) -> None:
    good = fleet.host("a-good")
    broken = fleet.host("b-broken")
    rest = [fleet.host("c")]
    # Another program of the host takes our table away each time: the fault stays.
    broken.agent(f"delete table inet {TABLE}\n", "")
    code, said, output = fleet.remedy(
        "apply", "--yes", "--batch", "2,100%", "--confirm-timeout", "60s", "--run-dir", "runs"
    )
    assert code == 3, output
    assert (said["b-broken"]["state"], said["b-broken"]["rc"]) == ("reverted", 3), output
    assert (said["a-good"]["state"], said["a-good"]["rc"]) == ("reverted", 0), output
    assert set(said) == {"a-good", "b-broken"}
    assert '"untouched":1' in output
    assert '"halted":"1 of 2 hosts of the batch failed: b-broken"' in output
    assert not any(host.has_table() for host in (good, broken, *rest))


def test_a_killed_controller_leaves_no_host_in_between(fleet: Fleet) -> None:
    whole = [fleet.whole("old", "bullseye"), fleet.whole("new", "trixie")]
    hosts = [fleet.host("light"), *whole]
    before = [host.ruleset() for host in hosts]
    for host in hosts:
        host.agent(CUT_NEW, MEND)
    path = fleet.inventory()
    argv = ["fleet", "apply", "-i", path, "--yes", "--run-dir", "runs", "--confirm-timeout", "25s"]
    with fleet.start("remedy", *argv) as controller:
        log = wait_for_log(fleet.folder / "runs", len(hosts))
        fleet.kill(controller)
    assert all(host.has_table() for host in hosts), "killed too late to show anything"
    assert all("remedy-guard-" in host.guards() for host in whole)
    assert not (log.parent / "summary.json").exists()
    run = log.parent.name
    eventually(lambda: not any(host.has_table() for host in hosts), 60)
    eventually(lambda: not any(host.guards() for host in whole), 10)
    for host in hosts:
        host.end_agent()
    assert [host.ruleset() for host in hosts] == before

    code, said, output = fleet.resume(run)
    assert code == 0, output
    assert {name: word["state"] for name, word in said.items()} == {
        "light": "confirmed", "old": "confirmed", "new": "confirmed",
    }, output  # fmt: skip
    assert all(host.has_table() for host in hosts)
    (groups,) = [line for line in output.splitlines() if '"kind":"groups"' in line]
    given = json.loads(groups)["groups"]
    assert sorted(name for group in given for name in group["hosts"]) == ["light", "new", "old"]
    shown = [change for group in given for change in group["changes"]]
    assert {c["resource"] for c in shown} == {f"nft:inet/{TABLE}"}, groups
    assert all("+" in c["diff"] for c in shown)
    assert (log.parent / "summary.json").exists()
    words = ["fleet", "rollback", "--run", run, "--run-dir", "runs", "--yes", "--json"]
    code, out, err = fleet.call("remedy", *words)
    assert code == 0, out + err
    assert [host.ruleset() for host in hosts] == before


def test_what_a_killed_front_end_leaves_running_settles_each_host_too(fleet: Fleet) -> None:
    """Only the front end is killed: Ansible's workers may live on and finish their hosts."""
    hosts = [fleet.host(name) for name in ("a", "b", "c")]
    before = [host.ruleset() for host in hosts]
    words = ["--yes", "--run-dir", "runs", "--confirm-timeout", "20s", "--forks", "2"]
    with fleet.start("remedy", "fleet", "apply", "-i", fleet.inventory(), *words) as controller:
        log = wait_for_log(fleet.folder / "runs", 1)
        controller.kill()
        eventually(lambda: all(not pending(host) for host in hosts), 60)
        kill_all(fleet.netns)  # what still runs there: nothing that could change a host any more
        controller.communicate(timeout=60)
    left = {host.name: set(outcomes(host)) for host in hosts}
    assert all(found <= {"confirmed", "reverted"} for found in left.values()), left
    for host, were in zip(hosts, before, strict=True):
        assert host.has_table() or host.ruleset() == were

    code, _, output = fleet.resume(log.parent.name)
    assert code == 0, output
    assert all(host.has_table() for host in hosts)
    assert (log.parent / "summary.json").exists()


def test_approved_plans_are_applied_as_they_are_and_a_stale_one_is_refused(fleet: Fleet) -> None:
    hosts = [fleet.host(name) for name in ("a", "b", "c")]
    done = fleet.host("done", exposed=False)
    code, _, output = fleet.remedy("plan", "-o", "plans")
    assert code == 0, output
    groups = json.loads(output.splitlines()[-1])["groups"]
    assert [(group["summary"], group["hosts"]) for group in groups] == [
        ([f"+ nft:inet/{TABLE}"], ["a", "b", "c"]),
        ([], ["done"]),
    ]
    (change,) = groups[0]["changes"]
    assert f"+table inet {TABLE} {{" in change["diff"], change
    hosts[0].inside("nft", "delete", "table", "ip", "world_nat")
    code, said, output = fleet.remedy("apply", "plans", "--yes")
    assert code == 5, output
    assert {name: (word["state"], word["rc"]) for name, word in said.items()} == {
        "a": ("untouched", 5), "b": ("confirmed", 0), "c": ("confirmed", 0),
    }, output  # fmt: skip
    assert "moved" in said["a"]["message"]
    assert [host.has_table() for host in (*hosts, done)] == [False, True, True, False]

    plan = fleet.folder / "plans" / "plans" / "a.json"
    plan.write_text(plan.read_text().replace("drop", "accept"))
    hosts[0].expose()
    code, said, output = fleet.remedy("apply", "plans", "--yes", "--limit", "a")
    assert (code, said["a"]["state"]) == (65, "untouched"), output
    assert "is not what was approved" in said["a"]["message"]
