"""``remedy scan --all-netns`` on real namespaces: named, anonymous, ending, failing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked_cli

from remedies.transaction import state
from remedies.transaction.journal import NAME

Make = Callable[..., str]

MASQUERADE = """\
table ip theirs {
chain postrouting { type nat hook postrouting priority 100
ip saddr 192.0.2.0/24 masquerade
}
}
"""


def remedy(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forked_cli.run("--state-dir", str(folder), *words, timeout=120.0)


def scan(folder: Path, *words: str) -> dict[str, Any]:
    """Scan everything once; the machine's own namespaces may hold findings of their own."""
    done = remedy(folder, "scan", "--all-netns", "--window", "0.1", "--json", *words)
    assert done.returncode in (0, 2), done.stderr
    plain: dict[str, Any] = json.loads(done.stdout)
    return plain


def named(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [each for each in found["namespaces"] if each["netns_name"] == name]


def test_every_named_namespace_is_there(netns: Make, run_in: Any, tmp_path: Path) -> None:
    nat, plain = netns(), netns()
    run_in(nat, ["nft", "-f", "-"], stdin=MASQUERADE)
    found = scan(tmp_path)
    assert found["kind"] == "scan"
    assert found["host"]["netns"] == "host"
    (one,) = named(found, nat)
    assert [f["condition"] for f in one["findings"]] == ["tcp-invalid-reset"]
    assert one["findings"][0]["netns_name"] == nat
    assert one["netns"] == nat
    assert one["container"] is None
    assert one["host"]["netns"] not in ("host", "")
    (other,) = named(found, plain)
    assert other["findings"] == []


def test_as_the_scan_of_each(netns: Make, run_in: Any, tmp_path: Path) -> None:
    """What is said of a namespace is what a scan of it alone says."""
    name = netns()
    run_in(name, ["nft", "-f", "-"], stdin=MASQUERADE)
    (one,) = named(scan(tmp_path), name)
    done = remedy(tmp_path, "--netns", name, "scan", "--window", "0.1", "--json")
    alone = json.loads(done.stdout)
    added = {"netns_name", "container"}
    assert alone["host"] == one["host"]
    assert alone["findings"] == [
        {key: value for key, value in finding.items() if key not in added}
        for finding in one["findings"]
    ]


def test_a_namespace_without_a_name(tmp_path: Path) -> None:
    """A process of it stands for it, and two processes are one namespace."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "sleep 600 & echo ready; wait"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            found = scan(tmp_path)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    (one,) = [each for each in found["namespaces"] if each["netns"] == str(process.pid)]
    assert one["netns_name"] is None
    assert one["unknown"] == []


def test_text_is_grouped_and_names_each(netns: Make, run_in: Any, tmp_path: Path) -> None:
    nat, plain = netns(), netns()
    run_in(nat, ["nft", "-f", "-"], stdin=MASQUERADE)
    short = remedy(tmp_path, "scan", "--all-netns", "--window", "0").stdout
    _, _, group = short.partition(f"namespace {nat}  --netns {nat}\n\n")
    assert group.startswith("exposed   tcp-invalid-reset")
    assert plain not in short
    assert plain in remedy(tmp_path, "scan", "--all-netns", "--window", "0", "-v").stdout


def test_the_worst_is_the_exit_code(netns: Make, run_in: Any, tmp_path: Path) -> None:
    name = netns()
    run_in(name, ["nft", "-f", "-"], stdin=MASQUERADE)
    words = ("scan", "--all-netns", "--window", "0", "--fail-on", "exposed")
    assert remedy(tmp_path, *words).returncode == 2


def test_what_does_not_go_together(netns: Make, tmp_path: Path) -> None:
    for words in (
        ("--netns", netns(), "scan", "--all-netns"),
        ("scan", "--all-netns", "--facts", "f"),
    ):
        done = remedy(tmp_path, *words)
        assert done.returncode == 64
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1


def test_a_failing_one_is_unknown_and_the_rest_is_scanned(netns: Make, tmp_path: Path) -> None:
    """The journal of one namespace is broken: the others are judged all the same."""
    broken, fine = netns(), netns()
    (one,) = named(scan(tmp_path), broken)
    folder = Path(state.prepare(str(tmp_path), one["host"]["netns"]))
    (folder / NAME).write_text("not a journal\nnor is this\n")
    found = scan(tmp_path)
    (one,) = named(found, broken)
    assert one["findings"] == []
    assert {u["condition"] for u in one["unknown"]} >= {"tcp-invalid-reset", "udp-reply-source"}
    assert all("could not be scanned" in u["reason"] for u in one["unknown"])
    (other,) = named(found, fine)
    assert other["unknown"] == []
    assert remedy(tmp_path, "scan", "--all-netns", "--window", "0", "--strict").returncode == 2
