"""Times for people: as the clocks of this place show them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.local_time import local


@pytest.fixture(autouse=True)
def _zone() -> Iterator[None]:
    yield
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "moment", "shown"),
    [
        ("UTC0", "2026-02-28T23:59:59Z", "2026-02-28 23:59:59 UTC"),
        ("GMT0BST,M3.5.0/1,M10.5.0", "2026-07-01T12:00:00Z", "2026-07-01 13:00:00 BST"),
        ("EST5EDT,M3.2.0,M11.1.0", "2026-01-01T02:00:00Z", "2025-12-31 21:00:00 EST"),
        ("IST-5:30", "2024-02-29T20:00:00Z", "2024-03-01 01:30:00 IST"),
    ],
)
def test_as_clocks_show_it(
    monkeypatch: pytest.MonkeyPatch, zone: str, moment: str, shown: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    assert local(moment) == shown


@given(st.integers(0, 1 << 33))
def test_every_second_of_two_centuries(second: int) -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
    assert local(moment) == time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(second))


@given(st.text(max_size=25))
def test_what_is_no_time_stays(text: str) -> None:
    assert local(text) == text


def test_what_only_looks_like_one_stays() -> None:
    for text in ("2026-01-01T00:00:0xZ", "x" * 19 + "Z", "\x1b[2J", ""):
        assert local(text) == text
