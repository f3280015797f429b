"""From findings to a plan: which fix, which resources, what differs. Pure but for its reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies import catalogue, removal
from remedies.engine import acts, rule_for
from remedies.errors import NotPermitted, Unreadable, WriteFailed
from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.model import (
    Action,
    Advice,
    Change,
    Finding,
    Held,
    Plan,
    Policy,
    Refusal,
    Rule,
    Scan,
    Standing,
    Terms,
    Wanted,
)
from remedies.reads import Reads, diff
from remedies.values import dataclass, replace

BLIND = "cannot tell whether it is safe"
"""How the reason of a guard that cannot see begins."""


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


@dataclass
class _Wish:
    """A resource as it is wanted, by which fix, and for what."""

    wanted: Wanted
    fix: str
    findings: tuple[Finding, ...]
    """Empty for a standing fix. The first speaks for the others."""
    terms: Terms
    also: tuple[Terms, ...] = ()
    """Terms of further standing uses."""

    def add(self, wanted: Wanted, findings: tuple[Finding, ...] = ()) -> None:
        """Take in what another use wants of the resource, where the fix adds up."""
        merge = getattr(catalogue.fix(self.fix), "merge", None)
        if merge is not None:
            self.wanted = merge(self.wanted, wanted)
        self.findings += findings


@dataclass
class _Draft:
    """What is collected while policy is walked through; becomes a Plan."""

    reads: Reads
    wanted: dict[str, _Wish]
    advice: list[Advice]
    refused: list[Refusal]
    kept: set[str]
    """Fixes that stay in force although nothing asks for them now."""

    def refusal(
        self, fix: str, finding: Optional[Finding], facts: Facts, terms: Terms
    ) -> Optional[str]:
        """Return why a fix is refused, or None; what cannot be judged is not given back either."""
        reason = refusal(fix, finding, facts, terms)
        if reason is not None and reason.startswith(BLIND):
            self.kept.add(fix)
        return reason


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
    """Say what would change so that the host is as policy wants it.

    ``held`` is what the journal says is in force; with ``prune`` a fix whose cause is gone is
    removed too. Raises Unreadable when a resource that must be compared cannot be read.
    """
    draft = _Draft(reads, {}, [], [], set())
    for standing in policy.require:
        _require(draft, policy, facts, standing)
    for finding in scanned.findings:
        rule = rule_for(policy, finding.condition)
        if not acts(finding, rule):
            continue
        if rule.mode == "advise":
            _advise(draft, policy, facts, finding, rule)
        elif rule.mode == "fix":
            _choose(draft, policy, facts, finding, rule)
    draft.kept |= _kept(policy, scanned, prune)
    for address, wish in draft.wanted.items():
        # A standing fix is exactly what policy lists; what findings asked for once may ask again.
        if not prune and wish.findings and address in held and held[address].fix == wish.fix:
            wish.add(Wanted(resource=address, state=held[address].ours))
    _persist(draft)
    changes = [
        change
        for wish in draft.wanted.values()
        if (change := _change(reads, facts, wish)) is not None
    ]
    of_machine = facts.host.netns == "host"  # any other namespace ends with the boot itself
    lost_at_boot = tuple(
        c.resource for c in changes if of_machine and not c.boot and not c.terms.persist
    )
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
        lost_at_boot=lost_at_boot,
    )


def refusal(fix: str, finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why a fix must not be applied here, or None. A guard that cannot see refuses."""
    try:
        return catalogue.fix(fix).guard(finding, facts, terms)
    except Unreadable as error:
        return f"{BLIND}: {error}"


def _require(draft: _Draft, policy: Policy, facts: Facts, standing: Standing) -> None:
    terms = terms_for(policy, facts, standing.params, standing.fix)
    reason = _want(draft, standing.fix, None, facts, terms)
    if reason is not None:
        draft.refused.append(Refusal(fix=standing.fix, finding=None, reason=reason))


def _choose(draft: _Draft, policy: Policy, facts: Facts, finding: Finding, rule: Rule) -> None:
    """Use the first fix that is not refused, or all of them where policy says ``all``."""
    refused: list[Refusal] = []
    used = False
    for name in rule.fixes:
        terms = terms_for(policy, facts, {}, name)
        reason = _too_much(name, finding) or _want(draft, name, finding, facts, terms)
        if reason is not None:
            refused.append(Refusal(fix=name, finding=finding.id, reason=reason))
            continue
        used = True
        if not rule.every:
            break
    stands_in = used and not rule.every
    draft.refused += [replace(r, wanted=not stands_in) for r in refused]


