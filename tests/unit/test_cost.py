"""What a change costs, in figures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional, cast

import builder
import pytest
from builder import HOST, change, packet_rule
from older_drop import OLDER, OLDER_LINE

from remedies.errors import Unreadable
from remedies.facts import Asking, Facts, slab
from remedies.facts.netfilter import Netfilter
from remedies.facts.oneway import LIMIT, Oneway
from remedies.facts.owners import ConfigLine, Owners
from remedies.facts.slab import Slab, parse
from remedies.facts.sysctl import Sysctl
from remedies.fixes import invalid_drop, notrack
from remedies.model import Change, Terms
from remedies.netlink.flow import Flow, Tuple
from remedies.operations import weigh
from remedies.operations.session import HostSession
from remedies.planning import cost
from remedies.rules import ours
from remedies.rules.rule import Match
from remedies.values import replace

WAY = Tuple("10.0.1.2", 40000, "10.0.2.2", 80)
HALF = Flow("tcp", WAY, WAY, seen_reply=False, nat=False)
SLABINFO = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables
nf_conntrack_expect      0      0    208   39    2 : tunables    0    0    0
{cache}        176    176    {size}   16    1 : tunables    0    0    0
"""


def test_the_size_of_a_flow_is_one_small_reading_where_sysfs_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, info = tmp_path / "slab_size", tmp_path / "slabinfo"
    monkeypatch.setattr(slab, "SIZE", str(size))
    monkeypatch.setattr(slab, "SLABINFO", str(info))
    asking = Asking(HOST)
    assert slab.read(asking).unread == (f"{info}: No such file or directory",)
    info.write_text(SLABINFO.format(cache="nf_conntrack", size=320))
    assert slab.read(asking) == Slab(320, str(info))
    size.write_text("what is this\n")
    assert slab.read(asking) == Slab(320, str(info))
    size.write_text("256\n")
    assert slab.read(asking) == Slab(256, str(size))


def facts(*, tracks: bool = True) -> Facts:
    return builder.facts(
        Netfilter(True, "nft", conntrack_used=tracks),
        Slab(256, "/proc/slabinfo"),
        Sysctl({"net.netfilter.nf_conntrack_max": "262144"}),
    )


DROP = change(f"nft:{invalid_drop.TABLE}", None, invalid_drop.table())
CHAIN = change(
    f"iptables:{invalid_drop.CHAIN}",
    None,
    ours.iptables_chain(invalid_drop.CHAIN, "nft", ("OUTPUT", "FORWARD"), (invalid_drop.LINE,)),
)
BROAD = change(f"nft:{invalid_drop.TABLE}", None, OLDER)
BROAD_CHAIN = change(
    f"iptables:{invalid_drop.CHAIN}",
    None,
    ours.iptables_chain(invalid_drop.CHAIN, "nft", ("INPUT", "FORWARD"), (OLDER_LINE,)),
)
"""As earlier versions wrote it: every INVALID segment is dropped, data and all."""
SYSCTL = change("sysctl:net.netfilter.nf_conntrack_tcp_be_liberal", None, "1")


@pytest.mark.parametrize("made", [DROP, CHAIN])
def test_a_few_rules_take_a_few_kibibytes_and_lose_nothing(made: Change) -> None:
    found = cost.of(made, facts())
    assert found.lost == ()
    assert 4096 < found.memory < 16384
    assert cost.text(found).startswith("loses no flow; takes at most ")


def test_more_rules_take_more() -> None:
    def table(*ports: int) -> int:
        params: dict[str, object] = {
            "protocol": "udp", "ports": list(ports), "addresses": ["192.0.2.1"],
        }  # fmt: skip
        (wanted,) = notrack.desired(None, facts(), Terms(params=params))
        return cost.of(change(wanted.resource, None, wanted.state), facts()).memory

    assert table(1, 2) - table(1) == 2 * 768


def test_a_sysctl_takes_no_memory_and_a_removal_neither() -> None:
    assert cost.text(cost.of(SYSCTL, facts())) == "loses no flow; takes no byte of kernel memory"
    assert cost.of(change(DROP.resource, None, None), facts()).memory == 0


@pytest.mark.parametrize("made", [DROP, CHAIN])
def test_switching_tracking_on_costs_a_whole_table(made: Change) -> None:
    found = cost.of(made, facts(tracks=False))
    assert found.tracking == 262144 * (256 + cost.EXTENSIONS)
    assert "switches connection tracking on, which may take at most 96 MiB" in cost.text(found)
    assert cost.of(SYSCTL, facts(tracks=False)).tracking == 0


def test_nat_switches_tracking_on_too() -> None:
    lines = ("-p udp -m udp --dport 53 -j REDIRECT --to-ports 5353",)
    chain = ours.iptables_chain("nat/REMEDY-X", "nft", ("PREROUTING",), lines)
    made = change("iptables:nat/REMEDY-X", None, chain)
    assert cost.of(made, facts(tracks=False)).tracking == 262144 * (256 + cost.EXTENSIONS)
    assert cost.of(made, facts()).tracking == 0


