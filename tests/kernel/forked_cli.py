"""The command line in a fork of the test's process: all of it but the start of an interpreter."""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from remedies import catalogue, cli
from remedies.cli.parser import VERBS
from remedies.lab.world import child_environment
from remedies.rules.kinds import KINDS

_MOST_FILES = 1 << 20

# Here, so that no fork has to: starting a verb takes longer than what most of them do.
for _verb in VERBS:
    importlib.import_module(f"remedies.cli.{_verb}")
for _scheme in KINDS:
    importlib.import_module(f"remedies.resources.{_scheme}")
for _condition in catalogue.condition_ids():
    catalogue.condition(_condition)
for _fix in catalogue.fix_ids():
    catalogue.fix(_fix)


def run(
    *argv: str,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    prepare: Callable[[], object] = lambda: None,
) -> subprocess.CompletedProcess[str]:
    """Run a command line with nothing to read; return how it ended, as ``subprocess.run`` does.

    Without ``env`` it has a world's environment. ``prepare`` is called in the process before.
    Raises subprocess.TimeoutExpired.
    """
    environment = dict(child_environment() if env is None else env)

    def prepared() -> None:
        # As an exec would: another thread's Popen waits for the last copy of its pipes to close.
        # What is garbage by now may own a number that is used anew here, so nothing is collected.
        gc.freeze()
        os.closerange(3, _MOST_FILES)
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        prepare()

    out, err = os.memfd_create("out"), os.memfd_create("err")
    try:
        pid = os.fork()
        if pid == 0:
            be_remedy(out, err, [*argv], prepared)
        code = _ended(pid, timeout)
        if code is None:
            raise subprocess.TimeoutExpired(["remedy", *argv], timeout, _text(out), _text(err))
        return subprocess.CompletedProcess(["remedy", *argv], code, _text(out), _text(err))
    finally:
        os.close(out)
        os.close(err)


def _ended(pid: int, timeout: float) -> int | None:
    """Return how a child ended; None, once it is killed, where it did not in time."""
    ended, status = None, 0
    handle = os.pidfd_open(pid)
    try:
        ended = select.select([handle], [], [], timeout)[0]
    finally:
        if not ended:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(handle)
    return os.waitstatus_to_exitcode(status) if ended else None


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


def be_remedy(
    out: Path | int,
    err: Path | int | None,
    argv: list[str],
    prepare: Callable[[], object] = lambda: None,
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
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
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


def _emptied(file: Path | int) -> int:
    if isinstance(file, int):
        return file
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
