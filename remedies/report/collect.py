"""From scan, plan and journal to the record of one host. Pure: everything read is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies import catalogue
from remedies.facts import Facts
from remedies.model import Finding, Plan, Policy, Waiver, digest
from remedies.netlink.links import Links
from remedies.outcomes import CHECKED, KEPT, Judged
from remedies.planning import engine
from remedies.report.controls import controls
from remedies.report.history import IN_FORCE, HistoryAnswer, Past, Standings, past
from remedies.report.record import (
    Chain,
    HostReport,
    Interface,
    Judgement,
    Observation,
    Place,
    Seen,
    Waived,
    order,
)
from remedies.report.transactions import changed, deeds, series
from remedies.transaction.ledger import Transaction

Ledger = Mapping[str, Transaction]


def from_scan(
    place: Place,
    policy: Policy,
    facts: Facts,
    plan: Plan,
    ledger: Ledger,
    states: Mapping[str, str],
    texts: Mapping[int, str],
    *,
    since: str = "",
    chain: Optional[Chain] = None,
) -> HostReport:
    """Return the record of a host that was just scanned.

    ``states``: how ``status`` found each resource in force, by address. ``texts``: each advice's,
    by position.
    """
    scan = plan.scan
    standings = Standings(ledger, states)
    judge = _Judge(policy, plan, past(ledger, standings), texts)
    found = [judge.finding(f, scan.time) for f in scan.findings]
    named = {j.condition for j in found}
    found += [
        judge.unknown(u.condition, u.reason, scan.time)
        for u in scan.unknown
        if not u.partly or u.condition not in named
    ]
    seen = {j.condition for j in found}
    found += [judge.rest(c, scan.time) for c in engine.conditions(policy) if c not in seen]
    return HostReport(
        place=place,
        time=scan.time,
        scanned=True,
        window=facts.window,
        policy=plan.policy.names,
        policy_digest=plan.policy.digest,
        plan_id=plan.id if plan.changes else "",
        judgements=tuple(sorted(found, key=order)),
        planned=tuple(changed(c, "planned") for c in plan.changes),
        deeds=deeds(ledger, standings, since=since),
        series=series(ledger, scan.findings, scan.time, since=since),
        waivers=waivers(policy, scan.time[:10]),
        interfaces=_interfaces(facts),
        warnings=plan.warnings,
        chain=chain,
    )


def from_journal(
    place: Place,
    policy: Policy,
    ledger: Ledger,
    states: Mapping[str, str],
    time: str,
    *,
    since: str = "",
    only: Optional[str] = None,
    chain: Optional[Chain] = None,
) -> HostReport:
    """Return the record of a host from its journal alone, or of ``only`` one transaction."""
    chosen = {t.id: t for t in ledger.values() if t.time >= since and only in (None, t.id)}
    standings = Standings(ledger, states)
    return HostReport(
        place=place,
        time=time,
        scanned=False,
        window=0.0,
        policy=policy.names,
        policy_digest=policy.digest,
        plan_id="",
        judgements=tuple(sorted(_judged_by_journal(chosen, standings, policy), key=order)),
        deeds=deeds(chosen, standings),
        series=series(chosen, (), time),
        waivers=waivers(policy, time[:10]),
        chain=chain,
    )


def waivers(policy: Policy, today: str) -> tuple[Waived, ...]:
    """Return every waiver of a policy; one whose last day is over is ``expired``."""
    return tuple(_waived(w, today) for w in policy.waivers)


def _waived(waiver: Waiver, today: str) -> Waived:
    return Waived(
        condition=waiver.condition,
        subject=waiver.subject,
        until=waiver.until,
        reason=waiver.reason,
        owner=waiver.owner,
        expired=waiver.until < today,
    )


def _interfaces(facts: Facts) -> tuple[Interface, ...]:
    links = facts.known.get("links")
    if not isinstance(links, Links):
        return ()
    kinds = {link.index: link for link in links.links}
    return tuple(
        Interface(kinds[a.link].name, kinds[a.link].kind, a.address, a.prefix)
        for a in links.addresses
        if a.link in kinds and not kinds[a.link].loopback
    )


class _Judge:
    """Turns what a scan says into outcomes, with what policy, plan and journal add."""

    def __init__(self, policy: Policy, plan: Plan, past: Past, texts: Mapping[int, str]) -> None:
        self.policy, self.plan, self.past, self.texts = policy, plan, past, texts

    def finding(self, finding: Finding, time: str) -> Judgement:
        """Judge a finding: what stands, who covers it, who has accepted it."""
        last = self.past.by_finding.get(finding.id) or self.past.standing.get(finding.condition)
        advice = tuple(
            f"{a.title}: {self.texts.get(i, '')}"
            for i, a in enumerate(self.plan.advice)
            if a.finding == finding.id
        )
        refused = tuple(
            f"{r.fix}: {r.reason}" for r in self.plan.refused if r.finding == finding.id
        )
        before, after = _checked(last, finding.id, now=finding.verdict)
        return Judgement(
            id=finding.id,
            condition=finding.condition,
            title=engine.title(self.policy, finding.condition),
            severity=finding.severity,
            controls=controls(finding.condition),
            subject=finding.subject,
            outcome=self._outcome(finding),
            verdict=finding.verdict,
            message=finding.message,
            time=time,
            verdict_before=before,
            verdict_after=after,
            evidence=_observations(finding, time),
            thresholds=self._thresholds(finding.condition),
            mitigated_by=finding.mitigated_by,
            follows_from=finding.follows_from,
            waived=finding.waived,
            policy=self._origin(finding.condition),
            transaction=last.transaction.id if last else "",
            history=last.history if last else "",
            advice=advice,
            refused=refused,
            details=finding.details,
        )

    def unknown(self, condition: str, reason: str, time: str) -> Judgement:
        """Judge a condition that could not be judged: never as "fine"."""
        return self._bare(condition, "unknown", "unknown", reason, time)

    def rest(self, condition: str, time: str) -> Judgement:
        """Judge a condition that no finding names: absent, or switched off."""
        if engine.rule_for(self.policy, condition).mode == "off":
            what = "switched off by policy"
            return self._bare(condition, "not-applicable", "off", what, time)
        last = self.past.by_condition.get(condition)
        if last and last.history == IN_FORCE:
            what = f"not found; transaction {last.transaction.id}, which answered it, is in force"
            return self._bare(condition, "fixed", "absent", what, time, last)
        return self._bare(condition, "pass", "absent", "not found", time, last)

    def _bare(
        self,
        condition: str,
        outcome: Judged,
        verdict: Seen,
        message: str,
        time: str,
        last: Optional[HistoryAnswer] = None,
    ) -> Judgement:
        module = catalogue.condition(condition)
        before, after = _checked(last, None, condition, now=verdict)
        return Judgement(
            id=digest([condition, ""])[:16],
            condition=condition,
            title=engine.title(self.policy, condition),
            severity=module.SEVERITY,
            controls=controls(condition),
            subject="",
            outcome=outcome,
            verdict=verdict,
            message=message,
            time=time,
            verdict_before=before,
            verdict_after=after,
            thresholds=self._thresholds(condition),
            policy=self._origin(condition),
            transaction=last.transaction.id if last else "",
            history=last.history if last else "",
        )

    def _outcome(self, finding: Finding) -> Judged:
        """Return whether it is well now, whatever was done about it before."""
        if finding.waived:
            return "waived"
        if finding.verdict == "unknown":
            return "unknown"
        if finding.verdict == "mitigated":
            ours = (finding.mitigated_by or "").startswith("remedy ")
            return "fixed" if ours and finding.condition in self.past.in_force else "pass"
        if finding.verdict == "proven":
            return "fail"
        if any(change.finding == finding.id for change in self.plan.changes):
            return "fail"
        asked = [a.finding for a in self.plan.advice]
        asked += [r.finding for r in self.plan.refused if r.wanted]
        advised = engine.rule_for(self.policy, finding.condition).mode == "advise"
        return "needs-human" if advised or finding.id in asked else "fail"

    def _thresholds(self, condition: str) -> dict[str, str]:
        params = {**catalogue.condition(condition).PARAMS}
        params.update(engine.rule_for(self.policy, condition).params)
        return {key: str(value) for key, value in sorted(params.items())}

    def _origin(self, condition: str) -> str:
        return origin(self.policy, condition)


def origin(policy: Policy, condition: str) -> str:
    """Return ``file:line`` where policy speaks of a condition; empty where it does not."""
    return policy.origins.get(f"rules.{condition}.mode", "")


def _observations(finding: Finding, time: str) -> tuple[Observation, ...]:
    return tuple(
        Observation(source=e.source, key=e.key, value=e.value, note=e.note, time=time)
        for e in finding.evidence
    )


def _checked(
    last: Optional[HistoryAnswer], finding: Optional[str], condition: str = "", *, now: str
) -> tuple[str, str]:
    """Return what the detector said before a transaction, and right after it.

    Once that was taken back, ``now`` is what came after it: its own word was about a fix in force.
    """
    for item in last.transaction.verified.verified if last else ():
        if finding == item.get("finding") or (
            finding is None and condition == item.get("condition")
        ):
            in_force = last is not None and last.history == IN_FORCE
            return item.get("before", ""), item.get("after", "") if in_force else now
    return "", ""


def _judged_by_journal(chosen: Ledger, standings: Standings, policy: Policy) -> list[Judgement]:
    """Return the last word of the journal on each finding that the transactions answered."""
    found: dict[str, Judgement] = {}
    known = past(chosen, standings).by_finding
    for name, last in known.items():
        entry = last.transaction
        finding = next(f for f in entry.begin.findings if f.id == name)
        before, after = _checked(last, name, now="")
        listed = finding.condition in engine.conditions(policy)
        stands = last.history == IN_FORCE
        found[name] = Judgement(
            id=name,
            condition=finding.condition,
            title=engine.title(policy, finding.condition) if listed else finding.condition,
            severity=finding.severity,
            controls=controls(finding.condition),
            subject=finding.subject,
            outcome=_by_check(entry, after) if stands else "unknown",
            verdict=_seen(after, finding) if stands else "unknown",
            message=finding.message if stands else _not_looked(last, finding),
            time=entry.time,
            verdict_before=before or finding.verdict,
            verdict_after=after,
            evidence=_observations(finding, entry.time),
            policy=origin(policy, finding.condition),
            transaction=entry.id,
            history=last.history,
            details=finding.details,
        )
    return list(found.values())


def _not_looked(last: HistoryAnswer, finding: Finding) -> str:
    return (
        f"was {finding.verdict} at {last.transaction.time}: {finding.message}; what was done about "
        f"it is {last.history.replace('-', ' ')}, and there was no scan since"
    )


def _seen(after: str, finding: Finding) -> Seen:
    """Return the verdict that a detector gave right after a transaction: the one before, or none.

    ``still``, and no word: the one before. What could not be observed is unknown.
    """
    known: dict[str, Seen] = {
        "": finding.verdict,
        "still": finding.verdict,
        "absent": "absent",
        "mitigated": "mitigated",
    }
    return known.get(after, "unknown")


def _by_check(entry: Transaction, after: str) -> Judged:
    """Return the outcome of a transaction in force, by what the detector said after it."""
    return CHECKED.get(after, "unknown") if entry.outcome in KEPT else "needs-human"