def test_the_figure_is_of_this_kernel_and_without_a_limit_none_is_made_up() -> None:
    known = facts(tracks=False)
    larger = replace(known, known={**known.known, "slab": Slab(320, "/proc/slabinfo")})
    assert cost.of(DROP, larger).tracking == 262144 * (320 + cost.EXTENSIONS)
    untold = builder.facts(Netfilter(True, "nft"), Slab(256, "/proc/slabinfo"))
    assert cost.of(DROP, untold).tracking == 0
    assert cost.of(DROP, builder.facts()).tracking == 0


def test_what_takes_flows_out_of_tracking_does_not_switch_it_on() -> None:
    params: dict[str, object] = {"protocol": "udp", "ports": [1], "addresses": ["192.0.2.1"]}
    (wanted,) = notrack.desired(None, facts(), Terms(params=params))
    assert cost.of(change(wanted.resource, None, wanted.state), facts(tracks=False)).tracking == 0


def test_stale_flows_are_counted_once_and_the_first_few_named() -> None:
    paths = [f"udp/10.0.0.{n}/5000/10.0.0.1/53" for n in (2, 3, 4, 5, 2)]
    found = cost.of(change("nft:inet/remedy_x", None, None), facts(), paths)
    assert cost.text(found).startswith(
        "loses 4 flows: udp 10.0.0.2:5000 -> 10.0.0.1:53, udp 10.0.0.3:5000 -> 10.0.0.1:53, "
        "udp 10.0.0.4:5000 -> 10.0.0.1:53 and 1 more; "
    )
    found = cost.of(change("nft:inet/remedy_x", None, None), facts(), ["udp/fd00::2/5/fd00::1/53"])
    assert cost.text(found).startswith("loses 1 flow: udp [fd00::2]:5 -> [fd00::1]:53; ")
    found = cost.of(change("nft:inet/remedy_x", None, None), facts(), paths, more=True)
    assert cost.text(found).startswith("loses at least 4 flows: ")


def test_flows_that_cannot_be_counted_are_not_called_none() -> None:
    found = cost.of(DROP, facts(), unknown="conntrack flows: Operation not permitted")
    assert "no flow" not in cost.text(found)
    assert "is not known: conntrack flows: Operation not permitted" in cost.text(found)


@pytest.mark.parametrize("made", [BROAD, BROAD_CHAIN])
def test_half_a_connection_is_lost_to_an_invalid_drop_and_to_nothing_else(made: Change) -> None:
    heard = Oneway(suspects=2, proven=(HALF,), listened=1.0)
    assert cost.of(made, facts(), oneway=heard).lost == ("tcp 10.0.1.2:40000 -> 10.0.2.2:80",)
    assert cost.of(made, facts(), oneway=heard).doubtful == 0
    for other in (SYSCTL, DROP, CHAIN):
        assert cost.of(other, facts(), oneway=heard).lost == ()


@pytest.mark.parametrize(
    ("action", "match", "counts"),
    [
        ("drop", Match(states=("invalid",)), True),
        ("drop", Match(states=("new",)), False),
        ("drop", Match(), False),
        ("drop", Match(states=("invalid",), unmodelled=("tcp flags",)), False),
        ("accept", Match(states=("invalid",)), False),
    ],
)
def test_only_a_drop_of_all_that_is_invalid_cuts_half_connections(
    action: str, match: Match, counts: bool
) -> None:
    assert cost.drops_invalid([packet_rule("forward", action, match)]) is counts


def test_where_nobody_listened_half_connections_are_doubtful() -> None:
    told = cost.text(cost.of(BROAD, facts(), oneway=Oneway(suspects=2)))
    assert "; may cut up to 2 TCP connections" in told
    told = cost.text(cost.of(BROAD, facts(), oneway=Oneway(suspects=LIMIT)))
    assert f"; may cut {LIMIT} or more TCP connections" in told
    assert cost.of(BROAD, facts()).doubtful == 0


@pytest.mark.parametrize("cache", ["nf_conntrack", "nf_conntrack_ffffffff81c4f5c0"])
def test_the_size_of_an_entry_is_the_kernels_own(cache: str) -> None:
    assert parse(SLABINFO.format(cache=cache, size=320)) == 320


