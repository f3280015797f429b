"""A plain shell script beside each transaction that undoes it: for a host where this tool is gone.

It needs a POSIX shell and the programs that the rules are for (``nft`` with JSON, iptables): where
one is missing it says so and changes nothing. It does not ask whether somebody else has changed a
value since, which ``remedy rollback`` does.

What was there before may hold names and comments that somebody else chose. They are in the script
as words in single quotes, as JSON without a character that a shell or ``nft`` could take for its
own, or as lines that iptables-restore reads back. What is none of these is refused, before
anything is written.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Collection, Sequence

from remedies import printable, resources
from remedies.errors import InputError, WriteFailed
from remedies.model import Change
from remedies.resources import file, sysctl
from remedies.rules.ours import iptables_in_force, iptables_split
from remedies.rules.restore_script import jumps_in, nft_batch, unsayable, words

_PREFIX, _SUFFIX = "undo-", ".sh"
_END = "END-OF-REMEDY"
_HINT = "look at it and remove it yourself"
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
    needed = sorted({program for change in changes for program in _programs(change)})
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
    return "".join(_undo(change) for change in reversed(changes))


def _undo(change: Change) -> str:
    try:
        scheme, path = resources.split(change.resource)
        writers = {"sysctl": _sysctl, "file": _file, "nft": _nft}
        if scheme in ("iptables", "ip6tables"):
            lines = _xtables(scheme, path, change)
        elif scheme in writers:
            lines = writers[scheme](path, change)
        else:
            raise InputError("no command undoes it", _HINT)
    except InputError as error:
        name, why = (printable.clean(" ".join(t.split())) for t in (change.resource, error.what))
        what = f"{name}: no script could undo it without remedy: {why}"
        raise WriteFailed(what, error.hint) from error
    return f"\n# {change.resource}\n{lines}"


def _programs(change: Change) -> tuple[str, ...]:
    """Return the programs that undoing a change takes."""
    scheme, _, path = change.resource.partition(":")
    if scheme == "nft":
        return ("nft -j",)
    if scheme not in ("iptables", "ip6tables"):
        return ()
    _, chain = iptables_split(path)
    held = [iptables_in_force(state, chain) for state in (change.before, change.after)]
    return tuple(
        f"{scheme}-{variant}{part}"
        for variant in {**held[0], **held[1]}
        for part in ("", "-restore")
    )


def _word(text: str) -> str:
    """Return text as one word of the shell; raise InputError for what none can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("it is not Unicode", _HINT) from None
    if "\0" in text:
        raise InputError("it holds a NUL", _HINT)
    return shlex.quote(text)


def _sysctl(path: str, change: Change) -> str:
    if change.before is None:
        return ""
    return f"put {_word(sysctl.file_of(path))} {_word(change.before)}\n"


def _file(path: str, change: Change) -> str:
    name, folder = file.ROOT + path, os.path.dirname(path)
    if any(not character.isprintable() for character in path):
        raise InputError("its name holds a control character", _HINT)
    if change.before is not None:
        make = f"try mkdir -p -- {_word(file.ROOT + folder)}\n" if folder in file.MADE else ""
        return f"{make}put {_word(name)} {_word(change.before)}\n"
    gone, base = f"try rm -f -- {_word(name)}\n", file.MADE.get(folder, folder)
    while folder != base:
        gone += f"rmdir -- {_word(file.ROOT + folder)} 2>/dev/null\n"
        folder = os.path.dirname(folder)
    return gone


def _nft(path: str, change: Change) -> str:
    return _fed("try nft -j -f -", nft_batch(path, change.before))


def _xtables(program: str, path: str, change: Change) -> str:
    """Take our chain away as one transaction a store, or put back the one that was there.

    Which jumps are there is asked when the script runs: after a boot there may be none.
    """
    table, chain = iptables_split(path)
    before = iptables_in_force(change.before, chain)
    after = iptables_in_force(change.after, chain)
    return "".join(
        _chain(
            f"{program}-{variant}",
            table,
            chain,
            before.get(variant, ()),
            jumps_in(after.get(variant, ()), chain),
        )
        for variant in {**after, **before}
    )


def _chain(program: str, table: str, chain: str, old: Sequence[str], there: Sequence[str]) -> str:
    """Return the commands for one store: ``old`` lines come back, or none and the chain goes."""
    rules = [line for line in old if line.startswith(f"-A {chain} ")]
    jumps = jumps_in(old, chain)
    for line in old:
        words(line)
        if unsayable(line) or (line[:1] != ":" and line not in (*rules, *jumps)):
            raise InputError(f"a rule holds a newline: {line[:80]!r}", _HINT)
    moves = [("-D", line) for line in there if line not in jumps]
    moves += [("-I", line) for line in jumps]
    asked = "".join(
        " ".join(("jump", program, table, action, *map(_word, (line[3:], *words(line)[1:])))) + "\n"
        for action, line in moves
    )
    last = "".join(f"{line}\n" for line in (*rules, *(() if old else (f"-X {chain}",)), "COMMIT"))
    restore = f"{program}-restore --noflush -w"
    # Asked before: the restore program of the legacy store takes the lock before it reads.
    text = (
        f"jumps=$(\n{asked})\n{{\nprintf '*%s\\n:%s - [0:0]\\n' {table} {chain}\n"
        f"""[ -z "$jumps" ] || printf '%s\\n' "$jumps"\n"""
        f"{_fed('cat', last)}}} | {restore} ||\n"
        f'    {{ echo "failed: {restore}" >&2; failed=1; }}\n'
    )
    if old or not program.endswith("-legacy"):
        return text
    names = "ip6_tables_names" if program.startswith("ip6") else "ip_tables_names"
    return f"if loaded {table} {names}; then\n{text}fi\n"


def _fed(command: str, text: str) -> str:
    """Return a command with its standard input; raise InputError for a line that would end it."""
    if _END in text.split("\n") or "\0" in text:
        raise InputError(f"it holds the line {_END} or a NUL", _HINT)
    return f"{command} <<'{_END}'\n{text}{_END}\n"


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
