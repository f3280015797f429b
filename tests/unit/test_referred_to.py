"""What rules ask of the host: what cannot be told leaves the condition open."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remedies.errors import Unreadable
from remedies.netfilter import referred_to
from remedies.netfilter.referred_to import ReferredTo
from remedies.netlink import labels, xfrm
from remedies.rules.decoded import MatchTerms
from remedies.rules.header_words import NO_TUNNEL, TUNNEL
from remedies.rules.invalid_packet import GROUPED, ROUTED
from remedies.rules.rule import Match

ROWS = "sk Eth Pid\n0 0 0\n0 {} 0\n"


def refused(*_: object) -> Iterator[tuple[str, int]]:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def late(*_: object) -> Iterator[tuple[str, int]]:
    raise Unreadable("netlink: the kernel's answer took too long")


def narrowed(narrow: Callable[[MatchTerms, ReferredTo], None]) -> Match | None:
    terms = MatchTerms()
    narrow(terms, referred_to.of_kernel(time.monotonic() + 5.0))
    return terms.match


@pytest.mark.parametrize("fails", [refused, late])
def test_groups_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, fails: object) -> None:
    monkeypatch.setattr(labels, "groups", fails)
    found = narrowed(
        lambda t, h: referred_to.narrow_group(t, "in", [(7, 7)], 0xFF, h, negate=False)
    )
    assert found == Match(unmodelled=("the group of a link (in)",))


@pytest.mark.parametrize(
    ("groups", "mask", "negate", "found"),
    [
        ([(7, 7)], 0xFFFFFFFF, False, Match(in_interfaces=("eth0",))),
        (
            [(7, 7)],
            0xFFFFFFFF,
            True,
            Match(not_in_interfaces=("eth0",), unmodelled=(GROUPED["in"],)),
        ),
        ([(2, 2)], 0x2, False, Match(in_interfaces=("eth0", "wg0"))),
        ([(1, 9)], 0xFFFFFFFF, False, Match(in_interfaces=("eth0", "wg0"))),
        ([(0, 0), (3, 3)], 0xFFFFFFFF, False, Match(in_interfaces=("lo", "wg0"))),
        ([(8, 8)], 0xFFFFFFFF, False, Match(in_interfaces=("#group 8",))),
    ],
)
def test_links_by_group(
    monkeypatch: pytest.MonkeyPatch,
    groups: list[tuple[int, int]],
    mask: int,
    negate: bool,
    found: Match,
) -> None:
    links = (("lo", 0), ("eth0", 7), ("wg0", 3))
    monkeypatch.setattr(labels, "groups", lambda _: iter(links))
    seen = narrowed(lambda t, h: referred_to.narrow_group(t, "in", groups, mask, h, negate=negate))
    assert seen == found


@pytest.mark.parametrize(
    ("known", "none", "found"),
    [
        (lambda _: False, True, Match(unmodelled=(ROUTED,))),
        (lambda _: False, False, None),
        (lambda _: True, True, Match(unmodelled=("realm",))),
        (refused, False, Match(unmodelled=("realm",))),
        (late, True, Match(unmodelled=("realm",))),
    ],
)
def test_realms(
    monkeypatch: pytest.MonkeyPatch, known: object, none: bool, found: Match | None
) -> None:
    monkeypatch.setattr(labels, "realms", known)
    assert narrowed(lambda t, h: referred_to.narrow_realm(t, h, none=none)) == found


@pytest.mark.parametrize(
    ("protocol", "pfkey", "entries", "may_be"),
    [
        (6, False, lambda _: 0, False),
        (6, True, lambda _: 0, False),
        (6, False, lambda _: 1, True),
        (6, False, refused, True),
        (6, False, late, True),
        (4, False, lambda _: 1, False),
        (4, True, lambda _: 0, True),
        (None, False, lambda _: 0, True),
    ],
)
def test_ipsec(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    protocol: int | None,
    pfkey: bool,
    entries: object,
    may_be: bool,
) -> None:
    monkeypatch.setattr(referred_to, "_NET", str(tmp_path))
    monkeypatch.setattr(xfrm, "entries", entries)
    if protocol is not None:
        (tmp_path / "netlink").write_text(ROWS.format(protocol))
    if pfkey:
        (tmp_path / "pfkey").touch()
    came = narrowed(lambda t, h: referred_to.narrow_ipsec(t, h, wanted=True))
    others = narrowed(lambda t, h: referred_to.narrow_ipsec(t, h, wanted=False))
    if may_be:
        assert came == Match(unmodelled=(TUNNEL,))
        assert others == Match(unmodelled=(NO_TUNNEL,))
    else:
        assert (came, others) == (None, Match())


def test_many_rules_ask_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A dump of a million routes for each rule that names a realm takes minutes."""
    asked: list[str] = []

    def answer(of: str, found: object) -> Callable[[object], object]:
        def answered(_: object) -> object:
            asked.append(of)
            return found

        return answered

    monkeypatch.setattr(labels, "groups", answer("groups", (("eth0", 7),)))
    monkeypatch.setattr(labels, "realms", answer("realms", False))
    monkeypatch.setattr(xfrm, "entries", answer("ipsec", 0))
    monkeypatch.setattr(referred_to, "_NET", str(tmp_path))
    (tmp_path / "netlink").write_text(ROWS.format(xfrm.NETLINK_XFRM))
    host = referred_to.of_kernel(time.monotonic() + 5.0)
    for _ in range(3):
        referred_to.narrow_group(MatchTerms(), "in", [(7, 7)], 0xFF, host, negate=False)
        referred_to.narrow_realm(MatchTerms(), host, none=True)
        referred_to.narrow_ipsec(MatchTerms(), host, wanted=True)
    assert asked == ["groups", "realms", "ipsec"]
