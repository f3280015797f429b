"""Conditions and fixes by id, found by looking into their folders: one file adds one.

The id is the file's name with dashes. The single-file tool has a list of the files, made when it
was built. A module is imported only when it is asked for.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Mapping
from typing import Any, Optional, Protocol, Union, cast

from remedies import site
from remedies.boot.units import boot_paths
from remedies.errors import ConfigError, UsageError
from remedies.facts import Facts
from remedies.model import Advice, Finding, Risk, Severity, Terms, Wanted

FOLDERS = ("conditions", "fixes")
AREAS = ("conntrack", "NAT", "UDP answers", "forwarding", "limits", "other")
"""What conditions are about, in the order in which they are listed."""
INDEX = "INDEX"
"""What the single-file tool has in each folder. To ask the zip takes ``pkgutil``, which imports
``inspect``: a quarter of what a plan costs."""


class Condition(Protocol):
    """What a module of ``conditions/`` offers (see that folder's docstring)."""

    TITLE: str
    SYMPTOM: str
    SEVERITY: Severity
    CONTROLS: tuple[str, ...]
    NEEDS: tuple[type[Any], ...]
    PARAMS: Mapping[str, object]

    def detect(self, facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
        """Return a finding for each subject on which the condition holds or is covered."""


class Fix(Protocol):
    """What a module of ``fixes/`` offers (see that folder's docstring)."""

    TITLE: str
    ANSWERS: tuple[str, ...]
    RISK: Risk
    HARMLESS: bool
    NEEDS: tuple[type[Any], ...]
    TOPICS: tuple[str, ...]
    """What its guard asks for; a fix may have a function ``topics(params)`` for more."""
    PARAMS: Mapping[str, object]
    WRITES: tuple[str, ...]

    def guard(self, finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
        """Return the reason not to, or None."""

    def desired(
        self, finding: Optional[Finding], facts: Facts, terms: Terms
    ) -> Union[tuple[Wanted, ...], Advice]:
        """Return the resources as they shall be, or what a person should do."""

    def impact(self, finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
        """Return one line: what the change does to traffic and memory."""


@functools.cache
def _ids(folder: str) -> tuple[str, ...]:
    package = importlib.import_module(f"remedies.{folder}")
    (place,) = package.__path__
    try:
        names = [name[: -len(".py")] for name in os.listdir(place) if name.endswith(".py")]
    except NotADirectoryError:  # the single-file tool
        loader: Any = package.__spec__.loader if package.__spec__ else None
        names = loader.get_data(os.path.join(place, INDEX)).decode().split()
    return tuple(sorted(name.replace("_", "-") for name in names if name != "__init__"))


def index(folder: str) -> bytes:
    """Return the file INDEX of a folder, for where it cannot be looked into."""
    return " ".join(name.replace("-", "_") for name in _ids(folder)).encode()


def condition_ids() -> tuple[str, ...]:
    """Return the id of every condition, sorted."""
    return _ids("conditions")


def fix_ids() -> tuple[str, ...]:
    """Return the id of every fix, sorted."""
    return _ids("fixes")


def condition(name: str) -> Condition:
    """Return the condition with this id; raise UsageError where there is none.

    One that a policy states (``site.NAME``) has its title and all else in its rule's parameters.
    """
    if site.is_site(name):
        return site.PolicyCondition(name)
    return cast(Condition, _module("conditions", name))


def topics_of(name: str, params: Mapping[str, object]) -> frozenset[str]:
    """Return what a fix's guard asks probes for about one use of it.

    Of parameters that are wrong nothing is asked: the guard says what is wrong with them.
    """
    asked = getattr(fix(name), "topics", None)
    try:
        return frozenset(fix(name).TOPICS) | (asked(params) if asked else frozenset())
    except ConfigError:
        return frozenset(fix(name).TOPICS)


def area(name: str) -> str:
    """Return what a condition is about: one of :data:`AREAS`."""
    return cast(str, getattr(condition(name), "AREA", AREAS[-1]))


def explained_by(name: str) -> tuple[str, ...]:
    """Return the conditions whose fault explains this one (see the folder's docstring), by id."""
    return cast("tuple[str, ...]", getattr(condition(name), "FOLLOWS", ()))


def in_pulse(name: str) -> bool:
    """Tell whether a watch sees without a scan that this fault has ended."""
    return bool(getattr(condition(name), "IN_PULSE", False))


def fix(name: str) -> Fix:
    """Return the fix with this id; raise UsageError where there is none."""
    if site.is_site(name):
        return site.PolicyFix(name)
    return cast(Fix, _module("fixes", name))


def is_fix(name: str) -> bool:
    """Tell whether there is a fix with this id, be it one that a policy states."""
    return site.is_site(name) or name in fix_ids()


def answering(condition: str) -> tuple[str, ...]:
    """Return the fixes that answer a condition, by id, those first that end no connection."""
    found = (name for name in fix_ids() if condition in fix(name).ANSWERS)
    return tuple(sorted(found, key=lambda name: not fix(name).HARMLESS))


def harmless(condition: str) -> tuple[str, ...]:
    """Return the harmless fixes that answer a condition, by id."""
    return tuple(name for name in answering(condition) if fix(name).HARMLESS)


def may_write(name: str, address: str) -> bool:
    """Tell whether a fix may want a resource, be it a file that brings its rules back at boot.

    ``*`` in what a fix writes is the name of a link; at its end it is any address.
    """
    writes = fix(name).WRITES
    return any(_written(mine, address) for mine in writes) or any(
        address in boot_paths(name, mine) for mine in writes
    )


def _written(mine: str, address: str) -> bool:
    before, star, after = mine.partition("*")
    if not star:
        return mine == address
    if not after:
        return address.startswith(before)
    link = address[len(before) : len(address) - len(after)]
    return address == before + link + after and bool(link) and link.isascii() and "." not in link


@functools.cache
def _module(folder: str, name: str) -> object:
    known = _ids(folder)
    if name not in known:
        raise UsageError(f"nothing in {folder} is called {name!r}", f"known: {', '.join(known)}")
    return importlib.import_module(f"remedies.{folder}.{name.replace('-', '_')}")
