"""idle-timeout: which time-outs are too short, who set them, and what counts as proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from remedies.boot import sysctl_d
from remedies.facts import Asking, forgotten, owners
from remedies.facts.forgotten import Forgotten
from remedies.facts.sysctl import Sysctl
from remedies.model import Host

KEY = "net.netfilter.nf_conntrack_tcp_timeout_established"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree without any setting, from which files at boot and other writers are read."""
    monkeypatch.setattr(sysctl_d, "ROOT", str(tmp_path))
    monkeypatch.setattr(owners, "ROOT", str(tmp_path))
    monkeypatch.setattr(owners, "_processes", lambda *_: [owners.Writer("kube-proxy", "process 7")])
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    return tmp_path


def read(netns: str = "host", **values: str) -> Forgotten:
    keys = {f"net.netfilter.nf_conntrack_tcp_timeout_{name}": v for name, v in values.items()}
    host = Host("h", "m", "6.18", netns, "b")
    return forgotten.read(Asking(host=host, known={"sysctl": Sysctl(keys)}))


@pytest.mark.parametrize(
    ("values", "short"),
    [
        ({}, []),
        ({"established": "432000", "unacknowledged": "300"}, []),
        ({"established": "86400"}, []),
        ({"established": "7440", "unacknowledged": "120"}, []),
        ({"established": "7439"}, [7439]),
        ({"established": "300", "unacknowledged": "60"}, [300, 60]),
    ],
)
def test_which_time_outs_are_too_short(
    tree: Path, values: dict[str, str], short: list[int]
) -> None:
    assert [item.value for item in read(**values).short] == short


def test_who_set_it_is_the_line_that_wins_and_a_program_that_is_known_to(tree: Path) -> None:
    (tree / "etc/sysctl.d/10-a.conf").write_text(f"{KEY} = 60\n")
    (tree / "etc/sysctl.d/90-b.conf").write_text(f"# NAT\n{KEY} = 300\n")
    (found,) = read(established="300").short
    assert found.set_by[0] == "/etc/sysctl.d/90-b.conf:2"
    assert found.set_by[1].startswith("kube-proxy (process 7) sets it at each start")
    (found,) = read(established="301").short
    assert not any("sysctl.d" in line for line in found.set_by)
    (found,) = read("ba4d6f94-1", established="300").short
    assert not any("sysctl.d" in line for line in found.set_by)
