"""Conditions and fixes by id, found by looking into their folders: one file adds one.

The id is the file's name with dashes. Looking uses pkgutil, so that it works inside a zip; a
module is imported only when it is asked for.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Optional, Protocol, Union, cast

from remedies.errors import UsageError
from remedies.facts import Facts
from remedies.model import Advice, Finding, Terms, Wanted


class Condition(Protocol):
    """What a module of ``conditions/`` offers (see that folder's docstring)."""

    TITLE: str
    SEVERITY: str
    NEEDS: tuple[type[Any], ...]
    PARAMS: Mapping[str, object]

    def detect(self, facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
        """Return a finding for each subject on which the condition holds or is covered."""


class Fix(Protocol):
    """What a module of ``fixes/`` offers (see that folder's docstring)."""

    TITLE: str
    ANSWERS: tuple[str, ...]
    RISK: str
    NEEDS: tuple[type[Any], ...]
    TOPICS: tuple[str, ...]
    PARAMS: Mapping[str, object]

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
    return tuple(sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(package.__path__)))


def condition_ids() -> tuple[str, ...]:
    """Return the id of every condition, sorted."""
    return _ids("conditions")


def fix_ids() -> tuple[str, ...]:
    """Return the id of every fix, sorted."""
    return _ids("fixes")


def condition(name: str) -> Condition:
    """Return the condition with this id; raise UsageError where there is none."""
    return cast(Condition, _module("conditions", name, condition_ids()))


def fix(name: str) -> Fix:
    """Return the fix with this id; raise UsageError where there is none."""
    return cast(Fix, _module("fixes", name, fix_ids()))


def _module(folder: str, name: str, known: tuple[str, ...]) -> object:
    if name not in known:
        raise UsageError(f"nothing in {folder} is called {name!r}", f"known: {', '.join(known)}")
    return importlib.import_module(f"remedies.{folder}.{name.replace('-', '_')}")
