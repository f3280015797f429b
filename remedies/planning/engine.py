"""From policy and facts to findings: which facts to read, and how to judge them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Optional

from remedies import catalogue, site
from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.model import SEEN, UNCOVERED, VERDICTS, Finding, Policy, Rule, Scan, Unknown
from remedies.values import replace

WATCH_ONLY = Rule(mode="advise", from_="exposed", fixes=())
"""The rule for a condition that policy does not mention: report it, do nothing."""


def rule_for(policy: Policy, condition: str) -> Rule:
    """Return the policy's rule for a condition."""
    return policy.rules.get(condition, WATCH_ONLY)


def watched(policy: Policy, only: Optional[Collection[str]] = None) -> tuple[str, ...]:
    """Return the conditions that policy does not switch off, or of ``only`` these."""
    return tuple(
        name
        for name in conditions(policy)
        if rule_for(policy, name).mode != "off" and (only is None or name in only)
    )


def with_causes(names: Iterable[str]) -> frozenset[str]:
    """Return conditions and those that explain them: what it takes to judge them again."""
    names = frozenset(names)
    return names.union(*(catalogue.explained_by(name) for name in names))


def conditions(policy: Policy) -> tuple[str, ...]:
    """Return every condition there is under a policy: ours, and those that it states itself."""
    return (*catalogue.condition_ids(), *filter(site.is_site, policy.rules))


def title(policy: Policy, condition: str) -> str:
    """Return a condition's title; one that a policy states has it there."""
    if site.is_site(condition):
        return site.title(condition, rule_for(policy, condition).params)
    return catalogue.condition(condition).TITLE


def topics_of_scan(policy: Policy) -> frozenset[str]:
    """Return what the conditions that a policy states itself ask for."""
    stated = filter(site.is_site, watched(policy))
    return frozenset(site.topic(rule_for(policy, name).params) for name in stated)


def needs_of_scan(policy: Policy, only: Optional[Collection[str]] = None) -> tuple[type[Any], ...]:
    """Return the fact types that the conditions (or of ``only`` these) ask for."""
    kinds: dict[type[Any], None] = {}
    for name in watched(policy, only):
        kinds.update(dict.fromkeys(catalogue.condition(name).NEEDS))
    return tuple(kinds)


def needs_of_plan(
    policy: Policy, uses: tuple[tuple[str, Mapping[str, object]], ...] = ()
) -> tuple[tuple[type[Any], ...], frozenset[str]]:
    """Return the fact types that conditions and guards ask for, and their topics.

    ``uses``: the fixes of a saved plan, which may have been made under another policy, each with
    the parameters of a use.
    """
    kinds = dict.fromkeys(needs_of_scan(policy))
    topics: set[str] = set()
    wanted: list[tuple[str, Mapping[str, object]]] = [*uses]
    wanted += [(f, {}) for name in watched(policy) for f in rule_for(policy, name).fixes]
    wanted += [(standing.fix, standing.params) for standing in policy.require]
    for name, params in wanted:
        kinds.update(dict.fromkeys(catalogue.fix(name).NEEDS))
        topics |= catalogue.topics_of(name, params)
    if wanted:
        kinds[Netfilter] = None
    return tuple(kinds), frozenset(topics)


def scan(policy: Policy, facts: Facts, only: Optional[Collection[str]] = None) -> Scan:
    """Judge every condition that policy watches (or of ``only`` these) on the facts.

    Facts that were read in part are judged; the missing part is ``unknown``, unless a finding
    says so.
    """
    findings: list[Finding] = []
    unknown: list[Unknown] = []
    for name in watched(policy, only):
        condition = catalogue.condition(name)
        params = {**condition.PARAMS, **rule_for(policy, name).params}
        try:
            found = condition.detect(facts, params)
        except Unreadable as error:
            unknown.append(Unknown(condition=name, reason=str(error)))
            continue
        findings += found
        said = "\n".join([f.message for f in found] + [e.value for f in found for e in f.evidence])
        unknown += [
            Unknown(condition=name, reason=reason, partly=True)
            for reason in facts.unread_of(condition.NEEDS)
            if reason not in said
        ]
    findings = _explained(findings)
    findings.sort(key=lambda f: (-VERDICTS.index(f.verdict), f.condition, f.subject))
    return Scan(host=facts.host, time=facts.time, findings=tuple(findings), unknown=tuple(unknown))


def unjudged(scanned: Scan) -> tuple[str, ...]:
    """Return the conditions that could not be judged, of the whole host or of one subject of it."""
    names = [unknown.condition for unknown in scanned.unknown if not unknown.partly]
    names += [finding.condition for finding in scanned.findings if finding.verdict == "unknown"]
    return tuple(dict.fromkeys(names))


def _explained(findings: list[Finding]) -> list[Finding]:
    """Return the findings, those that another finding explains with the condition they follow from.

    Only what was seen to happen explains, and only what is open needs an explanation.
    """
    seen = {f.condition for f in findings if f.verdict in SEEN and not f.waived}
    found = []
    for finding in findings:
        open_ = finding.verdict in UNCOVERED
        causes = [c for c in catalogue.explained_by(finding.condition) if open_ and c in seen]
        found.append(replace(finding, follows_from=causes[0]) if causes else finding)
    return found


def acts(finding: Finding, rule: Rule) -> bool:
    """Tell whether policy acts on a finding.

    ``unknown`` is never acted on. A fault that another program's rule mitigates needs no fix; one
    that ours mitigates keeps its fix.
    """
    if finding.waived or finding.verdict == "unknown":
        return False
    if finding.verdict == "mitigated":
        return (finding.mitigated_by or "").startswith("remedy ")
    return VERDICTS.index(finding.verdict) >= VERDICTS.index(rule.from_)
