"""One strict JSON codec for every value the tool reads back: plans, facts, journals, policies.

Nothing is guessed: an unknown key, a missing key, a wrong type, a duplicate key, a number that is
not finite, too much text or too deep a nesting raises :class:`remedies.errors.InputError` that
names where (``FILE: changes[0].before``). Standard library only: it is on the fast path.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn, TypeVar, Union, cast

from remedies import values
from remedies.errors import InputError
from remedies.values import NamedTuple

T = TypeVar("T")

SIZE_LIMIT = 64 * 1024 * 1024
"""Characters; a facts file of a host with 10,000 unreplied flows is about 3 million."""
DEPTH_LIMIT = 64

_SURROGATE = r"\\u[dD][89a-fA-F]"
Words = Mapping[Any, str]
"""Closed types (``typing.Literal``), each with the word that stands for one it does not have."""
_STRICT: Words = {}


class _Manner(NamedTuple):
    """How values are decoded, wherever they are nested."""

    otherwise: Words
    keep: Callable[[str], str]
    """Returns the copy of a text that is kept."""


def loads(text: str, where: str, *, recorded: bool = False) -> Any:
    """Parse JSON strictly; raise InputError with line and column.

    Half a character (a lone surrogate, which no file, name or rule can hold) is refused, but where
    the text was ``recorded``: a journal keeps what a command line once said, byte for byte.
    """
    if len(text) > SIZE_LIMIT:
        raise InputError(
            f"{where}: more than {SIZE_LIMIT} characters", "this is not a file that remedy writes"
        )
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}:{error.colno}"
        raise InputError(
            f"{place}: not JSON: {error.msg}", "use the file as remedy saved it"
        ) from None
    except (_BadJsonError, RecursionError, ValueError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{where}: {reason}", "use the file as remedy saved it") from None
    if _deeper_than(value, DEPTH_LIMIT):
        raise InputError(f"{where}: nested too deep", "use the file as remedy saved it")
    if not recorded and re.search(_SURROGATE, text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{where}: a text holds half a character (a lone surrogate)",
                "use the file as remedy saved it",
            ) from None
    return value


class _BadJsonError(ValueError):
    """JSON that parses and is refused all the same."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _BadJsonError(f"the key {twice!r} occurs twice")
    return result


def _no_constant(name: str) -> NoReturn:
    raise _BadJsonError(f"{name} is not an accepted number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):  # 1e999 is no constant, and overflows
        _no_constant(text)
    return value


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(limit):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def dumps(value: object) -> str:
    """Return any of our values as one line of JSON."""
    return json.dumps(encode(value), ensure_ascii=True, separators=(",", ":"))


def encode(value: object) -> Any:
    """Turn dataclasses, tuples and mappings into plain JSON values.

    A field ``from_`` becomes the key ``from``. Raises TypeError for what JSON cannot hold.
    """
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    fields = values.fields(type(value))
    if fields is not None:
        return {name.rstrip("_"): encode(getattr(value, name)) for name in fields}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    raise TypeError(f"{type(value).__name__} has no JSON form")


def decode(
    kind: type[T],
    plain: object,
    where: str,
    otherwise: Words = _STRICT,
    *,
    passing: bool = False,
) -> T:
    """Build a ``kind`` from plain JSON values; raise InputError naming the first wrong place.

    A word that its closed type does not have becomes what ``otherwise`` says, for what is history
    and cannot be written again. A long journal tells the same texts again and again: one copy of
    each serves all. ``passing``: they are soon forgotten, in a process that goes on for long. Its
    table of such copies only grows, and Python 3.12 forgets none of them (CPython issue 113993).
    """
    manner = _Manner(otherwise, str if passing else sys.intern)
    return cast(T, _decode(kind, plain, where, manner))


def _decode(kind: Any, plain: Any, where: str, manner: _Manner) -> Any:
    if type(plain) is kind and kind in (str, int, bool):  # nearly all there is: the short way
        return manner.keep(plain) if kind is str else plain
    origin = typing.get_origin(kind)
    fields = values.fields(kind)
    if fields is not None:
        return _decode_dataclass(kind, fields, plain, where, manner)
    if origin is Union:
        inner = [option for option in typing.get_args(kind) if option is not type(None)]
        return None if plain is None else _decode(inner[0], plain, where, manner)
    if origin is Literal:
        return _decode_word(kind, plain, where, manner)
    if origin is tuple:
        return _decode_tuple(typing.get_args(kind), plain, where, manner)
    if origin is dict:
        _require(isinstance(plain, dict), "an object", plain, where)
        item = typing.get_args(kind)[1]
        return {key: _decode(item, value, f"{where}.{key}", manner) for key, value in plain.items()}
    if kind is object:
        return plain
    if kind is float:
        _require(isinstance(plain, (int, float)) and plain is not True and plain is not False,
                 "a number", plain, where)  # fmt: skip
        return float(plain)
    _require(type(plain) is kind, f"{kind.__name__}", plain, where)
    return plain


def _decode_word(kind: Any, plain: Any, where: str, manner: _Manner) -> str:
    _require(isinstance(plain, str), "a word", plain, where)
    known = typing.get_args(kind)
    if plain in known:
        return sys.intern(plain)
    if kind in manner.otherwise:
        return manner.otherwise[kind]
    raise InputError(f"{where}: {plain[:40]!r} is not one of {', '.join(known)}",
                     "use the file as remedy saved it")  # fmt: skip


def _decode_tuple(
    options: tuple[Any, ...], plain: Any, where: str, manner: _Manner
) -> tuple[Any, ...]:
    _require(isinstance(plain, list), "a list", plain, where)
    if len(options) == 2 and options[1] is Ellipsis:
        item = options[0]
        return tuple(_decode(item, value, f"{where}[{i}]", manner) for i, value in enumerate(plain))
    _require(len(plain) == len(options), f"a list of {len(options)}", plain, where)
    return tuple(
        _decode(option, item, f"{where}[{i}]", manner)
        for i, (option, item) in enumerate(zip(options, plain))
    )


@functools.cache
def members(kind: Any) -> dict[str, tuple[str, Any]]:
    """Return the name and the type of each field of a dataclass, by its key.

    To understand its annotations takes longer than to decode it. Raises NameError for a type that
    only type checkers import.
    """
    types = typing.get_type_hints(kind)
    return {name.rstrip("_"): (name, types[name]) for name in values.fields(kind) or ()}


def _decode_dataclass(
    kind: Any, names: dict[str, bool], plain: Any, where: str, manner: _Manner
) -> Any:
    _require(isinstance(plain, dict), "an object", plain, where)
    known = members(kind)
    for key in plain:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}", f"known: {', '.join(known)}")
    given = {}
    for key, (name, of) in known.items():
        if key in plain:
            given[name] = _decode(of, plain[key], f"{where}.{key}", manner)
        elif not names[name]:
            raise InputError(
                f"{where}: the key {key!r} is missing", "use the file as remedy saved it"
            )
    try:
        return kind(**given)
    except ValueError as error:
        raise InputError(f"{where}: {error}", "use the file as remedy saved it") from None


def _require(holds: bool, wanted: str, plain: object, where: str) -> None:
    if not holds:
        raise InputError(f"{where}: expected {wanted}, found {type(plain).__name__}")
