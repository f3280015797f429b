"""Checks what a policy refers to: conditions, fixes, which answers which, and their parameters."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from remedies import catalogue, site
from remedies.errors import ConfigError, Unreadable
from remedies.facts import Facts
from remedies.model import Host, Terms
from remedies.policy.document import Document, Path, PolicyProblem, shown

_NO_FACTS = Facts(host=Host("", "", "", "", ""), time="", window=0.0)


def check(
    document: Document, values: Mapping[str, Any], stated: Collection[str] = ()
) -> list[PolicyProblem]:
    """Return what is wrong with the references in a validated document.

    ``stated``: the ids of the site conditions of what it extends and of itself.
    """
    found: list[PolicyProblem] = []
    for condition, rule in values.get("rules", {}).items():
        found += _rule(document, condition, rule)
    for index, entry in enumerate(values.get("site", [])):
        found += _site(document, ("site", index), entry)
    for index, entry in enumerate(values.get("require", [])):
        found += _standing(document, ("require", index), entry)
    for index, name in enumerate((values.get("unattended") or {}).get("conditions", ())):
        path = ("unattended", "conditions", index)
        found += _known(document, path, "condition", name, catalogue.condition_ids())
    for index, entry in enumerate(values.get("waivers", [])):
        found += _known(
            document,
            ("waivers", index, "condition"),
            "condition",
            entry["condition"],
            (*catalogue.condition_ids(), *stated),
        )
    return found


def fixes_of(rule: Mapping[str, Any]) -> list[str]:
    """Return the fixes that a rule names, in either form."""
    fixes = rule.get("fixes", [])
    return list(fixes["all"] if isinstance(fixes, dict) else fixes)


def _rule(document: Document, condition: str, rule: Mapping[str, Any]) -> Iterator[PolicyProblem]:
    path: Path = ("rules", condition)
    unknown = _known(document, path, "condition", condition, catalogue.condition_ids())
    yield from unknown
    if not unknown and "params" in rule:
        defaults = catalogue.condition(condition).PARAMS
        yield from _params(document, (*path, "params"), rule["params"], defaults)
    form: Path = ("all",) if isinstance(rule.get("fixes"), dict) else ()
    named = [((*path, "fixes", *form, i), fix) for i, fix in enumerate(fixes_of(rule))]
    named += [((*path, "accept_harm", i), fix) for i, fix in enumerate(rule.get("accept_harm", ()))]
    for here, fix in named:
        problems = _known(document, here, "fix", fix, catalogue.fix_ids())
        yield from problems
        if not problems and not unknown and condition not in catalogue.fix(fix).ANSWERS:
            answers = ", ".join(catalogue.fix(fix).ANSWERS)
            what = f"{fix} does not answer {condition}"
            yield document.problem(here, what, f"it answers: {answers or 'nothing'}")


def _site(document: Document, path: Path, entry: Mapping[str, Any]) -> Iterator[PolicyProblem]:
    """Yield what is wrong with a site condition, and where it sets what is a fix's of ours."""
    wrong = list(site.problems(entry["id"], entry))
    yield from (document.problem((*path, p.key), p.what, p.hint) for p in wrong)
    sets = site.target(entry["id"], entry) if not wrong else None
    for fix in catalogue.fix_ids():
        if sets is not None and catalogue.may_write(fix, sets[0]):
            what = f"{sets[0]} is what the fix {fix} sets"
            answers = " or ".join(catalogue.fix(fix).ANSWERS) or "require"
            yield document.problem((*path, "set"), what, f"use it for {answers}")


def _standing(document: Document, path: Path, entry: Mapping[str, Any]) -> list[PolicyProblem]:
    fix = entry["fix"]
    problems = _known(document, (*path, "fix"), "fix", fix, catalogue.fix_ids())
    if problems:
        return problems
    defaults, given = catalogue.fix(fix).PARAMS, entry.get("params", {})
    problems += _params(document, (*path, "params"), given, defaults)
    problems += [
        document.problem((*path, "params", name), "is missing", f"{fix} needs it")
        for name, default in defaults.items()
        if default is None and given.get(name) is None
    ]
    return problems or _refused(document, (*path, "params"), fix, {**defaults, **given})


def _refused(
    document: Document, path: Path, fix: str, params: dict[str, object]
) -> list[PolicyProblem]:
    """Return what the fix itself says of its parameters' values.

    Its guard judges them before it asks for a fact, so with no fact known it says that or nothing.
    """
    try:
        catalogue.fix(fix).guard(None, _NO_FACTS, Terms(params=params))
    except ConfigError as error:
        return [document.problem(path, error.what, error.hint)]
    except Unreadable:
        return []
    return []


def _known(
    document: Document, path: Path, kind: str, name: str, known: tuple[str, ...]
) -> list[PolicyProblem]:
    if name in known:
        return []
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else "'remedy list' names them"
    return [document.problem(path, f"unknown {kind} {shown(name)!r}", hint)]


def _params(
    document: Document, path: Path, given: Mapping[str, Any], defaults: Mapping[str, object]
) -> Iterator[PolicyProblem]:
    for name, value in given.items():
        here = (*path, name)
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, 1)
            known = ", ".join(defaults) or "none"
            hint = f"did you mean {near[0]!r}?" if near else f"parameters: {known}"
            yield document.problem(here, "unknown parameter", hint)
        elif not _fits(value, defaults[name]):
            wanted = _kind(defaults[name])
            what = f"expected {wanted}, found {shown(repr(value))}"
            yield document.problem(here, what, "correct the value")


def _fits(value: object, default: object) -> bool:
    """Tell whether a value has its default's type. A default of None says nothing of the type."""
    if default is None:
        return True
    if isinstance(default, (list, tuple)):
        return isinstance(value, list) and all(_fits(item, default[0]) for item in value if default)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


def _kind(default: object) -> str:
    """Return the type of a default in the words of a message."""
    if isinstance(default, (list, tuple)):
        return f"a list of {_kind(default[0])}" if default else "a list"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return words.get(type(default), type(default).__name__)
