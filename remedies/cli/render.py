"""Scans, plans and results as text for people. Returns text; verbs print it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from remedies.cli.terminal import Style, clean
from remedies.local_time import local
from remedies.model import Advice, Change, Finding, Host, Kept, Plan, PolicyRef, Refusal, Scan
from remedies.planning.advice import advice_text
from remedies.planning.engine import unjudged
from remedies.rules import flow_address

MARKS = {"create": "+", "update": "~", "remove": "-"}
_UNDER = " " * 10  # under what stands behind a verdict
_MARK_COLOUR = {"create": "green", "update": "yellow", "remove": "red"}
BY_ROLLBACK = {
    "exact": "undone exactly by 'remedy rollback'",
    "lossy": "undone by 'remedy rollback', except for what the kernel keeps",
    "none": "cannot be undone",
}
"""How a change is undone, by its reversibility."""
OF_ROLLBACK = dict.fromkeys(BY_ROLLBACK, "'remedy apply' plans it anew")
"""The same for a rollback's changes: what it takes back is not brought back exactly."""


def scan_text(
    scan: Scan,
    policy: PolicyRef,
    style: Style,
    *,
    verbose: int,
    evidence: bool = True,
    show_all: Iterable[str] = (),
) -> str:
    """Return the host and the policy, then what :func:`findings_text` returns."""
    found = findings_text(scan, style, verbose=verbose, evidence=evidence, show_all=show_all)
    return f"{host_line(scan.host, scan.time, policy, style)}\n\n{found}"


def findings_text(
    scan: Scan,
    style: Style,
    *,
    verbose: int,
    evidence: bool = True,
    show_all: Iterable[str] = (),
) -> str:
    """Return findings with their evidence, strongest first, then what could not be judged."""
    lines: list[str] = []
    for finding in scan.findings:
        lines += _finding(
            finding, style, evidence and (finding.verdict != "mitigated" or verbose > 0)
        )
    unjudged = _unjudged(scan)
    for reason, conditions in unjudged.items():
        lines += style.wrap(f"{style.verdict('unknown')} {style('bold', conditions)}", "")
        lines += [*style.wrap(reason, _UNDER), ""]
    for condition in show_all:
        lines.append(f"{style.verdict('absent')} {condition}")
    if not scan.findings and not unjudged:
        lines.append("Nothing found.")
    return "\n".join(lines).rstrip()


def brief(scan: Scan, style: Style) -> list[str]:
    """Return one line for each finding, and for each reason why something could not be judged."""
    lines = []
    for finding in scan.findings:
        subject = clean(finding.subject) + (" (waived)" if finding.waived else "")
        lines.append(
            f"{style.verdict(clean(finding.verdict))} {clean(finding.condition)}  {subject}"
        )
    for reason, conditions in _unjudged(scan).items():
        lines.append(f"{style.verdict('unknown')} {conditions}  {reason}")
    return lines


def _unjudged(scan: Scan) -> dict[str, str]:
    """Return what could not be judged: each reason, and the conditions that share it."""
    found: dict[str, list[str]] = {}
    for unknown in scan.unknown:
        if not unknown.partly:
            found.setdefault(clean(unknown.reason), []).append(clean(unknown.condition))
    return {reason: ", ".join(conditions) for reason, conditions in found.items()}


def brief_plan(plan: Plan, style: Style) -> str:
    """Return one line for each finding, change, refusal and fix that stays, and their count."""
    lines = [
        *brief(plan.scan, style),
        *(f"{MARKS[c.action]} {clean(c.resource)}  by {clean(c.fix)}" for c in plan.changes),
        *(f"! {clean(r.fix)}  refused: {clean(r.reason)}" for r in plan.refused if r.wanted),
        *(f"= {clean(', '.join(k.resources))}  {clean(k.fix)} stays in force" for k in plan.kept),
        _count(plan.changes) + _not_judged(plan.scan),
    ]
    return "\n".join(lines)


def host_line(host: Host, time: str, policy: PolicyRef, style: Style) -> str:
    """Return one line that says what was looked at, when, and by which policy it is judged."""
    where = "" if host.netns == "host" else f", namespace {host.netns}"
    return style(
        "dim",
        clean(
            f"{host.name}, kernel {host.kernel}{where}, {local(time)}; "
            f"policy {' + '.join(policy.names)} ({policy.source or 'built-in default'})"
        ),
    )


