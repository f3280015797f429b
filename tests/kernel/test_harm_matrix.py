"""The harm matrix: what each fix and form does to each kind of traffic, before, during and after.

It prints its table (``pytest -s``), decides which fix comes first in the shipped policies, and
holds what the modules of the fixes declare to what was seen.
"""

from __future__ import annotations

import multiprocessing
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from harm_forms import BROAD, FORMS, TRIED
from harm_walk import Refused, Seen, walk_all
from harm_worlds import WORLDS

from remedies import catalogue
from remedies.fixes import invalid_drop
from remedies.policy import load

SITES = 4


@pytest.fixture(scope="module")
def whole(module_netns: Callable[..., str]) -> tuple[Seen, Refused]:
    """Return what was seen of everything, and what was refused.

    The time is spent waiting, so four sites are looked at side by side; in processes of their own,
    since a child of one thread has copies of another one's sockets for a moment.
    """
    slowest = sorted(WORLDS, key=lambda world: -len(world.probes) * (2 if world.slow else 1))
    shares = [[world.name for world in slowest[number::SITES]] for number in range(SITES)]
    seen: Seen = {}
    refused: Refused = {}
    with ProcessPoolExecutor(SITES, multiprocessing.get_context("forkserver")) as pool:
        sites = [{role: module_netns(role) for role in "cdhxv"} for _ in shares]
        for became, why in pool.map(walk_all, sites, shares):
            seen.update(became)
            refused.update(why)
    print(table(seen, refused))
    print(summary(seen))
    return seen, refused


@pytest.fixture(scope="module")
def matrix(whole: tuple[Seen, Refused]) -> Seen:
    """Return what was seen of everything."""
    return whole[0]


