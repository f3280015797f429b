"""Our frozen dataclass and named tuple do what the standard ones do."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies import values

VALUE = st.none() | st.integers() | st.text(max_size=3)


def classes() -> tuple[Any, Any]:
    """Return the same class made by the standard decorator and by ours."""
    made = []
    for module in (dataclasses, values):
        namespace: dict[str, Any] = {"dataclass": module.dataclass, "field": module.field}
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
    assert vars(OURS(*one)) == vars(STANDARD(*one))


def test_it_is_frozen() -> None:
    sample = OURS(1)
    for name in ("a", "z"):
        with pytest.raises(AttributeError):
            setattr(sample, name, 2)
    with pytest.raises(AttributeError):
        del sample.a
    assert sample.a == 1


def test_a_value_is_made_and_copied_as_a_standard_one_is() -> None:
    sample = OURS(1, c=(2,))
    for kind in (OURS, STANDARD):
        assert values.replace(kind(1, c=(2,)), a=3) == kind(3, c=(2,))
        with pytest.raises(TypeError):
            values.replace(kind(1), z=3)
        assert values.fields(kind) == {"a": False, "b": True, "c": True, "missing": True}
    assert values.fields(tuple) is None
    assert OURS(1).missing is not OURS(1).missing
    assert OURS(1, missing={2: 3}).missing == {2: 3}
    assert sample.twice == (1, 1)
    assert copy.copy(sample) == sample
    assert OURS.__doc__ == "A sample."
    for wrong in ((), (1, 2, 3, 4, 5)):
        with pytest.raises(TypeError):
            OURS(*wrong)
    for wrong_name in ({"x": 2}, {"a": 2}):
        with pytest.raises(TypeError):
            OURS(1, **wrong_name)
    with pytest.raises(TypeError, match="a, x"):
        OURS(x=2)


def test_a_copy_is_checked_as_the_value_is_and_leaves_that_alone() -> None:
    def positive(value: Any) -> None:
        if value.a <= 0:
            raise ValueError("not positive")

    for make in (values.dataclass, dataclasses.dataclass):
        body = {"__annotations__": {"a": "int", "b": "int"}, "b": 2, "__post_init__": positive}
        kind: Any = make(frozen=True)(type("Positive", (), body))
        one = kind(1)
        assert values.replace(one, b=3) == kind(1, 3)
        assert one == kind(1)
        with pytest.raises(ValueError, match="not positive"):
            values.replace(one, a=-1)


def test_hashable_where_the_fields_are() -> None:
    from remedies.netlink.flow import Tuple

    one = Tuple("10.0.0.1", 1, "10.0.0.2", 2)
    assert len({one, Tuple("10.0.0.1", 1, "10.0.0.2", 2)}) == 1
    assert copy.deepcopy(one) == one
    with pytest.raises(TypeError):
        hash(OURS(1))


def test_the_standard_module_is_not_imported() -> None:
    code = (
        "import sys\nfrom remedies.values import dataclass, field, fields, replace\n"
        "@dataclass(frozen=True)\nclass A:\n    a: int\n    b: dict = field(default_factory=dict)\n"
        "one = replace(A(1), b={2: 3})\nassert fields(A) == {'a': False, 'b': True}\n"
        "assert 'dataclasses' not in sys.modules and 'inspect' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_one_that_is_not_frozen_can_be_changed_and_not_hashed() -> None:
    @values.dataclass
    class Loose:
        """A loose one."""

        a: int
        b: list[int] = values.field(default_factory=list)

    one = Loose(1)
    one.a = 2
    one.b.append(3)
    assert one == Loose(2, [3])
    assert Loose(1).b == []
    with pytest.raises(TypeError):
        hash(one)


def test_what_would_go_wrong_later_is_refused_where_the_class_is_made() -> None:
    for body, said in (
        ({"a": []}, "share"),
        ({"a": dataclasses.field(default=1)}, "remedies.values"),
    ):
        wrong = type("Wrong", (), {"__annotations__": {"a": "object"}, **body})
        with pytest.raises((TypeError, ValueError), match=said):
            values.dataclass(wrong)
    with pytest.raises(TypeError, match="inherited"):
        values.dataclass(type("Heir", (OURS,), {"__annotations__": {"z": "int"}}))


PAIR = '''
class Pair(NamedTuple):
    """A pair."""

    a: int
    b: "str | None" = None

    @property
    def twice(self) -> int:
        """Twice a."""
        return self.a * 2
'''


def pairs() -> list[Any]:
    """Return the same class made of the standard base and of ours."""
    made = []
    for module in (typing, values):
        namespace: dict[str, Any] = {"NamedTuple": module.NamedTuple, "__name__": __name__}
        exec(PAIR, namespace)
        made.append(namespace["Pair"])
    return made


def test_a_named_tuple_is_what_the_standard_one_is() -> None:
    standard, ours = pairs()
    for kind in (standard, ours):
        one = kind(1, b="x")
        assert (one, one.a, one.b, one.twice) == ((1, "x"), 1, "x", 2)
        assert kind(1) == (1, None)
        assert repr(one) == "Pair(a=1, b='x')"
        assert one._replace(a=2) == (2, "x")
        assert copy.deepcopy(one) == one
        assert (kind.__doc__, kind.__module__) == ("A pair.", __name__)
        for wrong in ((), (1, 2, 3)):
            with pytest.raises(TypeError):
                kind(*wrong)
        with pytest.raises(AttributeError):
            one.a = 3
    assert {name for name in vars(standard) if not name.startswith("__")} == {
        name for name in vars(ours) if not name.startswith("__")
    }
