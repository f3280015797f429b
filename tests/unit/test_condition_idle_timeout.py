"""idle-timeout: which time-outs are too short, who set them, and what counts as proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from remedies.boot import sysctl_d
from remedies.conditions import idle_timeout
from remedies.errors import Unreadable
from remedies.facts import Asking, Facts, forgotten, owners
from remedies.facts.forgotten import LIMITS, Forgotten, Short
from remedies.facts.netfilter import NatUse, Netfilter
from remedies.facts.sysctl import Sysctl
from remedies.facts.tap import Reset, Tap
from remedies.model import Host

HOST = Host("h", "m", "6.18", "host", "b")
KEY = "net.netfilter.nf_conntrack_tcp_timeout_established"
HIDES = (NatUse("ip", "masquerade"),)
SHORT = (Short(LIMITS[0], 2, ("/etc/sysctl.d/90-nat.conf:3",)),)


def reset(port: int = 44400, *, gone: bool = True) -> Reset:
    return Reset("10.21.17.99", port, "10.21.17.1", 5432, 3, forgotten=gone)


def facts(
    short: tuple[Short, ...] = SHORT,
    resets: tuple[Reset, ...] = (),
    uses: tuple[NatUse, ...] = HIDES,
    unread: tuple[str, ...] = (),
) -> Facts:
    netfilter = Netfilter(True, "none", nat_uses=uses, unread=unread, nat_unread=unread)
    known = {"netfilter": netfilter, "forgotten": Forgotten(short), "tap": Tap(resets)}
    return Facts(HOST, "2026-11-29T00:00:00Z", 1.0, dict(known))


def test_what_conntrack_forgot_is_active_and_names_time_out_value_default_and_writer() -> None:
    (found,) = idle_timeout.detect(facts(resets=(reset(), reset(50000))), {})
    assert (found.verdict, found.severity) == ("active", "high")
    assert "reset 6 segments" in found.message
    assert "10.21.17.1:5432 from port 44400" in found.message
    assert f"{KEY} is 2 s (kernel default 432000 s" in found.message
    assert "set by /etc/sysctl.d/90-nat.conf:3" in found.message


@pytest.mark.parametrize(
    "resets", [(), (reset(gone=False),), (reset(443),)], ids=["none", "known", "a service's port"]
)
def test_a_short_time_out_alone_is_exposed(resets: tuple[Reset, ...]) -> None:
    (found,) = idle_timeout.detect(facts(resets=resets), {})
    assert (found.verdict, found.severity) == ("exposed", "medium")
    assert found.message.startswith("could happen")


@pytest.mark.parametrize("uses", [(), (NatUse("ip", "dnat"),)])
def test_where_no_source_is_rewritten_nothing_is_found(uses: tuple[NatUse, ...]) -> None:
    assert idle_timeout.detect(facts(resets=(reset(),), uses=uses), {}) == ()


def test_long_time_outs_are_silent_whatever_is_reset() -> None:
    assert idle_timeout.detect(facts(short=(), resets=(reset(),)), {}) == ()


def test_nat_that_cannot_be_read_is_unknown() -> None:
    with pytest.raises(Unreadable, match="denied"):
        idle_timeout.detect(facts(uses=(), unread=("denied",)), {})


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
