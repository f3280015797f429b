"""What the README shows is true: its policy is valid, its verbs exist, its codes are the tree's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remedies import catalogue, errors, policy
from remedies.cli import parser

README = (Path(__file__).resolve().parent.parent.parent / "README.md").read_text()


def test_the_policy_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    compiled = policy.load((str(path),))
    assert compiled.require[0].fix == "notrack"


def test_every_verb_that_is_named_exists() -> None:
    named = set(re.findall(r"`remedy ([a-z]+)", README))
    assert named
    assert named <= set(parser.VERBS)


@pytest.mark.parametrize("name", [*catalogue.condition_ids(), *catalogue.fix_ids()])
def test_every_condition_and_fix_is_in_it(name: str) -> None:
    assert f"`{name}`" in README


def test_every_exit_code_is_in_it() -> None:
    kinds: list[type[errors.RemedyError]] = [
        errors.RemedyError,
        *errors.RemedyError.__subclasses__(),
    ]
    table = README.partition("| code | meaning |")[2].partition("\n\n")[0]
    for kind in kinds:
        assert re.search(rf"\b{kind.exit_code}\b", table), kind.__name__
