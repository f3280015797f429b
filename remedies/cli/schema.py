"""``remedy schema``: the JSON Schema of what a verb prints with ``--json``.

``output.schema.json``, beside this file, holds all of them: one definition for each ``kind``, and
the values that several share, which begin with a capital. The kernel tests validate every document
that they read. A minor ``format_version`` may add keys, so no key is forbidden.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
from collections.abc import Iterator
from typing import Any

from remedies.errors import UsageError

EXAMPLES = (
    ("schema", "list the documents"),
    ("schema plan", "print the JSON Schema of 'remedy plan --json'"),
)

Plain = dict[str, Any]

_FILE = os.path.join(os.path.dirname(__file__), "output.schema.json")
_REPORT = os.path.join(os.path.dirname(__file__), os.pardir, "report", "report.schema.json")
_DEFINED = "#/$defs/"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the kind of document."""
    parser.add_argument(
        "kind", nargs="?", metavar="KIND", help="the document's 'kind' (default: list them)"
    )


def run(args: argparse.Namespace) -> int:
    """Print one schema, or the list of them; 64 for a kind that does not exist."""
    if args.kind:
        print(json.dumps(schema(args.kind), indent=2))
        return 0
    everything = _read(_FILE)
    if args.json:
        print(json.dumps(everything, indent=2))
        return 0
    titles = {kind: everything["$defs"][kind]["title"] for kind in kinds()}
    for kind, title in {**titles, "report": "remedy report -o json:FILE"}.items():
        print(f"{kind:14} {title}")
    if not args.quiet:
        print("\nNext: 'remedy schema KIND' prints one; 'remedy policy schema' that of a policy.")
    return 0


def kinds() -> tuple[str, ...]:
    """Return the kinds of document that the command line prints, but for reports."""
    return tuple(name for name in _read(_FILE)["$defs"] if name[0].islower())


def schema(kind: str) -> Plain:
    """Return the schema (draft 2020-12) of one kind of document, with all that it refers to.

    The first line of every ``remedy fleet`` verb has one schema, ``fleet``. Raises UsageError for
    a kind that does not exist.
    """
    if kind == "report":
        return _read(_REPORT)
    everything = _read(_FILE)
    definitions: Plain = everything["$defs"]
    if kind not in kinds():
        near = difflib.get_close_matches(kind, [*kinds(), "report"], n=1)
        hint = f"did you mean {near[0]}?" if near else "'remedy schema' lists them"
        raise UsageError(f"no document has the kind {kind!r}", hint)
    needed: dict[str, None] = {}
    waiting = [kind]
    while waiting:
        for name in _references(definitions[waiting.pop()]):
            if name not in needed:
                needed[name] = None
                waiting.append(name)
    found = {"$schema": everything["$schema"], **definitions[kind]}
    return {**found, "$defs": {name: definitions[name] for name in needed}} if needed else found


def _references(value: object) -> Iterator[str]:
    """Yield the names of the definitions that a schema refers to."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield str(value["$ref"])[len(_DEFINED) :]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _read(path: str) -> Plain:
    with open(path, encoding="utf-8") as file:
        found: Plain = json.load(file)
    return found
