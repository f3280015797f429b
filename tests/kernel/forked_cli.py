"""The command line in a fork of the test's process: all of it but the start of an interpreter."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from remedies import cli


def forked(ns: str, folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """Run a verb on a namespace, with its state in ``folder``; return its JSON.

    Raises AssertionError where it ends with another code.
    """
    out, err = folder / "out", folder / "err"
    pid = os.fork()
    if pid == 0:
        options = ["--netns", ns, "--state-dir", str(folder / "state"), "--json"]
        be_remedy(out, err, [words[0], *options, *words[1:]])
    _, status = os.waitpid(pid, 0)
    told = out.read_text()
    assert os.waitstatus_to_exitcode(status) == code, (words, told, err.read_text())
    return dict(json.loads(told))


def be_remedy(
    out: Path, err: Path | None, argv: list[str], prepare: Callable[[], object] = lambda: None
) -> NoReturn:
    """Be the command line from here on, in a process that was forked for it.

    Without ``err`` all that it prints goes to ``out``.
    """
    code = 99
    try:
        sys.stdout.flush()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(_emptied(out), 1)
        os.dup2(_emptied(err) if err else 1, 2)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        prepare()
        sys.argv = ["remedy", *argv]
        code = cli.main(argv)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _emptied(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
