"""A plain shell script beside each transaction that undoes it: for a host where this tool is gone.

It needs a POSIX shell and the programs that the rules are for (nft, iptables). It does not ask
whether somebody else has changed a value since, which ``remedy rollback`` does.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Collection, Sequence

from remedies import resources
from remedies.errors import InputError
from remedies.model import Change
from remedies.netfilter.ours import iptables_in_force, iptables_split, nft_split
from remedies.netfilter.script import jumps_in, removing, replacing
from remedies.resources import file, nft, sysctl

_PREFIX, _SUFFIX = "undo-", ".sh"
FUNCTIONS = """\
failed=0
try() { "$@" || { echo "failed: $*" >&2; failed=1; }; }
put() { printf '%s' "$2" > "$1" || { echo "failed: $1" >&2; failed=1; }; }

"""
"""What :func:`steps` needs before it; ``failed`` is 1 after any error."""
_HEAD = """\
#!/bin/sh
# Undoes transaction {txn} without remedy:
#   sh {name}
# {where}
# It goes on after an error and exits 1 then. It overwrites what others have changed since.
"""


def script(txn: str, namespace: str, changes: Sequence[Change]) -> str:
    """Return the script that puts back the before-value of each change, newest first."""
    where = "Run it on the machine itself."
    if namespace != "host":
        where = f"Run it in the network namespace {namespace}: nsenter --net=FILE sh ..."
    head = _HEAD.format(txn=txn, name=f"{_PREFIX}{txn}{_SUFFIX}", where=where)
    return head + FUNCTIONS + steps(changes) + "\nexit $failed\n"


def steps(changes: Sequence[Change]) -> str:
    """Return the commands of a script that has :data:`FUNCTIONS`, newest change first."""
    return "".join(_undo(change) for change in reversed(changes))


def _undo(change: Change) -> str:
    try:
        scheme, path = resources.split(change.resource)
    except InputError:
        scheme, path = "", ""
    writers = {"sysctl": _sysctl, "file": _file, "nft": _nft}
    if scheme in ("iptables", "ip6tables"):
        lines = _xtables(scheme, path, change)
    elif scheme in writers:
        lines = writers[scheme](path, change)
    else:
        lines = "# no command is known\n"
    return f"\n# {' '.join(change.resource.split())}\n{lines}"


def _sysctl(path: str, change: Change) -> str:
    if change.before is None:
        return ""
    return f"put {shlex.quote(sysctl.file_of(path))} {shlex.quote(change.before)}\n"


def _file(path: str, change: Change) -> str:
    name = shlex.quote(file.ROOT + path)
    if change.before is None:
        return f"try rm -f -- {name}\n"
    return f"put {name} {shlex.quote(change.before)}\n"


def _nft(path: str, change: Change) -> str:
    family, table = nft_split(path)
    lines = f"table {family} {table}\ndelete table {family} {table}\n"
    return _fed("try nft -f -", lines + nft.text(path, change.before))


def _xtables(program: str, path: str, change: Change) -> str:
    """Take our chain away as one transaction a store, or put back the one that was there."""
    table, chain = iptables_split(path)
    before = iptables_in_force(change.before, chain)
    after = iptables_in_force(change.after, chain)
    text = ""
    for variant in {**after, **before}:
        old = before.get(variant, ())
        there = jumps_in(after.get(variant, ()), chain)
        if old:
            rules = tuple(line for line in old if line.startswith(f"-A {chain} "))
            orders = replacing(table, chain, tuple(jumps_in(old, chain)), rules, there)
        else:
            orders = removing(table, chain, there)
        text += _fed(f"try {program}-{variant}-restore --noflush -w", orders)
    return text


def _fed(command: str, text: str) -> str:
    """Return a command with its standard input; no line of ours is the word that ends it."""
    return f"{command} <<'END-OF-REMEDY'\n{text}END-OF-REMEDY\n"


def _path(folder: str, txn: str) -> str:
    return os.path.join(folder, f"{_PREFIX}{txn}{_SUFFIX}")


def write(folder: str, txn: str, text: str) -> None:
    """Put the script into the state folder, on disk when this returns; raise OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(_path(folder, txn), flags, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def remove(folder: str, txn: str) -> None:
    """Remove the script of a transaction that is not in force any more."""
    with contextlib.suppress(OSError):  # of a file system that went read-only: it is stale, no more
        os.unlink(_path(folder, txn))


def sweep(folder: str, keep: Collection[str]) -> None:
    """Remove every script but those of the transactions ``keep``. Hold the lock."""
    for name in os.listdir(folder):
        txn = name[len(_PREFIX) : -len(_SUFFIX)]
        if name == f"{_PREFIX}{txn}{_SUFFIX}" and txn not in keep:
            remove(folder, txn)
