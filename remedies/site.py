"""Site conditions: conditions and fixes that a policy states without Python. Pure.

A policy's entry under ``site`` becomes a rule, whose parameters are the entry. Condition and fix
have the entry's id, ``site.NAME``, which no file of ``conditions/`` or ``fixes/`` can have. What
they may name is narrow, and is checked where a policy is compiled and again before a change is
made: sysctls of ``net``, an entry that loads a module at boot, and files of our own that hold
settings of systemd-networkd.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.named import TOPIC, Named
from remedies.model import Evidence, Finding, Risk, Severity, Terms, Wanted
from remedies.values import NamedTuple

PREFIX = "site."
_ID = r"site\.[a-z0-9](?:-?[a-z0-9]){0,39}"
_KEY = r"[a-z0-9_]+(?:[./][A-Za-z0-9_/-]+)+"
_NET = r"net\.[a-z0-9_]+(?:[./][A-Za-z0-9_/-]+)+"
_MODULE = r"[a-z0-9][a-z0-9_]{0,63}"
_PATH = r"/etc(?:/[A-Za-z0-9_@:+-][A-Za-z0-9._@:+-]*)+"
_VALUE = r"[A-Za-z0-9._:,/+-]+(?: [A-Za-z0-9._:,/+-]+)*"
_HIDDEN = r"stable_secret|fastopen_key"
_FOLDERS = {
    "/etc/systemd/network": (".link",),
    "/etc/systemd/networkd.conf.d": (".conf",),
}
"""Where a file may be written, and how its name ends: settings, nothing that is run."""
_LONGEST = 4096

TESTS = {
    "sysctl": ("<", ">", "==", "!=", "absent"),
    "module": ("absent", "there"),
    "file": ("contains", "lacks", "absent", "there"),
}
"""How each kind of fact can be compared."""
_SOURCES = {"sysctl": "/proc/sys", "module": "/sys/module", "file": "file"}
_ALONE = ("absent", "there")
"""Comparisons that have no value."""


class Misstated(NamedTuple):
    """What is wrong with an entry: at which key, what, and what to do."""

    key: str
    what: str
    hint: str


def is_site(name: str) -> bool:
    """Tell whether an id of a condition or fix is one that a policy states."""
    return name.startswith(PREFIX)


def problems(name: str, entry: Mapping[str, Any]) -> Iterator[Misstated]:
    """Yield what is wrong with an entry, whose types are right."""
    found = list(_problems(name, entry))
    yield from found
    sets: Mapping[str, Any] = entry.get("set") or {}
    same = f"sysctl:{sets.get('sysctl')}" == entry["fact"]
    if same and not found and entry["is"] not in _ALONE:
        value = str(sets["value"])
        with contextlib.suppress(Unreadable):  # words that are not compared as a number
            if _compared(entry["is"], value, str(entry["value"])):
                what = f"with {_short(value)} the condition still holds"
                yield Misstated("set", what, "correct one of the two")


def _problems(name: str, entry: Mapping[str, Any]) -> Iterator[Misstated]:
    if not re.fullmatch(_ID, name):
        yield Misstated("id", "is not site.NAME", "lower-case letters, digits and '-', 40 at most")
    for key in ("title", "why"):
        text = str(entry.get(key, ""))
        if not text.isprintable() or len(text) > 400:
            yield Misstated(
                key, "is not one printable line of at most 400 characters", "shorten it"
            )
    scheme, _, named = str(entry["fact"]).partition(":")
    if scheme not in TESTS:
        hint = "sysctl:KEY, module:NAME or file:PATH"
        yield Misstated("fact", f"{_short(scheme)} is no kind of fact", hint)
        return
    yield from _misnamed("fact", scheme, named)
    test, value = entry["is"], str(entry.get("value", ""))
    if test not in TESTS[scheme]:
        yield Misstated(
            "is",
            f"a {scheme} cannot be compared with '{test}'",
            f"one of: {', '.join(TESTS[scheme])}",
        )
    elif test in _ALONE and "value" in entry:
        yield Misstated("value", f"'{test}' takes no value", "remove the key")
    elif test not in _ALONE and not value:
        yield Misstated("value", "is missing", f"add it: '{test}' needs one")
    elif test in ("<", ">") and _number(value) is None:
        yield Misstated("value", "is not a whole number", f"'{test}' compares numbers")
    elif not value.isprintable() or len(value) > 400:
        yield Misstated(
            "value", "is not one printable line of at most 400 characters", "shorten it"
        )
    sets: Mapping[str, Any] = entry.get("set") or {}
    if sets:
        yield from _set_problems(name, sets)
    elif entry.get("mode") == "fix":
        yield Misstated(
            "mode", "mode is fix, and nothing is set", "add 'set:', or use 'mode: advise'"
        )


def _set_problems(name: str, sets: Mapping[str, Any]) -> Iterator[Misstated]:
    kinds = [kind for kind in ("sysctl", "module", "file") if kind in sets]
    needs = {"sysctl": ["value"], "module": [], "file": ["content"]}
    if len(kinds) != 1:
        yield Misstated("set", "has to name one thing", "one of: sysctl, module, file")
        return
    kind, named = kinds[0], str(sets[kinds[0]])
    lacks = [key for key in needs[kind] if key not in sets]
    over = [key for key in ("value", "content") if key in sets and key not in needs[kind]]
    if lacks or over:
        what = f"a {kind} has " + (f"{lacks[0]}, which is missing" if lacks else f"no {over[0]}")
        yield Misstated("set", what, "correct the keys")
    elif kind == "sysctl":
        yield from _misnamed("set", kind, named)
        if not re.fullmatch(_NET, named) or any(
            part in ("", ".", "..") for part in named.split("/")
        ):
            yield Misstated("set", f"{_short(named)} is not set by remedy", "keys under net. alone")
        if not re.fullmatch(_VALUE, str(sets["value"])) or len(str(sets["value"])) > 400:
            yield Misstated("set", f"{_short(str(sets['value']))} is not a value", "plain words")
    elif kind == "module":
        yield from _misnamed("set", kind, named)
    else:
        folder, _, file = named.rpartition("/")
        ends = _FOLDERS.get(folder, ())
        content = str(sets["content"])
        if (
            f"remedy-{name}" not in file
            or not file.endswith(ends)
            or not re.fullmatch(_PATH, named)
        ):
            wanted = " or ".join(f"{f}/NN-remedy-{name}{e[0]}" for f, e in _FOLDERS.items())
            yield Misstated("set", f"{_short(named)} is no file of this condition", wanted)
        if len(content) > _LONGEST or not content.isascii() or not _plain(content):
            what = f"content is not ASCII text of at most {_LONGEST} characters"
            yield Misstated("set", what, "shorten it")


def _plain(content: str) -> bool:
    return content.endswith("\n") and all(line.isprintable() for line in content.split("\n"))


def _misnamed(key: str, scheme: str, named: str) -> Iterator[Misstated]:
    if scheme == "sysctl":
        parts = set(named.replace("/", ".").split("."))
        if not re.fullmatch(_KEY, named) or "" in parts or len(named) > 200:
            yield Misstated(key, f"{_short(named)} is not a sysctl", "as net.core.somaxconn")
        elif re.search(_HIDDEN, named):
            yield Misstated(key, f"{_short(named)} holds a secret", "name another key")
    elif scheme == "module" and not re.fullmatch(_MODULE, named):
        yield Misstated(
            key, f"{_short(named)} is not a module", "its name with '_', as br_netfilter"
        )
    elif scheme == "file" and (not re.fullmatch(_PATH, named) or len(named) > 200):
        yield Misstated(
            key, f"{_short(named)} is not read", "a path under /etc without spaces or .."
        )


def _short(text: str) -> str:
    text = text if text.isprintable() else ascii(text)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def question(params: Mapping[str, Any]) -> str:
    """Return what has to be asked of the host for a condition (see :mod:`facts.named`)."""
    asks = params["is"] in ("contains", "lacks")
    return f"{params['fact']} {params['value']}" if asks else str(params["fact"])


def topic(params: Mapping[str, Any]) -> str:
    """Return the topic that asks for a condition's fact."""
    return TOPIC + question(params)


