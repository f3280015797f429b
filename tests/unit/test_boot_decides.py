"""Which line of sysctl.d decides, as systemd-sysctl reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.boot import sysctl_d
from remedies.boot.sysctl_d import Decision, Source

KEY = "net.ipv4.conf.eth0.rp_filter"
PATH = "net/ipv4/conf/eth0/rp_filter"


def decided() -> Decision | None:
    """Return what the files of the machine say."""
    return sysctl_d.decides(KEY, sysctl_d.sources())


def decides(*texts: str, key: str = KEY) -> Decision | None:
    return sysctl_d.decides(key, [Source(f"/{n}", text) for n, text in enumerate(texts)])


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0/1.rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
        ("net/ipv4/conf/eth0.1/rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
        ("/net/ipv4//ip_forward", "net/ipv4/ip_forward"),
        ("", ""),
    ],
)
def test_keys_are_read_as_sysctl_does(key: str, path: str) -> None:
    assert sysctl_d.normal(key) == path


def test_the_last_line_wins() -> None:
    assert decides(f"{KEY} = 1\n{KEY}=2", f"# no\n; no\n{PATH} = 0") == Decision("0", "/1", 3)


def test_nothing_sets_it() -> None:
    assert decides("net.ipv4.ip_forward = 1", f"{KEY}", "= 1", "#") is None
    assert sysctl_d.decides(KEY, ()) is None


def test_a_leading_dash_only_overlooks_failure() -> None:
    assert decides(f"-{KEY} = 2") == Decision("2", "/0", 1)


def test_a_line_by_name_beats_a_pattern_wherever_it_stands() -> None:
    pattern = "net.ipv4.conf.*.rp_filter = 0"
    assert decides(f"{KEY} = 2", pattern) == Decision("2", "/0", 1)
    covered = decides(pattern, "net.ipv4.conf.eth?.rp_filter = 1")
    assert covered == Decision("1", "/1", 1, "net/ipv4/conf/eth?/rp_filter")


def test_a_pattern_stays_within_one_part() -> None:
    assert decides("net.ipv4.*.rp_filter = 0", "net.*=1") is None


def test_a_dash_alone_keeps_patterns_away_and_unsets_what_came_before() -> None:
    pattern = "net.ipv4.conf.*.rp_filter = 0"
    assert decides(pattern, f"-{KEY}") is None
    assert decides(f"{KEY} = 1", f"-{KEY}", pattern) is None
    assert decides(f"-{KEY}", f"{KEY} = 1") == Decision("1", "/1", 1)


@given(st.lists(st.text(), max_size=5))
def test_no_text_is_too_odd(texts: list[str]) -> None:
    found = decides(*texts)
    assert found is None or found.line >= 1


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sysctl_d, "ROOT", str(tmp_path))
    for folder in sysctl_d.FOLDERS:
        (tmp_path / folder[1:]).mkdir(parents=True, exist_ok=True)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    return tmp_path


def test_names_order_files_and_the_first_folder_overrides(root: Path) -> None:
    (root / "usr/lib/sysctl.d/50-a.conf").write_text(f"{KEY} = 1\n")
    (root / "etc/sysctl.d/50-a.conf").write_text("")
    (root / "run/sysctl.d/60-b.conf").write_text(f"{KEY} = 2\n")
    (root / "usr/lib/sysctl.d/99-c.conf").write_text(f"{KEY} = 3\n")
    (root / "etc/sysctl.d/99-zz.txt").write_text(f"{KEY} = 4\n")
    assert decided() == Decision("3", "/usr/lib/sysctl.d/99-c.conf", 1)
    (root / "etc/sysctl.d/99-c.conf").symlink_to("/dev/null")
    assert decided() == Decision("2", "/run/sysctl.d/60-b.conf", 1)


def test_sysctl_conf_counts_by_its_link_and_our_name_sorts_behind_it(root: Path) -> None:
    (root / "etc/sysctl.conf").write_text(f"{KEY} = 1\n")
    assert decided() is None
    (root / "etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
    assert decided() == Decision("1", "/etc/sysctl.d/99-sysctl.conf", 1)
    (root / "etc/sysctl.d/99-zz-remedy-x.conf").write_text(f"-{KEY} = 2\n")
    ours = Decision("2", "/etc/sysctl.d/99-zz-remedy-x.conf", 1)
    assert decided() == ours


def test_without_systemd_sysctl_conf_comes_last(root: Path) -> None:
    (root / "run/systemd/system").rmdir()
    (root / "etc/sysctl.conf").write_text(f"{KEY} = 1\n")
    (root / "etc/sysctl.d/99-zz-remedy-x.conf").write_text(f"{KEY} = 2\n")
    assert decided() == Decision("1", "/etc/sysctl.conf", 1)