def _too_much(fix: str, finding: Finding) -> Optional[str]:
    """Return why a fix is too much for a fault that nobody has seen, or None."""
    if finding.verdict != "exposed" or catalogue.fix(fix).HARMLESS:
        return None
    return (
        "it can end traffic that works, so it is not applied for what is only exposed; "
        "'from: proven' in the policy says that it is wanted once the fault was seen"
    )


def _want(
    draft: _Draft, name: str, finding: Optional[Finding], facts: Facts, terms: Terms
) -> Optional[str]:
    """Take one use of a fix into the draft; return why it is refused, None where it is taken."""
    reason = draft.refusal(name, finding, facts, terms)
    if reason is not None:
        return reason
    desired = catalogue.fix(name).desired(finding, facts, terms)
    if isinstance(desired, Advice):
        draft.advice.append(desired)
        return None
    if terms.persist and (reason := _cannot_last(draft.reads, name, desired)) is not None:
        draft.kept.add(name)  # what is in force without its boot files is no worse than before
        return reason
    findings = () if finding is None else (finding,)
    for wanted in desired:
        wish = draft.wanted.get(wanted.resource)
        if wish is None:
            draft.wanted[wanted.resource] = _Wish(wanted, name, findings, terms)
        elif wish.fix == name:
            wish.add(wanted, findings)
            wish.also += () if findings else (terms,)
    return None


def _cannot_last(reads: Reads, fix: str, desired: tuple[Wanted, ...]) -> Optional[str]:
    """Return why the boot files of a fix could not be written here, None where they could."""
    from remedies.netfilter.restore import boot_files  # only policies that persist pay for it

    for wanted in (*desired, *boot_files(fix, desired)):
        if not wanted.boot:
            continue
        try:
            now = reads.read(wanted.resource)
            if not reads.same(wanted.resource, now, wanted.state):
                reads.check(wanted.resource, wanted.state)
        except (Unreadable, WriteFailed) as error:
            return f"it cannot be made to last, as policy asks: {error}"
        except NotPermitted:
            return None  # whoever may apply the plan may write them, or is told so then
    return None


def _persist(draft: _Draft) -> None:
    """Add the files that bring rules back at boot, for each fix that persists."""
    lasting: dict[str, list[_Wish]] = {}
    for wish in draft.wanted.values():
        if wish.terms.persist and not wish.wanted.boot:
            lasting.setdefault(wish.fix, []).append(wish)
    for fix, wishes in lasting.items():
        from remedies.netfilter.restore import boot_files

        first = wishes[0]
        for wanted in boot_files(fix, tuple(wish.wanted for wish in wishes)):
            draft.wanted[wanted.resource] = _Wish(
                wanted, fix, first.findings, first.terms, first.also
            )


def _advise(draft: _Draft, policy: Policy, facts: Facts, finding: Finding, rule: Rule) -> None:
    """Say what could be done: a fix's own advice, or that policy could let the tool do it."""
    for name in rule.fixes:
        terms = terms_for(policy, facts, {}, name)
        fix = catalogue.fix(name)
        reason = draft.refusal(name, finding, facts, terms)
        if reason is not None:
            draft.refused.append(Refusal(fix=name, finding=finding.id, reason=reason, wanted=False))
            continue
        desired = fix.desired(finding, facts, terms)
        if not isinstance(desired, Advice):
            desired = Advice(
                fix=name,
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
    unjudged = {u.condition for u in scanned.unknown}
    unjudged |= {f.condition for f in scanned.findings if f.verdict == "unknown"}
    return {
        fix
        for name, rule in policy.rules.items()
        if rule.mode == "fix" and name not in acting and (name in unjudged or not prune)
        for fix in rule.fixes
    }


def _change(reads: Reads, facts: Facts, wish: _Wish) -> Optional[Change]:
    wanted, findings = wish.wanted, wish.findings
    before = reads.read(wanted.resource)
    if reads.same(wanted.resource, before, wanted.state) and not any(
        reads.read(effect) for effect in wanted.effects
    ):
        return None
    absent = reads.same(wanted.resource, before, None)
    action: Action = "create" if absent else "remove" if wanted.state is None else "update"
    module = catalogue.fix(wish.fix)
    impacts = [module.impact(findings[0] if findings else None, facts, wish.terms)]
    impacts += (module.impact(None, facts, terms) for terms in wish.also)
    return Change(
        fix=wish.fix,
        finding=findings[0].id if findings else None,
        resource=wanted.resource,
        action=action,
        before=before,
        after=wanted.state,
        diff=diff(reads, wanted.resource, before, wanted.state),
        reversibility=wanted.reversibility,
        risk=module.RISK,
        impact="; ".join(dict.fromkeys(impacts)),
        effects=wanted.effects,
        boot=wanted.boot,
        terms=wish.terms,
        others=tuple(finding.id for finding in findings[1:]),
        also=wish.also,
    )
