"""``remedy scan --all-netns`` on real namespaces: named, anonymous, ending, failing.

A look takes the longer the more namespaces other tests have: all that is asked is asked of four.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked_cli
import pytest
from run_in import run_command

from remedies.namespaces import netns as namespaces
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


@dataclass(frozen=True)
class Looked:
    """Four namespaces, and what a look at everything said; the machine's own say more."""

    nat: str
    plain: str
    broken: str
    """Its journal is none."""
    nameless: str
    """A process of it, which has another one."""
    folder: Path
    strict: subprocess.CompletedProcess[str]
    found: dict[str, Any]

    def named(self, name: str) -> dict[str, Any]:
        """Return what was said of one."""
        (one,) = [each for each in self.found["namespaces"] if each["netns_name"] == name]
        return dict(one)


def remedy(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forked_cli.run("--state-dir", str(folder), *words, timeout=120.0)


@pytest.fixture(scope="module")
def looked(module_netns: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looked]:
    nat, plain, broken = module_netns(), module_netns(), module_netns()
    run_command(nat, ["nft", "-f", "-"], stdin=MASQUERADE)
    folder = tmp_path_factory.mktemp("all")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with namespaces.inside(broken):
        journal = Path(state.prepare(str(folder), namespaces.key(boot))) / NAME
    journal.write_text("not a journal\nnor is this\n")
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "sleep 600 & echo ready; wait"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            words = ("scan", "--all-netns", "--window", "0.1", "--json", "--strict")
            done = remedy(folder, *words)
            found = json.loads(done.stdout)
            yield Looked(nat, plain, broken, str(process.pid), folder, done, found)
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def test_every_named_namespace_is_there(looked: Looked) -> None:
    found = looked.found
    assert found["kind"] == "scan"
    assert found["host"]["netns"] == "host"
    one = looked.named(looked.nat)
    assert [f["condition"] for f in one["findings"]] == ["tcp-invalid-reset"]
    assert one["findings"][0]["netns_name"] == looked.nat
    assert one["netns"] == looked.nat
    assert one["container"] is None
    assert one["host"]["netns"] not in ("host", "")
    assert looked.named(looked.plain)["findings"] == []


def test_as_the_scan_of_each(looked: Looked) -> None:
    """What is said of a namespace is what a scan of it alone says."""
    one = looked.named(looked.nat)
    words = ("--netns", looked.nat, "scan", "--window", "0.1", "--json")
    alone = json.loads(remedy(looked.folder, *words).stdout)
    added = {"netns_name", "container"}
    assert alone["host"] == one["host"]
    assert alone["findings"] == [
        {key: value for key, value in finding.items() if key not in added}
        for finding in one["findings"]
    ]


def test_a_namespace_without_a_name(looked: Looked) -> None:
    """A process of it stands for it, and two processes are one namespace."""
    (one,) = [each for each in looked.found["namespaces"] if each["netns"] == looked.nameless]
    assert one["netns_name"] is None
    assert one["unknown"] == []


def test_text_is_grouped_and_names_each(looked: Looked) -> None:
    """Where nothing is found a namespace is named with ``-v`` alone; the worst is the exit code."""
    words = ("scan", "--all-netns", "--window", "0", "--fail-on", "exposed")
    short, long = remedy(looked.folder, *words), remedy(looked.folder, *words, "-v")
    _, _, group = short.stdout.partition(f"namespace {looked.nat}  --netns {looked.nat}\n\n")
    assert group.startswith("exposed   tcp-invalid-reset")
    assert looked.plain not in short.stdout
    assert looked.plain in long.stdout
    assert (short.returncode, long.returncode) == (2, 2)


def test_what_does_not_go_together(netns: Make, tmp_path: Path) -> None:
    for words in (
        ("--netns", netns(), "scan", "--all-netns"),
        ("scan", "--all-netns", "--facts", "f"),
    ):
        done = remedy(tmp_path, *words)
        assert done.returncode == 64
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1


def test_a_failing_one_is_unknown_and_the_rest_is_scanned(looked: Looked) -> None:
    """The journal of one namespace is broken: the others are judged all the same."""
    one = looked.named(looked.broken)
    assert one["findings"] == []
    assert {u["condition"] for u in one["unknown"]} >= {"tcp-invalid-reset", "udp-reply-source"}
    assert all("could not be scanned" in u["reason"] for u in one["unknown"])
    assert looked.named(looked.plain)["unknown"] == []
    assert looked.strict.returncode == 2
