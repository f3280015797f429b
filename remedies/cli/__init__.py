"""The command line: the only code that prints or exits. One file per verb.

A verb is a module with ``arguments(parser)`` and ``run(args) -> int``, and a line in ``parser``.
The first help page imports none of them; a verb's own page imports what the verb needs. Imports
are at the top, except those of a large library that few runs need.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from types import FrameType
from typing import Optional

from remedies.cli import parser, settings
from remedies.cli.terminal import clean
from remedies.errors import RemedyError

_LACKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""The machine, or a limit on this process, has too little of something: not a bug."""


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived. No handler of Exception swallows it."""


def _terminate(number: int, _frame: Optional[FrameType]) -> None:
    raise Terminated(number)


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command line and return the exit code, of README.md's table."""
    words = sys.argv[1:] if argv is None else argv
    verbosity = sum(word.count("v") for word in words if word in ("-v", "-vv", "-vvv"))
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup(1) leaves it
        signal.signal(signal.SIGHUP, _terminate)
    _have_streams()
    try:
        return _run(words)
    except KeyboardInterrupt:
        return 130
    except Terminated as error:
        return 128 + int(error.args[0])
    except BrokenPipeError:
        # The reader of our output has gone: let the interpreter's last flush find no pipe.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 141
    except Exception as error:
        return _failed(error, verbosity)


def _have_streams() -> None:
    """Open /dev/null for a standard stream that is closed; print any character without an error.

    Otherwise the next file to be opened would become a child's standard stream.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(words: list[str]) -> int:
    args = parser.parse(words)
    settings.fill(args)
    if args.netns:
        from remedies.namespaces import netns

        netns.enter(args.netns)
    code: int = args.run(args)
    sys.stdout.flush()
    return code


def _failed(error: Exception, verbosity: int) -> int:
    if verbosity >= 2:
        import traceback

        traceback.print_exception(type(error), error, error.__traceback__)  # 3.9 takes all three
    if isinstance(error, RemedyError):
        print(f"remedy: {clean(str(error))}", file=sys.stderr)
        return error.exit_code
    what = clean(f"{type(error).__name__}: {error}")
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _LACKS):
        print(
            f"remedy: {what}: this machine has too little of it, or a limit is reached; free some "
            "and run it again; 'remedy status' shows the state of the host",
            file=sys.stderr,
        )
        return 1
    print(
        f"remedy: internal error: {what}; please report it with the output of the same command "
        "and -vv; 'remedy status' shows the state of the host",
        file=sys.stderr,
    )
    return 70
