"""The first thing a report says: how it stands, and what somebody has to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from remedies.model import SEEN
from remedies.report.record import HostReport, Judgement, Report, failures, is_open, order
from remedies.values import dataclass

Tone = Literal["bad", "warn", "good", "calm"]
"""A fault is live or a rollout failed; something is left to see to; all is well; not judged."""
NAMED = 3
"""Faults and failed hosts named on the first screen; the others are counted."""


@dataclass(frozen=True)
class Headline:
    """A verdict in a few words, how loud it is, and what it asks for, a sentence each."""

    text: str
    tone: Tone
    asks: tuple[str, ...]


def headline(report: Report) -> Headline:
    """Return the headline: what is live first, then a rollout that failed, then what is left."""
    standing = sorted(
        ((h, j) for h in report.hosts for j in h.judgements if is_open(j)),
        key=lambda pair: (pair[1].verdict not in SEEN, order(pair[1])),
    )
    live = sum(j.verdict in SEEN for _, j in standing)
    failed = failures(report)
    unknown = sum(j.outcome == "unknown" for h in report.hosts for j in h.judgements)
    asks = [f"{name} {why}" for name, why in failed[:NAMED]]
    asks += _and_more(len(failed))
    asks += [_ask(host, judgement, report) for host, judgement in standing[:NAMED]]
    asks += _and_more(len(standing))
    if live:
        return Headline(f"{many(live, 'fault is', 'faults are')} live", "bad", tuple(asks))
    if failed:
        every = len(report.hosts) + len(report.unreached)
        where = f"{len(failed):,} of {many(every, 'host', 'hosts')}"
        return Headline(f"The rollout failed on {where}", "bad", tuple(asks))
    if report.unreached:
        missing = many(len(report.unreached), "host was", "hosts were")
        return Headline(f"{missing} never reached", "bad", tuple(asks))
    if standing:
        text = many(len(standing), "open fault", "open faults")
        return Headline(f"{text}, none live now", "warn", tuple(asks))
    if unknown:
        return Headline("No open fault, but not all was judged", "warn", ())
    if not any(host.judgements for host in report.hosts):
        return Headline("Nothing was judged", "calm", ())
    return Headline("No open fault", "good", ())


def _and_more(number: int) -> Iterator[str]:
    if number > NAMED:
        yield f"{number - NAMED:,} more, each in its row below."


def _ask(host: HostReport, judgement: Judgement, report: Report) -> str:
    """Return one fault and who has to do what about it."""
    where = f" on {host.place.name}" if len(report.hosts) > 1 else ""
    subject = f" ({judgement.subject})" if judgement.subject else ""
    if judgement.outcome == "needs-human":
        what = "a person has to act, see the advice"
    elif host.planned and any(c.finding == judgement.id for c in host.planned):
        what = "'remedy apply' fixes it, see the planned changes"
    else:
        what = "see the finding for what to do"
    return f"{judgement.title}{where}{subject}: {what}."


def sentence(report: Report) -> str:
    """Return the counts in one sentence."""
    judged = [j for h in report.hosts for j in h.judgements]
    alone = not any(h.scanned for h in report.hosts) and bool(report.hosts)
    if not judged:
        done = sum(len(h.deeds) for h in report.hosts)
        said = f"{many(done, 'transaction', 'transactions')} of the journal"
        return f"{said} alone." if alone else f"{said}."
    checks = many(len({j.condition for j in judged}), "condition", "conditions")
    hosts = many(len(report.hosts), "host", "hosts")
    standing = sum(is_open(j) for j in judged)
    proven = sum(is_open(j) and j.verdict == "proven" for j in judged)
    unknown = sum(j.outcome == "unknown" for j in judged)
    fixed = sum(j.outcome == "fixed" for j in judged)
    parts = [many(standing, "open fault", "open faults") if standing else "no open fault"]
    if proven:
        parts.append(f"{proven:,} proven now")
    if fixed:
        parts.append(f"{fixed:,} kept away by a fix in force")
    if unknown:
        parts.append(f"{unknown:,} not judged")
    if report.unreached:
        parts.append(many(len(report.unreached), "host", "hosts") + " never reached")
    by = "By the journal alone, " if alone else ""
    moved = report.trend
    since = (
        f" Since {moved.since} {len(moved.better):,} better, {len(moved.worse):,} worse."
        if moved
        else ""
    )
    return f"{by}{checks} on {hosts}: {', '.join(parts)}.{since}"


def many(number: int, one: str, more: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else more}"
