"""Walks over the worlds of the harm matrix: traffic before, under and after each form."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

from harm_forms import BROAD, ENDS, FORMS, HOST, TRIED, Form
from harm_site import AT, Site, World
from harm_worlds import WORLDS

from remedies import catalogue
from remedies.facts.gather import read_facts
from remedies.planning import draft
from remedies.transaction.host import HostResources

Seen = dict[tuple[str, str, int, str], str]
"""By form, world, IP version and probe: what came of the traffic."""
Refused = dict[tuple[str, str], str]
"""By form and world: why the fix's guard refuses it."""


@contextlib.contextmanager
def in_force(site: Site, form: Form) -> Iterator[None]:
    """Write a form on the host, and put back what was there."""
    resources = HostResources()
    if form.rules:
        site.run("h", ["nft", "-f", "-"], stdin=form.rules)
    with site.inside("h"):
        before = [(w.resource, resources.read(w.resource)) for w in form.wanted]
        for wanted in form.wanted:
            resources.check(wanted.resource, wanted.state)
            resources.write(wanted.resource, wanted.state)
    if form.fix == ENDS:
        site.acts = form.act
    try:
        yield
    finally:
        site.acts = lambda: None
        with site.inside("h"):
            for address, state in reversed(before):
                resources.write(address, state)
        if form.rules:
            site.run("h", ["nft", "delete", "table", "inet", "tried"])


def refusal(site: Site, form: Form) -> str:
    """Return why the fix's own guard refuses a form here; empty where it does not."""
    module = catalogue.fix(form.fix)
    with site.inside("h"):
        asked = (catalogue.topics_of(form.fix, terms.params) for _, terms in form.uses)
        facts = read_facts(HOST, module.NEEDS, topics=frozenset().union(*asked))
    reasons = (draft.refusal(form.fix, finding, facts, terms) for finding, terms in form.uses)
    return "; ".join(filter(None, reasons))


def walk(site: Site, world: World, pool: Executor) -> tuple[Seen, Refused]:
    """Return what became of each probe without a fix, under each, and after it; and refusals."""
    seen: Seen = {}
    refused: Refused = {}

    def probes(name: str, version: int) -> None:
        for probe, traffic in world.probes:
            site.forget(version)
            seen[name, world.name, version, probe] = traffic(site, version)

    def look(name: str) -> None:
        for done in [pool.submit(probes, name, version) for version in AT]:
            done.result()

    with site.laid(world):
        look("")
        for form in (*FORMS, *TRIED):
            if form.fix:
                refused[form.name, world.name] = refusal(site, form)
            if form.looked_at(world):
                with in_force(site, form):
                    look(form.name)
        look("after")
        if BROAD.looked_at(world):
            with in_force(site, BROAD):
                look(BROAD.name)
    return seen, refused


def walk_all(namespaces: Mapping[str, str], names: Sequence[str]) -> tuple[Seen, Refused]:
    """Walk over the worlds with these names on a site of its own, both IP versions side by side."""
    seen: Seen = {}
    refused: Refused = {}
    site = Site(namespaces)
    site.wire()
    with ThreadPoolExecutor(len(AT)) as pool:
        for world in WORLDS:
            if world.name in names:
                became, why = walk(site, world, pool)
                seen.update(became)
                refused.update(why)
    return seen, refused
