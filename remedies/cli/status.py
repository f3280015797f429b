"""``remedy status``: what is in force, whether it is as we wrote it, and what it has counted."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from remedies import __version__, codec
from remedies.cli import starting
from remedies.cli.next_command import again
from remedies.cli.render import host_line
from remedies.cli.terminal import Style, clean
from remedies.facts.gather import now
from remedies.local_time import local
from remedies.model import FORMAT_VERSION
from remedies.operations import standing, unowned
from remedies.operations.outlook import AtBoot, Outlook
from remedies.operations.session import HostSession
from remedies.operations.standing import HostStatus
from remedies.status.in_force import InForce
from remedies.transaction.guarded import clock
from remedies.transaction.store import apart

EXAMPLES = (
    ("status", "show what is in force and whether it drifted"),
    ("status --json", "the same for a program; exit 2 needs attention"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments: none."""


def run(args: argparse.Namespace) -> int:
    """Print the status; 2 for drift, harm, a bypass or an unfinished transaction."""
    here = starting.start(args, of_journal=True)
    found = standing.status(here)
    if args.json:
        print(json.dumps(plain(here, found), indent=2))
    else:
        if not args.quiet:
            print(host_line(here.host, now(), here.policy.ref(), Style(args)), end="\n\n")
        print(text(args, here, found))
        if found.entries and not found.bad and not args.quiet:
            print(f"\nNext: '{again(args, 'verify')}' looks whether the faults are gone.")
    return 2 if found.bad else 0


def plain(here: HostSession, found: HostStatus, kind: str = "status") -> dict[str, Any]:
    """Return the status as plain JSON values."""
    left = found.unfinished
    return {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "tool": {"name": "remedy", "version": __version__},
        "host": codec.encode(here.host),
        "time": now(),
        "policy": codec.encode(here.policy.ref()),
        "in_force": codec.encode(found.entries),
        "unowned": list(found.unowned),
        "unfinished": [name for name, why in left.items() if why != "pending"],
        "pending_confirm": next(
            (_pending(here, n) for n, w in left.items() if w == "pending"), None
        ),
        "boot": codec.encode(found.outlook.boot),
        "harm": codec.encode(found.outlook.harm),
        "bypassed": codec.encode(found.outlook.bypassed),
    }


def _pending(here: HostSession, name: str) -> dict[str, Any]:
    """Return the pending transaction, its deadline, and the seconds left."""
    pending = here.ledger[name].pending
    if pending is None:
        return {}
    left = max(0.0, round(pending.clock - clock(), 1))
    return {"transaction": name, "until": pending.until, "seconds_left": left}


_WORDS = {
    "pending": ("pending   ", "undone at {until} unless 'remedy confirm' is run before"),
    "unguarded": (
        "unfinished",
        "its guard died before it was confirmed: 'remedy confirm' until {until} keeps it, "
        "'remedy rollback' undoes it",
    ),
    "expired": (
        "unfinished",
        "not confirmed until {until}: 'remedy rollback' undoes it if its guard does not",
    ),
    "rebooted": (
        "unfinished",
        "the machine was restarted meanwhile: 'remedy rollback' closes it",
    ),
    "writing": ("unfinished", "it is being written, or its guard is about to undo it"),
    "dead": ("unfinished", "its writer died: 'remedy rollback' undoes it"),
    "stray": (
        "unfinished",
        "its guard is alive, but it is not in this journal (another --state-dir, or the journal "
        "was lost); its guard undoes it in time unless it is confirmed there",
    ),
    "stuck": (
        "incomplete",
        "it could be neither finished nor undone: fix what is stuck, then run 'remedy rollback'",
    ),
}
"""How an unfinished transaction stands, in a word and in a sentence."""


def _policy_of(here: HostSession, entry: InForce) -> str:
    """Return which policy put it in force, where it is not the one in force now."""
    policy = here.held[entry.resource].policy
    return "" if policy in ((), here.policy.names) else f", policy {' + '.join(policy)}"


