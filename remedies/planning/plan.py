"""From findings to a plan: which fix, which resources, what differs. Pure but for ``reads``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from remedies import catalogue
from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.model import (
    Advice,
    Change,
    Finding,
    Held,
    Host,
    Plan,
    Policy,
    Refusal,
    RequiredFix,
    Rule,
    Scan,
    Terms,
)
from remedies.planning import removal, unseen
from remedies.planning.draft import Draft
from remedies.planning.engine import acts, rule_for, unjudged
from remedies.planning.reads import Reads
from remedies.rules import kinds
from remedies.values import NamedTuple, replace


def terms_for(policy: Policy, facts: Facts, params: Mapping[str, object], fix: str) -> Terms:
    """Resolve ``backend: auto`` and ``persist`` for this host and namespace."""
    backend = policy.backend
    if backend == "auto":
        netfilter = facts.known.get("netfilter")
        has_nft = not isinstance(netfilter, Netfilter) or netfilter.nf_tables
        backend = "nftables" if has_nft else "iptables"
    return Terms(
        backend=backend,
        persist=policy.persist and facts.host.netns == "host",
        params={**catalogue.fix(fix).PARAMS, **params},
    )


def plan(
    policy: Policy,
    facts: Facts,
    scanned: Scan,
    held: Mapping[str, Held],
    reads: Reads,
    *,
    prune: bool = False,
    warnings: tuple[str, ...] = (),
) -> Plan:
    """Return the plan that makes the host as policy wants it.

    ``held`` is what the journal says is in force; with ``prune`` a fix whose cause is gone is
    removed too. Raises Unreadable when a resource that must be compared cannot be read.
    """
    draft = Draft(reads, facts)
    for standing in policy.require:
        _require(draft, policy, facts, standing)
    for finding in scanned.findings:
        rule = rule_for(policy, finding.condition)
        if not acts(finding, rule):
            continue
        if rule.mode == "advise":
            _advise(draft, facts, rule, _candidates(policy, facts, finding, rule, held))
        elif rule.mode == "fix":
            _choose(draft, rule, _candidates(policy, facts, finding, rule, held))
    draft.kept |= _kept(policy, scanned, prune)
    made = draft.made({} if prune else held)
    changes = [_accepted(policy, c, scanned) for c in made.values() if c is not None]
    of_fixes = tuple(changes)
    stays = draft.kept.__contains__
    unwanted = [e for a, e in held.items() if a not in draft.wanted and not stays(e.fix)]
    given_back = removal.give_back(unwanted, () if prune else policy.names, scanned, reads)
    changes += given_back.changes
    changes.sort(key=lambda c: (c.boot, c.action == "remove"))
    return Plan(
        scan=scanned,
        policy=policy.ref(),
        changes=tuple(changes),
        advice=tuple(draft.advice),
        refused=(*draft.refused, *given_back.refused),
        warnings=warnings,
        kept=given_back.kept,
        lost_at_boot=lost_at_boot(facts.host, of_fixes),
        settled=tuple(address for address, change in made.items() if change is None),
        made_from=draft.made_from if changes else {},
    )


def lost_at_boot(host: Host, changes: tuple[Change, ...]) -> tuple[str, ...]:
    """Return the resources that fixes change and nothing brings back at the next boot."""
    if host.netns != "host":  # any other namespace ends with the boot itself
        return ()
    return tuple(
        c.resource
        for c in changes
        if not c.boot and not c.terms.persist and kinds.comes_back(c.resource)
    )


def _require(draft: Draft, policy: Policy, facts: Facts, standing: RequiredFix) -> None:
    terms = terms_for(policy, facts, standing.params, standing.fix)
    reason = draft.want(standing.fix, None, terms)
    if reason is not None:
        draft.refused.append(Refusal(fix=standing.fix, finding=None, reason=reason))


class _Candidate(NamedTuple):
    """A fix that may be used for a finding."""

    fix: str
    finding: Finding
    terms: Terms
    spare: bool
    """It must be harmless here."""
    harm: Optional[str]
    """Why it is not, though it must be."""

    def refused(self, reason: str, *, wanted: bool = True) -> Refusal:
        """Return that it is not used, and why."""
        return Refusal(fix=self.fix, finding=self.finding.id, reason=reason, wanted=wanted)


def _candidates(
    policy: Policy, facts: Facts, finding: Finding, rule: Rule, held: Mapping[str, Held]
) -> Iterator[_Candidate]:
    """Yield a rule's fixes in the order in which they are tried."""
    for name in _in_order(finding, rule, held):
        accepted = unseen.accepts(policy, finding.condition, name)
        spare = unseen.must_be_harmless(finding, name, held, accepted=accepted)
        harm = unseen.could_harm(finding, name, rule.fixes) if spare else None
        yield _Candidate(name, finding, terms_for(policy, facts, {}, name), spare, harm)


