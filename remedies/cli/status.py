"""``remedy status``: what is in force, whether it still is ours, and what it has counted."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remedies.cli.session import Session
    from remedies.status import InForce

HELP = "show what is in force, its counters, drift and unfinished transactions"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments: none."""


def run(args: argparse.Namespace) -> int:
    """Print the status; 2 for drift or an unfinished transaction."""
    import json

    from remedies.cli import session

    here = session.start(args)
    found = entries(here)
    if args.json:
        print(json.dumps(plain(here, found), indent=2))
    else:
        print(text(here, found))
    return 2 if is_bad(here, found) else 0


def entries(here: Session) -> tuple[InForce, ...]:
    """Return every resource in force as it is now."""
    from remedies import status

    return status.in_force(here.held)


def is_bad(here: Session, found: tuple[InForce, ...]) -> bool:
    """Tell whether something of ours is not as we left it, or was never finished."""
    from remedies.transaction.ledger import unfinished

    return bool(unfinished(here.ledger)) or any(entry.state != "ours" for entry in found)


def plain(here: Session, found: tuple[InForce, ...], kind: str = "status") -> dict[str, Any]:
    """Return the status as plain JSON values."""
    from remedies import __version__, codec
    from remedies.model import FORMAT_VERSION
    from remedies.probing import now
    from remedies.transaction.ledger import unfinished

    return {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "tool": {"name": "remedy", "version": __version__},
        "host": codec.encode(here.host),
        "time": now(),
        "in_force": codec.encode(found),
        "unfinished": [entry.id for entry in unfinished(here.ledger)],
        "pending_confirm": None,
        "boot": [
            {"resource": entry.resource, "state": entry.state}
            for entry in found
            if here.held[entry.resource].boot
        ],
    }


def text(here: Session, found: tuple[InForce, ...]) -> str:
    """Return the status as text."""
    from remedies.cli.terminal import Style, clean
    from remedies.transaction.ledger import unfinished
    from remedies.transaction.store import short

    style = Style(here.args)
    colours = {"ours": "green", "unknown": "yellow"}
    lines = []
    for entry in found:
        mark = style(colours.get(entry.state, "red"), f"{entry.state:8}")
        lines.append(f"{mark} {style('bold', clean(entry.resource))}  by {entry.fix}, "
                     f"{entry.transaction}")  # fmt: skip
        if entry.state == "drifted":
            ours = here.held[entry.resource].ours
            lines.append(f"         ours {clean(short(ours))}, now {clean(short(entry.now))}")
        if entry.reason:
            lines.append(f"         {clean(entry.reason)}")
        lines += [f"         {clean(name)}: {n}" for name, n in entry.counters.items()]
    for dead in unfinished(here.ledger):
        lines.append(f"{style('red', 'unfinished')} transaction {dead.id} of {clean(dead.time)}: "
                     "its writer died; 'remedy rollback' puts things back")  # fmt: skip
    if not lines:
        return "Nothing of ours is in force."
    if any(entry.state in ("drifted", "gone") for entry in found):
        lines.append("\nNext: 'remedy apply' restores it, 'remedy rollback --force' gives it up.")
    return "\n".join(lines)
