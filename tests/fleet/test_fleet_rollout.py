"""Rollouts over real SSH: what works, what fails, and what cuts the line."""

from __future__ import annotations

import json

from light_fleet import TABLE, Fleet, fleet, wait_for_log, wait_until

__all__ = ["fleet"]

CUT_ALL = (
    "add table inet cut\nadd chain inet cut i { type filter hook input priority -300; }\n"
    "add rule inet cut i tcp dport 22 drop\n"
)
CUT_NEW = CUT_ALL.replace("dport 22", "dport 22 tcp flags & (syn | ack) == syn")
MEND = "delete table inet cut\n"


def test_every_kind_of_host_in_one_batch(fleet: Fleet) -> None:
    good = fleet.host("good")
    done = fleet.host("done")
    done.inside("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_be_liberal=1")
    fleet.host("absent", sshd=False)
    cut = fleet.host("cut")
    cut.agent(CUT_ALL, MEND)
    new = fleet.host("new-cut")
    new.agent(CUT_NEW, MEND)
    legacy = fleet.host("legacy", legacy=True, exposed=False, remedy_backend="iptables")
    legacy.inside("iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16",
                  "-j", "MASQUERADE")  # fmt: skip
    words = ["apply", "--yes", "--confirm-timeout", "8s", "--undo", "none", "--forks", "10"]
    code, said, output = fleet.remedy(*words)
    states = {name: (word["state"], word["rc"]) for name, word in said.items()}
    assert states == {
        "good": ("confirmed", 0),
        "done": ("untouched", 0),
        "absent": ("unreachable", 9),
        "cut": ("reverted", 7),
        "new-cut": ("reverted", 7),
        "legacy": ("confirmed", 0),
    }, output
    assert code == 7, output
    assert good.has_table()
    assert not cut.has_table()
    assert not new.has_table()
    assert not done.has_table()
    assert "REMEDY" in legacy.inside("iptables-legacy-save", "-t", "mangle")

    code, said, output = fleet.remedy("apply", "--yes", "--limit", "good,done,legacy")
    assert code == 0, output
    assert {word["state"] for word in said.values()} == {"untouched"}
    assert not any(word["changed"] for word in said.values())
    assert str(json.dumps(said)).count(TABLE) == 0


def test_a_canary_that_goes_wrong_is_undone_and_the_rest_is_left_alone(fleet: Fleet) -> None:
    good = fleet.host("a-good")
    broken = fleet.host("b-broken")
    rest = [fleet.host(name) for name in ("c", "d")]
    # Another program of the host takes our table away each time: the fault stays.
    broken.agent(f"delete table inet {TABLE}\n", "")
    code, said, output = fleet.remedy(
        "apply", "--yes", "--batch", "2,100%", "--confirm-timeout", "20s", "--run-dir", "runs"
    )
    assert code == 3, output
    assert (said["b-broken"]["state"], said["b-broken"]["rc"]) == ("reverted", 3), output
    assert (said["a-good"]["state"], said["a-good"]["rc"]) == ("reverted", 0), output
    assert set(said) == {"a-good", "b-broken"}
    assert '"untouched":2' in output
    assert '"halted":"1 of 2 hosts of the batch failed: b-broken"' in output
    assert not any(host.has_table() for host in (good, broken, *rest))


def test_a_write_that_fails_in_the_middle_is_undone_on_its_host_alone(fleet: Fleet) -> None:
    failing = fleet.host("failing", remedy_backend="iptables")
    program = failing.folder / "bin" / "ip6tables-nft-restore"
    program.write_text(
        "#!/bin/sh\ncase \" $* \" in *' --test '*|*' -t '*) exit 0;; esac\n"
        "echo 'ip6tables-nft-restore: line 4 failed' >&2\nexit 4\n"
    )
    program.chmod(0o755)
    good = fleet.host("good")
    before = failing.ruleset()
    code, said, output = fleet.remedy("apply", "--yes", "--max-fail", "1", "--batch", "1")
    assert code == 3, output
    assert (said["failing"]["state"], said["failing"]["rc"]) == ("reverted", 3), output
    assert said["good"]["state"] == "confirmed", output
    assert failing.ruleset() == before
    assert good.has_table()


def test_a_killed_controller_leaves_no_host_in_between(fleet: Fleet) -> None:
    hosts = [fleet.host(name) for name in ("one", "two")]
    for host in hosts:
        host.agent(CUT_NEW, MEND)
    path = fleet.inventory()
    argv = ["fleet", "apply", "-i", path, "--yes", "--run-dir", "runs", "--confirm-timeout", "6s"]
    with fleet.start("remedy", *argv) as controller:
        log = wait_for_log(fleet.folder / "runs", 2)
        controller.kill()
        controller.communicate()
    assert all(host.has_table() for host in hosts), "killed too late to show anything"
    run = log.parent.name
    wait_until(lambda: not any(host.has_table() for host in hosts), 12)
    for host in hosts:
        host.end_agent()

    code, said, output = fleet.resume(run)
    assert code == 0, output
    assert {name: word["state"] for name, word in said.items()} == {
        "one": "confirmed", "two": "confirmed",
    }, output  # fmt: skip
    assert all(host.has_table() for host in hosts)
    assert (log.parent / "summary.json").exists()


def test_approved_plans_are_applied_as_they_are_and_a_stale_one_is_refused(fleet: Fleet) -> None:
    hosts = [fleet.host(name) for name in ("a", "b", "c")]
    done = fleet.host("done", exposed=False)
    code, _, output = fleet.remedy("plan", "-o", "plans")
    assert code == 0, output
    groups = json.loads(output.splitlines()[-1])["groups"]
    assert groups == [
        {"summary": [f"+ nft:inet/{TABLE}"], "hosts": ["a", "b", "c"]},
        {"summary": [], "hosts": ["done"]},
    ]
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
