"""What the confusion matrix reads from scans, and whom it calls wrongly accused."""

from __future__ import annotations

from typing import Any

import confusion

SCAN = """\
host, kernel 6.18, 2026; policy default (built-in default)

proven    the-fault  udp port 53
          why it is so
          /proc/net/snmp: proven the-other  (a note)
active    an-effect  eth0
          why it is so
          follows from the-fault
active    wrong  eth0
exposed   elsewhere  tcp through NAT
absent    fine
"""


def test_a_world_is_accused_of_its_fault_and_of_what_follows() -> None:
    row = confusion.row("w", "the-fault", [SCAN])
    assert row.judged == {
        "the-fault": "proven",
        "an-effect": "active",
        "wrong": "active",
        "elsewhere": "exposed",
    }
    assert row.wrongly_accused == ["wrong"]
    handed_over: Any = tuple(row)
    assert confusion.Row(*handed_over) == row


def test_what_follows_from_another_fault_is_an_accusation() -> None:
    assert confusion.row("w", "wrong", [SCAN]).wrongly_accused == ["an-effect", "the-fault"]
    assert confusion.row("w", "", [SCAN]).wrongly_accused == ["an-effect", "the-fault", "wrong"]


def test_the_strongest_verdict_counts_and_the_table_marks_it() -> None:
    row = confusion.row("w", "wrong", ["exposed   wrong  x", SCAN, "unknown   fine"])
    order = ("the-fault", "an-effect", "wrong", "elsewhere", "fine", "silent")
    assert confusion.table([row], order)[-1].split() == ["w", "!!", "!!", "A", "e", "?", "."]
