"""Markdown for a ticket: what stands, what was done, what it rests on."""

from __future__ import annotations

from collections.abc import Iterator

from remedies.outcomes import QUIET, UNDONE
from remedies.report.headline import headline, sentence
from remedies.report.history import IN_FORCE
from remedies.report.markdown_escape import block, code, cut, prose
from remedies.report.record import Changed, Deed, HostReport, Judgement, Report, Trend

HELP = "Markdown for a ticket"

_IN_FULL = 20
"""Findings and transactions of one host written out; the rest are counted."""


def render(report: Report) -> Iterator[str]:
    """Yield the document."""
    many = len(report.hosts) != 1
    title = f"{len(report.hosts)} hosts" if many else prose(report.hosts[0].place.name)
    title += f" in rollout {prose(report.run)}" if report.run else ""
    yield f"# Audit report: {title}\n\n"
    first = headline(report)
    yield f"**{first.text}.**\n\n"
    for ask in first.asks:
        yield f"- {prose(ask)}\n"
    yield f"\n{prose(sentence(report))} Made {report.made} by {code(report.by.user)} "
    yield f"with {prose(report.tool.name)} {prose(report.tool.version)}.\n"
    if report.trend:
        yield from _trend(report.trend)
    for host in report.hosts:
        yield from _host(host, many)
    if report.unreached:
        yield "\n## Hosts never reached\n\n"
        for missing in report.unreached:
            yield f"- {code(missing.name)}: {prose(missing.reason)}\n"


def _trend(trend: Trend) -> Iterator[str]:
    yield f"\n## What changed since {prose(trend.since)}\n\n"
    yield f"{len(trend.worse)} worse, {len(trend.better)} better, {trend.same} as before.\n\n"
    for word, moved in (("worse", trend.worse), ("better", trend.better)):
        for one in moved:
            was, now = f"{one.was} ({one.was_verdict})", f"{one.now} ({one.now_verdict})"
            yield f"- {word}: {prose(one.condition)} on {code(one.host)}: {was}, now {now}\n"
    for word, hosts in (("new", trend.new), ("no longer judged", trend.gone)):
        for host in hosts:
            yield f"- {word}: {code(host)}\n"


def _host(host: HostReport, many: bool) -> Iterator[str]:
    place = host.place
    if many:
        yield f"\n## {prose(place.name)}\n"
    yield f"\nKernel {code(place.kernel)}, {prose(place.distribution)}, "
    yield f"namespace {code(place.netns)}, policy {prose(', '.join(host.policy))} "
    yield f"({code(host.policy_digest[:16])}).\n"
    if host.rollout:
        said = f": {prose(host.rollout.message)}" if host.rollout.message else ""
        yield f"\nRollout: **{prose(host.rollout.state)}**{said}\n"
    for warning in host.warnings:
        yield f"\n> Warning: {prose(warning)}\n"
    yield "\n| outcome | verdict | severity | condition | subject |\n|---|---|---|---|---|\n"
    for j in host.judgements:
        cells = (j.outcome, j.verdict, j.severity, prose(j.condition), code(j.subject))
        yield f"| {' | '.join(cells)} |\n"
    loud = [j for j in host.judgements if j.outcome not in QUIET]
    for judgement in loud[:_IN_FULL]:
        yield from _judgement(judgement)
    if len(loud) > _IN_FULL:
        yield f"\n{len(loud) - _IN_FULL} more findings are in the table alone.\n"
    if host.planned:
        yield "\n## Planned changes\n"
        for change in host.planned:
            yield from _change(change)
    yield from _deeds(host)
    if host.chain:
        yield f"\nJournal: {host.chain.records} records, {prose(host.chain.state)}, "
        yield f"head {code(host.chain.head)}, {prose(host.chain.anchor)}.\n"


def _judgement(judgement: Judgement) -> Iterator[str]:
    yield f"\n### {judgement.outcome}: {prose(judgement.title)}\n\n{prose(judgement.message)}\n\n"
    for item in judgement.evidence:
        note = f" ({prose(item.note)})" if item.note else ""
        yield f"- {prose(item.source)}: {prose(item.key)} {code(item.value)}{note}\n"
    if judgement.follows_from:
        yield f"- follows from: {prose(judgement.follows_from)}\n"
    if judgement.history:
        history = judgement.history.replace("-", " ")
        yield f"- transaction {code(judgement.transaction)}: {history}\n"
    if judgement.verdict_after:
        when = "after" if judgement.history == IN_FORCE else "now"
        was, then = prose(judgement.verdict_before), prose(judgement.verdict_after)
        yield f"- before: {was}, {when}: {then}\n"
    if judgement.waived:
        yield f"- waived: {prose(judgement.waived)}\n"
    for text in judgement.advice:
        yield f"- advice: {prose(text)}\n"
    for text in judgement.refused:
        yield f"- refused: {prose(text)}\n"
    yield f"- controls: {prose(', '.join(judgement.controls))}\n"
    if judgement.policy:
        yield f"- policy: {code(judgement.policy)}\n"


def _deeds(host: HostReport) -> Iterator[str]:
    if not host.deeds:
        return
    yield "\n## Transactions\n\n| transaction | time | what | outcome | by | change |\n"
    yield "|---|---|---|---|---|---|\n"
    for deed in reversed(host.deeds):
        who = deed.actor
        cells = (code(deed.id), deed.time, prose(deed.kind), prose(deed.outcome), code(who.user))
        yield f"| {' | '.join(cells)} | {code(who.change_id)} |\n"
    for deed in list(reversed(host.deeds))[:_IN_FULL]:
        yield from _deed(deed)


def _deed(deed: Deed) -> Iterator[str]:
    yield f"\n### Transaction {prose(deed.id)}: {prose(deed.outcome)}\n\n"
    yield f"{code(deed.actor.command)}\n\n"
    yield f"By {code(deed.actor.user)}"
    for what, text in _whence(deed):
        yield f", {what} {code(text)}"
    yield ".\n"
    if deed.actor.comment:
        yield f"\n> {prose(deed.actor.comment)}\n"
    for check in deed.checked:
        was, then = prose(check.before), prose(check.after)
        undone = deed.outcome in UNDONE
        when = "while it was in force" if undone else "after it"
        yield f"\n- {prose(check.condition)}: was {was}, {then} {when}\n"
    for change in deed.changes:
        yield from _change(change)
    for line in deed.stuck:
        yield f"\n- stuck: {prose(line)}\n"


def _whence(deed: Deed) -> Iterator[tuple[str, str]]:
    who = deed.actor
    for what, text in (
        ("uid", who.uid),
        ("login uid", who.login_uid),
        ("from", who.ssh_from),
        ("approved by", who.approver),
        ("change", who.change_id),
        ("confirmation:", deed.confirmation),
    ):
        if text:
            yield what, text


def _change(change: Changed) -> Iterator[str]:
    yield f"\n{code(change.resource)}: {prose(change.action)} by {prose(change.fix)}, "
    yield f"{prose(change.state)}, undo {prose(change.reversibility)}"
    yield f" by {code(change.undo)}\n" if change.undo else "\n"
    if change.diff:
        yield f"\n{block(cut(change.diff, 20_000), 'diff')}\n"
