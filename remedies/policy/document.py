"""Reads one policy file: YAML into plain values that know their lines.

The nodes of PyYAML's composer are turned into values here, without any of its constructors, for
three reasons: every value keeps its line; nothing in a file can make an object; and plain words
mean what YAML 1.2 says (``off``, ``no`` and ``12:30`` are text), not what YAML 1.1 makes of them.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from yaml import YAMLError
from yaml.composer import Composer
from yaml.error import MarkedYAMLError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from remedies.errors import ConfigError
from remedies.policy.sources import SourcePlace

MAX_DEPTH = 16
"""Levels of nesting; a policy has five."""

MAX_VALUES = 20_000
"""Keys and values in one file: half a second of parsing, and a hundred times a long policy."""

Path = tuple[str | int, ...]
"""Where a value is: keys and indexes from the top."""

_PLAIN = "tag:yaml.org,2002:"

_WORDS = {
    None: [
        (f"{_PLAIN}null", re.compile(r"\A(?:~|null|)\Z")),
        (f"{_PLAIN}bool", re.compile(r"\A(?:true|false)\Z")),
        (f"{_PLAIN}int", re.compile(r"\A[-+]?(?:0|[1-9][0-9]{0,17})\Z")),
        (f"{_PLAIN}float", re.compile(r"\A[-+]?[0-9]{1,17}\.[0-9]{0,17}\Z")),
        (f"{_PLAIN}timestamp", re.compile(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")),
    ]
}
"""What a plain scalar means, in the form of PyYAML's table (None: whatever it begins with)."""


@dataclass(frozen=True)
class PolicyProblem:
    """One thing wrong with a policy, at one place."""

    file: str
    line: int
    key: str
    """Dotted; empty for the file itself."""
    what: str
    hint: str = ""

    def error(self) -> ConfigError:
        """Return it as the error that is printed as one line: ``FILE:LINE: KEY: what; hint``."""
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        return ConfigError(place + (f"{self.key}: " if self.key else "") + self.what, self.hint)


class Problems(Exception):
    """Everything found wrong, in the order of the sources and their lines."""

    def __init__(self, problems: list[PolicyProblem]) -> None:
        super().__init__(str(problems[0].error()))
        self.problems = problems


@dataclass(frozen=True)
class Document:
    """One policy file: its plain values and the line (from 1) of each."""

    place: SourcePlace
    sha256: str
    data: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """Return the line of the value, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: Path, what: str, hint: str = "") -> PolicyProblem:
        """Return a problem with the value at ``path``."""
        return PolicyProblem(self.place.label, self.line(path), dotted(path), what, hint)


def dotted(path: Path) -> str:
    """Return a path as people write it: ``require.0.params``."""
    return ".".join(shown(str(part)) for part in path)


def shown(text: str) -> str:
    """Return text from a file fit for a terminal: no control characters, not endless."""
    text = text if text.isprintable() else text.encode("unicode_escape").decode()
    return text if len(text) <= 80 else text[:77] + "..."


def parse(place: SourcePlace, data: bytes, sha256: str) -> Document:
    """Return the document in ``data``; raise :class:`Problems` (one) where it is not one."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _stop(place, line, "not UTF-8 text", "save the file as UTF-8") from None
    try:
        node = _Loader(text).get_single_node()
    except _RefusedError as refused:
        raise _stop(place, refused.line, refused.what, refused.hint) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"broken YAML: the character {chr(error.character)!r} is not allowed"
        raise _stop(place, line, what, "remove it, or escape it in double quotes") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = f"broken YAML at column {column}: {shown(error.problem or str(error.context))}"
        raise _stop(place, line, what, "check indentation, quotes and brackets") from None
    except YAMLError as error:
        raise _stop(place, 1, f"broken YAML: {shown(str(error))}", "") from None
    if not isinstance(node, MappingNode):
        what = "is empty" if node is None else "is not a mapping of keys to values"
        raise _stop(place, 1, what, "begin with 'apiVersion: remedy/v1'")
    lines: dict[Path, int] = {(): 1}
    try:
        values = _value(node, (), lines)
    except _RefusedError as refused:
        raise _stop(place, refused.line, refused.what, refused.hint) from None
    return Document(place, sha256, values, lines)


def _stop(place: SourcePlace, line: int, what: str, hint: str) -> Problems:
    return Problems([PolicyProblem(place.label, line, "", what, hint)])


class _RefusedError(Exception):
    """YAML that is well formed and that no policy may contain."""

    def __init__(self, line: int, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.line, self.what, self.hint = line, what, hint


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's own stages up to the node tree, with our plain words and limits."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self.yaml_implicit_resolvers = _WORDS
        self._depth = 0
        self._values = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Compose a node; refuse aliases (one can stand for billions of values) and excess."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            name = shown(str(event.anchor))
            raise _RefusedError(line, f"the alias *{name} is not allowed", "write the value out")
        if self._depth >= MAX_DEPTH:
            raise _RefusedError(line, f"nested deeper than {MAX_DEPTH} levels", "simplify it")
        self._values += 1
        if self._values > MAX_VALUES:
            raise _RefusedError(line, f"more than {MAX_VALUES} values", "policies are short files")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _value(node: Node, path: Path, lines: dict[Path, int]) -> Any:
    """Return a node's plain value, noting the line of everything in it."""
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    kind = node.tag.removeprefix(_PLAIN)
    if isinstance(node, MappingNode) and kind == "map":
        return _mapping(node, path, lines)
    if isinstance(node, SequenceNode) and kind == "seq":
        return [_value(item, (*path, i), lines) for i, item in enumerate(node.value)]
    if isinstance(node, ScalarNode):
        try:
            return _scalar(kind, node.value)
        except ValueError:
            key = dotted(path)
            what = f"{key}: {shown(node.value)!r} is not a valid {kind}"
            hint = "dates are YYYY-MM-DD" if kind == "timestamp" else "quote it if it is text"
            raise _RefusedError(line, what, hint) from None
        except KeyError:
            pass
    raise _RefusedError(line, f"{dotted(path)}: unknown tag {shown(node.tag)!r}", "remove the tag")


def _mapping(node: MappingNode, path: Path, lines: dict[Path, int]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            raise _RefusedError(line, f"{dotted(path)}: a key must be text", "quote it")
        key = key_node.value
        here = (*path, key)
        if not _is_text(key):
            raise _RefusedError(
                line,
                f"{dotted(here)}: an incomplete character (a lone surrogate)",
                "write all of it",
            )
        if key in result:
            what = f"{dotted(here)}: the key is there twice, first in line {lines[here]}"
            raise _RefusedError(line, what, "remove one")
        lines[here] = line
        result[key] = _value(value_node, here, lines)
    return result


def _scalar(kind: str, text: str) -> Any:
    """Return a scalar's value; ValueError for one that does not fit, KeyError for other kinds."""
    if kind == "null":
        return None
    if kind == "bool" and text not in ("true", "false"):
        raise ValueError(text)
    if kind == "str" and not _is_text(text):
        raise ValueError(text)
    if kind == "int" and len(text) > 19:  # a longer one takes int() quadratic time
        raise ValueError(text)
    make: dict[str, Callable[[str], Any]] = {
        "str": str,
        "bool": "true".__eq__,
        "int": int,
        "float": float,
        "timestamp": datetime.date.fromisoformat,
    }
    return make[kind](text)


def _is_text(value: str) -> bool:
    """Tell whether it can be written: no half of a surrogate pair, which an escape can make."""
    return not any("\ud800" <= character <= "\udfff" for character in value)
