"""Facts as a file: the bug report, and the test case. ``scan --save-facts F``, ``--facts F``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from remedies import codec
from remedies.errors import InputError
from remedies.facts import Facts
from remedies.model import FORMAT_VERSION
from remedies.netlink.flow import Tuple
from remedies.netlink.links import Address
from remedies.rules.prefixes import parse
from remedies.rules.rule import Match
from remedies.values import fields

KIND = "facts"


def to_json(facts: Facts) -> str:
    """Return facts as JSON text, one probe a line so that two files can be compared."""
    plain = codec.encode(facts)
    head = {"format_version": FORMAT_VERSION, "kind": KIND}
    lines = [
        f"{codec.dumps(k)}:{codec.dumps(v)}" for k, v in {**head, **plain}.items() if k != "known"
    ]
    probes = ",\n ".join(f"{codec.dumps(k)}:{codec.dumps(v)}" for k, v in plain["known"].items())
    return "{" + ",\n".join(lines) + ',\n"known":{\n ' + probes + "\n}}\n"


def from_json(text: str, where: str) -> Facts:
    """Read facts back; raise InputError naming the first wrong place."""
    plain = codec.loads(text, where)
    if not isinstance(plain, dict) or plain.pop("kind", None) != KIND:
        raise InputError(
            f"{where}: not a facts file", "make one with 'remedy scan --save-facts FILE'"
        )
    version = plain.pop("format_version", None)
    if not isinstance(version, str) or version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise InputError(
            f"{where}: format_version {version!r}", f"this tool reads {FORMAT_VERSION}"
        )
    known = plain.get("known")
    facts = codec.decode(Facts, plain, where)
    return Facts(
        host=facts.host,
        time=facts.time,
        window=facts.window,
        known={name: _decode(name, value, where) for name, value in (known or {}).items()},
        unknown=facts.unknown,
        ours=facts.ours,
    )


def _decode(name: str, plain: object, where: str) -> object:
    place = f"{where}: known.{name}"
    if not name.isidentifier():
        raise InputError(f"{place}: no such probe")
    try:
        kind: type[Any] = getattr(
            importlib.import_module(f"remedies.facts.{name}"), name.capitalize()
        )
    except (ImportError, AttributeError):
        raise InputError(f"{place}: no such probe") from None
    fact: object = codec.decode(kind, plain, place)
    for text in _addresses(fact):
        try:
            parse(text)
        except ValueError as error:
            raise InputError(f"{place}: {error}", codec.AS_SAVED) from None
    return fact


def _addresses(value: object) -> Iterator[str]:
    """Yield every address and prefix in a fact: saved facts are a person's to edit."""
    if isinstance(value, tuple):
        for item in value:
            yield from _addresses(item)
    elif isinstance(value, Address):
        yield value.subnet
    elif isinstance(value, Tuple):
        yield from (value.source, value.destination)
    elif isinstance(value, Match):
        yield from (*value.sources, *value.not_sources)
        yield from (*value.destinations, *value.not_destinations)
    else:
        for name in fields(type(value)) or ():
            yield from _addresses(getattr(value, name))
