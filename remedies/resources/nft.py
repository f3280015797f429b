"""``nft:FAMILY/remedy_NAME``: one nftables table of ours, replaced as a whole.

The canonical text is that of :mod:`remedies.rules.ours`. A write is one transaction of the
kernel, ``add table; delete table; add table, chains, rules``: there is never a moment without
the table, and it does not matter what was in it. No table but ours is ever read or written.

A table that is switched off (``flags dormant``) is another state than one that works. The kernel
is asked by netlink: libnftables 1.0.6 prints the table's name as its flags, and sets none. So a
dormant table is loaded first and switched off in a second transaction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from remedies.errors import Unreadable, WriteFailed
from remedies.namespaces import netns
from remedies.netfilter import libnftables
from remedies.netlink import nft
from remedies.resources import nf_tables, shell
from remedies.resources.tasks import Task, done, looked, printed
from remedies.rules.nft_syntax import nft_text
from remedies.rules.ours import nft_canonical, nft_split
from remedies.rules.restore_script import nft_batch, nft_commands

_PATIENCE = 5.0  # seconds one answer of the kernel's may take
_NFT_PRINTED = 'nft -j -f - && exec nft -j -s list table "$1" "$2"'
_HANDLES = """ | regex_replace(', "handle": [0-9]+', '')"""


def read(path: str) -> str | None:
    """Return the canonical text of the table, None where there is none.

    The kernel is asked by name first: libnftables is not loaded for a table that is not there.
    Raises Unreadable, and InputError for a table that is not ours.
    """
    family, table = nft_split(path)
    if not nf_tables.table_exists(family, table):
        return None

    dormant = _dormant(family, table)
    listing = _list_dormant(family, table) if dormant else libnftables.list_table(family, table)
    return None if listing is None else nft_canonical(_flagged(listing, dormant=dormant))


def _dormant(family: str, table: str) -> bool:
    try:
        return (family, table) in nft.dormant(time.monotonic() + _PATIENCE)
    except OSError as error:
        raise Unreadable(f"nf_tables: {error.strerror}") from error


def _list_dormant(family: str, table: str) -> list[dict[str, Any]] | None:
    """Return the listing of a dormant table, by way of one that works, in an empty namespace.

    libnftables 1.0.6 reads freed memory when it prints the flags of a table as JSON.
    """
    lines = libnftables.table_text(family, table).splitlines()
    awake = [line for line in lines[:2] if line.strip() != "flags dormant"] + lines[2:]
    with netns.scratch():
        libnftables.run_text("\n".join(awake))
        return libnftables.list_table(family, table)


def _flagged(listing: list[dict[str, Any]], *, dormant: bool) -> list[dict[str, Any]]:
    """Return the listing with the flags that the kernel names, not those that nft prints."""
    flags = {"flags": "dormant"} if dormant else {}
    found = []
    for item in listing:
        if "table" in item:
            body = {key: value for key, value in item["table"].items() if key != "flags"}
            item = {"table": {**body, **flags}}
        found.append(item)
    return found


def _asleep(state: str | None) -> bool:
    """Tell whether a state is that of a table that is switched off."""
    tables = (json.loads(line).get("table", {}) for line in (state or "").splitlines())
    return any(table.get("flags") == "dormant" for table in tables)


def write(path: str, state: str | None) -> None:
    """Replace the table by ``state``, or remove it, in one transaction: all of it or nothing.

    It is removed without libnftables, which may crash on what others have written since.

    A dormant one takes a second: whoever is killed between leaves the table as ours, to be undone.

    Raises WriteFailed with nft's words, and InputError.
    """
    commands = nft_commands(path, state)
    if state is None:
        try:
            nf_tables.remove_table(*nft_split(path))
        except OSError as error:
            raise WriteFailed(f"nft:{path} could not be removed: {error.strerror}") from error
        return
    libnftables.run(commands)
    if _asleep(state):
        try:
            nf_tables.put_to_sleep(*nft_split(path))
        except OSError as error:
            raise WriteFailed(f"nft:{path} could not be made dormant: {error.strerror}") from error


def check(path: str, state: str | None) -> None:
    """Let nft and the kernel judge the write and change nothing; raise WriteFailed.

    A removal needs no judging: the kernel refuses none (nf_tables_deltable()).

    Where there is no table yet none is deleted either: a table that one batch adds, deletes and
    adds is shown to everybody until the kernel has dropped the batch (nft_deactivate_next() in
    its nf_tables.h undoes the mark of the first addition).
    """
    commands = nft_commands(path, state)
    if state is None:
        return
    try:
        if not nf_tables.table_exists(*nft_split(path)):
            commands = commands[2:]
    except Unreadable as error:
        raise WriteFailed(error.what, error.hint) from error

    if not same(path, state, _printed(path, state, commands)):
        raise WriteFailed(
            f"nft:{path}: this nft prints the table differently from what was written",
            "look at the table and remove it yourself",
        )


def same(path: str, one: str | None, other: str | None) -> bool:
    """Tell whether two texts mean the same table.

    Texts that differ are compared as this machine's nft prints them after loading each in an
    empty namespace: versions of nft print some matches differently.
    """
    if one == other or one is None or other is None:
        return one == other
    try:
        return _printed(path, one) == _printed(path, other)
    except WriteFailed:  # nft ended on the way: what cannot be loaded is the same as itself alone
        return False


def _printed(path: str, state: str, judged: Sequence[libnftables.Command] = ()) -> str:
    """Return a state as nft prints it alone; itself where it cannot be loaded.

    Raises WriteFailed where nft or the kernel refuses the commands ``judged`` here.
    """
    listing = libnftables.rehearse(judged, nft_commands(path, state), *nft_split(path))
    if listing is None:
        return state
    return nft_canonical(_flagged(listing, dormant=_asleep(state)))


def counters(path: str) -> dict[str, int]:
    """Return packets by chain, as our rules have counted them; raise Unreadable."""
    family, table = nft_split(path)
    found: dict[str, int] = {}
    if _dormant(family, table):  # it counts nothing
        return found
    for item in libnftables.list_table(family, table, stateless=False) or ():
        rule = item.get("rule", {})
        for part in rule.get("expr", ()):
            if isinstance(part.get("counter"), dict):
                name = f"packets {rule['chain']}"
                found[name] = found.get(name, 0) + int(part["counter"]["packets"])
    return found


def text(path: str, state: str | None) -> str:
    """Return the table as ``nft -s list table`` prints it; empty for None."""
    nft_split(path)
    return nft_text(state)


def undo(path: str, before: str | None, after: str | None) -> shell.Undo:
    """Return the shell's way back, one transaction; raise InputError for what is not of ours."""
    if before is None:
        return shell.Undo("gone {} {}\n".format(*map(shell.word, nft_split(path))), ("nft",))
    return shell.Undo(shell.fed("try nft -j -f -", nft_batch(path, before)), ("nft -j",))


def tasks(path: str, before: str | None, after: str | None) -> Iterator[Task]:
    """Yield a playbook's tasks; raise InputError."""
    names = nft_split(path)
    if after is None:
        yield looked("Look for a table", ["nft", "list", "table", *names])
        yield done("Remove a table", ["nft", "delete", "table", *names], "looked.rc == 0")
        return
    batch = nft_batch(path, after)
    yield looked("Look at a table", ["nft", "-j", "-s", "list", "table", *names])
    yield printed(_NFT_PRINTED, names, batch)
    yield done(
        "Write a table",
        ["nft", "-j", "-f", "-"],
        "looked.rc != 0 or printed.rc != 0 or "
        f"(looked.stdout{_HANDLES}) != (printed.stdout{_HANDLES})",
        stdin=batch,
    )
