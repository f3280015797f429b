"""A machine that goes down while files for its boot are written: whole before, or whole after.

The writer and its guard are killed at a named point (``remedies.transaction.crash_points``), and
the machine is restarted as it is, without shutting down.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from box import REMEDY, Box

KEY = "net.netfilter.nf_conntrack_tcp_be_liberal"
NFTABLES_CONF = """\
#!/usr/sbin/nft -f
flush ruleset
table ip theirs {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "eth9" masquerade
    }
}
"""
FAULTY = '''\
"""Run the command line; at the point whose number is the first argument kill it and its guard."""
import os, signal, sys

from remedies import cli
from remedies.transaction import crash_points, guard

at, me, seen, armed = int(sys.argv[1]), os.getpid(), [], []
arm = guard.arm
told = open("/root/points", "w")


def noted(*words):
    armed.append(arm(*words))
    return armed[-1]


def hit(name):
    if os.getpid() != me:
        return
    print(name, file=told, flush=True)
    seen.append(name)
    if len(seen) == at:
        os.kill(armed[-1]._pid, signal.SIGKILL)
        os.kill(me, signal.SIGKILL)


guard.arm, crash_points.hit = noted, hit
sys.argv[1:] = sys.argv[2:]
sys.exit(cli.main(sys.argv[1:]))
'''
LEFT = """\
find /etc/systemd/system /etc/sysctl.d /etc/modules-load.d /etc/remedy /var/lib/remedy 2>/dev/null \
    -path '/etc/*remedy*' -o -name 'recover-*' | sort
nft -s list ruleset
"""


@pytest.fixture
def box(boot: Callable[[], Box]) -> Box:
    made = boot()
    made.write("/etc/nftables.conf", NFTABLES_CONF)
    made.run("systemctl", "enable", "--now", "nftables.service")
    made.write("/root/faulty.py", FAULTY)
    made.policy("invalid-drop", "tcp-be-liberal", every=True)
    return made


def dump(box: Box) -> str:
    """Return what is of ours, and every rule."""
    return box.run("sh", "-c", LEFT) + box.run("sysctl", "-n", KEY)


def faulty(box: Box, at: int, *words: str, code: int) -> list[str]:
    """Run a command line that dies at its ``at``-th point; return the points it has passed."""
    run = [*REMEDY[:-2], "/root/faulty.py", str(at), words[0], "--policy", "/etc/test-policy.json"]
    box.run(*run, *words[1:], code=code)
    return box.run("cat", "/root/points").splitlines()


def reboot(box: Box) -> None:
    box.reboot("--force", "--force")
    assert (
        box.run(
            "systemctl", "list-units", "--failed", "--quiet", "--plain", "--no-legend", "remedy*"
        )
        == ""
    )


APPLY = ("apply", "--yes", "--window", "0")


def test_an_apply_is_undone_at_boot_unless_it_had_ended(box: Box) -> None:
    before = dump(box)
    points = faulty(box, 0, *APPLY, code=0)
    after = dump(box)
    assert KEY.rpartition(".")[2] not in before
    armed = points.index("after arming for boot")
    files = [i for i, name in enumerate(points) if name.startswith("after write file:")]
    assert len(files) == 5
    assert min(files) > armed
    assert box.json("rollback", "--yes", "--every")["outcome"] == "rolled-back"
    assert dump(box) == before
    for at in (armed, files[0], files[3], points.index("before end"), len(points) - 1):
        name = points[at]
        assert faulty(box, at + 1, *APPLY, code=-9)[-1] == name
        assert dump(box) != before
        reboot(box)
        status = box.json("status", code=0 if name == "after end" else 2)
        if name == "after end":
            assert dump(box) == after
            assert {e["state"] for e in status["in_force"]} == {"ours"}
            continue
        assert dump(box) == before, name
        assert len(status["unfinished"]) == 1
        assert "restarted" in box.remedy("status", code=2)
        assert "Too late" in box.remedy("confirm", code=7)
        assert box.json("status")["unfinished"] == []


def test_a_rollback_is_carried_to_its_end_at_boot(box: Box) -> None:
    before = dump(box)
    assert box.json(*APPLY)["outcome"] == "applied"
    undo = ("rollback", "--yes", "--every")
    points = faulty(box, 0, *undo, code=0)
    assert dump(box) == before
    at = [i for i, name in enumerate(points) if name.startswith("after write file:")][2]
    assert box.json(*APPLY)["outcome"] == "applied"
    assert faulty(box, at + 1, *undo, code=-9)[-1] == points[at]
    reboot(box)
    assert dump(box) == before
    assert len(box.json("status", code=2)["unfinished"]) == 1
    box.remedy(*undo)
    assert dump(box) == before
    assert box.json("status")["unfinished"] == []
