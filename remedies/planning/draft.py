"""The states that fixes want of resources, collected use by use, and the changes that write them.

A plan and the check of a saved plan (:mod:`remedies.planning.remake`) go the same way through here.
Pure but for the reads it is handed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional, TypeVar

from remedies import catalogue, codec
from remedies.boot.units import boot_files
from remedies.errors import NotPermitted, Unreadable, WriteFailed
from remedies.facts import Facts, name_of
from remedies.model import (
    Action,
    Advice,
    Change,
    Finding,
    Held,
    Refusal,
    Terms,
    Wanted,
    digest,
)
from remedies.planning.reads import Reads, diff
from remedies.rules import kinds
from remedies.values import dataclass

T = TypeVar("T")

BLIND = "cannot decide whether it is safe"
"""How a refusal begins if the facts that decide it could not be read."""
DELETES = "the fault was not seen, and it deletes flows"
"""How a refusal begins if flows would be deleted for a fault that was not seen."""

KERNEL = "kernel"


def precondition(facts: Facts, name: str) -> str:
    """Return the hash of a fact, or the kernel's release: equal as long as it has not changed."""
    if name == KERNEL:
        return facts.host.kernel
    return digest(codec.encode(facts.known[name]))[:16] if name in facts.known else "unknown"


def refusal(fix: str, finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why a fix must not be applied here, or None; a fact that cannot be read refuses."""
    try:
        return catalogue.fix(fix).guard(finding, facts, terms)
    except Unreadable as error:
        return f"{BLIND}: {error}"


@dataclass
class _Wish:
    """The state wanted of one resource, the fix that wants it, and its findings."""

    wanted: Wanted
    fix: str
    findings: tuple[Finding, ...]
    """Empty for a standing fix. The change shows the first one."""
    terms: Terms
    also: tuple[Terms, ...] = ()
    """Terms of further standing uses."""

    def add(self, wanted: Wanted, findings: tuple[Finding, ...] = ()) -> None:
        """Merge the state that another use of the same fix wants, if the fix can merge."""
        merge = getattr(catalogue.fix(self.fix), "merge", None)
        if merge is not None:
            self.wanted = merge(self.wanted, wanted)
        self.findings += findings


class _Noting(Facts):
    """Facts that remember which of them were asked for."""

    def get(self, kind: type[T]) -> T:
        self.__dict__.setdefault("asked", {})[name_of(kind)] = kind
        return super().get(kind)


def _noting(facts: Facts) -> _Noting:
    return _Noting(facts.host, facts.time, facts.window, facts.known, facts.unknown, facts.ours)


class Draft:
    """What is wanted so far, what was advised, and what was refused."""

    def __init__(self, reads: Reads, facts: Facts) -> None:
        """Begin empty; wanted states are compared with those that ``reads`` returns."""
        self.wanted: dict[str, _Wish] = {}
        self.advice: list[Advice] = []
        self.refused: list[Refusal] = []
        self.kept: set[str] = set()
        """Fixes that stay in force although nothing asks for them now."""
        self._reads, self._facts, self._noting = reads, facts, _noting(facts)

    def refusal(self, fix: str, finding: Optional[Finding], terms: Terms) -> Optional[str]:
        """Return why a fix is refused, or None; what cannot be judged is not given back either."""
        reason = refusal(fix, finding, self._facts, terms)
        if reason is not None and reason.startswith(BLIND):
            self.kept.add(fix)
        return reason

    def want(
        self, name: str, finding: Optional[Finding], terms: Terms, *, keep_flows: bool = False
    ) -> Optional[str]:
        """Add one use of a fix; return why it is refused, or None.

        With ``keep_flows`` it is refused if it deletes a flow: the fault was not seen, so the
        deletion may help nobody.
        """
        reason = self.refusal(name, finding, terms)
        if reason is not None:
            return reason
        desired = catalogue.fix(name).desired(finding, self._noting, terms)
        if isinstance(desired, Advice):
            self.advice.append(desired)
            return None
        flows = [effect for wanted in desired for effect in wanted.effects]
        flows += [w.resource for w in desired if not kinds.comes_back(w.resource)]
        if keep_flows and flows:
            return f"{DELETES}: {', '.join(flows)}"
        if terms.persist and (reason := _cannot_last(self._reads, name, desired)) is not None:
            self.kept.add(name)  # what is in force without its boot files is no worse than before
            return reason
        findings = () if finding is None else (finding,)
        for wanted in desired:
            wish = self.wanted.get(wanted.resource)
            if wish is None:
                self.wanted[wanted.resource] = _Wish(wanted, name, findings, terms)
            elif wish.fix == name:
                wish.add(wanted, findings)
                wish.also += () if findings else (terms,)
        return None

    def made(self, held: Mapping[str, Held]) -> dict[str, Optional[Change]]:
        """Return the change of each resource that is wanted; None where it is already as wanted.

        What an earlier finding asked for and is in force (``held``) stays. A standing fix is
        exactly what policy lists. Raises Unreadable where a resource cannot be read.
        """
        for address, wish in self.wanted.items():
            if wish.findings and address in held and held[address].fix == wish.fix:
                wish.add(Wanted(resource=address, state=held[address].ours))
        self._persist()
        return {a: _change(self._reads, self._facts, wish) for a, wish in self.wanted.items()}

    @property
    def made_from(self) -> dict[str, str]:
        """Return, by name, what decided how resources shall be: see :func:`precondition`."""
        asked: Mapping[str, Any] = self._noting.__dict__.get("asked", {})
        return {name: precondition(self._facts, name) for name in (KERNEL, *sorted(asked))}

    def _persist(self) -> None:
        """Add the files that bring rules back at boot, for each fix that persists."""
        lasting: dict[str, list[_Wish]] = {}
        for wish in self.wanted.values():
            if wish.terms.persist and not wish.wanted.boot:
                lasting.setdefault(wish.fix, []).append(wish)
        for fix, wishes in lasting.items():
            first = wishes[0]
            for wanted in boot_files(fix, tuple(wish.wanted for wish in wishes)):
                self.wanted[wanted.resource] = _Wish(
                    wanted, fix, first.findings, first.terms, first.also
                )


def _cannot_last(reads: Reads, fix: str, desired: tuple[Wanted, ...]) -> Optional[str]:
    """Return why the boot files of a fix could not be written here, None where they could."""
    for wanted in (*desired, *boot_files(fix, desired)):
        if not wanted.boot:
            continue
        try:
            now = reads.read(wanted.resource)
            if not reads.same(wanted.resource, now, wanted.state):
                reads.check(wanted.resource, wanted.state)
        except (Unreadable, WriteFailed) as error:
            return f"it cannot be made persistent, as the policy asks: {error}"
        except NotPermitted:
            return None  # whoever may apply the plan may write them, or is told so then
    return None


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
    impacts = [f"lets {wish.fix} come back at every boot"]
    if not wanted.boot:
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
