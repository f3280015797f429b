"""A saved plan made again: what is applied is what its fixes make, not what its file says.

A plan passes through reviews and tickets, and its id is a plain hash: who edits the plan can make a
new id. So its content is not trusted: each change is made again from its fix, its findings, its
terms and today's facts, and a plan that differs in a field that is acted on is refused. Pure but
for the reads it is handed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, NoReturn, Optional

from remedies import catalogue, codec
from remedies.errors import ConfigError, InputError, StalePlan
from remedies.facts import Facts
from remedies.model import Change, Finding, Held, Host, Plan, Scan, Terms
from remedies.planning import unseen
from remedies.planning.draft import DELETES, KERNEL, Draft, precondition
from remedies.planning.plan import lost_at_boot
from remedies.planning.reads import Reads, apart, short
from remedies.planning.removal import removal
from remedies.rules import kinds
from remedies.values import dataclass, replace

_EDITED = "the plan was edited: make a new one"
_STALE = "make a new plan"
_OF_SUBJECT = ("protocol", "family", "port")
"""Details that follow from a finding's subject: they are the same for as long as it is."""
_BY_FACTS = frozenset(("action", "before", "after", "reversibility"))
"""Fields of a change that facts have a say in; the others follow from the plan itself."""


@dataclass(frozen=True)
class Today:
    """The host as it is now: what a plan is made again from."""

    facts: Facts
    scan: Scan
    held: Mapping[str, Held]
    """What the journal says is in force, by address."""
    reads: Reads


def consistent(plan: Plan, where: str) -> None:
    """Raise InputError for a plan that this tool cannot have made, whatever the facts were.

    Every fix writes the resources that it declares and no others, effects delete flows, boot
    files belong to the machine's own namespace, and the findings of each change are in the plan.
    """
    found = {finding.id: finding for finding in plan.scan.findings}
    seen: set[str] = set()
    for number, change in enumerate(plan.changes):
        wrong = f"{change.resource} is changed twice" if change.resource in seen else None
        seen.add(change.resource)
        wrong = wrong or next(_wrong(change, plan.scan.host, found), None)
        if wrong is not None:
            raise InputError(f"{where}: changes[{number}]: {wrong}", _EDITED)
    if len(plan.answered) != len({finding.id for finding in plan.answered}):
        raise InputError(f"{where}: it holds one finding twice", _EDITED)


def _wrong(change: Change, host: Host, found: Mapping[str, Finding]) -> Iterator[str]:
    """Yield why this tool cannot have made a change."""
    if not catalogue.is_fix(change.fix):
        yield f"no fix is called {change.fix!r}; known: {', '.join(catalogue.fix_ids())}"
        return
    fix = catalogue.fix(change.fix)
    if not catalogue.may_write(change.fix, change.resource):
        yield f"{change.fix} does not write {change.resource}"
    if change.boot != kinds.of(change.resource)[0].boot:
        yield f"{change.resource}: only files are written for boot"
    if host.netns != "host" and (change.boot or change.terms.persist):
        yield f"{change.resource}: nothing is kept for boot in namespace {host.netns}"
    for terms in (change.terms, *change.also):
        for key in terms.params:
            if key not in fix.PARAMS:
                yield f"{change.fix} has no parameter {key!r}"
    if change.finding is None and change.others:
        yield "it lists further findings and no first one"
    for name in change.answers:
        if name not in found:
            yield f"finding {name} is not in the plan"
        elif found[name].condition not in fix.ANSWERS:
            yield f"{change.fix} does not answer {found[name].condition}"
    for condition in change.accept_harm:
        if condition not in {found[name].condition for name in change.answers if name in found}:
            yield f"it accepts harm for {condition}, and answers no finding of it"
    ports = {found[name].details.get("port") for name in change.answers if name in found}
    for effect in change.effects:
        yield from _no_flow(effect, ports)


def _no_flow(effect: str, ports: Set[Optional[str]]) -> Iterator[str]:
    """Yield why an effect is wrong: it has to delete flows of a port that a finding is about."""
    try:
        kind, path = kinds.of(effect)
        own = kind.deletes(path)
    except InputError as error:
        yield str(error)
        return
    if own is None:
        yield f"an effect deletes stale flows and nothing else, so not {effect}"
    elif ports.isdisjoint(map(str, own)):
        yield f"no finding that it answers is about the flow of {effect}"


