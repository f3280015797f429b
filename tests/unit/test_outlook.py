"""Whether what is in force bodes ill: ``status`` exits 2 for it."""

from __future__ import annotations

import pytest

from remedies.operations.outlook import AtBoot, Outlook
from remedies.status.harm import Harm


def at_boot(*, ours: bool, lasting: bool) -> AtBoot:
    return AtBoot("sysctl:x", "/etc/sysctl.d/99.conf:2", "0", ours, lasting)


@pytest.mark.parametrize(
    ("ours", "lasting", "bad"),
    [(True, True, False), (True, False, False), (False, False, False), (False, True, True)],
)
def test_what_should_come_back_at_boot_and_does_not_is_bad(
    ours: bool, lasting: bool, bad: bool
) -> None:
    assert Outlook((at_boot(ours=ours, lasting=lasting),), ()).bad is bad


def test_harm_is_bad() -> None:
    assert Outlook((), (Harm("nft:inet/x", "f", "it drops"),)).bad
    assert not Outlook((), ()).bad
