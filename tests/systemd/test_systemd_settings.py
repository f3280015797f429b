"""What boot files and systemd's own programs do to a machine, and what a scan says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from box import Box
from waiting import eventually

LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
OTHERS = ("ip", "rule", "add", "from", "10.9.8.7", "table", "77", "priority", "1234")
"""A rule as a CNI adds it, which is in none of networkd's files."""
NETWORK = """\
[Match]
Name=d0
[Network]
Address={}/24
"""


@pytest.fixture
def box(boot: Callable[[], Box]) -> Box:
    made = boot()
    made.policy()
    return made


def found(box: Box, condition: str) -> list[dict[str, Any]]:
    """Return what a scan finds of one condition."""
    scan = box.json("scan", "--window", "0")
    return [each for each in scan["findings"] if each["condition"] == condition]


def command(message: str, begin: str, end: str) -> str:
    """Return the command that a message names, from one part of it to another."""
    start = message.index(begin)
    return message[start : message.index(end, start)]


def configured(box: Box, address: str) -> None:
    """Have networkd give the link another address; wait until it has. It mostly clears up first."""
    box.write("/etc/systemd/network/50-d.network", NETWORK.format(address))
    box.run("networkctl", "reload")
    eventually(lambda: address in box.run("ip", "-4", "address", "show", "d0"), 60)


def test_networkd_removes_rules_of_others_as_was_said(box: Box) -> None:
    box.run("ip", "link", "add", "d0", "type", "veth", "peer", "d1")
    box.run("ip", "link", "set", "d1", "up")
    box.run(*OTHERS)
    assert found(box, "networkd-foreign-rules") == [], "it does not run"
    box.run("systemctl", "start", "systemd-networkd")
    assert found(box, "networkd-foreign-rules") == [], "it manages no link"
    configured(box, "10.9.8.1")
    box.run(*OTHERS, code=None)
    (finding,) = found(box, "networkd-foreign-rules")
    assert finding["verdict"] == "exposed"
    configured(box, "10.9.8.2")
    eventually(lambda: "10.9.8.7" not in box.run("ip", "rule"), 60)
    assert found(box, "networkd-foreign-rules") == [], "no rules of others"

    box.run("sh", "-c", command(finding["message"], "mkdir", "; then"))
    box.run("systemctl", "restart", "systemd-networkd")
    box.run(*OTHERS)
    assert found(box, "networkd-foreign-rules") == []
    configured(box, "10.9.8.3")
    assert "10.9.8.7" in box.run("ip", "rule")


def test_a_line_of_sysctl_d_that_nobody_has_read(box: Box) -> None:
    box.write("/etc/sysctl.d/90-site.conf", f"{LIBERAL} = 1\n")
    (finding,) = found(box, "sysctl-not-live")
    assert (finding["verdict"], finding["subject"]) == ("exposed", LIBERAL)
    box.run("sh", "-c", command(finding["message"], "sysctl -w", ";"))
    assert found(box, "sysctl-not-live") == []
    box.run("sysctl", "-w", f"{LIBERAL}=0")
    assert found(box, "sysctl-not-live")
    box.reboot()
    assert found(box, "sysctl-not-live") == [], "the key is there when the lines are read"
