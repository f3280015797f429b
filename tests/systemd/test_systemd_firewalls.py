"""Beside the real firewalld, ufw and Docker at a real boot: theirs as without us, ours there too.

Each starts first, so that its rules without ours are known; where these would make a fix needless
(firewalld and ufw drop INVALID themselves) it is off again while ours is applied. Then it is
enabled, and the machine is restarted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from box import Box, start
from debian import Root, root_folder

from remedies.values import replace

NAT = """\
table ip theirs {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "eth9" masquerade
    }
}
"""
KEY = "net.netfilter.nf_conntrack_tcp_be_liberal"
DROP_IN = "/etc/sysctl.d/99-zz-remedy-tcp-be-liberal.conf:2"
RESTORE = "remedy-restore@invalid-drop.service"
UNITS = (
    "containerd.service",
    "docker.service",
    "docker.socket",
    "firewalld.service",
    "ufw.service",
)


@dataclass(frozen=True)
class Product:
    """One program that loads rules at boot."""

    units: tuple[str, ...]
    rules: tuple[tuple[str, ...], ...]
    """What prints its rules."""
    sign: str
    """What stands in them while it is at work."""
    backend: str = "nftables"
    stops: bool = True
    empties: bool = False
    """A later start of it takes our rules away."""
    ready: tuple[str, ...] = ("true",)
    """What ends once its rules are loaded, where systemd takes it for started before."""


TABLES = tuple(
    (f"{program}-nft-save", "-t", table)
    for program in ("iptables", "ip6tables")
    for table in ("filter", "nat")
)
FIREWALLD = Product(
    ("firewalld.service",),
    (("nft", "-s", "list", "table", "inet", "firewalld"),),
    "invalid",
    # It is on the bus before its rules are loaded, and says then that it does not run.
    ready=("sh", "-c", "until firewall-cmd --quiet --state; do sleep 0.2; done"),
)
PRODUCTS = {
    "firewalld": FIREWALLD,
    "firewalld-iptables": replace(FIREWALLD, backend="iptables", empties=True),
    "ufw": Product(("ufw.service",), TABLES, "ufw-before-input", backend="iptables"),
    "docker": Product(
        ("containerd.service", "docker.socket", "docker.service"), TABLES, "DOCKER", stops=False
    ),
}


@pytest.fixture(scope="module")
def with_firewalls() -> Root:
    return root_folder("bookworm", extra=("docker.io", "firewalld", "ufw"))


@pytest.fixture
def box(with_firewalls: Root) -> Iterator[Box]:
    made = start(with_firewalls, masked=UNITS)
    try:
        # An overlay cannot lie over the overlay that the machine is.
        made.run("mkdir", "-p", "/etc/docker")
        made.write("/etc/docker/daemon.json", json.dumps({"storage-driver": "vfs"}))
        made.run("sed", "-i", "s/^ENABLED=.*/ENABLED=yes/", "/etc/ufw/ufw.conf")
        yield made
    finally:
        made.machine.close()


_ENABLE = 'systemctl enable --now "$@" || { journalctl --boot --lines=60 >&2; exit 1; }'
"""What a unit that does not start says of it is in the journal alone."""


def theirs(box: Box, product: Product) -> list[str]:
    """Return its rules once they are loaded, without counters, comments and our NAT table."""
    box.run(*product.ready)
    lines = [line for words in product.rules for line in box.run(*words).splitlines()]
    lines = [re.sub(r"\[\d+:\d+\]", "", line) for line in lines if not line.startswith("#")]
    return [line for line in lines if "masquerade" not in line and "theirs" not in line]


def in_force(status: dict[str, Any]) -> dict[str, str]:
    return {entry["resource"]: entry["state"] for entry in status["in_force"]}


@pytest.mark.parametrize("name", PRODUCTS)
def test_after_a_boot_both_are_in_force(box: Box, name: str) -> None:
    product = PRODUCTS[name]
    box.run("systemctl", "unmask", *product.units)
    box.run("sh", "-c", _ENABLE, "sh", *product.units)
    without_us = theirs(box, product)
    assert any(product.sign in line for line in without_us)
    if product.stops:
        box.run("systemctl", "stop", *product.units)
        box.run("nft", "-f", "-", stdin=NAT)
    box.policy("invalid-drop", "tcp-be-liberal", every=True, backend=product.backend)
    assert box.json("apply", "--yes", "--window", "0")["outcome"] == "applied"
    ours = in_force(box.json("status"))

    box.reboot()
    assert theirs(box, product) == without_us
    status = box.json("status")
    assert in_force(status) == ours
    assert set(ours.values()) == {"ours"}
    decides = {entry["decided_by"] for entry in status["boot"]}
    assert decides == {RESTORE, DROP_IN}
    assert box.run("sysctl", "-n", KEY) == "1\n"
    assert box.run("systemctl", "is-active", *product.units, RESTORE).split() == [
        "active" for _ in (*product.units, RESTORE)
    ]
    failed = ("systemctl", "list-units", "--failed", "--quiet", "--plain", "--no-legend")
    assert box.run(*failed, *product.units, "remedy*") == ""

    # Its own restart works, and leaves ours alone or brings them back; if not, status says so.
    box.run("systemctl", "restart", product.units[-1])
    assert theirs(box, product) == without_us
    if product.empties:
        assert "gone" in in_force(box.json("status", code=2)).values()
        box.run("systemctl", "restart", RESTORE)
    box.run("systemctl", "start", RESTORE)  # systemctl waited for the named unit alone
    assert in_force(box.json("status")) == ours
    assert box.json("rollback", "--yes", "--every")["outcome"] == "rolled-back"
    assert theirs(box, product) == without_us
