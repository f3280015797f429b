"""Saved facts that a person has edited: what is no address is told where it stands, exit 65."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remedies.cli import main
from remedies.facts import Facts, saved
from remedies.facts.flows import Flows
from remedies.facts.nat import Nat
from remedies.facts.netfilter import Netfilter
from remedies.model import Host
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.links import Address, Links
from remedies.rules.rule import Match, PacketRule

TO = Match(("udp",), destinations=("192.0.2.1",), destination_ports=((53, 53),))
RULE = PacketRule("nft", "ip", "t", "c", "prerouting", "dnat", "text", TO, after=(TO,))
WAY = Tuple("192.0.2.2", 5, "192.0.2.1", 53)
KNOWN = {
    "links": Links(addresses=(Address("192.0.2.1", 24, 2, "global"),)),
    "netfilter": Netfilter(True, "none", notracks=(RULE,)),
    "nat": Nat(True, (RULE,)),
    "flows": Flows(unreplied=(Flow("udp", WAY, WAY, False, False),)),
}


def places(plain: Any) -> list[tuple[dict[str, Any] | list[Any], Any]]:
    """Return container and key of every address in decoded JSON."""
    items = plain.items() if isinstance(plain, dict) else enumerate(plain)
    found: list[tuple[dict[str, Any] | list[Any], Any]] = []
    for key, value in items:
        if isinstance(value, (dict, list)):
            found += places(value)
        elif isinstance(value, str) and value.startswith("192.0.2."):
            found.append((plain, key))
    return found


@pytest.mark.parametrize("probe", KNOWN)
def test_no_address_is_65_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], probe: str
) -> None:
    facts = Facts(Host("h", "m", "6", "n", "b"), "2026-01-01T00:00:00Z", 0.0, KNOWN)
    whole, file = saved.to_json(facts), tmp_path / "facts.json"
    assert saved.from_json(whole, "facts") == facts
    count = len(places(json.loads(whole)["known"][probe]))
    assert count
    for number in range(count):
        plain = json.loads(whole)
        container, key = places(plain["known"][probe])[number]
        container[key] = "nonsense"
        file.write_text(json.dumps(plain))
        assert main(["scan", "--facts", str(file)]) == 65
        said = capsys.readouterr().err
        assert f"known.{probe}: not an IP address: 'nonsense" in said
