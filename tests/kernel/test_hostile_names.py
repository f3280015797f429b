"""Names that others choose, on a real host: nothing of them reaches a terminal raw.

A process, interfaces, rule comments and a chain carry terminal escapes, HTML and formulas, and
so do the words of the command line itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked_cli
import pytest

ESCAPE = "\x1b[2J\x07\x7f<img>"
"""15 bytes are the longest name of a process or interface."""
LINKS = ("=cmd|x", "\x1b[31mred", "\u202ex<b>")
SERVER = """\
import ctypes, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("0.0.0.0", 5060))
    assert ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0) == 0  # PR_SET_NAME
    print("ready", flush=True)
    sys.stdin.read()
"""
Make = Callable[..., str]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def place(netns: Make, run_in: Run) -> Iterator[str]:
    ns = netns("host")
    for number, name in enumerate(LINKS):
        run_in(ns, ["ip", "link", "add", "name", name, "type", "bridge"])
        run_in(ns, ["ip", "address", "add", f"10.9.{number}.1/24", "dev", name])
        run_in(ns, ["ip", "link", "set", name, "up"])
    run_in(ns, ["iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-o", LINKS[1],
                "-m", "comment", "--comment", ESCAPE, "-j", "MASQUERADE"])  # fmt: skip
    run_in(ns, ["iptables-nft", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-i", LINKS[1],
                "-j", "DNAT", "--to-destination", "10.9.0.9"])  # fmt: skip
    run_in(ns, ["nft", "-f", "-"], stdin=(
        "table inet other {\n chain in {\n type filter hook input priority 0;\n"
        f' ct state invalid counter drop comment "{ESCAPE}"\n }}\n}}\n'))  # fmt: skip
    server = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{ns}", "--", sys.executable, "-c", SERVER, ESCAPE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield ns
        server.terminate()


def shown(text: str, words: tuple[str, ...]) -> str:
    """Return what was printed; every character of it is fit for a terminal."""
    bad = {c for c in text if not (c.isprintable() or c in "\n\t")}
    assert not bad, (words, bad, text)
    return text


def test_no_output_holds_a_control_character(place: str, tmp_path: Path) -> None:
    options = ("--netns", place, "--state-dir", str(tmp_path / "state"))

    def remedy(*words: str) -> str:
        done = forked_cli.run(*options, *words, env=os.environ)
        assert done.returncode in (0, 1, 2, 8), (words, done.returncode, done.stderr)
        assert "internal error" not in done.stderr, done.stderr
        return shown(done.stdout, words) + shown(done.stderr, words)

    def plain(*words: str) -> Any:
        return json.loads(remedy(*words, "--json"))

    scanned = remedy("scan", "-v", "--window", "0")
    assert r"\x1b[2J\x07\x7f<img>" in scanned
    found = plain("scan", "--window", "0")
    names = {f["details"].get("process") for f in found["findings"]}
    assert ESCAPE in names, "JSON holds the name itself, escaped by JSON alone"

    facts = str(tmp_path / "facts.json")
    remedy("scan", "--window", "0", "--save-facts", facts)
    remedy("scan", "-v", "--facts", facts)
    for words in (("plan", "-v"), ("status",), ("history",), ("trace", "--for", "0.2")):
        remedy(*words)
        if words[0] != "trace":
            plain(*words)
    saved = str(tmp_path / "plan.json")
    remedy("plan", "-o", saved)
    remedy("apply", saved, "--keep", "-y", "-m", ESCAPE, "--change-id", ESCAPE, "--no-wait")
    remedy("status", "-v")
    assert plain("status")
    told = plain("history")["transactions"]
    assert told, "nothing was applied, so history and show were not tried"
    remedy("history")
    remedy("show", told[0]["transaction"])
    assert plain("show", told[0]["transaction"])
    remedy("explain", "tcp-invalid-reset")
    remedy("rollback", "-y")


@pytest.mark.parametrize(
    "words",
    [("explain", ESCAPE), ("show", ESCAPE), (ESCAPE,), ("scan", "--policy", ESCAPE),
     ("apply", ESCAPE), ("scan", f"--{ESCAPE}"), ("scan", "--facts", ESCAPE),
     ("--netns", ESCAPE, "scan"), ("report", "--format", ESCAPE), ("audit", "verify", ESCAPE)],
    ids=str,
)  # fmt: skip
def test_no_error_repeats_a_control_character(words: tuple[str, ...], tmp_path: Path) -> None:
    done = forked_cli.run("--state-dir", str(tmp_path / "state"), *words, env=os.environ)
    assert done.returncode in (1, 64, 65, 77, 78), done
    assert shown(done.stderr, words).startswith("remedy: ")
    shown(done.stdout, words)
