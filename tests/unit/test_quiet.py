"""What ``--quiet`` leaves of a scan and a plan: one line for each finding and each change."""

from __future__ import annotations

import argparse

from builder import change, finding, plan, scan

from remedies.cli import namespaces_text, render
from remedies.cli.terminal import Style
from remedies.model import Kept, PolicyRef, Refusal, Unknown
from remedies.namespaces.find import Namespace
from remedies.operations.scan_all import ScannedNamespace
from remedies.values import replace

STYLE = Style(argparse.Namespace(plain=True, no_color=False, json=False))
FOUND = scan(
    finding("bad", "tcp", verdict="proven"),
    finding("old", "udp", waived="until May"),
    unknown=(
        Unknown("vague", "no permission"),
        Unknown("dim", "no permission"),
        Unknown("bad", "one rule", partly=True),
    ),
)
LINES = [
    "proven    bad  tcp",
    "exposed   old  udp (waived)",
    "unknown   vague, dim  no permission",
]


def test_a_scan_is_one_line_for_each_finding_and_what_could_not_be_judged() -> None:
    assert render.brief(FOUND, STYLE) == LINES


def test_a_plan_adds_changes_refusals_what_stays_and_their_count() -> None:
    made = replace(
        plan(change("sysctl:a", "0"), change("nft:b"), change("file:c", "x", None)),
        scan=FOUND,
        refused=(Refusal("g", None, "it would cut"), Refusal("h", None, "no", wanted=False)),
        kept=(Kept("k", ("sysctl:d", "sysctl:e"), ("p",), "t1"),),
        policy=PolicyRef(("p",), "d"),
    )
    assert render.brief_plan(made, STYLE).split("\n") == [
        *LINES,
        "~ sysctl:a  by f",
        "+ nft:b  by f",
        "- file:c  by f",
        "! g  refused: it would cut",
        "= sysctl:d, sysctl:e  k stays in force",
        "1 to create, 1 to update, 1 to remove. Not judged: vague, dim.",
    ]


def test_with_all_namespaces_each_line_names_the_way_to_another_one() -> None:
    own = ScannedNamespace(Namespace(1, 4, ("/proc/1/ns/net",), own=True), "", FOUND)
    other = ScannedNamespace(
        Namespace(2, 4, ("/proc/77/ns/net",)), "web", scan(finding("bad", "tcp"))
    )
    assert namespaces_text.brief_lines((own, other), STYLE) == [
        *LINES,
        "exposed   bad  tcp  --netns 77",
    ]
