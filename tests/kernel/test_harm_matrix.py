"""The harm matrix: what each fix and form does to each kind of traffic, before, during and after.

It prints its table (``pytest -s``), decides which fix comes first in the shipped policies, and
holds what the modules of the fixes declare to what was seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from harm_site import Site, World
from harm_worlds import WORLDS
from older_drop import OLDER

from remedies import catalogue
from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.model import Host, Terms, Wanted
from remedies.policy import load
from remedies.transaction.host import HostResources

HOST = Host("h", "m", "k", "n", "b")


@dataclass(frozen=True)
class Form:
    """One way to write one fix."""

    name: str
    fix: str
    wanted: tuple[Wanted, ...]


def _form(fix: str, backend: str, store: str = "nft") -> Form:
    seen = Netfilter(nf_tables=True, iptables=store, conntrack_used=True)
    facts = Facts(HOST, "", 0.0, known={"netfilter": seen})
    terms = Terms(backend="nftables" if backend == "nftables" else "iptables")
    wanted = catalogue.fix(fix).desired(None, facts, terms)
    assert isinstance(wanted, tuple)
    return Form(f"{fix}, {backend}" if backend else fix, fix, wanted)


FORMS = (
    _form("tcp-be-liberal", ""),
    _form("invalid-drop", "nftables"),
    _form("invalid-drop", "iptables-nft", "nft"),
    _form("invalid-drop", "iptables-legacy", "legacy"),
)
BROAD = Form("every INVALID segment dropped", "", (Wanted("nft:inet/remedy_invalid_drop", OLDER),))
"""What earlier versions wrote; looked at last, because what it ends is slow to begin again."""
Seen = dict[tuple[str, str, int, str], str]
"""By form, world, IP version and probe: what came of the traffic."""


@contextlib.contextmanager
def in_force(site: Site, form: Form) -> Iterator[None]:
    """Write a form on the host, and put back what was there."""
    resources = HostResources()
    with site.inside("h"):
        before = [(w.resource, resources.read(w.resource)) for w in form.wanted]
        for wanted in form.wanted:
            resources.check(wanted.resource, wanted.state)
            resources.write(wanted.resource, wanted.state)
    try:
        yield
    finally:
        with site.inside("h"):
            for address, state in reversed(before):
                resources.write(address, state)


def walk(site: Site, world: World, version: int) -> Seen:
    """Return what became of each probe without a fix, under each, and after it."""
    seen: Seen = {}

    def look(name: str) -> None:
        for probe, traffic in world.probes:
            site.forget()
            seen[name, world.name, version, probe] = traffic(site, version)

    with site.laid(world):
        look("")
        for form in FORMS:
            with in_force(site, form):
                look(form.name)
        look("after")
        with in_force(site, BROAD):
            look(BROAD.name)
    return seen


@pytest.fixture(scope="module")
def matrix(module_netns: Callable[..., str]) -> Seen:
    """Return what was seen of everything, on one site."""
    site = Site(module_netns)
    seen: Seen = {}
    for world in WORLDS:
        for version in (4, 6):
            seen.update(walk(site, world, version))
    print(table(seen))
    return seen


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


def table(seen: Seen) -> str:
    """Return the matrix as text."""
    lines = []
    for form in ("", *(f.name for f in FORMS), "after", BROAD.name):
        lines.append(f"\n{form or 'no fix'}")
        for world, probe, before, now in cells(seen, form):
            mark = "!" if before == "lives" != now else "+" if before != "lives" == now else " "
            lines.append(f"  {mark} {world:30} {probe:36} {before:8} {now}")
    return "\n".join(lines)


def test_each_fault_is_one_and_everything_else_lives_without_a_fix(matrix: Seen) -> None:
    """Or the matrix would prove nothing."""
    for world, probe, before, _ in cells(matrix, ""):
        if probe.startswith("fault"):
            assert before == "reset", (world, probe)
    assert sum(before == "lives" for _, _, before, _ in cells(matrix, "")) > 30


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
    assert healed(matrix, form) == {"masquerade", "published port"}
    harm = harmed(matrix, form)
    assert all("told that it is gone" in h or "sequence numbers rewritten" in h for h in harm), harm
    assert {h.partition(":")[0] for h in harm} == {
        "sequence numbers rewritten",
        "SYN-ACKs only, one link",
        "SYN-ACKs only, two links",
        "INVALID accepted by a rule",
    }


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