def title(name: str, params: Mapping[str, Any]) -> str:
    """Return the condition's title as the policy has it."""
    return str(params.get("title", name))


def text(name: str, params: Mapping[str, Any]) -> str:
    """Return what 'remedy explain' says of a condition of a policy and its fix."""
    fact, asked = params["fact"], _asked(params)
    sets = target(name, params)
    parts = [f"What it detects\n    {fact}, {asked}."]
    if params.get("why"):
        parts.append(f"Why it matters\n    {params['why']}")
    if sets is not None:
        parts.append(f"What it sets\n    {sets[0]} to {sets[1].strip()!r}; a rollback undoes it.")
        parts.append(
            "Safety\n    Whoever wrote the policy has judged it: what it does to connections that "
            "work is not known to remedy."
        )
    return "\n\n".join(parts)


def target(name: str, params: Mapping[str, Any]) -> Optional[tuple[str, str]]:
    """Return the address of what is set, and the state it shall have; None: nothing is set."""
    sets: Mapping[str, Any] = params.get("set") or {}
    if "sysctl" in sets:
        return f"sysctl:{sets['sysctl']}", str(sets["value"])
    if "module" in sets:
        return f"file:/etc/modules-load.d/remedy-{name}.conf", f"{_whose(name)}{sets['module']}\n"
    if "file" in sets:
        return f"file:{sets['file']}", _whose(name) + str(sets["content"])
    return None


def _whose(name: str) -> str:
    return f"# Written by remedy (fix {name}); 'remedy rollback' takes it away.\n"


def _number(text: str) -> Optional[int]:
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None


def _compared(test: str, got: str, value: str) -> bool:
    """Tell whether ``got`` is as the comparison says; raise Unreadable where it is no number."""
    if test in ("==", "!="):
        return (got.split() == value.split()) is (test == "==")
    one, other = _number(got), _number(value)
    if one is None or other is None:
        raise Unreadable(f"{_short(got)} is not one number, so it is not {test} {value}")
    return one < other if test == "<" else one > other


