"""One HTML page that needs nothing else: no network, no script to be read.

Jinja2 escapes every value. Beside that a content security policy in the page names the hashes of
its own style and script, so that a browser runs nothing else even where an escape were forgotten.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Optional

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from remedies.outcomes import HOSTS, JUDGED, KEPT, QUIET
from remedies.report.controls import CHANGE_CONTROL
from remedies.report.headline import headline, sentence
from remedies.report.headline import many as counted
from remedies.report.markdown_escape import cut
from remedies.report.matrix import came_out, matrix
from remedies.report.picture import path_svg, plot_svg
from remedies.report.picture_style import COLOURS, PICTURES
from remedies.report.pictures import path
from remedies.report.pictures.shapes import Walk
from remedies.report.record import (
    SEVERITIES,
    Deed,
    HostReport,
    Judgement,
    Report,
    Series,
    answer,
    counts,
    order,
)
from remedies.report.trend import name

HELP = "one self-contained page for people: light, dark, print, phone"

CARDS = 60
"""Findings shown whole; the others stand in a table, one row each."""
ALIKE = 3
"""In a fleet, findings of one condition and outcome shown whole."""
DEEDS = 200
"""Transactions of one host shown whole, the newest; every one has its row."""
FLEET_DEEDS = 12
"""Transactions of a fleet shown whole, those that did not stand first: most are alike."""
PLOTS = 24
DIFF = 20_000
"""Characters of one difference."""
MARKS = {
    "fail": "\u2715",
    "needs-human": "!",
    "unknown": "?",
    "waived": "\u25c7",
    "fixed": "\u2713",
    "pass": "\u2713",
    "not-applicable": "\u2013",
}


_Judged = tuple[HostReport, Judgement]


@dataclass(frozen=True)
class _Card:
    judgement: Judgement
    host: str
    picture: Optional[Markup]
    walks: tuple[Walk, ...]
    deed: Optional[Deed]


@dataclass(frozen=True)
class _Plot:
    series: Series
    svg: Markup


def render(report: Report) -> Iterator[str]:
    """Yield the page."""
    yield from _template(_many_hosts(report)).generate(_values(report))


@functools.lru_cache(maxsize=2)  # compiling it takes longer than a page of it
def _template(many: bool) -> Template:
    environment = Environment(
        loader=PackageLoader("remedies.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cut"] = cut
    environment.filters["coloured"] = coloured
    style, script = (_source(environment, name) for name in ("style.css", "page.js"))
    style = f"{COLOURS}{PICTURES}{style}"
    environment.globals.update(
        marks=MARKS,
        many=many,
        style=Markup(style),  # noqa: S704  # ours, from the package
        style_hash=_hash(style),
        script=Markup(script),  # noqa: S704  # ours, from the package
        script_hash=_hash(script),
    )
    return environment.get_template("page.html.j2")


def _source(environment: Environment, name: str) -> str:
    loader = environment.loader
    assert loader is not None  # noqa: S101  # given above
    return loader.get_source(environment, name)[0].strip()


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def coloured(diff: str) -> Markup:
    """Return a unified diff with its added and removed lines marked; the signs stay."""
    kinds = {"+": "add", "-": "del", "@": "at"}
    lines = [
        Markup('<span class="{}">{}</span>').format(kinds[line[0]], line)
        if line[:1] in kinds
        else escape(line)
        for line in cut(diff, DIFF).split("\n")
        if line[:4] not in ("--- ", "+++ ")
    ]
    return Markup("\n").join(lines)


def _values(report: Report) -> dict[str, Any]:
    judged = [(h, j) for h in report.hosts for j in h.judgements]
    judged.sort(key=lambda pair: order(pair[1]))
    loud = [(h, j) for h, j in judged if j.outcome not in QUIET]
    quiet = [(h, j) for h, j in judged if j.outcome in QUIET]
    many = _many_hosts(report)
    whole, listed = _whole(loud, ALIKE if many else CARDS)
    left = len(listed)
    listed += [] if many else quiet
    deeds = [(h.place.name, d) for h in report.hosts for d in h.deeds]
    deeds.sort(key=lambda pair: (pair[1].time, pair[1].id), reverse=True)
    whole_deeds = deeds[:DEEDS]
    if many:
        whole_deeds = sorted(deeds, key=lambda d: d[1].outcome in KEPT)[:FLEET_DEEDS]
    found = counts(report)
    values: dict[str, Any] = {
        "title": _title(report),
        "headline": headline(report),
        "sentence": sentence(report),
        "trend": report.trend,
        "tally": [(o, found[o]) for o in JUDGED if found[o]],
        "facts": _facts(report),
        "about": _about(report),
        "warnings": _warnings(report),
        "groups": _groups(whole),
        "listed": [(h.place.name, j) for h, j in listed],
        "listed_title": "The others" if left else "Nothing to do",
        "planned": [(h.place.name, c) for h in report.hosts for c in h.planned][:CARDS],
        "plots": _plots(report),
        "deeds": whole_deeds,
        "deed_rows": _deed_rows(deeds, many),
        "deed_count": len(deeds),
        "deeds_left": len(deeds) - len(whole_deeds),
        "change_control": CHANGE_CONTROL,
        "waivers": list(dict.fromkeys(w for h in report.hosts for w in h.waivers)),
        "chains": sorted(
            ((h.place.name, h.chain) for h in report.hosts if h.chain), key=lambda c: c[1].holds
        ),
        "unreached": report.unreached,
        "made": report.made,
        "by": report.by,
        "tool": report.tool,
        "ranks": {"": len(JUDGED), **{o: i for i, o in enumerate(JUDGED)}},
        "cells": {"": "", **{o: _cell(o) for o in JUDGED}},
        "states": {state: _cell(host.judged, state) for state, host in HOSTS.items()},
        "matrix": matrix(report.hosts) if many else matrix(()),
    }
    values["sections"] = _sections(values)
    return values


def _whole(loud: list[_Judged], alike: int) -> tuple[list[_Judged], list[_Judged]]:
    """Return the findings to show whole, at most ``alike`` of a kind, and the others."""
    whole: list[_Judged] = []
    others: list[_Judged] = []
    seen: dict[tuple[str, str], int] = {}
    for host, judgement in loud:
        kind = (judgement.condition, judgement.outcome)
        seen[kind] = seen.get(kind, 0) + 1
        fits = seen[kind] <= alike and len(whole) < CARDS
        (whole if fits else others).append((host, judgement))
    return whole, others


def _warnings(report: Report) -> list[str]:
    """Return each warning once, with how many hosts gave it."""
    given: dict[str, int] = {}
    for host in report.hosts:
        for warning in host.warnings:
            given[warning] = given.get(warning, 0) + 1
    often = sorted(given, key=lambda warning: -given[warning])[:10]
    return [f"{w} ({given[w]:,} hosts)" if given[w] > 1 else w for w in often]


def _many_hosts(report: Report) -> bool:
    return len(report.hosts) != 1 or bool(report.unreached or report.run)


def _title(report: Report) -> str:
    if not _many_hosts(report):
        return name(report.hosts[0])
    if report.unreached:
        every = len(report.hosts) + len(report.unreached)
        return f"{len(report.hosts):,} of {every:,} hosts"
    return counted(len(report.hosts), "host", "hosts")


def _facts(report: Report) -> list[tuple[str, str]]:
    """Return what a reader asks first: when, by whom, of what."""
    by = report.by
    facts = [("Made (UTC)", report.made), ("By", _who(report)), ("Change", by.change_id)]
    facts += [
        ("Approved by", by.approver),
        ("Comment", by.comment),
        ("Rollout", report.run),
        ("Came out", came_out(report.hosts)),
    ]
    if not _many_hosts(report):
        host = report.hosts[0]
        watched = f"{host.time}, watched {host.window:g} s"
        facts.append(("Looked at", watched if host.scanned else "the journal alone"))
        facts.append(("Kernel", host.place.kernel))
        facts.append(("Policy", ", ".join(host.policy)))
    return [(name, value) for name, value in facts if value]


def _who(report: Report) -> str:
    by = report.by
    parts = [by.user]
    parts += [f"uid {by.uid}"] if by.uid else []
    parts += [f"login uid {by.login_uid}"] if by.login_uid else []
    parts += [f"from {by.ssh_from}"] if by.ssh_from else []
    return ", ".join(parts)


def _about(report: Report) -> list[tuple[str, str]]:
    """Return what an auditor asks last: with what, where exactly, since when."""
    facts = [("Command", report.by.command), ("Transactions since", report.since or "the first")]
    facts.append(("Collected in", f"{report.seconds:g} s"))
    for host in () if _many_hosts(report) else report.hosts:
        place = host.place
        facts += [
            ("Clock", place.clock),
            ("Distribution", place.distribution),
            ("Firewall tools", ", ".join(t for t in (place.nft, place.iptables) if t)),
            ("Namespace", place.netns),
            ("Machine id", place.machine_id),
            ("Boot id", place.boot_id),
            ("Policy digest", host.policy_digest),
            ("Plan", host.plan_id),
        ]
    return [(name, value) for name, value in facts if value]


def _groups(judged: Iterable[_Judged]) -> list[tuple[str, list[_Card]]]:
    """Return cards by severity, worst first."""
    groups: dict[str, list[_Card]] = {}
    for host, judgement in judged:
        groups.setdefault(judgement.severity, []).append(_card(host, judgement))
    return [(f"{s} severity", groups[s]) for s in SEVERITIES if s in groups]


def _card(host: HostReport, judgement: Judgement) -> _Card:
    way = path(judgement, host.interfaces)
    drawn = Markup(path_svg(way)) if way else None  # noqa: S704  # picture escapes its texts
    walks = way.walks if way else ()
    return _Card(judgement, host.place.name, drawn, walks, answer(host, judgement))


def _plots(report: Report) -> list[_Plot]:
    newest = [s for h in report.hosts for s in h.series][-PLOTS:]
    return [_Plot(s, Markup(plot_svg(s))) for s in newest]  # noqa: S704  # escapes its texts


def _deed_rows(deeds: list[tuple[str, Deed]], many: bool) -> Markup:
    """Return a table row for every transaction: built here, for there may be many thousands."""
    rows = []
    for host, deed in deeds:
        fixes = ", ".join(dict.fromkeys(c.fix for c in deed.changes))
        who = deed.actor
        shown = (deed.id, f"{deed.kind} {fixes}", deed.outcome, who.user, who.approver)
        cells = [escape(cut(text, 80)) for text in (*shown, who.change_id)]
        where = f'<td class="host">{escape(cut(host, 80))}</td>' if many else ""
        row = "</td><td>".join(cells)
        time = f'<td class="figure">{escape(deed.time)}</td>'
        rows.append(f"<tr>{time}{where}<td>{row}</td></tr>\n")
    return Markup("".join(rows))  # noqa: S704  # every cell is escaped above


def _cell(outcome: str, said: str = "") -> Markup:
    return Markup('<span class="cell o-{}"><i aria-hidden="true">{}</i>{}</span>').format(
        outcome, MARKS[outcome], said or outcome
    )


def _sections(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the anchors of the sections that are there."""
    wanted = (
        ("trend", "What changed", values["trend"]),
        ("fleet", "Hosts and conditions", values["matrix"].rows or values["unreached"]),
        ("findings", "Findings", True),
        ("changes", "Planned changes", values["planned"]),
        ("figures", "Counters", values["plots"]),
        ("transactions", "Transactions", values["deeds"]),
        ("waivers", "Waivers", values["waivers"]),
        ("record", "How far to trust this", True),
    )
    return [(anchor, name) for anchor, name, there in wanted if there]
