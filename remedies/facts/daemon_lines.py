"""Which row of :mod:`remedies.facts.daemons` a process has, and what it says for its addresses."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import basename
from typing import Optional

from remedies.facts.daemon_option import DaemonOption
from remedies.facts.daemons import DAEMONS
from remedies.printable import at


def option_of(name: str, argv: Sequence[str] = ()) -> Optional[DaemonOption]:
    """Return the row of a process by its name, or by the program it was started as."""
    names = {name, basename(argv[0].split(" ")[0]) if argv else name}
    return next((row for row in DAEMONS if not names.isdisjoint(row.names)), None)


def lines_of(row: DaemonOption, addresses: Sequence[str], port: str) -> tuple[str, ...]:
    """Return what to write so that the program binds these addresses; nothing where it cannot."""
    lines = []
    chosen = addresses[:1] if row.single else addresses
    for address in chosen if row.bind else ():
        form = row.bind6 if ":" in address and row.bind6 else row.bind
        lines.append(form.format(address=address, port=port, endpoint=at(address, port)))
    return (*lines, *row.also) if lines else ()


def sentence(row: DaemonOption, addresses: Sequence[str], port: str, *, asked: bool = True) -> str:
    """Return the one thing to write; ``asked``: clients were seen to ask these addresses."""
    lines = lines_of(row, addresses or ("ADDRESS",), port)
    if not lines:
        return row.note
    told = " and ".join(repr(line) for line in lines)
    said = f"write {told} into {row.where}" if row.where else f"restart it with {told}"
    if not asked:
        said += " (with the address that its clients ask)"
    if row.keeps:
        said += f", or {row.keeps!r} to keep every address and answer from the one asked"
    return f"{said}{'; then restart it' if row.where else ''}."
