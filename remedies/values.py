"""A frozen dataclass that costs a third of the standard one to define.

``dataclasses`` compiles six functions for each frozen class. The seventy classes that a plan needs
took a quarter of its time to define: 27 of 95 ms. Here one function is compiled, ``__init__``, and
the others are shared. What they do is what the standard ones do, and ``fields``, ``replace`` and
``is_dataclass`` work; a test compares the two. For type checkers it is the standard decorator.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, *, frozen: bool = False):
        """Return the decorator, or its class; one that does not freeze is the standard one."""
        make = _frozen if frozen else dataclasses.dataclass
        return make if cls is None else make(cls)


def _frozen(cls: type[Any]) -> type[Any]:
    made: type[Any] = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    names = tuple(made.__dataclass_fields__)
    shared = {
        "__init__": _init(made),
        "__eq__": _eq(names),
        "__hash__": _hash(names),
        "__repr__": _repr,
        "__setattr__": _refuse,
        "__delattr__": _refuse,
    }
    for name, method in shared.items():
        setattr(made, name, method)
    return made


def _init(cls: type[Any]) -> Any:
    """Compile ``__init__``: fields in order, defaults, factories, ``__post_init__``.

    What it needs of ours is in capitals, which no field's name is.
    """
    scope: dict[str, Any] = {"_PUT": object.__setattr__, "_MISSING": dataclasses.MISSING}
    parameters, body = ["self"], []
    for entry in dataclasses.fields(cls):
        name, value = entry.name, entry.name
        if entry.default is not dataclasses.MISSING:
            scope[f"_DEFAULT_{name}"] = entry.default
            parameters.append(f"{name}=_DEFAULT_{name}")
        elif entry.default_factory is not dataclasses.MISSING:
            scope[f"_FACTORY_{name}"] = entry.default_factory
            parameters.append(f"{name}=_MISSING")
            value = f"_FACTORY_{name}() if {name} is _MISSING else {name}"
        else:
            parameters.append(name)
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


def _repr(self: Any) -> str:
    values = ", ".join(
        f"{entry.name}={getattr(self, entry.name)!r}" for entry in dataclasses.fields(self)
    )
    return f"{self.__class__.__qualname__}({values})"


def _refuse(self: Any, name: str, *_: object) -> None:
    raise dataclasses.FrozenInstanceError(f"{name!r} of {type(self).__name__} cannot be changed")
