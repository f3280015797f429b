"""A saved plan is read back as it was, or refused with its place: nothing in between."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builder import finding, plan

from remedies import codec
from remedies.errors import InputError
from remedies.planning import planfile, savedplan

PLAN = plan(findings=(finding(),), warnings=("w",), settled=("sysctl:x",))


def saved() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(codec.dumps(planfile.plan_plain(PLAN, {})))
    return plain


def test_it_is_read_back_as_it_was() -> None:
    assert savedplan.read(json.dumps(saved()), "x") == PLAN


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "scan"),
        ("format_version", "999.0"),
        ("format_version", None),
        ("findings", None),
        ("findings", {}),
        ("findings", ["x"]),
        ("findings", [{"id": "y"}, 1]),
        ("advice", "none"),
        ("advice", [[]]),
        ("changes", [{}]),
        ("settled", ["sysctl:y"]),
        ("plan_id", "0" * 64),
        ("nosuch", 1),
    ],
)
def test_what_is_no_plan_of_ours_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(InputError) as refused:
        savedplan.read(json.dumps({**saved(), key: value}), "plan.json")
    assert str(refused.value).startswith("plan.json")
    assert refused.value.hint or key in str(refused.value)
