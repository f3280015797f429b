"""The sysctl driver: which keys are ours to write, and what cannot be provoked on this kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from remedies.errors import InputError, WriteFailed
from remedies.resources import sysctl

KEY = "net.netfilter.nf_conntrack_tcp_be_liberal"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (KEY, "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"),
        ("net/ipv4/conf/eth0.1/rp_filter", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
        ("net.ipv4.conf.eth0/1.rp_filter", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
    ],
)
def test_both_separators_are_understood(key: str, name: str) -> None:
    assert sysctl.file_of(key) == name


@pytest.mark.parametrize(
    "key",
    [
        "kernel.panic",
        "net",
        "net.ipv4",
        "net/../kernel/panic",
        "net/ipv4/../../kernel/panic",
        "net.ipv4..x",
        "/net/ipv4/ip_forward",
        "net.ipv4.ip_forward ",
        "net.ipv4.ip\nforward",
        "net./.x",
        "net.//./x",
        "net.\u0131pv4.x",
    ],
)
def test_nothing_outside_net_is_written(key: str) -> None:
    with pytest.raises(InputError, match="not a key that remedy writes"):
        sysctl.read(key)
    with pytest.raises(InputError, match="not a key that remedy writes"):
        sysctl.write(key, "1")


def test_values_are_words() -> None:
    assert sysctl.same(KEY, "4096\t87380\t6291456", "4096 87380 6291456")
    assert not sysctl.same(KEY, "1", None)
    assert sysctl.same(KEY, None, None)
    assert sysctl.text(KEY, "1") == f"{KEY} = 1\n"
    assert sysctl.text(KEY, None) == ""


def test_a_key_whose_module_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # machines whose modules are all built in have the key always
    monkeypatch.setattr(sysctl, "PROC", str(tmp_path))
    assert sysctl.read(KEY) is None
    sysctl.write(KEY, None)
    for act in (sysctl.check, sysctl.write):
        with pytest.raises(WriteFailed, match="no such key"):
            act(KEY, "1")
