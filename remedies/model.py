"""The frozen values that flow from facts to journal. No I/O, no logic beyond identity.

The words are those of ARCHITECTURE.md. Every value survives a round trip through
:mod:`remedies.codec`, so what is shown, saved, reviewed and applied is one thing.
"""

from __future__ import annotations

import json
from typing import Any, Literal, Optional, get_args

from remedies import codec
from remedies.hashing import sha256
from remedies.values import dataclass, field

FORMAT_VERSION = "1.0"

# Closed sets of words: mypy holds the code to them, the decoder every file that is read.

Verdict = Literal["mitigated", "unknown", "exposed", "active", "proven"]
"""Weakest claim first. ``mitigated`` satisfies every ``from`` of a policy."""
Severity = Literal["low", "medium", "high", "critical"]
Action = Literal["create", "update", "remove"]
Reversibility = Literal["exact", "lossy", "none"]
"""What writing the before-value back restores."""
Risk = Literal["low", "moderate", "high"]
Mode = Literal["fix", "advise", "off"]
"""What policy does about a condition."""
Backend = Literal["nftables", "iptables"]
"""Where rules of ours are written."""
BackendSetting = Literal["auto", "nftables", "iptables"]
"""What a policy says about it."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
UNCOVERED = VERDICTS[VERDICTS.index("exposed") :]
"""Those of a fault that nothing holds off."""
SEEN = VERDICTS[VERDICTS.index("active") :]
"""Of these, those of a fault that was seen to happen."""


def digest(value: object) -> str:
    """Return the SHA-256 (hex) of ``value`` as canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Host:
    """Which machine and namespace a value was read on."""

    name: str
    machine_id: str
    kernel: str
    netns: str
    """``host`` for the machine's own namespace, else ``<boot id>-<namespace cookie>``."""
    boot_id: str


@dataclass(frozen=True)
class Evidence:
    """One raw observation: where it was read, its key, and the value as the kernel gave it."""

    source: str
    key: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One condition on one subject, with its verdict and the evidence for it."""

    condition: str
    subject: str
    verdict: Verdict
    severity: Severity
    message: str
    evidence: tuple[Evidence, ...] = ()
    mitigated_by: Optional[str] = None
    """What covers the fault: ``remedy`` followed by a resource address, or another's rule."""
    waived: Optional[str] = None
    details: dict[str, str] = field(default_factory=dict)
    """What a fix needs to know beyond the subject (an address, a port, a process)."""
    follows_from: Optional[str] = None
    """The condition, found active or proven by the same scan, whose fault explains this one."""

    @property
    def id(self) -> str:
        """Return the hash that stays the same from scan to scan for one condition and subject."""
        return digest([self.condition, self.subject])[:16]


def mitigated(
    condition: str,
    subject: str,
    by: str,
    message: str,
    evidence: tuple[Evidence, ...] = (),
    **details: str,
) -> Finding:
    """Return the finding of a condition that something covers; ``by``: its ``mitigated_by``."""
    return Finding(
        condition, subject, "mitigated", "low", message, evidence, mitigated_by=by, details=details
    )


@dataclass(frozen=True)
class Unknown:
    """A condition that could not be judged, and why. Never read as "fine"."""

    condition: str
    reason: str
    partly: bool = False
    """It was judged by what could be read; the reason is what could not."""


@dataclass(frozen=True)
class Wanted:
    """A resource as a fix wants it: canonical text, or None for absent."""

    resource: str
    state: Optional[str]
    reversibility: Reversibility = "exact"
    boot: bool = False
    """A boot file: written after everything else."""
    effects: tuple[str, ...] = ()
    """Addresses of what goes once the resource is written (``flow:...``): journaled, absent is
    done, and outside stale checks and rollback.
    """


@dataclass(frozen=True)
class Terms:
    """What policy says about one use of a fix."""

    backend: Backend = "nftables"
    """Resolved: never ``auto``."""
    persist: bool = False
    params: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Advice:
    """What a person should do, as data: a template's name and its values."""

    fix: str
    finding: Optional[str]
    title: str
    template: str
    values: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """A fix that policy asks for and that would do harm or cannot be done here, and why."""

    fix: str
    finding: Optional[str]
    reason: str
    wanted: bool = True
    """Policy wants this *fixed* and nothing else stands in: the exit code becomes 8."""


@dataclass(frozen=True)
class Change:
    """One resource, from what it is to what it shall be."""

    fix: str
    finding: Optional[str]
    """The finding's id; None for a standing fix and for a removal."""
    resource: str
    action: Action
    before: Optional[str]
    after: Optional[str]
    diff: str
    reversibility: Reversibility
    risk: Risk
    impact: str
    effects: tuple[str, ...] = ()
    """See :class:`Wanted`."""
    boot: bool = False
    terms: Terms = field(default_factory=Terms)
    others: tuple[str, ...] = ()
    """Ids of further findings that this one change answers."""
    also: tuple[Terms, ...] = ()
    """Terms of further uses of the fix that policy requires and that this one change serves."""
    accept_harm: tuple[str, ...] = ()
    """The conditions for which policy accepts that this ends connections that work, though their
    fault was not seen."""

    @property
    def acted(self) -> dict[str, Any]:
        """Return, as plain values, all that is acted on: everything but words for people."""
        plain: dict[str, Any] = codec.encode(self)
        return {key: value for key, value in plain.items() if key not in ("diff", "impact")}

    @property
    def answers(self) -> tuple[str, ...]:
        """Return the ids of every finding that the change answers."""
        return (() if self.finding is None else (self.finding,)) + self.others

    @property
    def uses(self) -> tuple[tuple[Optional[str], Terms], ...]:
        """Return each finding's id (None: policy requires it) with its terms: what guards judge."""
        named: tuple[Optional[str], ...] = self.answers or (None,)
        return (*((name, self.terms) for name in named), *((None, terms) for terms in self.also))

    def reversed(self) -> Change:
        """Return the change that undoes this one; its diff is the reader's to make."""
        turned: dict[Action, Action] = {"create": "remove", "remove": "create"}
        return Change(
            fix=self.fix,
            finding=self.finding,
            resource=self.resource,
            action=turned.get(self.action, "update"),
            before=self.after,
            after=self.before,
            diff="",
            reversibility=self.reversibility,
            risk=self.risk,
            impact=self.impact,
            boot=self.boot,
            terms=self.terms,
            others=self.others,
            also=self.also,
        )


