"""The head of the journal reaches the system's log at the end of every transaction."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

PROGRAM = """\
import sys
from remedies.transaction.journal import Journal
with Journal(sys.argv[1]) as journal:
    journal.append("begin", "t", {})
    print(journal.append("end", "t", {}).hash)
"""
IN_ITS_OWN_DEV = 'mount -t tmpfs none /dev && ln -s "$0" /dev/log && exec "$@"'


def test_the_head_is_sent_to_the_log(tmp_path: Path) -> None:
    """A log daemon of our own listens where /dev/log leads, in a mount namespace of its own."""
    place = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(place)
        log.settimeout(10)
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", IN_ITS_OWN_DEV, place,
             sys.executable, "-c", PROGRAM, str(tmp_path)],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        line = log.recv(4096).decode()
    assert re.search(
        rf"remedy\[\d+\]: journal head of .*journal.*: record 2 {done.stdout.strip()}", line
    )
    assert not os.path.islink("/dev/log") or os.readlink("/dev/log") != place
