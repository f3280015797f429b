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
from collections.abc import Callable, Mapping, Sequence
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


_Decoder = Callable[[Any, _Manner], Any]
"""Raises _Misfit."""
AS_SAVED = "use the file as remedy saved it"
"""The hint about a saved file that is none, or no longer one."""


class _Misfit(Exception):
    """A value that is none of its kind: what is wrong, and where it is in the value decoded.

    The place is put together on the way out: most values are in order, and nobody asks for theirs.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.hint, self.place = what, hint, ""

    def at(self, place: str) -> _Misfit:
        """Return itself, of a value that is in another one at this place."""
        self.place = place + self.place
        return self


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
        raise InputError(f"{place}: not JSON: {error.msg}", AS_SAVED) from None
    except (_BadJsonError, RecursionError, ValueError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{where}: {reason}", AS_SAVED) from None
    if deeper_than(value, DEPTH_LIMIT):
        raise InputError(f"{where}: nested too deep", AS_SAVED)
    if not recorded and re.search(_SURROGATE, text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{where}: a text holds half a character (a lone surrogate)",
                AS_SAVED,
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


def deeper_than(value: Any, limit: int) -> bool:
    """Tell whether objects and lists stand in each other more than ``limit`` deep. Pure."""
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
    try:
        return cast(T, _decoder(cast(Any, kind))(plain, manner))
    except _Misfit as error:
        raise InputError(f"{where}{error.place}: {error.what}", error.hint) from None


@functools.cache
def _decoder(kind: Any) -> _Decoder:
    """Return what decodes a type: to understand it takes longer than to decode a value of it."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if values.fields(kind) is not None:
        return functools.partial(_decode_dataclass, kind)
    if origin is Union:
        inner = [option for option in options if option is not type(None)]
        return functools.partial(_decode_optional, _decoder(inner[0]))
    if origin is Literal:
        return functools.partial(_decode_word, kind, options)
    if origin is tuple and len(options) == 2 and options[1] is Ellipsis:
        return functools.partial(_decode_list, _decoder(options[0]))
    if origin is tuple:
        return functools.partial(_decode_tuple, tuple(map(_decoder, options)))
    if origin is dict:
        return functools.partial(_decode_mapping, _decoder(options[1]))
    if kind is object:
        return lambda plain, manner: plain
    return _decode_number if kind is float else functools.partial(_decode_plain, kind)


def _decode_plain(kind: Any, plain: Any, manner: _Manner) -> Any:
    if type(plain) is not kind:
        raise _expected(kind.__name__, plain)
    return manner.keep(plain) if kind is str else plain


def _decode_number(plain: Any, manner: _Manner) -> float:
    if type(plain) not in (int, float):
        raise _expected("a number", plain)
    return float(plain)


def _decode_optional(inner: _Decoder, plain: Any, manner: _Manner) -> Any:
    return None if plain is None else inner(plain, manner)


def _decode_mapping(item: _Decoder, plain: Any, manner: _Manner) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise _expected("an object", plain)
    given = {}
    for key, value in plain.items():
        try:
            given[key] = item(value, manner)
        except _Misfit as error:
            raise error.at(f".{key}") from None
    return given


def _decode_word(kind: Any, known: tuple[str, ...], plain: Any, manner: _Manner) -> str:
    if not isinstance(plain, str):
        raise _expected("a word", plain)
    if plain in known:
        return sys.intern(plain)
    if kind in manner.otherwise:
        return manner.otherwise[kind]
    raise _Misfit(f"{plain[:40]!r} is not one of {', '.join(known)}", AS_SAVED)


def _decode_list(item: _Decoder, plain: Any, manner: _Manner) -> tuple[Any, ...]:
    if not isinstance(plain, list):
        raise _expected("a list", plain)
    return _decode_items([item] * len(plain), plain, manner) if plain else ()


def _decode_tuple(items: Sequence[_Decoder], plain: Any, manner: _Manner) -> tuple[Any, ...]:
    if not isinstance(plain, list) or len(plain) != len(items):
        raise _expected(f"a list of {len(items)}", plain)
    return _decode_items(items, plain, manner)


def _decode_items(items: Sequence[_Decoder], plain: Any, manner: _Manner) -> tuple[Any, ...]:
    given: list[Any] = []
    try:
        for item, value in zip(items, plain):
            given.append(item(value, manner))
    except _Misfit as error:
        raise error.at(f"[{len(given)}]") from None
    return tuple(given)


@functools.cache
def members(kind: Any) -> dict[str, tuple[str, Any]]:
    """Return the name and the type of each field of a dataclass, by its key.

    To understand its annotations takes longer than to decode it. Raises NameError for a type that
    only type checkers import.
    """
    known = vars(sys.modules[kind.__module__])
    # typing.get_type_hints looks within each for what ours never hold, five times as long.
    types = {name: eval(text, known) for name, text in kind.__annotations__.items()}  # noqa: S307
    return {name.rstrip("_"): (name, types[name]) for name in values.fields(kind) or ()}


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[str, bool, bool, _Decoder]]:
    """Return of each field by key: its name, whether it has a default, is a text; its decoder."""
    optional = values.fields(kind) or {}
    return {
        key: (name, optional[name], of is str, _decoder(of))
        for key, (name, of) in members(kind).items()
    }


def _decode_dataclass(kind: Any, plain: Any, manner: _Manner) -> Any:
    if not isinstance(plain, dict):
        raise _expected("an object", plain)
    known = _fields(kind)
    if plain.keys() != known.keys():
        _check_keys(plain, known)
    given = {}
    for key, value in plain.items():
        name, _, is_text, decoder = known[key]
        if is_text and type(value) is str:  # nearly all there is
            given[name] = manner.keep(value)
            continue
        try:
            given[name] = decoder(value, manner)
        except _Misfit as error:
            raise error.at(f".{key}") from None
    try:
        return kind(**given)
    except ValueError as error:
        raise _Misfit(str(error), AS_SAVED) from None


def _check_keys(
    plain: dict[str, object], known: Mapping[str, tuple[str, bool, bool, _Decoder]]
) -> None:
    for key in plain:
        if key not in known:
            raise _Misfit(f"unknown key {key!r}", f"known: {', '.join(known)}")
    for key, (_, optional, _, _) in known.items():
        if key not in plain and not optional:
            raise _Misfit(f"the key {key!r} is missing", AS_SAVED)


def _expected(wanted: str, plain: object) -> _Misfit:
    return _Misfit(f"expected {wanted}, found {type(plain).__name__}")