@dataclass(frozen=True)
class Held:
    """A resource of ours that the journal says is in force."""

    resource: str
    fix: str
    base: Optional[str]
    """What was there before we first wrote it."""
    ours: Optional[str]
    transaction: str
    reversibility: Reversibility = "exact"
    boot: bool = False
    policy: tuple[str, ...] = ()
    """The names of the policy that put it in force."""
    answered: tuple[Finding, ...] = ()
    """What it was applied for, as it was found then; empty for a standing fix."""


@dataclass(frozen=True)
class PolicyRef:
    """Which policy a plan was made under."""

    names: tuple[str, ...]
    digest: str
    source: str = ""
    """What names it: see :attr:`Policy.source`."""


@dataclass(frozen=True)
class Kept:
    """A fix that another policy put in force and this one does not ask for: it stays."""

    fix: str
    resources: tuple[str, ...]
    policy: tuple[str, ...]
    """The names of the policy that put it in force."""
    transaction: str


@dataclass(frozen=True)
class Scan:
    """What was found on one host at one time."""

    host: Host
    time: str
    findings: tuple[Finding, ...]
    unknown: tuple[Unknown, ...]


@dataclass(frozen=True)
class Plan:
    """A scan plus what would change. Data: saved, reviewed, refused when stale."""

    scan: Scan
    policy: PolicyRef
    changes: tuple[Change, ...]
    advice: tuple[Advice, ...]
    refused: tuple[Refusal, ...]
    warnings: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()
    lost_at_boot: tuple[str, ...] = ()
    """Resources that it changes and nothing brings back at the next boot."""
    settled: tuple[str, ...] = ()
    """Resources that its fixes want and that were so already: a plan that is right without
    changing them."""
    made_from: dict[str, str] = field(default_factory=dict)
    """By name, the hash of each fact that decided how resources shall be: what tells an edited
    plan from one whose facts have moved."""
    approved: str = ""
    """The id of the saved plan that this one was made again from; empty: it was not saved."""

    @property
    def answered(self) -> tuple[Finding, ...]:
        """Return the findings that its changes answer."""
        named = {name for change in self.changes for name in change.answers}
        return tuple(finding for finding in self.scan.findings if finding.id in named)

    @property
    def refuses(self) -> bool:
        """Tell whether it refuses a fix that policy wants and that nothing stands in for."""
        return any(refusal.wanted for refusal in self.refused)

    @property
    def id(self) -> str:
        """Return the hash of what the plan does, why, and to which host: what is approved."""
        return digest(
            [
                self.scan.host.machine_id,
                self.scan.host.netns,
                self.policy.digest,
                [change.acted for change in self.changes],
                codec.encode(self.answered),
                self.settled,
                self.made_from,
            ]
        )[:16]


@dataclass(frozen=True)
class Rule:
    """What policy says about one condition."""

    mode: Mode
    from_: Verdict
    """The weakest verdict that is acted on."""
    fixes: tuple[str, ...]
    every: bool = False
    """All of the fixes (``all:`` in YAML), not the first that is not refused."""
    params: dict[str, object] = field(default_factory=dict)
    accept_harm: tuple[str, ...] = ()
    """Fixes that may be applied to what is only ``exposed`` although they are not harmless."""


@dataclass(frozen=True)
class RequiredFix:
    """A fix that policy requires whatever the detectors say."""

    fix: str
    params: dict[str, object]
    reason: str


@dataclass(frozen=True)
class Waiver:
    """A finding that somebody has accepted until a date."""

    condition: str
    subject: str
    """A shell-style pattern, matched against the finding's subject."""
    until: str
    """The last day it counts, ``YYYY-MM-DD``, judged in UTC."""
    reason: str
    owner: str


@dataclass(frozen=True)
class Unattended:
    """What a watch may apply with nobody there, and how often."""

    conditions: tuple[str, ...]
    budget: int = 2
    """Applies in an hour, over all namespaces of a host."""
    each: int = 1
    """Of these, in one namespace."""


@dataclass(frozen=True)
class Policy:
    """A compiled policy: plain data, every ``extends`` resolved."""

    names: tuple[str, ...]
    digest: str
    """SHA-256 over every source byte and the tool's version."""
    backend: BackendSetting
    persist: bool
    rules: dict[str, Rule]
    require: tuple[RequiredFix, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)
    """Where each value came from: dotted key to ``file:line``."""
    source: str = ""
    """What names this policy here: an option, a variable or a settings file; empty: nothing."""
    unattended: Optional[Unattended] = None
    """None: nothing is applied with nobody there."""

    def ref(self) -> PolicyRef:
        """Return the short form that a plan carries."""
        return PolicyRef(names=self.names, digest=self.digest, source=self.source)