def _holds(params: Mapping[str, Any], got: Optional[str]) -> bool:
    test, value = params["is"], str(params.get("value", ""))
    if test in _ALONE:
        return (got is None) is (test == "absent")
    if test in ("contains", "lacks"):
        return (got == "yes") is (test == "contains")
    if got is None:
        raise Unreadable(f"{params['fact']}: this kernel has no such key here")
    return _compared(test, got, value)


class PolicyCondition:
    """A condition that a policy states; its parameters are what the policy says."""

    TITLE = "A condition of this site's own policy"
    SYMPTOM = "what the policy says of it"
    SEVERITY: Severity = "medium"
    CONTROLS: tuple[str, ...] = ("NIST-800-53 CM-6",)
    NEEDS: tuple[type[Any], ...] = (Named,)
    PARAMS: Mapping[str, object] = {}
    AREA = "other"
    FOLLOWS: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        """Remember the id."""
        self.name = name

    def detect(self, facts: Facts, params: Mapping[str, Any]) -> tuple[Finding, ...]:
        """Return a finding where the comparison holds, or holds no more because of us.

        Raises Unreadable where the fact is not known, or the policy was compiled by hand.
        """
        for problem in problems(self.name, params):
            raise Unreadable(f"{problem.key}: {problem.what}")
        got = facts.get(Named).get(question(params))
        holds, (resource, state) = _holds(params, got), target(self.name, params) or ("", "")
        ours = resource in facts.ours
        if not holds and not ours:
            return ()
        scheme, _, key = str(params["fact"]).partition(":")
        value = _said(params, got)
        message = f"{title(self.name, params)}: {key} {value}"
        covered = ours and (not holds or resource.startswith("file:"))
        if covered:
            message += ", from the next boot on it is as the policy says" if holds else ""
        return (
            Finding(
                condition=self.name,
                subject=str(params["fact"]),
                verdict="mitigated" if covered else "exposed",
                severity=params.get("severity", "medium"),
                message=message,
                evidence=(Evidence(_SOURCES[scheme], key, value, _asked(params)),),
                mitigated_by=f"remedy {resource}" if covered else None,
                details={"resource": resource, "state": state} if resource else {},
            ),
        )


def _said(params: Mapping[str, Any], got: Optional[str]) -> str:
    """Return how a fact was found, as the rest of a sentence that begins with its name."""
    if params["is"] in ("contains", "lacks"):
        is_in = {"yes": "contains", "no": "lacks"}.get(got or "", "is absent, so it lacks")
        return f"{is_in} {str(params['value'])!r}"
    return "is absent" if got is None else f"is {got}"


def _asked(params: Mapping[str, Any]) -> str:
    """Return the comparison as a note."""
    value = f" {params['value']}" if "value" in params else ""
    return f"at fault where {params['is']}{value}"


class PolicyFix:
    """What a policy sets where its condition of the same id holds."""

    TITLE = "Set what this site's own policy says"
    RISK: Risk = "moderate"
    HARMLESS = False
    NEEDS: tuple[type[Any], ...] = ()
    TOPICS: tuple[str, ...] = ()
    PARAMS: Mapping[str, object] = {}

    def __init__(self, name: str) -> None:
        """Derive from the id what the fix answers and may write."""
        self.name = name
        self.ANSWERS: tuple[str, ...] = (name,)
        self.drop_in = f"/etc/sysctl.d/99-zz-remedy-{name}.conf"
        own = (self.drop_in, f"/etc/modules-load.d/remedy-{name}.conf")
        folders = (f"file:{folder}/*" for folder in _FOLDERS)
        self.WRITES: tuple[str, ...] = ("sysctl:net.*", *(f"file:{path}" for path in own), *folders)

    def guard(self, finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
        """Return why it cannot be done here, or None."""
        if finding is None:
            return "it needs a finding: what it sets is in the policy's site condition"
        if "resource" not in finding.details:
            return "the policy's site condition sets nothing"
        if finding.details["resource"].startswith("file:") and facts.host.netns != "host":
            return "it is a boot file, and this namespace is not kept for boot"
        return None

    def desired(self, finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
        """Return what the condition sets; a sysctl with its drop-in where policy persists."""
        if finding is None:
            return ()
        resource, state = finding.details["resource"], finding.details["state"]
        scheme, _, key = resource.partition(":")
        now = Wanted(resource, state, boot=scheme == "file")
        if scheme == "file" or not terms.persist:
            return (now,)
        text = f"{_whose(self.name)}-{key} = {state}\n"
        return (now, Wanted(f"file:{self.drop_in}", text, boot=True))

    def impact(self, finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
        """Return when it takes effect."""
        resource = "" if finding is None else finding.details.get("resource", "")
        if resource.startswith("file:/etc/modules-load.d/") and finding is not None:
            module = finding.details["state"].split("\n")[1]
            return f"takes effect at the next boot; now: modprobe {module}"
        if resource.startswith("file:"):
            return "takes effect once systemd-udevd or systemd-networkd reads it, at the next boot"
        return "as this site's policy says; its effect on traffic was not judged"