def _choose(draft: Draft, rule: Rule, candidates: Iterable[_Candidate]) -> None:
    """Use the first fix that is not refused, or all of them where policy says ``all``."""
    refused: list[Refusal] = []
    used = False
    for each in candidates:
        reason = each.harm
        if reason is not None:
            draft.kept.add(each.fix)  # what is in force for another finding stays
        else:
            reason = draft.want(each.fix, each.finding, each.terms, keep_flows=each.spare)
        if reason is not None:
            refused.append(each.refused(reason))
            continue
        used = True
        if not rule.every:
            break
    stands_in = used and not rule.every
    draft.refused += [replace(r, wanted=not stands_in) for r in refused]


def _accepted(policy: Policy, change: Change, scanned: Scan) -> Change:
    """Return a change with the conditions for which the policy accepts its harm, if it has any."""
    if not change.effects and catalogue.fix(change.fix).HARMLESS:
        return change
    answered = (f.condition for f in scanned.findings if f.id in change.answers)
    accepted = (c for c in answered if unseen.accepts(policy, c, change.fix))
    return replace(change, accept_harm=tuple(dict.fromkeys(accepted)))


def _in_order(finding: Finding, rule: Rule, held: Mapping[str, Held]) -> list[str]:
    """Return a rule's fixes as they are tried.

    Fixes in force come first: a reason that comes and goes must not swap one fix for another at
    each apply. For what is only exposed, a fix that ended traffic in the harm
    matrix comes after those that did not, whatever the policy's order.
    """
    exposed = finding.verdict == "exposed"
    in_force = {entry.fix for entry in held.values()}
    return sorted(
        rule.fixes,
        key=lambda name: (name not in in_force, exposed and not catalogue.fix(name).HARMLESS),
    )


def _advise(draft: Draft, facts: Facts, rule: Rule, candidates: Iterable[_Candidate]) -> None:
    """Say what could be done: a fix's own advice, or that policy could let the tool do it."""
    for each in candidates:
        fix, finding = catalogue.fix(each.fix), each.finding
        reason = each.harm or draft.refusal(each.fix, finding, each.terms)
        if reason is not None:
            draft.refused.append(each.refused(reason, wanted=False))
            continue
        desired = fix.desired(finding, facts, each.terms)
        if not isinstance(desired, Advice):
            desired = Advice(
                fix=each.fix,
                finding=finding.id,
                title=fix.TITLE,
                template="fix",
                values={"condition": finding.condition, "resources": [w.resource for w in desired]},
            )
        draft.advice.append(desired)
        if not rule.every:
            return


def _kept(policy: Policy, scanned: Scan, prune: bool) -> set[str]:
    """Return the fixes that stay although no finding asks for them.

    Those of conditions that could not be judged; and, without ``prune``, those whose cause is
    gone, since it may be gone for seconds only.
    """
    acting = {f.condition for f in scanned.findings if acts(f, rule_for(policy, f.condition))}
    vague = unjudged(scanned)
    return {
        fix
        for name, rule in policy.rules.items()
        if rule.mode == "fix" and name not in acting and (name in vague or not prune)
        for fix in rule.fixes
    }