def _finding(finding: Finding, style: Style, evidence: bool) -> list[str]:
    subject = style("dim", clean(finding.subject))
    verdict = style.verdict(clean(finding.verdict))
    message = clean(finding.message)
    if finding.verdict == "exposed":
        message = f"could happen: {message}; not seen now"
    lines = [
        f"{verdict} {style('bold', clean(finding.condition))}  {subject}",
        *style.wrap(message, _UNDER),
    ]
    if finding.follows_from:
        lines += style.wrap(f"follows from {clean(finding.follows_from)}", _UNDER)
    if finding.waived:
        lines += style.wrap(f"waived: {clean(finding.waived)}", _UNDER)
    if evidence:
        for item in finding.evidence:
            note = f"  ({item.note})" if item.note else ""
            text = clean(f"{item.source}: {item.key} {item.value}{note}")
            lines.append(style("dim", _UNDER + text))
    return [*lines, ""]


def plan_text(plan: Plan, style: Style, *, verbose: int) -> str:
    """Return findings, changes as diffs, advice, refusals, and a line that counts them."""
    lines = [scan_text(plan.scan, plan.policy, style, verbose=verbose, evidence=verbose > 0), ""]
    lines += changes_text(plan.changes, style)
    for advice in plan.advice:
        lines += _advice(advice, style, verbose)
    for refusal in plan.refused:
        lines += _refusal(refusal, style)
    for kept in plan.kept:
        lines += _kept(kept, plan.policy, style)
    lines.append(_count(plan.changes) + _not_judged(plan.scan))
    return "\n".join(lines)


def changes_text(
    changes: Iterable[Change], style: Style, undone: Mapping[str, str] = BY_ROLLBACK
) -> list[str]:
    """Return each change: its mark, address, fix, what it does, how it is undone, its diff."""
    lines = []
    for change in changes:
        mark = style(_MARK_COLOUR[change.action], MARKS[change.action])
        lines.append(f"{mark} {style('bold', clean(change.resource))}  by {clean(change.fix)}")
        undo = undone[change.reversibility]
        told = f"{clean(change.impact)}; risk {clean(change.risk)}; {undo}"
        lines += style.wrap(told, "    ")
        if change.accept_harm:
            lines += style.wrap(accepted_harm(change.fix, change.accept_harm), "    ")
        lines += [f"    {line}" for line in diff_lines(change.diff, style)]
        for effect in change.effects:
            lines += style.wrap(f"! {clean(flow_address.text(effect))}", "    ")
        lines.append("")
    return lines


def accepted_harm(fix: str, conditions: Iterable[str]) -> str:
    """Return what a policy accepts by ``accept_harm``, as one line."""
    named, what = clean(fix), clean(", ".join(conditions))
    return (
        f"! policy accepts harm of {named} for {what} ('remedy explain {named}' says what it can "
        "end)"
    )


def diff_lines(diff: str, style: Style) -> list[str]:
    """Return the lines of a unified diff without those that name its two sides."""
    body = "\n".join(line for line in diff.split("\n") if line[:3] not in ("---", "+++"))
    return style.diff(clean(body)).split("\n")


def _advice(advice: Advice, style: Style, verbose: int) -> list[str]:
    mark = style("cyan", "!")
    title = f"{mark} {style('bold', clean(advice.title))}  advice of {clean(advice.fix)}"
    text = clean(advice_text(advice, long=verbose > 0))
    lines = [title]
    for line in text.split("\n"):  # what is indented is to be copied as it stands
        lines += [f"    {line}"] if line.startswith(" ") else style.wrap(line, "    ")
    return [*lines, ""]


def _refusal(refusal: Refusal, style: Style) -> list[str]:
    mark = style("yellow", "!")
    note = "" if refusal.wanted else " (another fix is used instead, or the policy asks for none)"
    return [
        f"{mark} {style('bold', clean(refusal.fix))}  refused{note}",
        *style.wrap(clean(refusal.reason), "    "),
        "",
    ]


def _kept(kept: Kept, policy: PolicyRef, style: Style) -> list[str]:
    told = (
        f"policy {' + '.join(kept.policy) or 'unknown'} put it in force ({kept.transaction}) and "
        f"policy {' + '.join(policy.names)} does not ask for it; --prune removes it"
    )
    return [
        f"= {style('bold', clean(', '.join(kept.resources)))}  {clean(kept.fix)} stays in force",
        *style.wrap(clean(told), "    "),
        "",
    ]


def _not_judged(scan: Scan) -> str:
    """Return why "nothing to change" does not mean that all is well: what could not be judged."""
    names = unjudged(scan)
    return f" Not judged: {clean(', '.join(names))}." if names else ""


def _count(changes: tuple[Change, ...]) -> str:
    if not changes:
        return "Nothing to change."
    words = {"create": "to create", "update": "to update", "remove": "to remove"}
    counts = [
        f"{n} {word}"
        for action, word in words.items()
        if (n := sum(c.action == action for c in changes))
    ]
    return ", ".join(counts) + "."
