"""A saved plan is read back as it was, or refused with its place: nothing in between."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builder import change, finding, plan

from remedies import codec
from remedies.errors import InputError
from remedies.model import Advice, Kept, Refusal
from remedies.planning import planfile, savedplan

PLAN = plan(findings=(finding(),), warnings=("w",), settled=("sysctl:x",))


def saved() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(codec.dumps(planfile.plan_plain(PLAN, {})))
    return plain


def test_it_is_read_back_as_it_was() -> None:
    assert savedplan.read(json.dumps(saved()), "x") == PLAN


KEY = "sysctl:net.netfilter.nf_conntrack_tcp_be_liberal"
FOUND = finding("tcp-invalid-reset", details={"port": "53"})
FULL = plan(
    change(KEY, "0", fix="tcp-be-liberal", finding=FOUND.id, effects=("flow:udp/eth0/53",)),
    findings=(FOUND,),
    advice=(Advice("bind-advice", FOUND.id, "title", "bind", {"port": 53}),),
    refused=(Refusal("notrack", FOUND.id, "because", wanted=True),),
    warnings=("w",),
    kept=(Kept("notrack", ("nft:x",), ("yesterday",), "t1"),),
    lost_at_boot=(KEY,),
    settled=("sysctl:x",),
    made_from={"kernel": "6.1"},
)


def test_everything_that_a_plan_says_is_saved_and_read_back() -> None:
    plain: dict[str, Any] = json.loads(codec.dumps(planfile.plan_plain(FULL, {0: "bind it"})))
    assert [advice["text"] for advice in plain["advice"]] == ["bind it"]
    assert [found["id"] for found in plain["findings"]] == [FOUND.id]
    assert savedplan.read(json.dumps(plain), "x") == FULL
    plain["changes"][0]["after"] = "2"
    with pytest.raises(InputError, match="it was edited: plan_id"):
        savedplan.read(json.dumps(plain), "x")


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
