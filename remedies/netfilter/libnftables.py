"""libnftables through its Python binding: JSON in, JSON out, one context a call.

A context keeps the namespace it was made in, because its netlink socket does, so none outlives a
call. The binding (module ``nftables``) is imported on first use: most scans never need it.

Each call has a process of its own. libnftables reads what others have written before it changes
anything, and 1.0.6 crashes on sets that nft 1.1.3 made (in a container beside it, say).

Commands are the objects of libnftables-json(5), ``{"add": {"table": {...}}}``, without the
``metainfo`` that every reply begins with. A list of commands is one transaction of the kernel.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Sequence
from typing import Any, Optional

from remedies.errors import RemedyError, Unreadable, WriteFailed
from remedies.libraries import how_to_add
from remedies.namespaces import child, netns, workers

SONAME = "libnftables.so.1"

_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
"""What nft's scanner takes for a name (src/scanner.l); any program may give another."""
_NUMBERED = re.compile(r"\t\t(?P<rule>.*[^{]) # handle (?P<handle>\d+)")

Command = dict[str, Any]
_Said = tuple[int, str, str]
"""nft's exit code, what it printed, and its errors."""


_CRASHED = (
    "update nftables: a newer version has written rules here; or set 'backend: iptables' in policy"
)


class _BatchRefused(Exception):
    """libnftables refused a batch; the message is its first error line."""


def _library() -> Any:
    import ctypes

    try:
        return ctypes.CDLL(SONAME)
    except OSError as error:
        raise Unreadable(
            f"libnftables cannot be loaded ({error})", "apt install libnftables1"
        ) from error


def _binding() -> Any:
    """Return the binding's class."""
    try:
        import nftables
    except ImportError as error:
        raise Unreadable(
            "the Python module 'nftables' is not installed", how_to_add("nftables")
        ) from error
    return nftables.Nftables


def _context(library: Any, make: Any, *, stateless: bool = True, dry_run: bool = False) -> Any:
    """Return a fresh binding object. The library is known to load: its ``__del__`` needs that."""
    nft = make(SONAME)
    nft.set_stateless_output(stateless)
    if dry_run:
        # The binding has no dry run; libnftables has: nft_ctx_set_dry_run(ctx, bool).
        import ctypes

        call = library.nft_ctx_set_dry_run
        call.argtypes = [ctypes.c_void_p, ctypes.c_bool]
        call(nft._Nftables__ctx, True)
    return nft


def _words(error: str) -> str:
    """Return the line of nft's message that says what is wrong, without the input's position."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    for line in lines:
        if "Error:" in line:
            return line.partition("Error:")[2].strip()
    return lines[0] if lines else "no reason given"


def _execute(commands: list[Command], *, stateless: bool = True) -> str:
    return _run_nft(_batch(commands), stateless=stateless)


def _batch(commands: Sequence[Command]) -> str:
    return json.dumps({"nftables": [{"metainfo": {"json_schema_version": 1}}, *commands]})


def _run_nft(
    text: str,
    *,
    stateless: bool = True,
    plain: bool = False,
    handles: bool = False,
) -> str:
    """Return what nft prints for a text, in JSON unless ``plain``; see :func:`run_text`."""
    library, make = _library(), _binding()

    def command() -> _Said:
        nft = _context(library, make, stateless=stateless)
        nft.set_json_output(not plain)
        nft.set_handle_output(handles)
        nft.set_terse_output(handles)
        return _say(nft, text)

    code, output, error = _apart(command)
    if code != 0:
        raise _BatchRefused(_words(error))
    return output


def _say(nft: Any, text: str) -> _Said:
    code, output, error = nft.cmd(text)
    return code, str(output), str(error)


def _apart(command: Callable[[], _Said]) -> _Said:
    """Return what a command says in a process of its own; raise Unreadable where that dies.

    It ends with this one, so that nothing is written once a guard has killed the writer. Signals
    that have a handler of this process wait until it is done, as for a call into C.
    """
    handled = [number for number in child.SIGNALS if callable(signal.getsignal(number))]
    with child.signals_wait(handled):
        (done,) = workers.visit_all([lambda: json.dumps(command())], workers.NO_LIMIT)
    if done.killed_by:
        name = signal.Signals(done.killed_by).name
        raise Unreadable(f"libnftables crashed here ({name})", _CRASHED)
    if done.failure:
        raise Unreadable(f"libnftables: {done.failure}")
    code, output, error = json.loads(done.text)
    return int(code), str(output), str(error)


def run_json(commands: list[Command], *, stateless: bool = True) -> list[dict[str, Any]]:
    """Run commands that print (``list``) and return the objects printed, ``metainfo`` left out.

    ``stateless`` leaves counter values out (``"counter": null``). Raises Unreadable with nft's
    words, or when the binding or the library is missing.
    """
    try:
        return _objects(_execute(commands, stateless=stateless))
    except _BatchRefused as error:
        raise Unreadable(f"nft: {error}") from error


def _objects(output: str) -> list[dict[str, Any]]:
    printed = json.loads(output)["nftables"] if output.strip() else []
    return [item for item in printed if "metainfo" not in item]


def list_table(family: str, name: str, *, stateless: bool = True) -> Optional[list[dict[str, Any]]]:
    """Return the objects of one table (table, chains, rules, sets), None where there is none.

    Raises Unreadable for every other reason: not permitted, no nf_tables, no library.
    """
    try:
        return run_json([_listing(family, name)], stateless=stateless)
    except Unreadable as error:
        # strerror(ENOENT) in the C locale, which this process never leaves.
        if "No such file or directory" in error.what:
            return None
        raise


def _listing(family: str, name: str) -> Command:
    return {"list": {"table": {"family": family, "name": name}}}


def table_text(family: str, name: str) -> str:
    """Return a table in nft's own words, counters left out; raise Unreadable."""
    return run_text(f"list table {family} {name}")