def cells(seen: Seen, form: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield world, probe with its IP version, what came of it before, and under a form."""
    for (name, world, version, probe), became in seen.items():
        if name == form:
            yield world, f"{probe} v{version}", seen["", world, version, probe], became


def harmed(seen: Seen, form: str) -> list[str]:
    """Return what lived before and does not under a form, or was reset and hangs."""
    return [
        f"{world}: {probe}: {before}, {now}"
        for world, probe, before, now in cells(seen, form)
        if (before == "lives" != now) or (before == "reset" and now == "hangs")
    ]


def healed(seen: Seen, form: str) -> set[str]:
    """Return the worlds whose fault is gone under a form, in both IP versions."""
    faults = [(w, n) for w, p, _, n in cells(seen, form) if p.startswith("fault")]
    return {w for w, _ in faults} - {w for w, n in faults if n != "lives"}


def table(seen: Seen, refused: Refused) -> str:
    """Return the matrix as text."""
    lines = []
    for form in ("", *(f.name for f in (*FORMS, *TRIED)), "after", BROAD.name):
        lines.append(f"\n{form or 'no fix'}")
        for world, probe, before, now in cells(seen, form):
            mark = "!" if before == "lives" != now else "+" if before != "lives" == now else " "
            lines.append(f"  {mark} {world:30} {probe:36} {before:8} {now}")
        lines += [
            f"  {w:30} refused: {why}" for (f, w), why in refused.items() if f == form and why
        ]
    return "\n".join(lines)


def summary(seen: Seen) -> str:
    """Return what each form of invalid-drop, and tcp-be-liberal, does in each world, as a table.

    ``heals``: the fault is gone. ``ends``: a connection that lived does not. ``hangs``: a reset
    became a hang. ``-``: no difference. With ``v4`` or ``v6`` where the other one has none of it.
    """
    columns: dict[str, list[str]] = {}
    for form in (*FORMS, *TRIED, BROAD):
        if form.fix in ("", "tcp-be-liberal", "invalid-drop"):
            columns.setdefault(form.column, []).append(form.name)
    rows = [["world", *columns]]
    for world in WORLDS:
        if world.tcp:
            rows.append([world.name, *(_cell(seen, world.name, f) for f in columns.values())])
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    lines = ("  ".join(word.ljust(width) for word, width in zip(row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _cell(seen: Seen, world: str, forms: list[str]) -> str:
    """Return what forms of one kind do in a world."""
    became: dict[str, set[int]] = {}
    for (name, where, version, probe), now in seen.items():
        if name in forms and where == world:
            before = seen["", world, version, probe]
            if before == "lives" != now:
                became.setdefault("ends", set()).add(version)
            elif before != "lives" == now:
                became.setdefault("heals", set()).add(version)
            elif before == "reset" and now == "hangs":
                became.setdefault("hangs", set()).add(version)
    words = (
        f"{word} v{min(versions)}" if len(versions) == 1 else word
        for word, versions in sorted(became.items())
    )
    return ", ".join(words) or "-"


def test_explain_shows_what_was_seen(matrix: Seen) -> None:
    """The table of ``remedy explain invalid-drop``."""
    shown = textwrap.indent(summary(matrix), 4 * " ")
    assert shown in (invalid_drop.__doc__ or ""), f"put this into the docstring:\n{shown}"


def test_each_fault_is_one_and_everything_else_lives_without_a_fix(matrix: Seen) -> None:
    """Or the matrix would prove nothing."""
    for world, probe, before, _ in cells(matrix, ""):
        if probe.startswith("fault"):
            assert before == "reset", (world, probe)
        elif " fault" in probe:
            assert before == "hangs", (world, probe)
        else:
            assert before == "lives", (world, probe)


def test_everything_is_as_before_once_a_fix_is_gone(matrix: Seen) -> None:
    assert [c for c in cells(matrix, "after") if c[2] != c[3]] == []


def test_the_liberal_conntrack_heals_everywhere_and_harms_nowhere(matrix: Seen) -> None:
    assert harmed(matrix, "tcp-be-liberal") == []
    faults = {w.name for w in WORLDS if any(name == "fault" for name, _ in w.probes)}
    assert healed(matrix, "tcp-be-liberal") == faults


@pytest.mark.parametrize("backend", ["nftables", "iptables-nft", "iptables-legacy"])
def test_keeping_the_reset_in_heals_behind_nat_and_loses_resets_alone(
    matrix: Seen, backend: str
) -> None:
    form = f"invalid-drop, {backend}"
    assert healed(matrix, form) == {
        "masquerade",
        "published port",
        "bridged, one link",
        "two uplinks, NAT on one",
    }
    harm = harmed(matrix, form)
    assert all("told that it is gone" in h or "sequence numbers rewritten" in h for h in harm), harm
    assert {h.partition(":")[0] for h in harm} == {
        "sequence numbers rewritten",
        "SYN-ACKs only, one link",
        "SYN-ACKs only, two links",
        "INVALID accepted by a rule",
    }


@pytest.mark.parametrize("backend", ["nftables", "iptables-nft", "iptables-legacy"])
def test_a_redirect_is_refused_where_it_ends_what_is_answered(
    whole: tuple[Seen, Refused], backend: str
) -> None:
    seen, refused = whole
    form = f"udp-redirect, {backend}"
    assert {now for _, p, _, now in cells(seen, form) if p.startswith("UDP fault")} == {"lives"}
    ended = {line.partition(":")[0] for line in harmed(seen, form)}
    # Of two NAT chains of one priority the later one comes first, and the legacy table, which
    # stays, is the site's first: the world's own rule takes the request before ours.
    first = {"published UDP port"} if backend != "iptables-legacy" else set()
    assert ended == {"one address opened", *first}
    said = {world for (f, world), why in refused.items() if f == form and why}
    assert said == {"one address opened", "published UDP port"}


@pytest.mark.parametrize("backend", ["nftables", "iptables-nft", "iptables-legacy"])
def test_notrack_is_refused_where_it_ends_what_is_answered(
    whole: tuple[Seen, Refused], backend: str
) -> None:
    seen, refused = whole
    form = f"notrack, {backend}"
    ended = {line.partition(":")[0] for line in harmed(seen, form)}
    assert ended == {
        "SYNPROXY on the host",
        "opened by state",
        "answers by state",
        "published UDP port",
    }
    assert ended == {world.name for world in WORLDS if world.served and refused[form, world.name]}


@pytest.mark.parametrize("backend", ["nftables", "iptables-nft", "iptables-legacy"])
def test_a_clamp_heals_both_directions_of_a_narrow_link(matrix: Seen, backend: str) -> None:
    form = f"clamp-mss, {backend}"
    faults = [now for _, probe, _, now in cells(matrix, form) if probe.startswith("MTU fault")]
    assert faults == ["lives"] * 4


def test_a_stale_flow_is_ended_and_no_other(matrix: Seen) -> None:
    assert harmed(matrix, "flush-stale-flow") == []
    faults = [now for _, p, _, now in cells(matrix, "flush-stale-flow") if p.startswith("stale")]
    assert faults == ["lives", "lives"]


@pytest.mark.parametrize("backend", ["nftables", "iptables-nft", "iptables-legacy"])
def test_the_loopback_is_closed_to_others_and_to_nobody_who_needs_the_setting(
    matrix: Seen, backend: str
) -> None:
    form = f"loopback-drop, {backend}"
    assert harmed(matrix, form) == ["reached on the loopback: neighbour v4: lives, hangs"]


def test_dropping_every_invalid_segment_ends_what_lived(matrix: Seen) -> None:
    """The form of earlier versions: what this matrix is there to see."""
    ended = {line.partition(":")[0] for line in harmed(matrix, BROAD.name)}
    assert {"SYNPROXY on the host", "requests only, one link", "SYN-ACKs only, one link"} <= ended
    assert "forgotten, tcp_loose = 0" in ended


def test_what_the_fixes_declare_is_what_was_seen(matrix: Seen) -> None:
    for form in FORMS:
        if form.fix:
            assert (harmed(matrix, form.name) == []) == catalogue.fix(form.fix).HARMLESS, form.name


@pytest.mark.parametrize("name", ["default", "docker-host", "kubernetes-node", "nat-gateway"])
def test_the_policies_begin_with_what_heals_most_and_harms_nothing(matrix: Seen, name: str) -> None:
    first, *others = load((name,)).rules["tcp-invalid-reset"].fixes
    assert first == "tcp-be-liberal"
    best = healed(matrix, first)
    for other in others:
        assert all(healed(matrix, form.name) < best for form in FORMS if form.fix == other), other