@pytest.mark.parametrize("text", ["", "nf_conntrack\n", "nf_conntrack 1 1 x\n", "kmalloc 1 1 8\n"])
def test_without_the_cache_nothing_is_claimed(text: str) -> None:
    assert parse(text) == 0


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "no byte"), (1023, "1023 bytes"),
        (1 << 10, "at most 1 KiB"), ((1 << 10) + 1, "at most 2 KiB"),
        ((1 << 20) - 1, "at most 1024 KiB"),
        (1 << 20, "at most 1 MiB"), (1 << 30, "at most 1 GiB"), (3 << 30, "at most 3 GiB"),
    ],
)  # fmt: skip
def test_memory_is_told_in_the_largest_whole_unit(count: int, said: str) -> None:
    told = cost.text(cost.Cost(memory=count))
    assert told == f"loses no flow; takes {said} of kernel memory"


def test_where_a_flow_cannot_be_looked_for_the_figure_is_unknown() -> None:
    class Blind:
        def read(self, effect: str) -> Optional[str]:
            if effect == "flow:udp/eth1/53":
                raise Unreadable("flows: not permitted")
            count = cost.COUNTED if "many" in effect else 1
            return "udp/10.0.0.1/5/10.0.0.2/53\n" * count

    here = cast(HostSession, SimpleNamespace(store=Blind()))
    seen = replace(SYSCTL, effects=("flow:udp/eth0/53",))
    assert weigh._figures(here, seen, facts(), None).startswith("loses 1 flow: udp 10.0.0.1:5 ")
    many = replace(SYSCTL, effects=("flow:udp/many/53", "flow:udp/eth0/53"))
    assert weigh._figures(here, many, facts(), None).startswith("loses at least 1 flow: ")
    for effects in (("flow:udp/eth1/53",), ("flow:udp/eth0/53", "flow:udp/eth1/53")):
        told = weigh._figures(here, replace(SYSCTL, effects=effects), facts(), None)
        assert "how many flows are lost is not known: flows: not permitted" in told


@pytest.mark.parametrize(
    ("lost", "more", "text"),
    [
        ((), False, "loses no flow"),
        (("a",), False, "loses 1 flow: a;"),
        (("a", "b"), False, "loses 2 flows: a, b;"),
        (("a", "b", "c"), True, "loses at least 3 flows: a, b, c;"),
        (("a", "b", "c", "d"), False, "loses 4 flows: a, b, c and 1 more;"),
    ],
)
def test_flows_are_counted_in_words(lost: tuple[str, ...], more: bool, text: str) -> None:
    assert cost.text(cost.Cost(lost=lost, more=more)).startswith(text)


@pytest.mark.parametrize(
    ("edit", "named"),
    [({}, True), ({"boot": True}, False), ({"after": None, "action": "remove"}, False)],
)
def test_who_else_writes_what_is_written_is_a_warning(edit: dict[str, Any], named: bool) -> None:
    line = ConfigLine("tuned", "/etc/t.conf", 3, "net/netfilter/nf_conntrack_tcp_be_liberal", "0")
    known = replace(facts(), known={"owners": Owners(lines=(line,))})
    warnings = weigh._hints(builder.plan(replace(SYSCTL, **edit)), known)
    assert any("/etc/t.conf:3" in warning for warning in warnings) is named


@pytest.mark.parametrize(
    ("change_of", "suspects", "windows"),
    [(SYSCTL, 1, []), (BROAD, 0, [0.0]), (BROAD, 2, [0.0, 1.5])],
)
def test_connections_are_listened_to_only_where_a_drop_could_cut_some(
    change_of: Change, suspects: int, windows: list[float]
) -> None:
    asked: list[float] = []

    def read(_host: object, kinds: tuple[type, ...], *, window: float) -> Facts:
        assert kinds == (Oneway,)
        asked.append(window)
        return replace(facts(), known={"oneway": Oneway(suspects=suspects)})

    here = cast(HostSession, SimpleNamespace(read=read, host=HOST, window=1.5))
    found = weigh._oneway(here, builder.plan(change_of))
    assert asked == windows
    assert found == (Oneway(suspects=suspects) if windows else None)


@pytest.mark.parametrize(
    ("changes", "seen", "windows", "found"),
    [
        ((SYSCTL, DROP), Oneway(suspects=2), [], None),
        ((SYSCTL, BROAD), Oneway(suspects=2), [0.0, 2.0], 2),
        ((BROAD_CHAIN,), Oneway(suspects=0), [0.0], 0),
        ((BROAD,), None, [0.0], None),
    ],
)
def test_it_is_listened_only_where_a_drop_could_cut_what_there_may_be(
    changes: tuple[Change, ...], seen: Optional[Oneway], windows: list[float], found: Optional[int]
) -> None:
    asked: list[float] = []

    def read(_: object, kinds: object, *, window: float) -> Facts:
        asked.append(window)
        return builder.facts(*([seen] if seen else []), unknown={"oneway": "EPERM"})

    here = cast(HostSession, SimpleNamespace(host=HOST, window=2.0, read=read))
    told = weigh._oneway(here, builder.plan(*changes))
    assert asked == windows
    assert (told.suspects if told else None) == found
