"""The guard of boot files: what ends a transaction that the machine itself did not survive.

Boot files are written and removed one after the other. Should the machine go down in the middle,
its guard with it, the next boot would read half of them. So three files are there from before the
first until after the journal's ``end``:

``recover-TXN.sh`` in the state folder
    puts back what was there before (for a rollback: carries it to its end), unless the journal
    says that the transaction ended; then it removes all three. Plain shell, as the undo file;
``/etc/systemd/system/remedy-recover.service``
    runs it at boot, before units of ours that load rules (their conditions fail then);
``/etc/systemd/system/multi-user.target.d/remedy-recover.conf``
    makes the boot want the unit.

They belong to the transaction like its undo file, not to the plan: nothing of them stays. The
journal is closed by the next writing verb; until then ``status`` reports the transaction. Only
where systemd runs: nothing else reads our units. A state folder whose name systemd would have to
be told in quotes is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Sequence

from remedies.boot.units import UNITS, WANTS
from remedies.errors import RemedyError, WriteFailed
from remedies.model import Change
from remedies.resources import file
from remedies.transaction import crash_points, systemd_scope, undofile
from remedies.transaction.journal import NAME

SERVICE = "remedy-recover.service"
_UNIT, _WANTED = f"{UNITS}/{SERVICE}", f"{WANTS}/remedy-recover.conf"
_PREFIX, _SUFFIX = "recover-", ".sh"
_PLAIN = r"[A-Za-z0-9._/@-]*"
"""Paths that a shell and systemd take as they are."""
_HEAD = """\
#!/bin/sh
# Ends transaction {txn}, should the machine go down while files for its boot are written.
# {service} runs it. It overwrites what others have changed since.
{functions}if cat {journal} | grep -q {end}; then
    echo "transaction {txn} had ended"
else
"""
_TAIL = """\
echo "transaction {txn} was ended: the next writing verb of remedy records it"
fi
[ $failed = 0 ] || exit 1
rm -f -- {gone} "$0"
rmdir -- {folders} 2>/dev/null
exit 0
"""


def arm(folder: str, txn: str, changes: Sequence[Change]) -> None:
    """Make the next boot put back the before-values of ``changes``, newest first.

    For a rollback these are what it writes, reversed. Raises WriteFailed or NotPermitted, and
    nothing is armed then.
    """
    folder = os.path.abspath(folder)
    if not (os.path.isdir(file.ROOT + systemd_scope.RUNNING) and re.fullmatch(_PLAIN, folder)):
        return
    crash_points.hit("before arming for boot")
    path = _path(folder, txn)
    try:
        _write(path, _script(folder, txn, changes))
        file.write(_UNIT, _service(path, changes))
        file.write(_WANTED, f"[Unit]\nWants={SERVICE}\n")
    except OSError as error:
        disarm(folder, txn)
        raise WriteFailed(f"{path}: {error.strerror}", "free space there") from error
    except RemedyError:
        disarm(folder, txn)
        raise
    crash_points.hit("after arming for boot")


def armed(folder: str, txn: str) -> bool:
    """Tell whether the next boot would look after a transaction."""
    return os.path.exists(_path(folder, txn))


def disarm(folder: str, txn: str) -> None:
    """Take away what :func:`arm` left; what cannot be is taken away later, or by the boot."""
    path = _path(folder, txn)
    if not armed(folder, txn):
        return
    with contextlib.suppress(OSError, RemedyError):
        file.write(_WANTED, None)
        file.write(_UNIT, None)
        os.unlink(path)


def sweep(folder: str, keep: Collection[str]) -> None:
    """Disarm for every transaction but the unfinished ones, ``keep``. Hold the lock."""
    for name in os.listdir(folder):
        txn = name[len(_PREFIX) : -len(_SUFFIX)]
        if name == f"{_PREFIX}{txn}{_SUFFIX}" and txn not in keep:
            disarm(folder, txn)


def _path(folder: str, txn: str) -> str:
    return os.path.join(folder, f"{_PREFIX}{txn}{_SUFFIX}")


def _write(path: str, text: str) -> None:
    """Write the script; it is on disk when this returns."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _script(folder: str, txn: str, changes: Sequence[Change]) -> str:
    stem, suffix = os.path.splitext(NAME)
    # The last words of a record: a torn one has none.
    end = f"""'"kind":"end","txn":"{txn}",.*"hash":"[0-9a-f]\\{{64\\}}"}}$'"""
    files = [path for change in changes if (path := _file_of(change))]
    gone = [_UNIT, _WANTED, *map(file.spare_of, (_UNIT, _WANTED, *files))]
    folders = [part for made in file.MADE for part in file.made_with(made)]
    journal = f"{folder}/{stem}*{suffix}"
    head = _HEAD.format(
        txn=txn, service=SERVICE, functions=undofile.FUNCTIONS, journal=journal, end=end
    )
    tail = _TAIL.format(
        txn=txn,
        gone=" ".join(file.ROOT + path for path in gone),
        folders=" ".join(file.ROOT + path for path in folders),
    )
    return head + undofile.steps(changes) + tail


def _file_of(change: Change) -> str:
    path = change.resource.partition(":")[2]
    return path if change.boot and re.fullmatch(_PLAIN, path) else ""


def _service(path: str, changes: Sequence[Change]) -> str:
    ours = [os.path.basename(_file_of(change)) for change in changes]
    units = [name for name in ours if name.startswith("remedy-restore@")]
    before = [f"Before={' '.join(units)}"] if units else []
    return "\n".join(
        (
            "[Unit]",
            "Description=Ends a change of remedy that a crash of the machine cut short",
            f"ConditionPathExists={path}",
            f"RequiresMountsFor={path}",
            "After=local-fs.target systemd-modules-load.service systemd-sysctl.service",
            *before,
            "",
            "[Service]",
            "Type=oneshot",
            f"ExecStart=/bin/sh {path}",
            "",
        )
    )
