"""What a machine's namespaces share: the kernel's tables, read as they are printed."""

from __future__ import annotations

import pytest
from builder import HOST

from remedies.facts import Asking, shared, sysctl
from remedies.values import replace

ARP = """\
entries  allocs   lookups  unresolved_discards table_fulls
00000400 0000681b 000294a7 00000000            0000000a
00000400 00000001 00000002 00000000            00000003
"""
SOFTNET = (
    "01a03c8d 0000001f 00000002 00000000 00000000 00000000 00000000 00000000 00000000 00000000"
    " 00000000 00000000 00000003 00000000 00000000\n"
)


def test_the_kernels_columns_are_read() -> None:
    heading, rows = shared.neighbour_rows(ARP)
    assert [row[heading.index("table_fulls")] for row in rows] == [10, 3]
    assert shared.softnet_drops(SOFTNET) == {"3": 31}
    assert shared.softnet_drops("0001 0002 0003\n0001 0004 0003\n") == {"0": 2, "1": 4}


@pytest.mark.parametrize("text", ["a b\n1\n", "a\nx\n"])
def test_a_table_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        shared.neighbour_rows(text)


def test_a_row_without_drops_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        shared.softnet_drops("0001\n")


def watched(netns: str, window: float) -> shared.Shared:
    watch = shared.watch(Asking(replace(HOST, netns=netns), window))
    try:
        return watch.finish()
    finally:
        watch.close()


def test_only_the_machines_own_namespace_is_read() -> None:
    assert not watched("b-17", 1.0).asked
    assert not watched("host", 0.0).asked


def test_counters_are_what_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = [
        shared._SharedCounters({"arp_cache": 3}, {"arp_cache": 9}, {"0": 4, "1": 0}, ("one",)),
        shared._SharedCounters(
            {"arp_cache": 5}, {"arp_cache": 8}, {"0": 4, "2": 7}, ("one", "two")
        ),
    ]
    monkeypatch.setattr(shared, "_read", lambda: readings.pop(0))
    monkeypatch.setattr(sysctl, "value", lambda key: "1024")
    found = watched("host", 1.0)
    assert (found.fulls, found.entries, found.backlogs) == (
        {"arp_cache": 2},
        {"arp_cache": 8},
        {"0": 0},
    )
    assert set(found.limits) == {f"net.ipv4.neigh.default.gc_thresh{n}" for n in (1, 2, 3)}
    assert found.unread == ("one", "two")


def test_this_machine_has_them_all() -> None:
    found = shared._read()
    assert found.unread == ()
    assert found.backlogs
    assert set(found.fulls) <= set(shared.TABLES)
