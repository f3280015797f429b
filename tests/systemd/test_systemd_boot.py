"""After a real reboot: what was confirmed is in force without Python, the rest is gone.

The host's own nftables.service empties the whole ruleset first, as Debian's does, and loads a
NAT table, which is what makes the fault possible.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from box import Box
from waiting import eventually

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
UNIT = "remedy-restore@invalid-drop.service"
FILES = (
    f"/etc/systemd/system/{UNIT}",
    "/etc/systemd/system/multi-user.target.d/remedy-invalid-drop.conf",
)
LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"


@pytest.fixture
def box(boot: Callable[[], Box]) -> Box:
    made = boot()
    made.write("/etc/nftables.conf", NFTABLES_CONF)
    made.run("systemctl", "enable", "--now", "nftables.service")
    return made


def without_python(box: Box) -> None:
    """Reboot with no Python on the machine, and give it back."""
    box.run("mv", "/usr/bin/python3.11", "/root/python")
    box.reboot()
    assert box.run("systemctl", "is-failed", UNIT, code=None).strip() in ("active", "inactive")
    box.run("mv", "/root/python", "/usr/bin/python3.11")


def tables(box: Box) -> list[str]:
    return box.run("nft", "list", "tables").splitlines()


def comes_back(box: Box) -> None:
    """Wait until the table is there: systemctl waits for the firewall's job, not for ours."""
    eventually(lambda: "table inet remedy_invalid_drop" in tables(box), 60)


def test_a_table_is_back_after_a_reboot_and_gone_after_a_rollback(box: Box) -> None:
    box.policy("invalid-drop")
    applied = box.json("apply", "--yes", "--window", "0")
    assert applied["outcome"] == "applied"
    assert all(map(box.there, (*FILES, "/etc/remedy/boot/invalid-drop.json")))
    in_force = box.run("nft", "list", "table", "inet", "remedy_invalid_drop")

    without_python(box)
    assert tables(box) == ["table ip theirs", "table inet remedy_invalid_drop"]
    assert box.run("nft", "list", "table", "inet", "remedy_invalid_drop") == in_force
    status = box.json("status")
    assert {e["state"] for e in status["in_force"]} == {"ours"}
    assert [(e["decided_by"], e["ours"]) for e in status["boot"]] == [(UNIT, True)]
    assert box.json("apply", "--yes", "--window", "0")["outcome"] == "nothing"

    # What its firewall empties comes back with it: a restart, then a reload.
    for verb in ("restart", "reload"):
        box.run("systemctl", verb, "nftables.service")
        comes_back(box)
        assert box.run("nft", "list", "table", "inet", "remedy_invalid_drop") == in_force

    assert box.json("rollback", "--yes", "--every")["outcome"] == "rolled-back"
    assert tables(box) == ["table ip theirs"]
    gone = (*FILES, "/etc/remedy", "/etc/systemd/system/multi-user.target.d")
    assert not any(map(box.there, gone))
    box.reboot()
    assert tables(box) == ["table ip theirs"]


def test_before_the_first_boot_what_its_firewall_empties_is_seen_and_comes_back_if_told(
    box: Box,
) -> None:
    box.policy("invalid-drop")
    assert box.json("apply", "--yes", "--window", "0")["outcome"] == "applied"
    box.run("systemctl", "reload", "nftables.service")
    status = box.json("status", code=2)
    assert [e["state"] for e in status["in_force"] if e["resource"].startswith("nft:")] == ["gone"]
    assert box.json("apply", "--yes", "--window", "0")["outcome"] == "applied"
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "start", UNIT)
    for verb in ("restart", "reload"):
        box.run("systemctl", verb, "nftables.service")
        comes_back(box)
    assert {e["state"] for e in box.json("status")["in_force"]} == {"ours"}
    assert box.json("rollback", "--yes", "--every")["outcome"] == "rolled-back"
    # systemd still knows the unit, whose file and data are gone: it is passed over.
    box.run("systemctl", "restart", "nftables.service")
    assert tables(box) == ["table ip theirs"]
    assert (
        box.run(
            "systemctl", "list-units", "--failed", "--quiet", "--plain", "--no-legend", "remedy*"
        )
        == ""
    )


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_chains_and_their_jumps_are_there_once_after_a_reboot(box: Box, variant: str) -> None:
    if variant == "legacy":
        box.run("iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-o", "eth9",
                "-j", "MASQUERADE")  # fmt: skip
    box.policy("invalid-drop", backend="iptables")
    assert box.json("apply", "--yes", "--window", "0")["outcome"] == "applied"
    saved = {p: jumps(box, p, variant) for p in ("iptables", "ip6tables")}
    assert all(len(lines) == 3 for lines in saved.values()), saved

    without_python(box)
    assert {p: jumps(box, p, variant) for p in saved} == saved
    assert {e["state"] for e in box.json("status")["in_force"]} == {"ours"}
    for verb in ("restart", "reload"):
        box.run("systemctl", verb, UNIT)
        assert {p: jumps(box, p, variant) for p in saved} == saved


