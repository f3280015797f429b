"""An error that ends a run: one line on standard error, with ``--json`` a document as well."""

from __future__ import annotations

import errno
import json
import sys
import traceback

from remedies.cli.terminal import clean
from remedies.errors import RemedyError
from remedies.model import FORMAT_VERSION

_LACKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""The machine, or a limit on this process, has too little of something: not a bug."""
_STATE = "'remedy status' shows the state of the host"


def told(error: Exception, verbosity: int, *, as_json: bool) -> int:
    """Tell what went wrong, and return the exit code. A traceback from ``verbosity`` 2 on."""
    if verbosity >= 2:
        traceback.print_exception(type(error), error, error.__traceback__)  # 3.9 takes all three
    code, what, hint = _read(error)
    print(f"remedy: {clean(f'{what}; {hint}' if hint else what)}", file=sys.stderr)
    if as_json and not isinstance(error, (OSError, MemoryError)):  # not to a disk that is full
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "error",
            "code": code,
            "message": clean(what),
            "hint": clean(hint) or None,
        }
        print(json.dumps(plain), flush=True)  # in one line: a verb may print a document a line
    return code


def _read(error: Exception) -> tuple[int, str, str]:
    """Return the exit code, what went wrong and where, and what to do."""
    if isinstance(error, RemedyError):
        return error.exit_code, error.what, error.hint
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _LACKS):
        return (
            1,
            f"{what}: this machine has too little of it, or a limit is reached",
            f"free some and run it again; {_STATE}",
        )
    return (
        70,
        f"internal error: {what}",
        f"please report it with the output of the same command and -vv; {_STATE}",
    )
