"""Compiles policy sources: reads, validates and merges them into one plain :class:`model.Policy`.

Every source comes after what it extends, each file once; later ones win. A plain value replaces the
one before it, ``rules`` merge by condition and then by key, ``require`` and ``waivers`` add up,
except that a fix required with the same parameters, and a waiver of the same condition and subject,
take the place of the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import remedies
from remedies import catalogue, model, site
from remedies.errors import ConfigError
from remedies.policy import references, sources, validation
from remedies.policy.document import Document, Path, PolicyProblem, Problems, dotted, parse
from remedies.policy.sources import SourcePlace

BUILT_IN = "built-in default"
"""The origin of what no source says."""

_DEPTH = 16


@dataclass(frozen=True)
class Compiled:
    """A policy and the files it was made from, with their digests."""

    policy: model.Policy
    read: tuple[tuple[SourcePlace, str], ...]


def compile_policy(specs: Sequence[str]) -> Compiled:
    """Compile names and files into one policy. Raises ConfigError telling the first problem."""
    try:
        return compile_all(specs)
    except Problems as found:
        raise found.problems[0].error() from None


def compile_all(specs: Sequence[str]) -> Compiled:
    """Compile as :func:`compile_policy` does; raise :class:`Problems` telling all of them."""
    gathered = _Gathered()
    for spec in specs:
        gathered.add(spec)
    found: list[PolicyProblem] = []
    merged = _Merged()
    stated: set[str] = set()
    for document in gathered.documents:
        values, wrong = validation.validate(document)
        stated |= _site_ids(document)
        wrong += references.check(document, values, stated)
        found += sorted(wrong, key=lambda problem: problem.line)
        merged.add(document, values)
    found = found or merged.incomplete()
    if found:
        raise Problems(found)
    digests = [document.sha256 for document in gathered.documents]
    return Compiled(
        merged.policy(gathered.names, model.digest([remedies.__version__, digests])),
        tuple((document.place, document.sha256) for document in gathered.documents),
    )


def _site_ids(document: Document) -> set[str]:
    """Return the ids of a document's site conditions, also of those in which something is wrong."""
    entries = document.data.get("site")
    ids = [e.get("id") for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    return {each for each in ids if isinstance(each, str)}


@dataclass
class _Gathered:
    """The documents in the order in which they are merged, and what the asked-for ones are called.

    A file that two sources extend is there once, before both.
    """

    documents: list[Document] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(self, spec: str) -> None:
        """Add a source given by a user, after everything it extends."""
        document = self._add(sources.locate(spec), ())
        self.names.append(str(document.data.get("name", spec)))

    def _add(self, place: SourcePlace, below: tuple[SourcePlace, ...]) -> Document:
        for document in self.documents:
            if document.place.path == place.path:
                return document
        data = sources.read(place)
        document = parse(place, data, sources.digest(data))
        extends = document.data.get("extends")
        if isinstance(extends, str) and extends:  # anything else is the schema's to refuse
            self._add(self._parent(document, extends, below), (*below, place))
        self.documents.append(document)
        return document

    def _parent(
        self, document: Document, extends: str, below: tuple[SourcePlace, ...]
    ) -> SourcePlace:
        try:
            parent = sources.locate(extends, beside=document.place)
        except ConfigError as error:
            problem = document.problem(("extends",), error.what, error.hint)
            raise Problems([problem]) from None
        chain = [*below, document.place]
        if parent.path in [place.path for place in chain]:
            ring = " -> ".join([*(place.label for place in chain), parent.label])
            what = f"policies extend each other: {ring}"
            raise Problems([document.problem(("extends",), what, "remove one 'extends'")])
        if len(chain) >= _DEPTH:
            what = f"more than {_DEPTH} policies extend each other"
            raise Problems([document.problem(("extends",), what, "merge some of them")])
        return parent


@dataclass
class _Sourced:
    """A value of ``require`` or ``waivers`` and where it came from."""

    values: dict[str, Any]
    origin: str


@dataclass
class _Merged:
    """What the documents so far say together."""

    plain: dict[str, Any] = field(default_factory=lambda: {"backend": "auto", "persist": False})
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    require: list[_Sourced] = field(default_factory=list)
    waivers: list[_Sourced] = field(default_factory=list)
    origins: dict[str, str] = field(
        default_factory=lambda: {"backend": BUILT_IN, "persist": BUILT_IN}
    )
    places: dict[str, tuple[Document, Path]] = field(default_factory=dict)

    def add(self, document: Document, values: dict[str, Any]) -> None:
        """Merge one validated document over what is there."""
        for key in ("backend", "persist", "unattended"):
            if key in values:
                self.plain[key] = values[key]
                self.origins[key] = _origin(document, (key,))
                self.places[key] = (document, (key,))
        for condition, rule in values.get("rules", {}).items():
            self.rules.setdefault(condition, {}).update(rule)
            for key in rule:
                path: Path = ("rules", condition, key)
                self.origins[dotted(path)] = _origin(document, path)
                self.places[dotted(path)] = (document, path)
        for index, entry in enumerate(values.get("site", [])):
            key = f"rules.{entry['id']}.mode"
            self.rules.pop(entry["id"], None)  # the whole entry takes the place of an earlier one
            self.rules[entry["id"]] = _stated(entry)
            self.origins[key] = _origin(document, ("site", index))
            self.places[key] = (document, ("site", index))
        for name, entries, same in (
            ("require", self.require, ("fix", "params")),
            ("waivers", self.waivers, ("condition", "subject")),
        ):
            for index, entry in enumerate(values.get(name, [])):
                _put(entries, _Sourced(entry, _origin(document, (name, index))), same)

    def incomplete(self) -> list[PolicyProblem]:
        """Return what the whole lacks: a rule that shall fix needs a fix."""
        return [
            self.places[f"rules.{name}.mode"][0].problem(
                self.places[f"rules.{name}.mode"][1],
                "mode is fix, and no fix is named",
                "add 'fixes: [...]', or use 'mode: advise'",
            )
            for name, rule in self.rules.items()
            if rule.get("mode") == "fix" and not references.fixes_of(rule)
        ] + [*self._at_odds(), *self._not_unattended()]

    def _not_unattended(self) -> Iterator[PolicyProblem]:
        """Yield the conditions for which a watch could apply nothing with nobody there."""
        for index, name in enumerate((self.plain.get("unattended") or {}).get("conditions", ())):
            document, path = self.places["unattended"]
            rule = self.rules.get(name, {})
            may = [fix for fix in references.fixes_of(rule) if catalogue.fix(fix).HARMLESS]
            if rule.get("mode") != "fix" or not may:
                what = f"the rule for {name} has no harmless fix to apply"
                named = ", ".join(catalogue.harmless(name)) or "none; leave the condition out"
                hint = f"give it 'mode: fix' and one of these: {named}"
                yield document.problem((*path, "conditions", index), what, hint)

    def _at_odds(self) -> Iterator[PolicyProblem]:
        """Yield where two site conditions set one thing to two states."""
        seen: dict[str, tuple[str, str]] = {}
        for name, rule in self.rules.items():
            wanted = site.target(name, rule["params"]) if site.is_site(name) else None
            if wanted is None:
                continue
            address, state = wanted
            other, before = seen.setdefault(address, (name, state))
            if before != state:
                document, path = self.places[f"rules.{name}.mode"]
                what = f"{other} sets {address} to another state"
                yield document.problem((*path, "set"), what, "keep one of them")

    def policy(self, names: Sequence[str], digest: str) -> model.Policy:
        """Return the whole as plain data."""
        origins = dict(self.origins)
        for name, entries in (("require", self.require), ("waivers", self.waivers)):
            origins.update({f"{name}.{i}": entry.origin for i, entry in enumerate(entries)})
        return model.Policy(
            names=tuple(names),
            digest=digest,
            backend=self.plain["backend"],
            persist=self.plain["persist"],
            rules={name: _rule(rule) for name, rule in self.rules.items()},
            require=tuple(_required_fix(entry.values) for entry in self.require),
            waivers=tuple(_waiver(entry.values) for entry in self.waivers),
            unattended=_unattended(self.plain.get("unattended")),
            origins=origins,
        )


def _origin(document: Document, path: Path) -> str:
    return f"{document.place.label}:{document.line(path)}"


def _put(entries: list[_Sourced], new: _Sourced, same: tuple[str, ...]) -> None:
    """Append an entry, or put it in the place of one that says the same thing."""
    for index, old in enumerate(entries):
        if all(old.values.get(key) == new.values.get(key) for key in same):
            entries[index] = new
            return
    entries.append(new)


def _rule(rule: dict[str, Any]) -> model.Rule:
    return model.Rule(
        mode=rule.get("mode", "advise"),
        from_=rule.get("from", "exposed"),
        fixes=tuple(references.fixes_of(rule)),
        every=isinstance(rule.get("fixes"), dict),
        params=rule.get("params", {}),
        accept_harm=tuple(rule.get("accept_harm", ())),
    )


def _stated(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a site condition as a rule: what it says of itself is its parameters.

    Who states a condition knows what its setting does, so the fix needs no proof of the fault.
    """
    fixes = [entry["id"]] if entry.get("set") else []
    return {
        "mode": entry.get("mode", "advise"),
        "fixes": fixes,
        "params": {key: value for key, value in entry.items() if key not in ("id", "mode")},
        "accept_harm": fixes,
    }


def _required_fix(values: dict[str, Any]) -> model.RequiredFix:
    return model.RequiredFix(
        fix=values["fix"], params=values.get("params", {}), reason=values["reason"]
    )


def _unattended(values: dict[str, Any] | None) -> model.Unattended | None:
    if values is None:
        return None
    return model.Unattended(**{**values, "conditions": tuple(values["conditions"])})


def _waiver(values: dict[str, Any]) -> model.Waiver:
    return model.Waiver(
        condition=values["condition"],
        subject=values["subject"],
        until=values["until"].isoformat(),
        reason=values["reason"],
        owner=values["owner"],
    )
