"""libnftables through its Python binding: JSON in, JSON out, one context a call.

A context keeps the namespace it was made in, because its netlink socket does, and what it has
read. The binding (module ``nftables``) is imported on first use: most scans never need it.

Each call has a process of its own, or shares that of a transaction (:func:`one_process`).
libnftables reads what others have written before it changes anything, and 1.0.6 crashes on sets
that nft 1.1.3 made (in a container beside it, say).

Commands are the objects of libnftables-json(5), ``{"add": {"table": {...}}}``, without the
``metainfo`` that every reply begins with. A list of commands is one transaction of the kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

from remedies.errors import RemedyError, Unreadable, WriteFailed
from remedies.libraries import how_to_add
from remedies.namespaces import child, netns
from remedies.namespaces.helper import Broken, Helper
from remedies.values import NamedTuple

SONAME = "libnftables.so.1"

_PLAIN_NAME = r"[A-Za-z][A-Za-z0-9_./-]*"
"""What nft's scanner takes for a name (src/scanner.l); any program may give another."""
_NUMBERED = r"\t\t(?P<rule>.*[^{]) # handle (?P<handle>\d+)"

Command = dict[str, Any]
_Said = tuple[int, str, str]
"""nft's exit code, what it printed, and its errors."""


class _Input(NamedTuple):
    """What one context of nft is given."""

    text: str
    plain: bool = False
    """It prints its own words, not JSON."""
    stateless: bool = True
    handles: bool = False
    """With the kernel's numbers, and without the elements of named sets."""
    dry_run: bool = False


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


def _context(library: Any, make: Any, given: _Input) -> Any:
    """Return a fresh binding object. The library is known to load: its ``__del__`` needs that."""
    nft = make(SONAME)
    nft.set_json_output(not given.plain)
    nft.set_stateless_output(given.stateless)
    nft.set_handle_output(given.handles)
    nft.set_terse_output(given.handles)
    if given.dry_run:
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


class _Sharing:
    """One process for the calls of this one, in the namespace it is in now."""

    def __init__(self) -> None:
        self._home = self._here()
        self._helper: Optional[Helper] = None

    @staticmethod
    def _here() -> tuple[int, int, int]:
        found = os.stat(netns.OWN)
        return os.getpid(), found.st_dev, found.st_ino

    @property
    def is_here(self) -> bool:
        """Tell whether this is that process, in that namespace: not a fork of it, nor elsewhere."""
        return self._here() == self._home

    def helper(self) -> Optional[Helper]:
        """Return it, started if need be; None where it would not be here."""
        if not self.is_here:
            return None
        if self._helper is None or self._helper.ended:
            self._helper = Helper(_answering())
        return self._helper

    def end(self) -> None:
        if self._helper is not None:
            self._helper.end()


_sharing: Optional[_Sharing] = None


@contextlib.contextmanager
def one_process() -> Iterator[None]:
    """Have the calls of a ``with`` block share a process, in the namespace it is in now.

    After a crash of libnftables the next call starts another.
    """
    global _sharing
    if _sharing is not None and _sharing.is_here:
        yield
        return
    before, _sharing = _sharing, _Sharing()
    try:
        yield
    finally:
        _sharing.end()
        _sharing = before


def _answering() -> Callable[[str], str]:
    """Return what the process of :func:`_apart` does."""
    library, make = _library(), _binding()
    kept = []  # to the process's end: freeing a second one is a double free in nft 0.9.8

    def say(given: _Input) -> _Said:
        kept.append(_context(library, make, given))
        code, output, error = kept[-1].cmd(given.text)
        return code, str(output), str(error)

    def answer(text: str) -> str:
        here, alone = ([_Input(*given) for given in inputs] for inputs in json.loads(text))
        said: list[_Said] = []
        with contextlib.ExitStack() as namespace:
            for number, given in enumerate((*here, *alone)):
                if number == len(here):
                    namespace.enter_context(netns.scratch())
                said.append(say(given))
                if said[-1][0] != 0:
                    break
        return json.dumps(said)

    return answer


def _apart(here: Sequence[_Input], alone: Sequence[_Input] = ()) -> list[_Said]:
    """Return what nft says to each input, in a process of its own, up to the first that it refuses.

    Those of ``alone`` are for an empty namespace. Raises Unreadable where the process dies.

    It ends with this one, so that nothing is written once a guard has killed the writer. Signals
    that have a handler of this process wait until it is done, as for a call into C.
    """
    handled = [number for number in child.SIGNALS if callable(signal.getsignal(number))]
    with child.signals_wait(handled):
        shared = _sharing.helper() if _sharing is not None else None
        helper = shared or Helper(_answering())
        try:
            said = helper.ask(json.dumps([here, alone]))
        except Broken as error:
            if not error.killed_by:
                raise Unreadable(f"libnftables: {error}") from error
            name = signal.Signals(error.killed_by).name
            raise Unreadable(f"libnftables crashed here ({name})", _CRASHED) from error
        finally:
            if shared is None:
                helper.end()
    return [(code, output, errors) for code, output, errors in json.loads(said)]


def _execute(commands: list[Command], *, stateless: bool = True) -> str:
    return _run_nft(_Input(_batch(commands), stateless=stateless))


def _batch(commands: Sequence[Command]) -> str:
    return json.dumps({"nftables": [{"metainfo": {"json_schema_version": 1}}, *commands]})


def _run_nft(given: _Input) -> str:
    """Return what nft prints; raise _BatchRefused."""
    ((code, output, error),) = _apart([given])
    if code != 0:
        raise _BatchRefused(_words(error))
    return output


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
    if not re.fullmatch(_PLAIN_NAME, name):
        return {}
    printed: dict[int, str] = {}
    twice = set()
    for line in run_text(f"list table {family} {name}", handles=True).splitlines():
        said = re.fullmatch(_NUMBERED, line)
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
        return _run_nft(_Input(text, plain=True, handles=handles))
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
    here = [_Input(_batch(commands), dry_run=True)] if commands else []
    there = [_Input(_batch(each)) for each in (alone, [_listing(family, name)])]
    try:
        said = _apart(here, there)
    except Unreadable as error:
        raise _write_failed(error) from error
    code, output, errors = said[-1]
    if code == 0:
        return _objects(output)
    if len(said) <= len(here):
        raise _write_failed(_BatchRefused(_words(errors)))
    return None


def _write_failed(error: Exception) -> WriteFailed:
    if isinstance(error, RemedyError):
        return WriteFailed(error.what, error.hint)
    return WriteFailed(f"nft: {error}")
