"""Traffic that goes on beside a test's own steps."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do ``work`` in a thread until the block ends: the event says so. What it raises is raised."""
    stop, failed = threading.Event(), []

    def run() -> None:
        try:
            work(stop)
        except Exception as error:  # raised again below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]
