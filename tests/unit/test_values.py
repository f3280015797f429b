"""Our frozen dataclass does what the standard one does."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies import values

VALUE = st.none() | st.integers() | st.text(max_size=3)


def classes() -> tuple[Any, Any]:
    """Return the same class made by the standard decorator and by ours."""
    made = []
    for decorator in (dataclasses.dataclass, values.dataclass):
        namespace: dict[str, Any] = {"dataclass": decorator, "field": dataclasses.field}
        exec(SOURCE, namespace)
        made.append(namespace["Sample"])
    return made[0], made[1]


SOURCE = '''
@dataclass(frozen=True)
class Sample:
    """A sample."""
    a: object
    b: object = 7
    c: tuple = ()
    missing: dict = field(default_factory=dict)

    @property
    def twice(self):
        return (self.a, self.a)
'''
MADE: list[Any] = list(classes())
STANDARD, OURS = MADE


@given(st.lists(VALUE, min_size=1, max_size=2), st.lists(VALUE, min_size=1, max_size=2))
def test_the_same_values_compare_and_print_alike(one: list[Any], other: list[Any]) -> None:
    assert repr(OURS(*one)) == repr(STANDARD(*one))
    assert (OURS(*one) == OURS(*other)) == (STANDARD(*one) == STANDARD(*other))
    assert OURS(*one) == OURS(*one)
    assert OURS(*one) != STANDARD(*one)
    assert dataclasses.asdict(OURS(*one)) == dataclasses.asdict(STANDARD(*one))


def test_it_is_frozen() -> None:
    sample = OURS(1)
    for name in ("a", "z"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(sample, name, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        del sample.a
    assert sample.a == 1


def test_the_rest_of_dataclasses_works() -> None:
    sample = OURS(1, c=(2,))
    assert dataclasses.replace(sample, a=3) == OURS(3, c=(2,))
    assert [f.name for f in dataclasses.fields(OURS)] == ["a", "b", "c", "missing"]
    assert OURS(1).missing is not OURS(1).missing
    assert OURS(1, missing={2: 3}).missing == {2: 3}
    assert sample.twice == (1, 1)
    assert copy.copy(sample) == sample
    assert OURS.__doc__ == "A sample."
    for wrong in ((), (1, 2, 3, 4, 5)):
        with pytest.raises(TypeError):
            OURS(*wrong)
    with pytest.raises(TypeError):
        OURS(1, x=2)


def test_hashable_where_the_fields_are() -> None:
    from remedies.facts.flows import Tuple

    one = Tuple("10.0.0.1", 1, "10.0.0.2", 2)
    assert len({one, Tuple("10.0.0.1", 1, "10.0.0.2", 2)}) == 1
    assert copy.deepcopy(one) == one
    with pytest.raises(TypeError):
        hash(OURS(1))