def _since(here: HostSession, entry: InForce) -> str:
    """Return since when it is in force."""
    told = here.ledger.get(entry.transaction)
    return f" since {clean(local(told.time))}" if told else ""


def _answers(here: HostSession, entry: InForce) -> Iterator[str]:
    """Yield what it was applied for, and what the detectors said before and right after."""
    told = here.ledger.get(entry.transaction)
    after = {one["finding"]: one["after"] for one in told.verified.verified} if told else {}
    for finding in here.held[entry.resource].answered:
        now = after.get(finding.id)
        then = f", {now} right after" if now else ""
        yield f"for {finding.condition} on {finding.subject}: was {finding.verdict}{then}"


def text(args: argparse.Namespace, here: HostSession, found: HostStatus) -> str:
    """Return the status as text."""
    style = Style(args)
    colours = {"ours": "green", "unknown": "yellow"}
    lines = []
    for entry in found.entries:
        mark = style(colours.get(entry.state, "red"), f"{entry.state:8}")
        lines.append(f"{mark} {style('bold', clean(entry.resource))}  by {entry.fix}"
                     f"{_since(here, entry)}, {entry.transaction}"
                     f"{_policy_of(here, entry)}")  # fmt: skip
        if args.quiet:
            continue
        lines += [f"         {clean(line)}" for line in _answers(here, entry)]
        if entry.state == "drifted":
            ours, now = apart(entry.resource, here.held[entry.resource].ours, entry.now)
            lines.append(f"         ours {clean(ours)}, now {clean(now)}")
        if entry.reason:
            lines.append(f"         {clean(entry.reason)}")
        lines += [f"         {clean(name)}: {n}" for name, n in entry.counters.items()]
    for name, why in found.unfinished.items():
        colour = "yellow" if why == "pending" else "red"
        told = here.ledger.get(name)
        until = local(told.pending.until) if told and told.pending else ""
        began = f" of {clean(local(told.time))}" if told else ""
        lines.append(f"{style(colour, _WORDS[why][0])} transaction {clean(name)}{began}: "
                     + _WORDS[why][1].format(until=clean(until)))  # fmt: skip
    for address in found.unowned:
        lines.append(f"{style('red', 'unowned ')} {style('bold', clean(address))}  {unowned.SAID}")
    lines += [clean(line) for line in _outlook_lines(found.outlook)]
    if not lines:
        return "No fix is in force."
    if args.quiet:
        return "\n".join(lines)
    if found.unowned:
        lines.append(
            f"\nNext: '{again(args, 'confirm', '--unowned')}' adopts what is not in this journal, "
            f"'{again(args, 'rollback', '--unowned')}' shows and removes it."
        )
    if any(entry.state in ("drifted", "gone") for entry in found.entries):
        lines.append(
            f"\nNext: '{again(args, 'apply')}' restores it, "
            f"'{again(args, 'rollback', '--force')}' accepts what is there now."
        )
    return "\n".join(lines)


def _outlook_lines(outlook: Outlook) -> list[str]:
    """Return what is printed of harm, bypasses and the next boot."""
    told = [f"harm     {item.resource}: {item.reason}" for item in outlook.harm]
    told += [
        f"bypassed {item.resource}: on {item.hook} '{item.rule}' ({item.place}) takes every packet "
        f"that '{item.own}' is for; remove that rule, or roll back and apply again to be first"
        for item in outlook.bypassed
    ]
    told += [f"boot     {entry.resource}: {_at_boot(entry)}" for entry in outlook.boot]
    return told


def _at_boot(entry: AtBoot) -> str:
    """Return what becomes of a resource at the next boot."""
    if not entry.decided_by:
        return "kept by the next boot as it is" if entry.ours else "lost at the next boot"
    if entry.value is None:
        return f"{entry.decided_by} brings it back at the next boot" + (
            "" if entry.ours else ", but not as it is in force now"
        )
    return f"{entry.decided_by} sets it to {entry.value} at the next boot" + (
        "" if entry.ours else ": that undoes the fix"
    )