def remake(plan: Plan, today: Today) -> Plan:
    """Return the plan with every change as it is made here and now, its difference with it.

    Its findings are those of now. Of the rest of the file only refusals are kept, as text: they
    decide the exit code and nothing else.

    Raises InputError where the plan differs from what its fixes make (it was edited), StalePlan
    naming what has moved, and Unreadable where a resource cannot be read.
    """
    back = {c.resource: _given_back(c, plan, today) for c in plan.changes if _gives_back(c, today)}
    mine = tuple(change for change in plan.changes if change.resource not in back)
    _as_found(plan, mine, today.scan)
    made: dict[str, Optional[Change]] = {}
    if mine:
        try:
            made = _made(plan, mine, today, today.held)
        except InputError:
            # Made with --prune: then nothing stays that findings asked for once.
            if not any(change.resource in today.held for change in mine):
                raise
            made = _made(plan, mine, today, {})
    again = {**{address: c for address, c in made.items() if c is not None}, **back}
    changes = tuple(again[c.resource] for c in plan.changes if c.resource in again)
    of_fixes = tuple(change for change in changes if change.resource not in back)
    return replace(
        plan,
        scan=today.scan,
        changes=changes,
        advice=(),
        refused=tuple(replace(r, reason=f"the saved plan says: {r.reason}") for r in plan.refused),
        kept=(),
        lost_at_boot=lost_at_boot(today.facts.host, of_fixes),
        approved=plan.id,
    )


def _gives_back(change: Change, today: Today) -> bool:
    """Tell whether a change restores what was there before us, and no fix asks for it."""
    entry = today.held.get(change.resource)
    return (
        entry is not None
        and not change.answers
        and not change.also
        and (
            change.action == "remove" or today.reads.same(change.resource, change.after, entry.base)
        )
    )


def _given_back(change: Change, plan: Plan, today: Today) -> Change:
    """Return a removal made again from the journal: what is ours, and what was there before."""
    entry = today.held[change.resource]
    now = today.reads.read(change.resource)
    if not today.reads.same(change.resource, now, entry.ours):
        wrote, there = apart(today.reads.text, change.resource, entry.ours, now)
        raise StalePlan(
            f"{change.resource} moved: {entry.transaction} wrote {wrote}, now it is {there}", _STALE
        )
    made = removal(entry, now, plan.scan, today.reads)
    _compare(change, made, today.reads, moved="")
    return made


def _as_found(plan: Plan, mine: tuple[Change, ...], scan: Scan) -> None:
    """Raise StalePlan where a finding is gone, InputError where the plan tells it otherwise."""
    found = {finding.id: finding for finding in scan.findings}
    named = {name for change in mine for name in change.answers}
    for was in plan.scan.findings:
        if was.id not in named:
            continue
        if was.id not in found:
            raise StalePlan(
                f"{was.condition} on {was.subject} moved: the plan found it {was.verdict}, "
                "now it is absent",
                _STALE,
            )
        now = found[was.id]
        for key in _OF_SUBJECT:
            if was.details.get(key) != now.details.get(key):
                one, other = short(was.details.get(key)), short(now.details.get(key))
                raise InputError(
                    f"{was.condition} on {was.subject}: its {key} is {one}, and it is {other}",
                    _EDITED,
                )


def _as_now(fix: str, was: Finding, scan: Scan) -> Finding:
    """Return a finding as it is now, of which a fix may use only what the plan approved.

    Of the plan's finding only condition and subject count; the rest is text.
    """
    now = next(finding for finding in scan.findings if finding.id == was.id)
    approved = getattr(catalogue.fix(fix), "approved", None)
    return approved(was, now) if approved else now


def _made(
    plan: Plan, mine: tuple[Change, ...], today: Today, held: Mapping[str, Held]
) -> dict[str, Optional[Change]]:
    """Make the changes again and compare; by address, None where nothing is left to change."""
    draft = Draft(today.reads, today.facts)
    for fix, was, terms in _uses(plan, mine):
        finding = None if was is None else _as_now(fix, was, today.scan)
        accepted = finding is not None and finding.condition in _accepted(fix, mine)
        spare = finding is not None and unseen.must_be_harmless(
            finding, fix, today.held, accepted=accepted
        )
        harm = unseen.could_harm(finding, fix) if finding is not None and spare else None
        try:
            reason = harm or draft.want(fix, finding, terms, keep_flows=spare)
        except ConfigError as error:
            raise InputError(str(error), _EDITED) from error
        if reason is None:
            continue
        if was is not None and (harm or reason.startswith(DELETES)):
            _refuse_harm(fix, was, reason, mine)
        raise StalePlan(f"{fix} was possible when planned and is refused now: {reason}", _STALE)
    made = draft.made(held)
    moved = _moved(plan, today.facts)
    saved = {change.resource: change for change in mine}
    for change in mine:
        if change.resource not in made:
            if _ended(change, today.reads):
                continue
            _refuse(change, f"{change.fix} does not ask for it", moved)
        one = made[change.resource]
        if one is not None:
            _compare(change, one, today.reads, moved)
            made[change.resource] = replace(one, accept_harm=change.accept_harm)
        elif not _only_effects(change, today.reads) and kinds.comes_back(change.resource):
            _refuse(change, "it is already as wanted", moved)
    for address, one in made.items():
        if one is None or address in saved:
            continue
        if address not in plan.settled:
            _refuse(one, f"{one.fix} also needs it, and the plan leaves it out", moved)
        raise StalePlan(
            f"{address} moved: the plan found it as wanted, now it is {short(one.before)}", _STALE
        )
    return made