def printed_rules(family: str, name: str) -> dict[int, str]:
    """Return the rules of a table as ``nft -a -s -t`` prints them, by the kernel's number of each.

    A comment may hold lines that look like rules: a number that stands at two lines tells nothing
    and is left out, as is every rule of a table whose name nft cannot be asked for in its own
    words. Raises Unreadable.
    """
    if not _PLAIN_NAME.fullmatch(name):
        return {}
    printed: dict[int, str] = {}
    twice = set()
    for line in run_text(f"list table {family} {name}", handles=True).splitlines():
        said = _NUMBERED.fullmatch(line)
        if said is not None:
            handle = int(said["handle"])
            twice.update({handle} & printed.keys())
            printed[handle] = said["rule"]
    return {handle: rule for handle, rule in printed.items() if handle not in twice}


def run_text(text: str, *, handles: bool = False) -> str:
    """Execute commands in nft's own words as one transaction; return what they print.

    ``handles``: with the kernel's numbers, and without the elements of named sets. Raises
    Unreadable.
    """
    try:
        return _run_nft(text, plain=True, handles=handles)
    except _BatchRefused as error:
        raise Unreadable(f"nft: {error}") from error


def run(commands: list[Command]) -> None:
    """Execute commands as one transaction; raise WriteFailed with nft's words."""
    try:
        _execute(commands)
    except (_BatchRefused, Unreadable) as error:
        raise _write_failed(error) from error


def rehearse(
    commands: Sequence[Command], alone: Sequence[Command], family: str, name: str
) -> Optional[list[dict[str, Any]]]:
    """Let nft and the kernel judge commands and change nothing; raise WriteFailed if refused.

    Then load those of ``alone`` in an empty namespace, and return the objects of one table as nft
    prints it there; None where they cannot be loaded.
    """
    library, make = _library(), _binding()
    kept = []  # to the process's end: freeing a second one is a double free in nft 0.9.8

    def context(*, dry_run: bool = False) -> Any:
        kept.append(_context(library, make, dry_run=dry_run))
        kept[-1].set_json_output(True)
        return kept[-1]

    def command() -> _Said:
        judged = context(dry_run=True)
        refused = _say(judged, _batch(commands)) if commands else (0, "", "")
        if refused[0] != 0:
            return refused
        with netns.scratch():
            for each in (alone, [_listing(family, name)]):
                nft = context()  # of the new namespace; a context keeps its own
                code, printed, _ = _say(nft, _batch(each))
                if code != 0:
                    return 0, "", ""
        return 0, printed, ""

    try:
        code, output, errors = _apart(command)
    except Unreadable as error:
        raise _write_failed(error) from error
    if code != 0:
        raise _write_failed(_BatchRefused(_words(errors)))
    return _objects(output) if output else None


def _write_failed(error: Exception) -> WriteFailed:
    if isinstance(error, RemedyError):
        return WriteFailed(error.what, error.hint)
    return WriteFailed(f"nft: {error}")
