"""The sysctl driver on a real kernel: read back after each write, refusals in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from run_in import RunIn

from remedies.errors import NotPermitted, WriteFailed
from remedies.namespaces import netns as namespaces
from remedies.resources import sysctl

KEY = "net.netfilter.nf_conntrack_tcp_be_liberal"
Make = Callable[..., str]


@pytest.fixture(autouse=True)
def _nothing_reaches_the_machines_own_values() -> Iterator[None]:
    with namespaces.scratch():
        yield


def test_written_in_one_namespace_only(netns: Make, run_in: RunIn) -> None:
    ns, other = netns(), netns()
    with namespaces.inside(ns):
        assert sysctl.read(KEY) == "0"
        sysctl.check(KEY, "1")
        assert sysctl.read(KEY) == "0", "a check changes nothing"
        sysctl.write(KEY, "1")
        sysctl.write(KEY, "1")
        assert sysctl.read(KEY) == "1"
    assert run_in(ns, ["sysctl", "-n", KEY]).stdout == "1\n"
    assert run_in(other, ["sysctl", "-n", KEY]).stdout == "0\n"
    with namespaces.inside(ns):
        sysctl.write(KEY, "0")
        assert sysctl.read(KEY) == "0"


def test_a_value_of_several_words(netns: Make) -> None:
    with namespaces.inside(netns()):
        sysctl.write("net.ipv4.ip_local_port_range", "20000 30000")
        assert sysctl.read("net.ipv4.ip_local_port_range") == "20000 30000"


def test_a_link_with_a_dot_in_its_name(netns: Make, run_in: RunIn) -> None:
    ns = netns()
    run_in(ns, ["ip", "link", "add", "v.1", "type", "veth", "peer", "w.1"])
    with namespaces.inside(ns):
        sysctl.write("net/ipv4/conf/v.1/rp_filter", "2")
        assert sysctl.read("net.ipv4.conf.v/1.rp_filter") == "2"
        assert sysctl.read("net.ipv4.conf.v.1.rp_filter") is None


def test_a_value_that_the_kernel_refuses(netns: Make) -> None:
    with namespaces.inside(netns()):
        for value in ("2", "yes", "-1"):
            with pytest.raises(WriteFailed, match="refuses"):
                sysctl.write(KEY, value)
        assert sysctl.read(KEY) == "0"


def test_a_value_that_reads_back_otherwise(netns: Make) -> None:
    # proc_dointvec() reads 010 as an octal number
    with namespaces.inside(netns()), pytest.raises(WriteFailed, match=r"wrote 010, reads 8"):
        sysctl.write("net.ipv4.ip_default_ttl", "010")


def test_a_key_that_is_not_this_namespaces_to_write(netns: Make) -> None:
    with namespaces.inside(netns()):
        for act in (sysctl.check, sysctl.write):
            with pytest.raises(NotPermitted, match=r"nf_conntrack_max.*does not let"):
                act("net.netfilter.nf_conntrack_max", "1000")


def test_a_key_cannot_be_removed(netns: Make) -> None:
    with namespaces.inside(netns()):
        for act in (sysctl.check, sysctl.write):
            with pytest.raises(WriteFailed, match="cannot be removed"):
                act(KEY, None)


def test_a_read_only_proc_sys(netns: Make, run_in: RunIn) -> None:
    code = (
        "from remedies.errors import NotPermitted\n"
        "from remedies.resources import sysctl\n"
        "for act in (sysctl.check, sysctl.write):\n"
        "    try: act('" + KEY + "', '1')\n"
        "    except NotPermitted as error: print(error)\n"
    )
    mount = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys"
    argv = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, code]
    said = run_in(netns(), argv).stdout.splitlines()
    assert (
        said == [f"sysctl {KEY}: /proc/sys is mounted read-only here; run on the host itself"] * 2
    )
