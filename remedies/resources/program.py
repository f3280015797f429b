"""Running the program of a resource: argv and stdin, no shell, a time limit, the C locale."""

from __future__ import annotations

import os
from collections.abc import Sequence

from remedies.errors import Unreadable

KEPT: set[int] = set()
"""Descriptors that every program inherits: the writer's lock, held until the program has ended."""

TIMEOUT = 30.0
"""Seconds one program may take; saving 50,000 rules takes less than one."""


class Failed(Unreadable):
    """The program ran and refused; ``what`` holds its own words, ``code`` its exit status."""

    def __init__(self, what: str, hint: str = "", code: int = 1) -> None:
        super().__init__(what, hint)
        self.code = code


class Late(Unreadable):
    """The program took longer than it was given, and was killed."""


def run(
    argv: Sequence[str], stdin: str = "", package: str = "iptables", seconds: float = TIMEOUT
) -> str:
    """Run a program in this thread's namespace and return what it printed.

    Raises Unreadable where it is not installed or takes too long, and :class:`Failed` with its
    own words when it refuses.
    """
    import subprocess  # costs 8 ms that a plan without iptables need not pay

    try:
        done = subprocess.run(
            list(argv),
            input=stdin.encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
            pass_fds=tuple(KEPT),
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise Unreadable(f"{argv[0]} is not installed", f"apt install {package}") from error
    except subprocess.TimeoutExpired as error:
        raise Late(f"{argv[0]} did not end in {seconds:g} s") from error
    if done.returncode == 0:
        return _text(done.stdout)
    words = _words(_text(done.stderr))
    hint = "run as root (CAP_NET_ADMIN)" if "you must be root" in words else ""
    raise Failed(f"{argv[0]}: {words or f'exit {done.returncode}'}", hint, done.returncode)


def _text(printed: bytes) -> str:
    """Return it as it is, carriage returns too; a byte that is no UTF-8 as its escape."""
    return printed.decode(errors="backslashreplace")


def _words(stderr: str) -> str:
    """Return the lines that say what is wrong as one, without the advice to read the manual."""
    lines = (line.strip() for line in stderr.splitlines())
    return "; ".join(line for line in lines if line and not line.startswith(("Try `", "#")))
