"""A rule that hands packets to a program ends as the kernel ends it where there is none."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from remedies.netfilter import user_queues
from remedies.netfilter.expressions import decode
from remedies.netlink.socket import attribute, nested


@pytest.mark.parametrize(
    ("read", "queues", "bypass", "ends"),
    [
        (None, (0, 1), False, "drop"),
        (None, (0, 1), True, "accept"),
        ("", (0, 1), True, "accept"),
        ("    0  4711     0 2 65531     0     0        7  1\n", (0, 1), False, "queue"),
        ("    0  4711     0 2 65531     0     0        7  1\n", (1, 4), True, "accept"),
        ("    0  4711     0 2 65531     0     0        7  1\n", (1, 4), False, "drop"),
        ("    3  4711     0 2 65531     0     0        7  1\n", (1, 4), True, "queue"),
        ("no table\n", (0, 1), True, "queue"),
    ],
)
def test_who_reads_a_queue_decides(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: str | None,
    queues: tuple[int, int],
    bypass: bool,
    ends: str,
) -> None:
    path = tmp_path / "nfnetlink_queue"
    if read is not None:
        path.write_text(read)
    monkeypatch.setattr(user_queues, "READERS", str(path))
    assert user_queues.verdict(*queues, bypass=bypass) == ends


@pytest.mark.parametrize(
    ("parts", "ends"),
    [
        ({1: 3}, "drop"),
        ({1: 3, 2: 2, 3: 1}, "accept"),
        ({1: 3, 3: 2}, "drop"),
        ({4: 1, 3: 1}, "queue"),
    ],
    ids=["one", "two, passed by", "by processor", "from a register"],
)
def test_nfts_queue_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: dict[int, int], ends: str
) -> None:
    """Its attributes: NFTA_QUEUE_NUM, _TOTAL, _FLAGS, _SREG_QNUM (nf_tables.h)."""
    monkeypatch.setattr(user_queues, "READERS", str(tmp_path / "none"))
    data = (attribute(key, struct.pack(">H", number)) for key, number in parts.items())
    expression = nested(1, attribute(1, b"queue\0"), nested(2, *data))
    (step,) = decode(struct.pack(">BBH", 2, 0, 0) + nested(4, expression), "inet", lambda *_: [])
    assert step.verdict == ends
