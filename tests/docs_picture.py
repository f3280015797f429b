"""Write docs/pictures/first-minute.svg: a real fault, found, fixed and gone, as a terminal shows.

Needs root: the commands run in the host namespace of a lab's world, against its traffic.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from remedies.lab.scenarios import tcp_invalid_reset as lab
from remedies.lab.world import Options, World

PICTURE = Path(__file__).resolve().parent.parent / "docs/pictures/first-minute.svg"
WIDTH = 96
HOST = "web1"
_FONTS = re.compile(r" *@font-face \{\{.*?\}\}\n", re.DOTALL)
"""Fonts that a reader's browser would fetch from elsewhere."""
_ALONE = 'hostname "$0" && mount -t tmpfs tmpfs /run/netns && exec "$@"'
"""A host of its own: no other namespace of the machine is counted."""


def main() -> None:
    """Play the minute and write the picture."""
    with World("tcp-invalid-reset", Options()) as world, tempfile.TemporaryDirectory() as state:
        lab.build(world)
        shown = "".join(_minute(world, state))
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(shown))
    PICTURE.parent.mkdir(exist_ok=True)
    svg = console.export_svg(title=HOST, code_format=_FONTS.sub("", CONSOLE_SVG_FORMAT))
    PICTURE.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def _minute(world: World, state: str) -> Iterator[str]:
    """Yield what is typed and what is shown."""
    yield _upload(world)
    yield _command(world, state, "remedy")
    yield _command(world, state, "remedy apply --yes")
    yield _upload(world)
    yield _command(world, state, "remedy")


def _upload(world: World) -> str:
    outcome = lab.traffic(world)
    return f"# an upload through this host: {outcome.detail}\n"


def _command(world: World, state: str, line: str) -> str:
    """Run a command line on a terminal while connections go through the host."""
    words = [sys.executable, "-m", "remedies", *line.split()[1:]]
    ours, theirs = pty.openpty()
    over = threading.Event()
    busy = threading.Thread(target=_busy, args=(world, over))
    busy.start()
    process = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{world.namespace('host')}", "unshare", "--uts", "--mount",
         "--pid", "--fork", "--mount-proc", "sh", "-c", _ALONE, HOST, *words],
        stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": str(WIDTH),
             "REMEDY_STATE_DIR": state},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while part := _read(ours):
            shown += part
    finally:
        os.close(ours)
        process.wait(timeout=60)
        over.set()
        busy.join()
    return f"\x1b[1m$ {line}\x1b[0m\n{shown.decode()}\n".replace("\r", "")


def _busy(world: World, over: threading.Event) -> None:
    while not over.is_set():
        lab.traffic(world)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the last program has let the terminal go
        return b""


if __name__ == "__main__":
    main()
