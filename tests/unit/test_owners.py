"""Who else writes a setting: what is known of each program, and how its presence is told."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.facts import Asking, owners
from remedies.facts.owners import ConfigLine, Owners, Writer, concerning
from remedies.facts.writers import KNOWN, Known
from remedies.model import Host
from remedies.rules.kinds import KINDS

LIBERAL = "sysctl:net.netfilter.nf_conntrack_tcp_be_liberal"
ASKING = Asking(Host("h", "m", "k", "host", "b"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(owners, "ROOT", str(tmp_path))
    return tmp_path


def put(root: Path, path: str, text: str = "") -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def test_kube_proxy_is_named_with_what_to_do_instead() -> None:
    (said,) = concerning(LIBERAL, Owners((Writer("kube-proxy", "process 812"),)))
    assert said.startswith("kube-proxy (process 812) sets it to 1 at each start")
    assert said.endswith("set conntrack.tcpBeLiberal in its configuration instead")


def test_nobody_here_is_nobody_named() -> None:
    assert concerning(LIBERAL, Owners()) == ()
    assert concerning(LIBERAL, Owners((Writer("dockerd", "process 1"),))) == ()


def test_a_configuration_line_is_named() -> None:
    key = "net/netfilter/nf_conntrack_tcp_be_liberal"
    line = ConfigLine("tuned", "/etc/tuned/x/tuned.conf", 4, key, "0")
    (said,) = concerning(LIBERAL, Owners(lines=(line,)))
    assert said == "tuned sets it to 0 (/etc/tuned/x/tuned.conf:4): change it there"
    assert concerning("nft:inet/remedy_x", Owners(lines=(line,))) == ()


@pytest.mark.parametrize("known", KNOWN, ids=lambda k: f"{k.writer} {k.pattern}")
def test_what_is_known_can_be_said(known: Known) -> None:
    assert known.pattern.split(":")[0] in KINDS
    assert known.pattern.count("*") <= 1
    assert known.does[0].islower()
    address = known.pattern.replace("*", "x")
    (said, *_) = concerning(address, Owners((Writer(known.writer, "here"),)))
    assert "\n" not in said


@given(st.text(), st.text())
def test_a_pattern_covers_what_begins_and_ends_so(head: str, tail: str) -> None:
    assert owners.matches("a:b*c", f"a:b{head}{tail}c")
    assert not owners.matches("aba*ba", "aba")


def test_this_machine_can_be_read() -> None:
    found = owners.read(ASKING)
    assert all(writer.name and writer.seen for writer in found.writers)


def test_a_running_program_is_seen_by_its_name(root: Path) -> None:
    """A process of that name: the kernel takes any name for this thread group's leader."""
    pid = os.fork()
    if pid == 0:
        ready = os.open("/proc/self/comm", os.O_WRONLY)
        os.write(ready, b"kube-proxy")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    try:
        os.waitpid(pid, os.WUNTRACED)
        assert Writer("kube-proxy", f"process {pid}") in owners.read(ASKING).writers
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_an_enabled_nftables_service_that_flushes_is_seen(root: Path) -> None:
    put(root, "etc/nftables.conf", "#!/usr/sbin/nft -f\nflush ruleset\n")
    assert "nftables.service" not in {w.name for w in owners.read(ASKING).writers}
    put(root, "etc/systemd/system/sysinit.target.wants/nftables.service")
    found = owners.read(ASKING)
    (said,) = concerning("nft:inet/remedy_invalid_drop", found)
    assert said.startswith("nftables.service ('flush ruleset' in /etc/nftables.conf) empties")
    put(root, "etc/nftables.conf", "table inet x {\n}\n")
    assert "nftables.service" not in {w.name for w in owners.read(ASKING).writers}


def test_ufw_counts_when_it_is_enabled(root: Path) -> None:
    put(root, "etc/ufw/sysctl.conf", "\nnet/netfilter/nf_conntrack_tcp_be_liberal=0\n")
    put(root, "etc/ufw/ufw.conf", "ENABLED=no\n")
    assert owners.read(ASKING).lines == ()
    put(root, "etc/ufw/ufw.conf", "ENABLED=yes\n")
    (said,) = concerning(LIBERAL, owners.read(ASKING))
    assert said == "ufw sets it to 0 (/etc/ufw/sysctl.conf:2): change it there"


def test_ufw_takes_our_jumps_out_of_mangle_where_it_manages_the_built_in_chains(root: Path) -> None:
    put(root, "etc/ufw/ufw.conf", "ENABLED=yes\n")
    chain = "iptables:mangle/REMEDY-INVALID"
    put(root, "etc/default/ufw", "# MANAGE_BUILTINS=yes\nMANAGE_BUILTINS=no\n")
    assert concerning(chain, owners.read(ASKING)) == ()
    put(root, "etc/default/ufw", "IPV6=yes\nMANAGE_BUILTINS=yes\n")
    (said,) = concerning(chain, owners.read(ASKING))
    assert said.startswith(
        "ufw-init (MANAGE_BUILTINS=yes in /etc/default/ufw) empties the built-in"
    )
    assert concerning("iptables:raw/REMEDY-NOTRACK", owners.read(ASKING)) == ()


def test_cni_plugins_are_told_by_their_networks(root: Path) -> None:
    put(root, "etc/cni/net.d/README")
    assert concerning("sysctl:net.ipv4.ip_forward", owners.read(ASKING)) == ()
    put(root, "etc/cni/net.d/10-bridge.conflist", "{}")
    put(root, "etc/cni/net.d/20-other.conf", "{}")
    (said,) = concerning("sysctl:net.ipv4.ip_forward", owners.read(ASKING))
    assert said.startswith("CNI plugins (/etc/cni/net.d/10-bridge.conflist) set it to 1")


def test_a_file_too_long_to_read_is_named(root: Path) -> None:
    put(root, "etc/ufw/ufw.conf", "ENABLED=yes\n" + "#" * (1 << 18))
    assert owners.read(ASKING).unread == ("/etc/ufw/ufw.conf: longer than 256 KiB, the rest",)


def test_profiles_that_include_too_many_others_are_cut_off_and_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "_processes", lambda *_: [Writer("tuned", "process 1")])
    put(root, "etc/tuned/active_profile", "p0")
    for number in range(30):
        put(root, f"etc/tuned/p{number}/tuned.conf", f"[main]\ninclude=p{number + 1}\n")
    assert owners.read(ASKING).unread == ("tuned profiles beyond the first 20",)


def test_cloud_init_is_named_by_the_line_of_its_user_data(root: Path) -> None:
    put(
        root,
        "var/lib/cloud/instance/user-data.txt",
        "#cloud-config\nwrite_files:\n  - content: |\n"
        "      net.netfilter.nf_conntrack_tcp_be_liberal = 0\n",
    )
    (said,) = concerning(LIBERAL, owners.read(ASKING))
    assert "user-data.txt:4" in said
    put(root, "etc/cloud/cloud-init.disabled")
    assert concerning(LIBERAL, owners.read(ASKING)) == ()


def test_suspects_never_raise() -> None:
    assert isinstance(owners.suspects(LIBERAL), tuple)
