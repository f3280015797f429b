"""The fixtures of this folder: namespaces are fresh, separate and gone afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from run_in import RunIn


def test_namespace_is_fresh_with_loopback_up(netns: Callable[..., str], run_in: RunIn) -> None:
    one, other = netns(), netns("p")
    assert one != other
    (link,) = json.loads(run_in(one, ["ip", "-j", "link"]).stdout)
    assert link["ifname"] == "lo"
    assert "UP" in link["flags"]
    assert run_in(one, ["nft", "list", "ruleset"]).stdout == ""
    assert run_in(one, ["false"], check=False).returncode == 1
    assert run_in(one, ["cat"], stdin="said").stdout == "said"


def test_namespaces_of_earlier_tests_are_gone() -> None:
    assert [
        name for name in os.listdir("/run/netns") if name.startswith(f"rt-{os.getpid()}-")
    ] == []
