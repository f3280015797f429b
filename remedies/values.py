"""The dataclasses and named tuples of the host side, without what the standard ones cost.

``dataclasses`` imports ``inspect`` (8 ms) and compiles six functions for each frozen class: a
third of what a plan took went into defining seventy classes, most of which it never makes a value
of. Here a class is defined by a look at its annotations; ``__init__`` is compiled when its first
value is made. What they do is what the standard ones do, and the functions of ``dataclasses`` take
them (:class:`_Standard`); a test compares the two. For type checkers they are the standard ones.

``typing.NamedTuple`` compiles every annotation, which takes two thirds of its time; here it does
not.
"""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
    from typing import NamedTuple as NamedTuple
else:

    def dataclass(cls=None, *, frozen: bool = False):
        """Return the decorator, or its class."""
        if cls is None:
            return lambda cls: _made(cls, frozen)
        return _made(cls, frozen)

    def field(*, default_factory):
        """Return the default of a field that is made anew for each value."""
        return _Factory(default_factory)

    def replace(value, /, **changes):
        """Return the value with some fields changed."""
        names = fields(type(value))
        return type(value)(**{**{name: getattr(value, name) for name in names}, **changes})

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


class _Factory:
    """A default that is made anew for each value."""

    def __init__(self, make: Any) -> None:
        self.make = make


_OFTEN = 100
"""Values of a class after which it is worth compiling its ``__init__``."""
_KNOWN: dict[object, Optional[dict[str, bool]]] = {}


def fields(kind: object) -> Optional[dict[str, bool]]:
    """Return the names of a dataclass's fields, in order, and whether each has a default.

    Standard ones are known too; None for what is no dataclass.
    """
    try:
        return _KNOWN[kind]
    except KeyError:
        pass
    found = None
    if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__"):
        from dataclasses import MISSING

        found = {
            entry.name: (entry.default, entry.default_factory) != (MISSING, MISSING)
            for entry in kind.__dataclass_fields__.values()
        }
    _KNOWN[kind] = found
    return found


def _made(cls: type[Any], frozen: bool) -> type[Any]:
    if any(map(fields, cls.__mro__[1:])):
        raise TypeError(f"{cls.__name__}: fields are not inherited here")
    names = tuple(vars(cls).get("__annotations__", ()))
    defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
    for name, default in defaults.items():
        if type(default).__module__ == "dataclasses":
            raise TypeError(f"{cls.__name__}.{name}: use the field() of remedies.values")
        if default.__class__.__hash__ is None:
            raise ValueError(f"{cls.__name__}.{name}: every value would share this default")
        if isinstance(default, _Factory):
            delattr(cls, name)
    _KNOWN[cls] = {name: name in defaults for name in names}
    methods = {
        "__init__": _first_init(cls, names, defaults),
        "__eq__": _eq(names),
        "__hash__": _hash(names) if frozen else None,
        "__repr__": _repr(names),
        "__match_args__": names,
        "__dataclass_fields__": _Standard(cls, defaults),
        **({"__setattr__": _refuse, "__delattr__": _refuse} if frozen else {}),
    }
    for name, method in methods.items():
        setattr(cls, name, method)
    return cls


class _Standard:
    """The attribute that the functions of ``dataclasses`` ask for, made when one of them asks."""

    def __init__(self, cls: type[Any], defaults: dict[str, Any]) -> None:
        self._cls, self._defaults = cls, defaults

    def __get__(self, value: object, kind: type[Any]) -> Any:
        import dataclasses

        standard = {
            name: dataclasses.field(default_factory=default.make)
            if isinstance(default, _Factory)
            else default
            for name, default in self._defaults.items()
        }
        own = {"__doc__": "", "__annotations__": vars(self._cls)["__annotations__"]}
        twin: Any = type(self._cls.__name__, (), {**own, **standard})
        found = dataclasses.dataclass(init=False, repr=False, eq=False)(twin).__dataclass_fields__
        self._cls.__dataclass_fields__ = found
        return found


def _first_init(cls: type[Any], names: tuple[str, ...], defaults: dict[str, Any]) -> Any:
    """Return an ``__init__`` that gives way to a compiled one when it is called often, or wrongly.

    Compiling takes as long as a hundred calls, and of most classes a few values are made.
    """
    plain = {name: value for name, value in defaults.items() if not isinstance(value, _Factory)}
    made_anew = [(name, value.make) for name, value in defaults.items() if name not in plain]
    known = frozenset(names)
    calls = 0

    def __init__(self: Any, *args: Any, **given: Any) -> None:  # noqa: N807
        nonlocal calls
        calls += 1
        bound = dict(zip(names, args))
        if calls > _OFTEN or len(bound) < len(args) or not bound.keys().isdisjoint(given):
            return _compiled(self, args, given)
        bound = {**plain, **bound, **given}
        for name, make in made_anew:
            if name not in bound:
                bound[name] = make()
        if bound.keys() != known:
            return _compiled(self, args, given)
        self.__dict__.update(bound)
        if hasattr(cls, "__post_init__"):
            self.__post_init__()
        return None

    def _compiled(self: Any, args: Any, given: Any) -> None:
        cls.__init__ = _init(cls, names, defaults)
        self.__init__(*args, **given)

    return __init__


def _init(cls: type[Any], names: tuple[str, ...], defaults: dict[str, Any]) -> Any:
    """Compile ``__init__``: fields in order, defaults, factories, ``__post_init__``.

    What it needs of ours is in capitals, which no field's name is.
    """
    scope: dict[str, Any] = {"_PUT": object.__setattr__, "_MISSING": _Factory}
    parameters, body = ["self"], []
    for name in names:
        parameter, value = name, name
        if name in defaults:
            default = defaults[name]
            scope[f"_DEFAULT_{name}"] = getattr(default, "make", default)
            parameter = f"{name}=_DEFAULT_{name}"
            if isinstance(default, _Factory):
                parameter = f"{name}=_MISSING"
                value = f"_DEFAULT_{name}() if {name} is _MISSING else {name}"
        parameters.append(parameter)
        body.append(f"_PUT(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    source = f"def __init__({', '.join(parameters)}):\n    " + "\n    ".join(body or ["pass"])
    exec(source, scope)  # noqa: S102  # field names alone, as dataclasses itself does it
    made = scope["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _eq(names: tuple[str, ...]) -> Any:
    def __eq__(self: Any, other: object) -> Any:  # noqa: N807
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in names)

    return __eq__


def _hash(names: tuple[str, ...]) -> Any:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(tuple([getattr(self, name) for name in names]))

    return __hash__


def _repr(names: tuple[str, ...]) -> Any:
    def __repr__(self: Any) -> str:  # noqa: N807
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.__class__.__qualname__}({values})"

    return __repr__


def _refuse(self: Any, name: str, *_: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"{name!r} of {type(self).__name__} cannot be changed")
