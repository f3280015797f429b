"""The record of a report: frozen values that every format is rendered from.

One :class:`Report` holds one host or a thousand; nothing in it is markup, and nothing in it knows
of a format. Times are RFC 3339 in UTC. What comes from a host is already redacted and free of
control characters (:mod:`remedies.report.redact`), and still hostile: escaping is each format's.
"""

from __future__ import annotations

from typing import Literal, Optional, get_args

from remedies.model import Action, Reversibility, Risk, Severity
from remedies.outcomes import (
    HOSTS,
    JUDGED,
    OPEN,
    ChangeState,
    DeedOutcome,
    History,
    HostState,
    Judged,
    Kind,
)
from remedies.values import dataclass, field

FORMAT_VERSION = "1.2"
"""Of the JSON form; a minor bump only adds keys."""

Moment = Literal["before", "after", "now"]
"""When a figure was read: around a transaction, or by the scan of the report."""
Seen = Literal["absent", "mitigated", "unknown", "exposed", "active", "proven", "off"]
"""A detector's verdict of now: one of the model's, ``absent``, or ``off`` by policy."""

SEVERITIES = tuple(reversed(get_args(Severity)))
"""Worst first."""


@dataclass(frozen=True)
class Tool:
    """What made the report."""

    name: str
    version: str


@dataclass(frozen=True)
class Actor:
    """Who was at work, and why they say they were."""

    user: str
    """The account; with sudo, its caller."""
    login_uid: str = ""
    """The uid that logged in, which sudo and su do not change."""
    uid: str = ""
    """The real uid, which sudo has changed."""
    ssh_from: str = ""
    change_id: str = ""
    comment: str = ""
    approver: str = ""
    """Who approved it: as ``--approved-by`` says, else who answered the question."""
    command: str = ""


@dataclass(frozen=True)
class Place:
    """Where it was read."""

    name: str
    """In a fleet, the inventory's name for the host."""
    machine_id: str = ""
    netns: str = "host"
    boot_id: str = ""
    kernel: str = ""
    distribution: str = ""
    nft: str = ""
    iptables: str = ""
    clock: str = ""
    """``synchronised``, ``not synchronised`` or ``unknown``, as adjtimex(2) has it."""
    hostname: str = ""
    """What the host calls itself, where an inventory calls it otherwise."""


@dataclass(frozen=True)
class Interface:
    """A local address and the interface that carries it: for the pictures."""

    name: str
    kind: str
    address: str
    prefix: int


@dataclass(frozen=True)
class Observation:
    """One piece of evidence: where it was read, when, and the raw value."""

    source: str
    key: str
    value: str
    note: str
    time: str


@dataclass(frozen=True)
class Waived:
    """A waiver of policy, and whether it still counts and was used."""

    condition: str
    subject: str
    until: str
    reason: str
    owner: str
    expired: bool = False


@dataclass(frozen=True)
class Judgement:
    """One condition on one subject, judged: the unit that formats list, count and fail on."""

    id: str
    """Stable from report to report for one condition and subject."""
    condition: str
    title: str
    severity: Severity
    controls: tuple[str, ...]
    """Control ids: ``NIST-800-53 CM-6`` and the like."""
    subject: str
    outcome: Judged
    """Is it well now? What was done about it before is its history."""
    verdict: Seen
    message: str
    time: str
    verdict_before: str = ""
    """The detector's verdict before the transaction that answered it; empty without one."""
    verdict_after: str = ""
    """The detector's verdict right after it, ``absent``, ``mitigated``, ``still``...; once it was
    taken back the verdict of now, or empty where nobody looked."""
    evidence: tuple[Observation, ...] = ()
    thresholds: dict[str, str] = field(default_factory=dict)
    mitigated_by: Optional[str] = None
    follows_from: Optional[str] = None
    """The condition of the same scan whose fault explains this one."""
    waived: Optional[str] = None
    policy: str = ""
    """Where policy speaks of it: ``file:line``."""
    transaction: str = ""
    """The last transaction that answered it."""
    history: History = ""
    """What became of that transaction."""
    advice: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    details: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Changed:
    """One resource as a plan would change it, or as a transaction did."""

    resource: str
    fix: str
    finding: Optional[str]
    action: Action
    before: Optional[str]
    after: Optional[str]
    diff: str
    reversibility: Reversibility
    risk: Risk
    impact: str
    boot: bool
    """Written for the next boot; else it lasts until then."""
    state: ChangeState
    undo: str
    """The command that takes it back."""


@dataclass(frozen=True)
class Checked:
    """What the detector said of one finding before and after a transaction."""

    finding: str
    condition: str
    before: str
    after: str


