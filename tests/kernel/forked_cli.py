"""The command line in a fork (see :mod:`slim`): all of it but the start of an interpreter."""

from __future__ import annotations

import array
import bisect
import contextlib
import ctypes
import functools
import gc
import importlib
import itertools
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self, TextIO, Union

import slim
from residents import name_visitor

from remedies import catalogue, cli, codec, shipped
from remedies.bpf import symbols
from remedies.cli.parser import VERBS
from remedies.errors import Unreadable
from remedies.lab.world import child_environment
from remedies.namespaces import netns
from remedies.policy import compile as compiler
from remedies.rules.kinds import KINDS
from remedies.tap import drop_types

_MOST_FILES = 1 << 20

# What a command finds in the folder of its state from the second time on, and what it understands
# once: a fork of the small process has it, also with a folder of its own.
kernel_types = functools.cache(drop_types._asked)
_parsed = functools.cache(compiler.parse)  # type: ignore[attr-defined]
_nearest = symbols.nearest


class _Functions:
    """The kernel's functions in order: five megabytes, written anew for everybody who asks."""

    def __init__(self) -> None:
        self.modules = os.listdir("/sys/module")
        with open(symbols.FILE, "rb") as file:
            code = sorted(line for line in file if line.split(b" ", 2)[1] in b"tTwW")
        self._starts = array.array("I", itertools.accumulate(map(len, code), initial=0))
        self._text = mmap.mmap(-1, self._starts[-1])  # shared: a fork has nothing to copy
        self._text.write(b"".join(code))

    def line(self, number: int) -> str:
        """Return one of kallsyms' lines."""
        return self._text[self._starts[number] : self._starts[number + 1]].decode(
            "ascii", "replace"
        )

    def before(self, address: int) -> list[str]:
        """Return the line of the function that begins last before an address; none before all."""
        digits = self.line(0).index(" ")
        all_lines = range(len(self._starts) - 1)
        count = bisect.bisect(all_lines, f"{address:0{digits}x}~", key=self.line)
        return [self.line(count - 1)] if count else []


_functions = functools.cache(_Functions)


def load() -> None:
    """Load what commands would, each by itself: starting a verb takes longer than most of them."""
    _functions()  # first: what it leaves is used for what comes
    with contextlib.suppress(Unreadable):
        kernel_types()
    for verb in VERBS:
        importlib.import_module(f"remedies.cli.{verb}")
    for scheme in KINDS:
        importlib.import_module(f"remedies.resources.{scheme}")
    for condition in catalogue.condition_ids():
        catalogue.condition(condition)
    for fix in catalogue.fix_ids():
        catalogue.fix(fix)
    _know()
    for policy in shipped.policies():
        compiler.compile_policy([policy])
    for name, module in list(sys.modules.items()):
        for kind in vars(module).values() if name.startswith("remedies.") else ():
            ours = isinstance(kind, type) and kind.__module__ == name
            if ours and "__fields__" in vars(kind):
                with contextlib.suppress(NameError):  # its types are for checkers: it is in no file
                    codec.members(kind)
    ctypes.CDLL(None).malloc_trim(0)  # each fork would copy where the memory is that is free


def _know() -> None:
    """Let this process take what it knows, or will know, for what it would ask again."""
    drop_types._asked, compiler.parse = kernel_types, _parsed  # type: ignore[attr-defined]
    symbols.nearest = known_functions


HOOK = """\
import os, signal, sys
from remedies.transaction import crash_points
writer, passed = os.getpid(), []
def hit(name):
    if os.getpid() == writer:
        passed.append(name)
        point(name)
%s
crash_points.hit = hit
"""
"""What has ``point(name)`` of a program's text called at each point of a transaction."""


def nothing() -> None:
    """Do nothing."""


def hooked(point: str) -> None:
    """Let this process's command line call ``point(name)``, whose text is given, at each point."""
    exec(HOOK % point, {})


