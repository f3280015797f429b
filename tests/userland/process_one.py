"""Process 1 of a userland: it runs the host tool from the bundle, and takes in orphans.

Sent as text to the userland's own Python (3.9 and newer), with the bundle's path as argument. A
line on standard input is a JSON list: the words of one command line. The answer is its exit code,
a line; what it printed is in ``/run/out`` and ``/run/err``. The modules of the tool are imported
once, because each process would read or compile them anew; the command line itself runs in a
process of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from typing import NoReturn

VERBS = ("apply", "confirm", "plan", "rollback", "scan", "status", "verify")


def main(bundle: str) -> None:
    """Serve until standard input ends: this process and with it the userland end with its owner."""
    sys.path.insert(0, bundle)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    _import_the_tool()
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _be_remedy([bundle, *json.loads(line)])
        print(_end_of(pid), flush=True)


def _import_the_tool() -> None:
    from remedies import catalogue
    from remedies.rules.kinds import KINDS

    for verb in VERBS:
        importlib.import_module(f"remedies.cli.{verb}")
    for scheme in KINDS:
        importlib.import_module(f"remedies.resources.{scheme}")
    for condition in catalogue.condition_ids():
        catalogue.condition(condition)
    for fix in catalogue.fix_ids():
        catalogue.fix(fix)


def _end_of(pid: int) -> int:
    """Return a child's exit code (negative: the signal); orphans that end meanwhile are let go."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _be_remedy(argv: list[str]) -> NoReturn:
    code = 99
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        for number, path in enumerate(("/dev/null", "/run/out", "/run/err")):
            descriptor = os.open(path, flags if number else os.O_RDONLY, 0o600)
            os.dup2(descriptor, number)
            os.close(descriptor)
        from remedies import cli

        sys.argv = argv
        code = cli.main(argv[1:])
    except SystemExit as error:  # argparse's way out
        code = error.code if isinstance(error.code, int) else 99
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
