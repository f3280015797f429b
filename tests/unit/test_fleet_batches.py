"""How a rollout goes through its hosts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.errors import UsageError
from remedies.fleet import batches

STEPS = st.lists(
    st.one_of(st.integers(1, 50).map(str), st.integers(1, 100).map(lambda number: f"{number}%")),
    min_size=1,
    max_size=5,
)


@given(count=st.integers(0, 300), steps=STEPS)
def test_every_host_is_in_one_batch_and_in_order(count: int, steps: list[str]) -> None:
    hosts = [f"h{number}" for number in range(count)]
    found = batches.split(hosts, batches.parse(",".join(steps)))
    assert [host for batch in found for host in batch] == hosts
    assert all(found)


def test_the_last_step_holds_for_the_rest() -> None:
    sizes = [len(b) for b in batches.split([str(n) for n in range(50)], batches.parse("1,10%,50%"))]
    assert sizes == [1, 5, 25, 19]


@pytest.mark.parametrize("text", ["", "0", "-1", "1,,2", "ten", "101%", "1.5", "²"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        batches.parse(text)
