"""Frozen dataclasses and named tuples for the host side, defined at a sixth of the standard cost.

``dataclasses`` imports ``inspect`` and compiles six functions for each class: with it a plan takes
twice as long, most of it for classes of which no value is made. Here all classes share the methods
below, which look at ``__fields__``. For type checkers they are the standard ones. The functions of
``dataclasses`` do not know them: use :func:`replace` and :func:`fields`, which know both.

``typing.NamedTuple`` compiles every annotation, two thirds of its time; the one here does not.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
    from typing import NamedTuple as NamedTuple
else:

    def dataclass(cls=None, *, frozen: bool = False):
        """Return the class, made a dataclass; or the decorator that makes it one."""
        return functools.partial(_made, frozen=frozen) if cls is None else _made(cls, frozen)

    def field(*, default_factory):
        """Return the default of a field that is made anew for each value."""
        return _Factory(default_factory)

    def replace(value, /, **changes):
        """Return a copy of the value with some fields changed."""
        kind, own = type(value), {**vars(value), **changes}
        if len(own) > len(vars(value)) or not hasattr(kind, "__fields__"):
            return kind(**own)  # says what is wrong; or is a standard one
        copy = object.__new__(kind)
        object.__setattr__(copy, "__dict__", own)  # field by field it takes twice as long
        if kind.__checks__:
            copy.__post_init__()
        return copy

    class _Tuples(type):
        """Makes a tuple class of a class of annotations."""

        def __new__(cls, name, bases, own):
            if not bases:
                return super().__new__(cls, name, bases, own)
            names = tuple(own["__annotations__"])
            defaults = [own[name] for name in names if name in own]
            made = namedtuple(name, names, defaults=defaults, module=own["__module__"])
            for key, value in own.items():
                if key not in names and key != "__module__":
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Tuples):
        """The base of a class whose values are tuples with named fields, defaults last."""


def fields(kind: Any) -> Optional[dict[str, bool]]:
    """Return the names of a dataclass's fields in order, and whether each has a default.

    Standard dataclasses are known too; None for anything else.
    """
    own: Optional[dict[str, bool]] = getattr(kind, "__fields__", None)
    if own is not None or not hasattr(kind, "__dataclass_fields__"):
        return own
    return {  # where there is no default, both are dataclasses.MISSING
        entry.name: entry.default is not entry.default_factory
        for entry in kind.__dataclass_fields__.values()
    }


class _Factory:
    def __init__(self, make: Any) -> None:
        self.make = make


def _made(cls: Any, frozen: bool) -> Any:
    if hasattr(cls, "__fields__"):
        raise TypeError(f"{cls.__name__}: fields are not inherited here")
    names = vars(cls).get("__annotations__", ())
    given = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
    for name, default in given.items():
        if default.__class__.__module__ == "dataclasses":
            raise TypeError(f"{cls.__name__}.{name}: use the field() of remedies.values")
        if default.__class__.__hash__ is None:
            raise ValueError(f"{cls.__name__}.{name}: every value would share this default")
        if isinstance(default, _Factory):
            delattr(cls, name)
    cls.__fields__ = {name: name in given for name in names}
    cls.__default_values__ = {n: v for n, v in given.items() if not isinstance(v, _Factory)}
    cls.__default_factories__ = [(n, v.make) for n, v in given.items() if isinstance(v, _Factory)]
    cls.__checks__ = hasattr(cls, "__post_init__")
    cls.__init__, cls.__eq__, cls.__repr__ = _init, _eq, _repr
    cls.__hash__ = _hash if frozen else None
    if frozen:
        cls.__setattr__ = cls.__delattr__ = _refuse
    return cls


def _init(self: Any, /, *args: Any, **given: Any) -> None:
    names = self.__fields__
    if args:
        placed = dict(zip(names, args))
        if len(placed) < len(args) or not placed.keys().isdisjoint(given):
            raise TypeError(f"{type(self).__name__}: too many values for {', '.join(names)}")
        given.update(placed)
    if len(given) < len(names):
        given = {**self.__default_values__, **given}
        for name, make in self.__default_factories__:
            if name not in given:
                given[name] = make()
    if given.keys() != names.keys():
        wrong = ", ".join(sorted(given.keys() ^ names.keys()))
        raise TypeError(f"{type(self).__name__}: fields missing or unknown: {wrong}")
    object.__setattr__(self, "__dict__", given)  # made of this call, so nobody else's
    if self.__checks__:
        self.__post_init__()


def _eq(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self.__dict__ == other.__dict__


def _hash(self: Any) -> int:
    own = self.__dict__
    return hash(tuple([own[name] for name in self.__fields__]))


def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__fields__)
    return f"{self.__class__.__qualname__}({values})"


def _refuse(self: Any, name: str, *_: object) -> None:
    raise AttributeError(f"{name!r} of {type(self).__name__} cannot be changed")
