"""Rollback by compare-and-swap: what somebody changed since is shown with all it was, and stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty import KEY, Host

DROP_IN = "root/etc/sysctl.d/99-zz-remedy-tcp-be-liberal.conf"
NAMED = """\
import sys
with open("/proc/self/comm", "w") as file:
    file.write(sys.argv[1])
print("named", flush=True)
sys.stdin.read()
"""


def edit_nft(host: Host) -> None:
    host.sh("nft", "add", "rule", "inet", "remedy_invalid_drop", "output", "counter")


def edit_chain(host: Host) -> None:
    host.sh(host.backend, "-t", "mangle", "-A", "REMEDY-INVALID", "-p", "udp", "-j", "ACCEPT")


def edit_file(host: Host) -> None:
    (host.folder / DROP_IN).write_text("# somebody's\n")


EDITS = (
    ("nftables", "invalid-drop", edit_nft, "nft:inet/remedy_invalid_drop"),
    ("iptables-nft", "invalid-drop", edit_chain, "iptables:mangle/REMEDY-INVALID"),
    ("iptables-legacy", "invalid-drop", edit_chain, "iptables:mangle/REMEDY-INVALID"),
    ("nftables", "tcp-be-liberal", edit_file, f"file:/{DROP_IN.partition('/')[2]}"),
)


@pytest.mark.parametrize(("backend", "fix", "edit", "resource"), EDITS)
def test_what_somebody_changed_stays_until_it_is_forced(
    netns: Callable[..., str],
    tmp_path: Path,
    backend: str,
    fix: str,
    edit: Callable[[Host], None],
    resource: str,
) -> None:
    host = Host(netns("drift"), tmp_path, backend, fix).prepare()
    before = host.dump()
    assert host.run("apply", "--yes").code == 0
    edit(host)
    theirs = host.dump()
    refused = host.run("rollback", "--yes", "--json")
    assert refused.code == 1, refused.out
    (said,) = refused.json["drift"]
    assert said.startswith(f"{resource} was changed by somebody else: before ")
    assert ", written by remedy " in said
    assert ", now " in said
    assert host.dump() == theirs
    assert host.run("status").code == 2
    assert host.run("rollback", "--yes", "--force").code == 0
    assert host.dump() == before
    assert host.run("status").code == 0


def test_a_key_that_somebody_set_back_is_undone_already(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    """This one has two values only: no third can be found."""
    host = Host(netns("drift"), tmp_path, "nftables", "tcp-be-liberal").prepare()
    before = host.dump()
    assert host.run("apply", "--yes").code == 0
    host.sh("sysctl", "-qw", f"{KEY}=0")
    assert host.run("status").code == 2
    assert host.run("rollback", "--yes").code == 0
    assert host.dump() == before


@contextmanager
def running(ns: str, name: str) -> Iterator[str]:
    """Have a process of this name in a namespace; yield how messages call it."""
    argv = ["nsenter", f"--net=/run/netns/{ns}", sys.executable, "-c", NAMED, name]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None
        assert made.stdout.readline() == "named\n"
        yield f"{name} (process {made.pid})"


def test_a_plan_names_who_is_known_to_write_the_same(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    host = Host(netns("drift"), tmp_path, "nftables", "tcp-be-liberal").prepare()
    with running(host.ns, "kube-proxy") as named:
        told = host.run("plan").out
    assert f"{named} sets it to 1 at each start where its conntrack.tcpBeLiberal is true" in told
    assert "set conntrack.tcpBeLiberal in its configuration instead" in told


def test_a_refusal_names_who_is_known_to_write_the_same(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    host = Host(netns("drift"), tmp_path, "iptables-nft", "invalid-drop").prepare()
    assert host.run("apply", "--yes").code == 0
    edit_chain(host)
    with running(host.ns, "firewalld") as named:
        refused = host.run("rollback", "--yes")
    assert refused.code == 1
    assert f"{named} empties the iptables tables" in refused.out


def test_a_table_that_somebody_switched_off_is_put_back(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    """``flags dormant`` keeps every rule and lets none work: it is not in force, so not ours."""
    host = Host(netns("drift"), tmp_path, "nftables", "invalid-drop").prepare()
    before = host.dump()
    assert host.run("apply", "--yes").code == 0
    working = host.dump()
    host.sh("nft", "add", "table", "inet", "remedy_invalid_drop", "{ flags dormant; }")
    shown = host.run("status")
    assert shown.code == 2, shown.out
    assert "drifted" in shown.out
    assert host.run("verify").code != 0
    again = host.run("apply", "--yes")
    assert again.code == 0, again.out
    assert host.dump() == working
    assert host.run("status").code == 0
    third = host.run("apply", "--yes", "--json")
    assert third.json["outcome"] == "nothing", third.out
    assert host.run("rollback", "--yes").code == 0
    assert "flags dormant" in host.sh("nft", "list", "table", "inet", "remedy_invalid_drop")
    assert host.run("rollback", "--every", "--yes", "--force").code == 0
    assert host.dump() == before
