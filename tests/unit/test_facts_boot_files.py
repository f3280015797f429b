"""Facts that systemd's files decide: sysctl.d, networkd's settings, addresses that udev gives."""

from __future__ import annotations

from pathlib import Path

import builder
import pytest

from remedies.boot import sysctl_d
from remedies.facts import Asking, declared, networkd, overlays
from remedies.facts.declared import DeclaredValue
from remedies.facts.sysctl import Sysctl
from remedies.values import replace

LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
ASKING = Asking(builder.HOST, known={"sysctl": Sysctl({LIBERAL: "0"})})
ELSEWHERE = replace(builder.HOST, netns="another")


def put(root: Path, path: str, text: str) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_last_line_of_sysctl_d_is_what_was_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysctl_d, "ROOT", str(tmp_path))
    put(tmp_path, "/run/systemd/system/x", "")
    put(tmp_path, "/usr/lib/sysctl.d/10-x.conf", f"{LIBERAL} = 0\n")
    put(tmp_path, "/etc/sysctl.d/60-x.conf", "# ours\nnet.netfilter.nf_*_be_liberal = 1\n")
    assert declared.read(ASKING).keys == {
        LIBERAL: DeclaredValue("0", "/usr/lib/sysctl.d/10-x.conf:1")
    }
    put(tmp_path, "/etc/sysctl.d/70-x.conf", f"\n-{LIBERAL}=1\n")
    assert declared.read(ASKING).keys == {LIBERAL: DeclaredValue("1", "/etc/sysctl.d/70-x.conf:2")}
    other = replace(ASKING, known={"sysctl": Sysctl({LIBERAL: "1"})})
    assert declared.read(other).keys == {}
    assert declared.read(replace(ASKING, host=ELSEWHERE)).keys == {}


@pytest.mark.parametrize(
    ("files", "rules", "routes"),
    [
        ({}, True, True),
        ({"/usr/lib/systemd/networkd.conf": f"[Network]\n{networkd.RULES}=no\n"}, False, True),
        (
            {
                "/usr/lib/systemd/networkd.conf": f"[Network]\n{networkd.RULES}=no\n",
                "/etc/systemd/networkd.conf": "[Network]\n#nothing\n",
            },
            True, True,
        ),
        (
            {
                "/etc/systemd/networkd.conf.d/50-x.conf":
                    f"[Network]\n{networkd.RULES} = False\n{networkd.ROUTES}=0\n",
            },
            False, False,
        ),
        (
            {
                "/usr/lib/systemd/networkd.conf.d/50-x.conf": f"[Network]\n{networkd.RULES}=no\n",
                "/etc/systemd/networkd.conf.d/50-x.conf": "",
            },
            True, True,
        ),
        (
            {
                "/usr/lib/systemd/networkd.conf.d/50-x.conf": f"[Network]\n{networkd.RULES}=no\n",
                "/etc/systemd/networkd.conf.d/60-x.conf": f"[Network]\n{networkd.RULES}=yes\n",
            },
            True, True,
        ),
        ({"/etc/systemd/networkd.conf": f"[DHCPv4]\n{networkd.RULES}=no\n"}, True, True),
    ],
)  # fmt: skip
def test_networkds_settings_are_read_as_systemd_reads_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    rules: bool,
    routes: bool,
) -> None:
    monkeypatch.setattr(networkd, "ROOT", str(tmp_path))
    for path, text in files.items():
        put(tmp_path, path, text)
    assert not networkd.read(ASKING).running
    runs = tmp_path / networkd.RUNS.lstrip("/")
    runs.parent.mkdir(parents=True)
    runs.symlink_to("0123456789abcdef0123456789abcdef")
    found = networkd.read(ASKING)
    assert (found.running, found.takes_rules, found.takes_routes) == (True, rules, routes)
    assert not networkd.read(replace(ASKING, host=ELSEWHERE)).running


@pytest.mark.parametrize(
    ("links", "network"),
    [
        ({}, ""),
        ({"1": "ADMIN_STATE=unmanaged\n"}, ""),
        (
            {
                "1": "ADMIN_STATE=unmanaged\n",
                "10": "NETWORK_FILE=/etc/systemd/network/b.network\n",
                "2": "# private\nNETWORK_FILE=/run/systemd/network/a.network\nDNS=\n",
            },
            "/run/systemd/network/a.network",
        ),
    ],
)
def test_the_links_that_networkd_manages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: dict[str, str], network: str
) -> None:
    monkeypatch.setattr(networkd, "ROOT", str(tmp_path))
    for path in (networkd.RUNS, *(f"{networkd.LINKS}/{link}" for link in links)):
        put(tmp_path, path, links.get(path.rpartition("/")[2], ""))
    assert networkd.read(ASKING).network == network


def test_siphash_is_the_one_of_its_authors() -> None:
    """The vector of appendix A of the paper."""
    assert overlays.siphash24(bytes(range(15)), bytes(range(16))) == 0xA129CA6149BE45E5


def test_an_address_of_udevs_is_local_and_of_one_machine() -> None:
    one = overlays.persistent("flannel.1", "0123456789abcdef0123456789abcdef")
    assert int(one[:2], 16) & 3 == 2
    assert one != overlays.persistent("flannel.2", "0123456789abcdef0123456789abcdef")
    assert one != overlays.persistent("flannel.1", "1123456789abcdef0123456789abcdef")
    assert overlays.persistent("flannel.1", "") == overlays.persistent("x", "00") == ""
