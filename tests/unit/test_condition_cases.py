"""Conditions on facts as data: every case under ``cases/CONDITION/``, see ``tests/README.md``."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml_cases
from builder import HOST, TIME

from remedies import catalogue, codec
from remedies.errors import Unreadable
from remedies.facts import Facts, saved
from remedies.facts.departed import Departed
from remedies.facts.dropped import Dropped
from remedies.facts.drops import Drops
from remedies.facts.flows import Flows
from remedies.facts.loopback import Loopback
from remedies.facts.queues import Queues
from remedies.facts.stale import Stale
from remedies.facts.strays import Strays
from remedies.facts.tap import Tap
from remedies.facts.untracked import Untracked
from remedies.facts.wiped import Wiped
from remedies.model import FORMAT_VERSION, Finding
from remedies.values import replace

CASES = Path(__file__).with_name("cases")
_KEYS = {"name", "why", "facts", "unknown_facts", "window", "ours", "params", "findings", "unknown"}
_COUNTED = ("message", "evidence")
"""What a finding says in words: a case names parts of it. Everything else is compared whole."""


def laid_over(below: Any, above: Any) -> Any:
    """Return ``above`` laid over ``below``: mappings are merged, everything else is replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    merged = {**below, **{key: laid_over(below.get(key), value) for key, value in above.items()}}
    return {key: value for key, value in merged.items() if value is not None or key not in above}


def load(text: str, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Return name and content of every case of a file."""
    whole, found = yaml_cases.read(text), []
    assert set(whole) <= {"why", "facts", "cases"}, f"{where}: {set(whole)}"
    for case in whole["cases"]:
        name = f"{where}: {case['name']}"
        assert set(case) <= _KEYS, f"{name}: {set(case) - _KEYS}"
        assert ("findings" in case) != ("unknown" in case), name
        facts = laid_over(whole.get("facts", {}), case.get("facts", {}))
        found.append((name, {**case, "facts": facts}))
    return found


README = Path(__file__).parent.with_name("README.md").read_text()
LOADED = [
    (path.parent.name, name, case)
    for path in sorted(CASES.glob("*/*.yaml"))
    for name, case in load(path.read_text(), f"{path.parent.name}/{path.stem}")
] + [
    ("conntrack-pressure", name, case)
    for example in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    for name, case in load(example, "README")
]


def read(case: dict[str, Any], where: str) -> Facts:
    """Return the facts of a case, read as ``scan --facts`` reads a file."""
    plain = {
        "format_version": FORMAT_VERSION,
        "kind": saved.KIND,
        "host": codec.encode(HOST),
        "time": TIME,
        "window": float(case.get("window", 1.0)),
        "known": case["facts"],
        "unknown": case.get("unknown_facts", {}),
        "ours": case.get("ours", []),
    }
    return saved.from_json(json.dumps(plain), where)


def differences(expected: dict[str, Any], found: Finding) -> list[str]:
    """Return what of a finding is not as a case says."""
    plain = codec.encode(found)
    said = {
        "message": [found.message],
        "evidence": [f"{e.source} {e.key} {e.value}" for e in found.evidence],
    }
    wrong = []
    for key, value in expected.items():
        if key in _COUNTED:
            parts = [value] if isinstance(value, str) else value
            wrong += [
                f"{key}: no {part!r} in {said[key]}"
                for part in parts
                if not any(part in text for text in said[key])
            ]
        elif key == "details":
            wrong += [
                f"details.{name}: {found.details.get(name)!r}, not {wanted!r}"
                for name, wanted in value.items()
                if found.details.get(name) != wanted
            ]
        elif plain[key] != value:
            wrong.append(f"{key}: {plain[key]!r}, not {value!r}")
    return wrong


@pytest.mark.parametrize(
    ("condition", "where", "case"), LOADED, ids=[re.sub(r"\s", "-", name) for _, name, _ in LOADED]
)
def test_case(condition: str, where: str, case: dict[str, Any]) -> None:
    module = catalogue.condition(condition)
    facts, params = read(case, where), {**module.PARAMS, **case.get("params", {})}
    if "unknown" in case:
        with pytest.raises(Unreadable, match=re.escape(case["unknown"])):
            module.detect(facts, params)
        return
    found = module.detect(facts, params)
    assert len(found) == len(case["findings"]), found
    for expected, finding in zip(case["findings"], found):
        assert "verdict" in expected, "a case says the verdict"
        assert not differences(expected, finding)


SEEN: dict[str, object] = {
    "tap": Tap(),
    "flows": Flows(),
    "dropped": Dropped(),
    "drops": Drops(),
    "departed": Departed(),
    "strays": Strays(),
    "stale": Stale(),
    "untracked": Untracked(),
    "queues": Queues(),
    "loopback": Loopback(),
    "wiped": Wiped(),
}
"""The facts that hold packets and flows."""


@pytest.mark.parametrize(
    ("condition", "where", "case"), LOADED, ids=[re.sub(r"\s", "-", name) for _, name, _ in LOADED]
)
def test_rules_and_sockets_alone_prove_nothing(
    condition: str, where: str, case: dict[str, Any]
) -> None:
    module, facts = catalogue.condition(condition), read(case, where)
    unseen = replace(facts, known={**facts.known, **SEEN})
    with contextlib.suppress(Unreadable):
        found = module.detect(unseen, {**module.PARAMS, **case.get("params", {})})
        assert "proven" not in {finding.verdict for finding in found}


@pytest.mark.parametrize("condition", catalogue.condition_ids())
def test_each_condition_has_a_case_for_what_it_finds_and_one_for_its_silence(
    condition: str,
) -> None:
    """Or tests of its own, where facts are better made by Python."""
    cases = [case for name, _, case in LOADED if name == condition and "findings" in case]
    if not cases:
        assert CASES.with_name(f"test_condition_{condition.replace('-', '_')}.py").exists()
        return
    assert any(case["findings"] for case in cases)
    assert any(not case["findings"] for case in cases)


def test_every_folder_is_a_condition() -> None:
    assert {path.name for path in CASES.iterdir() if path.is_dir()} <= set(
        catalogue.condition_ids()
    )
