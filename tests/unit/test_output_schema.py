"""The schemas that the package ships for its JSON are schemas, complete, and printed one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from remedies import cli
from remedies.cli import schema


@pytest.mark.parametrize("kind", [*schema.kinds(), "report"])
def test_every_schema_is_whole_and_is_printed(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["schema", kind]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(printed)
    assert set(schema._references(printed)) == set(printed.get("$defs", {}))
    assert printed["properties"]["kind"]
    assert set(printed["required"]) <= set(printed["properties"])


def test_the_list_names_each_kind_and_what_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.split("\n\n")[0].splitlines()}
    assert listed == {*schema.kinds(), "report"}
    assert cli.main(["schema", "--json"]) == 0
    assert set(schema.kinds()) < set(json.loads(capsys.readouterr().out)["$defs"])


def test_an_unknown_kind_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", "scna"]) == 64
    assert "scan" in capsys.readouterr().err
