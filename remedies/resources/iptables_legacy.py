"""Writing our chain into the legacy store, under the xtables lock.

With ``iptables-legacy-restore --noflush -w``, which takes a hundredth of a second. Where that is
not installed, with python-iptables, in a child process of its own: the library takes no lock and
keeps one table object across namespaces.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.util import find_spec
from typing import Optional

from remedies.errors import Unreadable, WriteFailed
from remedies.resources import program
from remedies.rules import restore_script

WAIT = 10
"""Seconds to wait for the xtables lock."""

UNUSABLE = 3
"""The child's exit status where python-iptables is there but does not work."""

Wanted = Optional[tuple[tuple[str, ...], tuple[str, ...]]]
"""Jumps and rules (``-A CHAIN ...`` lines); None for absent."""

_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from remedies.resources.iptc_child import main; sys.exit(main())"
)


def write(version: int, table: str, chain: str, wanted: Wanted) -> None:
    """Replace or remove our chain and its jumps; raise WriteFailed or Unreadable.

    ``version`` is 4 or 6. What other programs write to the table meanwhile stays, if they too
    take the lock as iptables(8) does.
    """
    name = "iptables" if version == 4 else "ip6tables"
    if _installed(f"{name}-legacy-restore") or not _with_library(version, table, chain, wanted):
        _with_restore(version, table, chain, wanted)


def _installed(tool: str) -> bool:
    return shutil.which(tool) is not None


def _with_library(version: int, table: str, chain: str, wanted: Wanted) -> bool:
    """Write through the child; False where python-iptables is missing or unusable."""
    if find_spec("iptc") is None:
        return False
    order = {"version": version, "table": table, "chain": chain, "wait": WAIT}
    if wanted is not None:
        order.update(jumps=wanted[0], rules=wanted[1])
    # Isolated (-I): neither the current folder nor PYTHONPATH may put an iptc.py before the
    # real one, since this runs as root.
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        program.run([sys.executable, "-I", "-c", _CHILD, root], json.dumps(order))
    except program.Failed as error:
        if error.code == UNUSABLE:
            return False
        reason = error.what.partition(": ")[2]
        raise WriteFailed(f"iptables-legacy {table} {chain}: {reason}", error.hint) from error
    return True


def _with_restore(version: int, table: str, chain: str, wanted: Wanted) -> None:
    name = "iptables" if version == 4 else "ip6tables"
    try:
        lines = restore_script.lines_of(program.run([f"{name}-legacy-save", "-t", table]))
        there = restore_script.jumps_in(lines, chain)
        if wanted is not None:
            text = restore_script.replacing(table, chain, *wanted, there)
        elif any(line.startswith(f":{chain} ") for line in lines):
            text = restore_script.removing(table, chain, there)
        else:
            return
        program.run([f"{name}-legacy-restore", "--noflush", "--wait", str(WAIT)], text)
    except Unreadable as error:
        raise WriteFailed(error.what, error.hint) from error