@dataclass(frozen=True)
class Deed:
    """One transaction of the journal."""

    id: str
    kind: Kind
    time: str
    ended: str
    seconds: Optional[float]
    """From the first record to the last; None while it has not ended."""
    outcome: DeedOutcome
    """As the journal has it; ``unfinished`` where the writer died."""
    confirmation: str
    """``confirmed``, ``pending until TIME``, ``reverted``, or empty where none was asked for."""
    reason: str
    """Why it was undone; empty where it was not."""
    actor: Actor
    tool: str
    plan_id: str
    policy: tuple[str, ...]
    policy_digest: str
    boot_id: str
    undoes: tuple[str, ...]
    changes: tuple[Changed, ...]
    stuck: tuple[str, ...]
    checked: tuple[Checked, ...] = ()


@dataclass(frozen=True)
class Reading:
    """A figure at one moment: ``before``, ``after`` (a transaction) or ``now``."""

    time: str
    moment: Moment
    value: float


@dataclass(frozen=True)
class Series:
    """One counter's figures around a transaction."""

    finding: str
    condition: str
    key: str
    unit: str
    transaction: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Chain:
    """The journal's hash chain as it was found."""

    records: int
    head: str
    """Hash of the last record: what an anchor holds."""
    state: str
    """``intact``, ``empty``, ``not read`` or what is wrong, naming the record."""
    anchor: str = "not anchored"
    holds: bool = True
    """Nothing is wrong with it, and an anchored head, where one was given, is in it."""


@dataclass(frozen=True)
class Rollout:
    """How a host came out of a fleet run: the controller's word, beside the host's own."""

    state: HostState
    exit: int
    """The exit code that remedy would have given for this host."""
    time: str
    transaction: str = ""
    message: str = ""


@dataclass(frozen=True)
class HostReport:
    """Everything of one host and namespace."""

    place: Place
    time: str
    scanned: bool
    """False: from the journal alone."""
    window: float
    """Seconds that counters and packets were watched."""
    policy: tuple[str, ...]
    policy_digest: str
    plan_id: str
    judgements: tuple[Judgement, ...]
    planned: tuple[Changed, ...] = ()
    deeds: tuple[Deed, ...] = ()
    series: tuple[Series, ...] = ()
    waivers: tuple[Waived, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    warnings: tuple[str, ...] = ()
    chain: Optional[Chain] = None
    rollout: Optional[Rollout] = None


@dataclass(frozen=True)
class Unreached:
    """A host that was asked for and has given no record."""

    name: str
    reason: str


@dataclass(frozen=True)
class Moved:
    """A condition on a host that is not as the earlier report had it."""

    host: str
    condition: str
    was: Judged
    """The worst outcome then; now is the worst of now."""
    was_verdict: Seen
    now: Judged
    now_verdict: Seen


@dataclass(frozen=True)
class Trend:
    """What has become better and worse since an earlier report."""

    since: str
    """When that was made."""
    better: tuple[Moved, ...]
    worse: tuple[Moved, ...]
    same: int
    """How many conditions, over all hosts, are as they were."""
    new: tuple[str, ...] = ()
    """Hosts that the earlier report does not judge."""
    gone: tuple[str, ...] = ()
    """Hosts that it judges, and this one does not."""


@dataclass(frozen=True)
class Report:
    """One report: of one host, or of a fleet run."""

    tool: Tool
    made: str
    by: Actor
    hosts: tuple[HostReport, ...]
    unreached: tuple[Unreached, ...] = ()
    since: str = ""
    """Only transactions from this time on; empty: all."""
    seconds: float = 0.0
    """How long collecting took."""
    run: str = ""
    """The fleet run that it is about; empty where it is about none."""
    trend: Optional[Trend] = None
    """Against an earlier report, where one was given."""


def counts(report: Report) -> dict[Judged, int]:
    """Return how many judgements came to each outcome, every outcome named."""
    found = dict.fromkeys(JUDGED, 0)
    for host in report.hosts:
        for judgement in host.judgements:
            found[judgement.outcome] += 1
    return found


def answer(host: HostReport, judgement: Judgement) -> Optional[Deed]:
    """Return the transaction that answered a judgement, None where none did or it is too old."""
    wanted = judgement.transaction
    return next((d for d in host.deeds if d.id == wanted), None) if wanted else None


def failures(report: Report) -> tuple[tuple[str, str], ...]:
    """Return each host that did not come well out of a rollout, with its state and the reason."""
    told = []
    for host in report.hosts:
        if host.rollout is not None and not HOSTS[host.rollout.state].well:
            why = f": {host.rollout.message}" if host.rollout.message else ""
            told.append((host.place.name, f"{host.rollout.state}{why}"))
    return tuple(told)


def is_open(judgement: Judgement) -> bool:
    """Tell whether the fault stands and nobody has accepted it."""
    return judgement.outcome in OPEN


def order(judgement: Judgement) -> tuple[int, int, str, str]:
    """Return the key that sorts judgements: what wants attention first, then the worst."""
    return (
        JUDGED.index(judgement.outcome),
        SEVERITIES.index(judgement.severity),
        judgement.condition,
        judgement.subject,
    )
