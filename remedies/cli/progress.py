"""A line on the terminal about what is running, once it takes longer than a second."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator

AFTER = 1.0
"""Seconds before anything is said."""


@contextlib.contextmanager
def shown(args: argparse.Namespace, what: str) -> Iterator[None]:
    """Show ``what`` on standard error while a ``with`` block runs, and erase it at the end."""
    if args.quiet or args.plain or not sys.stderr.isatty():
        yield
        return
    import threading  # a thread only where somebody watches a terminal

    over = threading.Event()
    wipe = "\n" if os.environ.get("TERM") in (None, "dumb") else "\r\x1b[K"

    def show() -> None:
        if not over.wait(AFTER):
            print(what, end="", file=sys.stderr, flush=True)
            over.wait()
            print(wipe, end="", file=sys.stderr, flush=True)

    teller = threading.Thread(target=show, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