def jumps(box: Box, program: str, variant: str) -> list[str]:
    """Return our chain's rule and every jump to it."""
    lines = box.run(f"{program}-{variant}-save", "-t", "mangle").splitlines()
    return [line for line in lines if line.startswith("-A") and "REMEDY-INVALID" in line]


def test_a_sysctl_wins_over_sysctl_conf_at_boot_and_goes_with_a_rollback(box: Box) -> None:
    box.write("/etc/sysctl.conf", f"{LIBERAL} = 0\n")
    box.policy("tcp-be-liberal")
    assert box.json("apply", "--yes", "--window", "0")["outcome"] == "applied"
    box.run("mv", "/usr/bin/python3.11", "/root/python")
    box.reboot()
    assert box.run("sysctl", "-n", LIBERAL) == "1\n"
    box.run("mv", "/root/python", "/usr/bin/python3.11")
    (decided,) = box.json("status")["boot"]
    ours = "/etc/sysctl.d/99-zz-remedy-tcp-be-liberal.conf:2"
    assert (decided["decided_by"], decided["value"], decided["ours"]) == (ours, "1", True)
    box.write("/etc/sysctl.d/99-zzz.conf", f"\n{LIBERAL.replace('.', '/')}=0\n")
    status = box.json("status", code=2)
    assert {e["state"] for e in status["in_force"]} == {"ours"}
    (decided,) = status["boot"]
    assert (decided["decided_by"], decided["ours"]) == ("/etc/sysctl.d/99-zzz.conf:2", False)
    box.reboot()
    assert box.run("sysctl", "-n", LIBERAL) == "0\n", "status told what the boot would do"
    box.run("rm", "/etc/sysctl.d/99-zzz.conf")
    box.run("sysctl", "-qw", f"{LIBERAL}=1")
    assert box.json("rollback", "--yes", "--every")["outcome"] == "rolled-back"
    box.reboot()
    assert box.run("sysctl", "-n", LIBERAL) == "0\n"


@pytest.mark.parametrize("crash", [False, True])
def test_what_was_never_confirmed_is_gone_with_the_boot(box: Box, crash: bool) -> None:
    """An orderly shutdown lets the guard undo it; after a crash the next writer closes it."""
    box.policy("invalid-drop")
    applied = box.json("apply", "--yes", "--window", "0", "--confirm-timeout", "10m", "--no-wait")
    assert applied["pending_confirm_until"]
    assert "table inet remedy_invalid_drop" in tables(box)
    assert not any(map(box.there, FILES))
    box.reboot("--force", "--force") if crash else box.reboot()
    assert tables(box) == ["table ip theirs"]
    assert not any(map(box.there, FILES))
    status = box.json("status", code=2 if crash else 0)
    assert {entry["state"] for entry in status["in_force"]} <= {"gone"}
    assert bool(status["unfinished"]) is crash
    assert status["pending_confirm"] is None
    assert box.json("apply", "--yes", "--window", "0")["outcome"] == "applied"
    assert box.json("status")["unfinished"] == []
