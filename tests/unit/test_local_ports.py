"""Which local ports are in use towards whom, and when the fix for it is of no use."""

from __future__ import annotations

import pytest
from builder import facts, finding

from remedies.facts.crowds import Crowd, crowded, reserved
from remedies.facts.sysctl import NO_KEY, Sysctl
from remedies.fixes import tcp_tw_reuse
from remedies.model import Terms, Wanted
from remedies.netlink.diag import Socket


def one(port: int, *, to: str = "10.0.0.9", state: int = 6, inode: int = 0) -> Socket:
    local, remote = ("10.0.0.1", port), (to, 443 if to else 0)
    return Socket(2, state, local, remote, inode, 0, 0, 0, 0, 0, 0, 0, None)


def test_a_destination_counts_each_local_port_once() -> None:
    waiting = [one(50000 + n) for n in range(9)]
    living = [one(50009, state=1, inode=77), one(50009, state=1, inode=78)]
    assert crowded([*waiting, *living], 10) == [(Crowd("10.0.0.1", "10.0.0.9", 443, 10, 9), 78)]


def test_ports_towards_different_addresses_do_not_add_up() -> None:
    spread = [one(50000 + n, to=f"10.0.0.{n % 2}") for n in range(10)]
    assert crowded(spread, 10) == []
    assert crowded([one(50000 + n, to="") for n in range(10)], 10) == []
    assert crowded([], 0) == []


def test_reserved_ports_are_a_list_of_ports_and_ranges() -> None:
    assert reserved("8080,9148-9150") == {8080, 9148, 9149, 9150}
    assert reserved("") == set()


@pytest.mark.parametrize(
    ("values", "details", "why"),
    [
        ({"reuse": "2", "stamps": "1"}, {"used": "100", "waiting": "50"}, None),
        ({"reuse": "2", "stamps": "1"}, {"used": "100", "waiting": "49"}, "51 of the 100"),
        ({"reuse": "2", "stamps": "0"}, {"used": "100", "waiting": "99"}, "tcp_timestamps is 0"),
        ({"stamps": "1"}, {"used": "100", "waiting": "99"}, "no such key"),
    ],
)
def test_the_fix_is_refused_where_it_gives_nothing_back(
    values: dict[str, str], details: dict[str, str], why: str | None
) -> None:
    keys = {"reuse": "net.ipv4.tcp_tw_reuse", "stamps": "net.ipv4.tcp_timestamps"}
    missing = {key: NO_KEY for name, key in keys.items() if name not in values}
    known = facts(Sysctl({keys[name]: value for name, value in values.items()}, missing))
    said = tcp_tw_reuse.guard(finding(details=details), known, Terms())
    assert (said is None) if why is None else (why in (said or ""))


def test_the_fix_is_one_sysctl_and_a_drop_in_where_it_is_to_last() -> None:
    assert tcp_tw_reuse.desired(None, facts(), Terms()) == (
        Wanted("sysctl:net.ipv4.tcp_tw_reuse", "1"),
    )
    resources = [w.resource for w in tcp_tw_reuse.desired(None, facts(), Terms(persist=True))]
    assert tuple(resources) == tcp_tw_reuse.WRITES
