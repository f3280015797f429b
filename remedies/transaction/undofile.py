"""A plain shell script beside each transaction that undoes it: for a host where this tool is gone.

It needs a POSIX shell and the programs that the rules are for (``nft`` with JSON, iptables): where
one is missing it says so and changes nothing. It does not ask whether somebody else has changed a
value since, which ``remedy rollback`` does.

What undoes a change is asked of its driver (``undo()``). What was there before may hold names and
comments that somebody else chose. They are in the script as words in single quotes, as JSON
without a character that a shell or ``nft`` could take for its own, or as lines that
iptables-restore reads back. What is none of these is refused, before anything is written.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Sequence

from remedies import printable, resources
from remedies.errors import InputError, WriteFailed
from remedies.model import Change
from remedies.resources.shell import Undo

_PREFIX, _SUFFIX = "undo-", ".sh"
FUNCTIONS = """\
failed=0
umask 022
try() { "$@" || { echo "failed: $*" >&2; failed=1; }; }
put() { printf '%s' "$2" > "$1" || { echo "failed: $1" >&2; failed=1; }; }
# jump PROGRAM TABLE -I|-D LINE WORD...: the line that makes it so, none where it is so.
# iptables-nft 1.8.7 prints a rule that it finds.
jump() {
    program=$1 table=$2 action=$3 line=$4 needed=-I
    shift 4
    if "$program" -w -t "$table" -C "$@" >/dev/null 2>&1; then needed=-D; fi
    [ "$action" != "$needed" ] || printf '%s %s\\n' "$action" "$line"
}
# gone FAMILY TABLE: a table of ours is removed. An old nft crashes on sets that a newer one made
# (1.0.6 does, on those of 1.1), but for emptying a table, which then does nothing.
gone() {
    if ! nft "add table $1 $2; delete table $1 $2" 2>/dev/null; then
        failed=1
        nft "add table $1 $2; flush table $1 $2" || { echo "failed: nft:$1/$2" >&2; return; }
        echo "nft could not delete the table $1 $2: it is empty now; delete it by a newer nft" >&2
    fi
}
# loaded TABLE FILE: whether the legacy table is there; a legacy program would make it.
loaded() { grep -qsx "$1" "/proc/net/$2"; }

"""
"""What :func:`steps` needs before it; ``failed`` is 1 after any error."""
_HEAD = """\
#!/bin/sh
# Undoes transaction {txn} without remedy:
#   sh {name}
# {where}
# It goes on after an error and exits 1 then. It overwrites what others have changed since.
"""
_NEEDED = """\
{test} || {{ echo "{program} is missing: nothing was changed" >&2; exit 1; }}
"""


def script(txn: str, namespace: str, changes: Sequence[Change]) -> str:
    """Return the script that puts back the before-value of each change, newest first.

    Raises WriteFailed, naming the resource, where a shell script could not do that exactly.
    """
    where = "Run it on the machine itself."
    if namespace != "host":
        where = f"Run it in the network namespace {namespace}: nsenter --net=FILE sh ..."
    head = _HEAD.format(txn=txn, name=f"{_PREFIX}{txn}{_SUFFIX}", where=where)
    needed = sorted({program for change in changes for program in _undo(change).programs})
    tests = {"nft -j": "nft -j list tables >/dev/null 2>&1"}
    checks = "".join(
        _NEEDED.format(program=name, test=tests.get(name, f"command -v {name} >/dev/null"))
        for name in needed
    )
    return head + checks + FUNCTIONS + steps(changes) + "\nexit $failed\n"


def steps(changes: Sequence[Change]) -> str:
    """Return the commands of a script that has :data:`FUNCTIONS`, newest change first.

    Raises WriteFailed as :func:`script` does.
    """
    return "".join(f"\n# {c.resource}\n{_undo(c).lines}" for c in reversed(changes))


def _undo(change: Change) -> Undo:
    try:
        driver, path = resources.driver(change.resource)
        return driver.undo(path, change.before, change.after)
    except InputError as error:
        name, why = (printable.clean(" ".join(t.split())) for t in (change.resource, error.what))
        what = f"{name}: no script could undo it without remedy: {why}"
        raise WriteFailed(what, error.hint) from error


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


def those(folder: str) -> tuple[str, ...]:
    """Return the ids of the transactions whose script is there."""
    names = sorted(os.listdir(folder))
    cut = (name[len(_PREFIX) : -len(_SUFFIX)] for name in names)
    return tuple(txn for name, txn in zip(names, cut) if name == f"{_PREFIX}{txn}{_SUFFIX}")


def kept(folder: str, txn: str) -> str:
    """Return where a script is that nobody sweeps away: its transaction is in no journal."""
    return os.path.join(folder, f"lost-{_PREFIX}{txn}{_SUFFIX}")


def keep(folder: str, txn: str) -> None:
    """Put a script where nobody sweeps it away; raise OSError."""
    os.rename(_path(folder, txn), kept(folder, txn))


def sweep(folder: str, wanted: Collection[str]) -> None:
    """Remove every script but those of the transactions ``wanted``. Hold the lock."""
    for txn in those(folder):
        if txn not in wanted:
            remove(folder, txn)
