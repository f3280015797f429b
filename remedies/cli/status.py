"""``remedy status``: what is in force, whether it still is ours, and what it has counted."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from remedies.cli import unowned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remedies.cli.outlook import Outlook
    from remedies.cli.session import Session
    from remedies.status.in_force import InForce


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments: none."""


def run(args: argparse.Namespace) -> int:
    """Print the status; 2 for drift, harm, a bypass or an unfinished transaction."""
    import json

    from remedies.cli import outlook, session
    from remedies.cli.render import host_line
    from remedies.cli.terminal import Style
    from remedies.facts.gather import now

    here = session.start(args, of_journal=True)
    found = entries(here)
    seen = outlook.look(here, found)
    if args.json:
        print(json.dumps(plain(here, found, seen), indent=2))
    else:
        print(host_line(here.host, now(), here.policy.ref(), Style(args)), end="\n\n")
        print(text(here, found, seen))
    return 2 if seen.bad or is_bad(here, found) else 0


def entries(here: Session) -> tuple[InForce, ...]:
    """Return every resource in force as it is now."""
    from remedies.status import in_force

    return in_force.in_force(here.held)


def is_bad(here: Session, found: tuple[InForce, ...]) -> bool:
    """Tell whether something of ours is not as we left it, or was never finished."""
    left = dict(_unfinished(here))
    if set(left.values()) - {"pending"} or unowned.addresses(here):
        return True
    return any(entry.state != "ours" for entry in found)


def _unfinished(here: Session) -> Iterator[tuple[str, str]]:
    """Yield every transaction that has no end, and how it stands (ledger.situation).

    One that could be neither finished nor undone has none either while something of it stands.
    """
    from remedies.transaction.guard import situation, strays
    from remedies.transaction.ledger import unfinished

    for entry in unfinished(here.ledger):
        yield entry.id, situation(here.folder, entry, here.host.boot_id)
    for stray in strays(here.ledger):
        yield stray.txn, "stray"
    for name in dict.fromkeys(held.transaction for held in here.held.values()):
        if here.ledger[name].outcome == "incomplete":
            yield name, "stuck"


def plain(
    here: Session, found: tuple[InForce, ...], outlook: Outlook, kind: str = "status"
) -> dict[str, Any]:
    """Return the status as plain JSON values."""
    from remedies import __version__, codec
    from remedies.facts.gather import now
    from remedies.model import FORMAT_VERSION

    left = dict(_unfinished(here))
    return {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "tool": {"name": "remedy", "version": __version__},
        "host": codec.encode(here.host),
        "time": now(),
        "policy": codec.encode(here.policy.ref()),
        "in_force": codec.encode(found),
        "unowned": list(unowned.addresses(here)),
        "unfinished": [name for name, why in left.items() if why != "pending"],
        "pending_confirm": next(
            (_pending(here, n) for n, w in left.items() if w == "pending"), None
        ),
        "boot": codec.encode(outlook.boot),
        "harm": codec.encode(outlook.harm),
        "bypassed": codec.encode(outlook.bypassed),
    }


def _pending(here: Session, name: str) -> dict[str, Any]:
    """Return what waits to be confirmed, until when, and the seconds left."""
    from remedies.transaction.watch import clock

    pending = here.ledger[name].pending
    if pending is None:
        return {}
    left = max(0.0, round(pending.clock - clock(), 1))
    return {"transaction": name, "until": pending.until, "seconds_left": left}


_WORDS = {
    "pending": ("pending   ", "undone at {until} unless 'remedy confirm' comes before"),
    "unguarded": (
        "unfinished",
        "its guard died before it was confirmed: 'remedy confirm' until {until} keeps it, "
        "'remedy rollback' puts things back",
    ),
    "expired": (
        "unfinished",
        "not confirmed until {until}: 'remedy rollback' puts things back, if its guard does not",
    ),
    "rebooted": (
        "unfinished",
        "the machine was restarted meanwhile: 'remedy rollback' closes it",
    ),
    "writing": ("unfinished", "it is being written, or its guard is about to put things back"),
    "dead": ("unfinished", "its writer died: 'remedy rollback' puts things back"),
    "stray": (
        "unfinished",
        "its guard lives and this journal does not have it: another --state-dir, or it is gone; "
        "undone in time unless it is confirmed there",
    ),
    "stuck": (
        "incomplete",
        "it could be neither finished nor undone: mend what is stuck, then 'remedy rollback'",
    ),
}
"""How an unfinished transaction stands, in a word and in a sentence."""


def _policy_of(here: Session, entry: InForce) -> str:
    """Return which policy put it in force, where it is not the one in force now."""
    policy = here.held[entry.resource].policy
    return "" if policy in ((), here.policy.names) else f", policy {' + '.join(policy)}"


def text(here: Session, found: tuple[InForce, ...], outlook: Outlook) -> str:
    """Return the status as text."""
    from remedies.cli import outlook as outlooks
    from remedies.cli.next_command import again
    from remedies.cli.terminal import Style, clean, local
    from remedies.transaction.store import apart

    style = Style(here.args)
    colours = {"ours": "green", "unknown": "yellow"}
    lines = []
    for entry in found:
        mark = style(colours.get(entry.state, "red"), f"{entry.state:8}")
        lines.append(f"{mark} {style('bold', clean(entry.resource))}  by {entry.fix}, "
                     f"{entry.transaction}{_policy_of(here, entry)}")  # fmt: skip
        if entry.state == "drifted":
            ours, now = apart(entry.resource, here.held[entry.resource].ours, entry.now)
            lines.append(f"         ours {clean(ours)}, now {clean(now)}")
        if entry.reason:
            lines.append(f"         {clean(entry.reason)}")
        lines += [f"         {clean(name)}: {n}" for name, n in entry.counters.items()]
    for name, why in _unfinished(here):
        colour = "yellow" if why == "pending" else "red"
        told = here.ledger.get(name)
        until = local(told.pending.until) if told and told.pending else ""
        began = f" of {clean(local(told.time))}" if told else ""
        lines.append(f"{style(colour, _WORDS[why][0])} transaction {clean(name)}{began}: "
                     + _WORDS[why][1].format(until=clean(until)))  # fmt: skip
    nobodys = unowned.addresses(here)
    for address in nobodys:
        lines.append(f"{style('red', 'unowned ')} {style('bold', clean(address))}  {unowned.SAID}")
    lines += [clean(line) for line in outlooks.lines(outlook)]
    if not lines:
        return "Nothing of ours is in force."
    if nobodys:
        lines.append(
            f"\nNext: '{again(here.args, 'confirm', '--unowned')}' adopts what no journal knows, "
            f"'{again(here.args, 'rollback', '--unowned')}' shows and removes it."
        )
    if any(entry.state in ("drifted", "gone") for entry in found):
        lines.append(
            f"\nNext: '{again(here.args, 'apply')}' restores it, "
            f"'{again(here.args, 'rollback', '--force')}' gives it up."
        )
    return "\n".join(lines)