def _accepted(fix: str, mine: tuple[Change, ...]) -> set[str]:
    """Return the conditions for which the plan says that policy accepts the harm of a fix."""
    return {condition for change in mine if change.fix == fix for condition in change.accept_harm}


def _refuse_harm(fix: str, was: Finding, reason: str, mine: tuple[Change, ...]) -> NoReturn:
    """Raise for a fix that could end what works: the fault is not seen any more, or never was."""
    harms = not catalogue.fix(fix).HARMLESS or any(c.effects for c in mine if c.fix == fix)
    if was.verdict == "exposed" and harms:
        raise InputError(f"{fix} for {was.condition} on {was.subject}: {reason}", _EDITED)
    raise StalePlan(
        f"{was.condition} on {was.subject} was {was.verdict} when the plan was made, and now "
        f"{reason}",
        _STALE,
    )


def _only_effects(change: Change, reads: Reads) -> bool:
    """Tell whether a change only deletes flows: these may be gone by themselves."""
    return bool(change.effects) and reads.same(change.resource, change.before, change.after)


def _ended(change: Change, reads: Reads) -> bool:
    """Tell whether a change would delete a flow that has gone by itself."""
    return not kinds.comes_back(change.resource) and reads.read(change.resource) is None


def _uses(plan: Plan, mine: tuple[Change, ...]) -> Iterator[tuple[str, Optional[Finding], Terms]]:
    """Yield fix, finding (None: policy requires it) and terms of each use, in the plan's order."""
    for fix in dict.fromkeys(change.fix for change in mine):
        uses = [change.uses for change in mine if change.fix == fix]
        terms = {name: terms for sequence in uses for name, terms in sequence if name is not None}
        yield from ((fix, f, terms[f.id]) for f in plan.scan.findings if f.id in terms)
        required = [[terms for name, terms in sequence if name is None] for sequence in uses]
        yield from ((fix, None, terms) for terms in _in_order(required))


def _in_order(sequences: Iterable[list[Terms]]) -> Iterator[Terms]:
    """Yield the items of all sequences, each once, in an order that agrees with every sequence."""
    left = [sequence for sequence in sequences if sequence]
    while left:
        firsts = (sequence[0] for sequence in left)
        first = next((f for f in firsts if not any(f in other[1:] for other in left)), None)
        if first is None:
            raise InputError("the changes of one fix list their terms in different orders", _EDITED)
        yield first
        left = [rest for other in left if (rest := [terms for terms in other if terms != first])]


def _moved(plan: Plan, facts: Facts) -> str:
    """Return the names of the facts that have changed since the plan was made; empty for none."""
    now = {name: precondition(facts, name) for name in plan.made_from}
    return ", ".join(
        f"{name} {was} -> {now[name]}" if name == KERNEL else name
        for name, was in plan.made_from.items()
        if now[name] != was
    )


def _compare(change: Change, made: Change, reads: Reads, moved: str) -> None:
    """Raise where a change differs from the one made here in a field that is acted on.

    ``accept_harm`` is not compared: it was checked before.
    """
    one, other = change.acted, {**made.acted, "accept_harm": change.acted["accept_harm"]}
    for key, value in one.items():
        same = value == other[key] or (
            key in ("before", "after") and reads.same(change.resource, value, other[key])
        )
        if key == "effects":  # flows go by themselves, too
            same = set(other[key]) <= set(value)
        if not same:
            one_said, other_said = apart(
                reads.text if key in ("before", "after") else _as_it_is,
                change.resource,
                *map(_plain, (value, other[key])),
            )
            what = f"{key} is {one_said}, and {change.fix} makes it {other_said}"
            _refuse(change, what, moved if key in _BY_FACTS else "")


def _plain(value: Any) -> Optional[str]:
    return value if value is None or isinstance(value, str) else codec.dumps(value)


def _as_it_is(_address: str, value: Optional[str]) -> str:
    return value or ""


def _refuse(change: Change, what: str, moved: str) -> None:
    if moved:
        raise StalePlan(f"{change.resource}: {what}; its cause changed: {moved}", _STALE)
    raise InputError(f"{change.resource}: {what}", _EDITED)