class _Fork:
    """A command line in a fork; who leaves its ``with`` block by an exception has it end.

    By itself it may end late, and a run that is interrupted has ten seconds.
    """

    _child: slim.Child
    returncode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.terminate()
        self.returncode = self._child.wait()
        self._child.close()

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing where it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._child.handle, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Forked(_Fork):
    """A command line that was started in a fork, with nothing to read: as subprocess.Popen has it.

    Without ``env`` it has a world's environment; without ``err`` all that it prints goes to one
    output. ``prepare`` is called in the process before.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: str = ".",
        *,
        env: Mapping[str, str] | None = None,
        err: bool = False,
        prepare: Callable[[], object] = nothing,
    ) -> None:
        self.args = ["remedy", *words]
        environment = child_environment() if env is None else env
        self._out = os.memfd_create("out")
        self._err = os.memfd_create("err") if err else None
        be = command(words, folder, environment, prepare)
        self._child = slim.fork(be, [self._out] if self._err is None else [self._out, self._err])

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        super().__exit__(kind)
        for file in (self._out, self._err):
            if file is not None:
                os.close(file)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it printed, once it ended. Raises subprocess.TimeoutExpired."""
        self.wait(timeout)
        return _text(self._out), "" if self._err is None else _text(self._err)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code, once it ended. Raises subprocess.TimeoutExpired."""
        code = self.returncode = self._child.wait(timeout)
        if code is None:
            shown = [_text(file) for file in (self._out, self._err) if file is not None]
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0, *shown)
        return code


class Piped(_Fork):
    """A command line in a fork that is read while it runs: as subprocess.Popen with two pipes."""

    def __init__(self, words: Sequence[str], *, env: Mapping[str, str]) -> None:
        self._begin(["remedy", *words], command(words, os.getcwd(), env))

    def _begin(
        self, argv: list[str], be: Callable[[int, int], NoReturn], loads: str = "forked_cli"
    ) -> None:
        self.args = argv
        (out, theirs), (err, errors) = os.pipe(), os.pipe()
        try:
            self._child = slim.fork(be, [theirs, errors], loads)
        finally:
            os.close(theirs)
            os.close(errors)
        self.pid = self._child.pid
        self.stdout, self.stderr = os.fdopen(out, "rb"), os.fdopen(err, "rb")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stdout.close()
        self.stderr.close()
        super().__exit__(kind)

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        self.returncode = self._child.wait(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Return its exit code, once it ended. Raises subprocess.TimeoutExpired."""
        self.returncode = self._child.wait(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[bytes, bytes]:
        """Return what else it prints until it has ended. Raises subprocess.TimeoutExpired."""
        until = time.monotonic() + timeout
        printed = {self.stdout.fileno(): b"", self.stderr.fileno(): b""}
        waiting = [*printed]
        while waiting:
            ready, _, _ = select.select(waiting, [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise subprocess.TimeoutExpired(self.args, timeout, *printed.values())
            for file in ready:
                content = os.read(file, 1 << 16)
                printed[file] += content
                if not content:
                    waiting.remove(file)
        self.wait(max(0.0, until - time.monotonic()))
        out, errors = printed.values()
        return out, errors


Started = Union[Piped, subprocess.Popen[bytes]]
"""A command line that is read while it runs, in a fork or in an interpreter of its own."""


def run(
    *argv: str,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    prepare: Callable[[], object] = nothing,
) -> subprocess.CompletedProcess[str]:
    """Run a command line in a fork; return how it ended, as ``subprocess.run`` does.

    Raises subprocess.TimeoutExpired.
    """
    with Forked(argv, env=env, err=True, prepare=prepare) as process:
        try:
            out, err = process.communicate(timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.wait(), out, err)


def command(
    words: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    prepare: Callable[[], object] = nothing,
) -> Callable[..., NoReturn]:
    """Return what a fork is to do: to be a command line that prints to two files, or to one."""
    folder = os.path.abspath(folder)
    return functools.partial(_command, [*words], folder, dict(environment), prepare)


def _command(
    words: list[str],
    folder: str,
    environment: Mapping[str, str],
    prepare: Callable[[], object],
    out: int,
    err: int | None = None,
) -> NoReturn:
    def prepared() -> None:
        begin(folder, environment)
        name_visitor(words)
        prepare()

    be_remedy(out, err, words, prepared)


def begin(folder: str, environment: Mapping[str, str]) -> None:
    """Make this process, a fork, as one that was just begun by an exec."""
    # Another thread's Popen waits for the last copy of its pipes to close. What is garbage by now
    # may own a number that is used anew here, so nothing is collected.
    gc.freeze()
    os.closerange(3, _MOST_FILES)
    for number in (signal.SIGTERM, signal.SIGHUP):  # a world has taken them
        signal.signal(number, signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()


def known_functions(addresses: Collection[int], lines: Iterable[str]) -> dict[int, str]:
    """Return what symbols.nearest does, of what was read once; anew where modules are others."""
    if os.listdir("/sys/module") == _functions().modules:
        lines = [line for address in addresses for line in _functions().before(address)]
    return _nearest(addresses, lines)


def _text(file: int) -> str:
    return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")


def forked(ns: str, folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """Run a verb on a namespace, with its state in ``folder``; return its JSON.

    Raises AssertionError where it ends with another code.
    """
    options = ["--netns", ns, "--state-dir", str(folder / "state"), "--json"]
    done = run(words[0], *options, *words[1:], env=os.environ)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return dict(json.loads(done.stdout))


def begun_in(ns: str, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command line in a fork that begins in a namespace, as ``ip netns exec`` has it.

    Raises AssertionError where it ends with another code.
    """
    with netns.inside(ns):
        done = run(*words, env=os.environ)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done


def be_remedy(
    out: Path | int,
    err: Path | int | None,
    argv: list[str],
    prepare: Callable[[], object] = nothing,
) -> NoReturn:
    """Be the command line from here on, in a process that was forked for it.

    Files are emptied, descriptors written to. Without ``err`` all that it prints goes to ``out``.
    """
    code = 99
    try:
        sys.stdout.flush()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(_emptied(out), 1)
        os.dup2(1 if err is None else _emptied(err), 2)
        # In a fork of a fork the earlier ones go now, and take no number with them.
        sys.stdin, sys.stdout, sys.stderr = map(standard, range(3))
        _know()
        # As everybody's Python does: pytest would look for where each came from.
        warnings.simplefilter("ignore", ResourceWarning)
        prepare()
        sys.argv = ["remedy", *argv]
        code = cli.main(argv)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def standard(number: int) -> TextIO:
    """Return Python's own file of descriptor 0, 1 or 2."""
    return open(number, closefd=False) if number == 0 else open(number, "w", closefd=False)


def _emptied(file: Path | int) -> int:
    if isinstance(file, int):
        return file
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
