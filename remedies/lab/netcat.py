"""netcat as a UDP receiver: ``python -m remedies.lab.netcat EAR PORT [ADDRESS] [-6]``.

What ``nc -u -l`` prints is passed on to the Unix datagram socket EAR, if somebody listens there.
``ready`` is printed once netcat says that it is bound; it takes until it is ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from types import FrameType


def main(ear: str, port: str, where: list[str]) -> None:
    """Run OpenBSD's netcat and tell what it hears."""
    options = [word for word in where if word.startswith("-")]
    address = [word for word in where if not word.startswith("-")]
    if shutil.which("nc") is None:
        sys.exit("nc is not installed: apt install netcat-openbsd")
    child = subprocess.Popen(
        ["nc", "-n", "-v", "-u", "-d", *options, "-l", *address, port],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def end(number: int, frame: FrameType | None) -> None:
        child.kill()
        child.wait()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    assert child.stdout is not None and child.stderr is not None  # noqa: S101, PT018 - PIPE above
    said = child.stderr.readline().decode()
    print("ready" if said.startswith("Bound on") else f"netcat: {said}", flush=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
        while heard := os.read(child.stdout.fileno(), 65536):
            with contextlib.suppress(OSError):  # nobody listens now
                teller.sendto(heard, ear)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
